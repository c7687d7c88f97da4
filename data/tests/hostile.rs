//! Files made to do harm: they are refused, and in no time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use data::{Dataset, DatasetError, Limits, Picture, PictureError, SkipReason, Split};
use proptest::prelude::*;

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(path, Split::Train, &Limits::default())
}

/// A small picture as a file of this extension.
fn encoded(extension: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture").with_extension(extension);
    Picture::filled(40, 30, [200, 90, 10]).write(&path).unwrap();
    fs::read(path).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_description_is_understood_or_refused(text in "([a-z]{1,6}: ?[-\\[\\]{}&*!|>'\"a-z0-9., ]{0,20}\n|.{0,30}\n){0,8}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.yaml");
        fs::write(&path, text).unwrap();
        // There are no pictures, so nothing can be opened.
        prop_assert!(open(&path).is_err());
    }

    #[test]
    fn damaged_pictures_decode_or_are_refused(
        is_png in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(if is_png { "png" } else { "jpg" });
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        let limits = Limits { image_pixels: 1 << 20, ..Limits::default() };
        if let Ok(picture) = Picture::decode(&bytes, &limits) {
            prop_assert_eq!(picture.rgb.len() as u64, 3 * u64::from(picture.width) * u64::from(picture.height));
            prop_assert!(u64::from(picture.width) * u64::from(picture.height) <= limits.image_pixels);
        }
    }
}

#[test]
fn a_description_that_multiplies_itself_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.yaml");
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [before.as_str(); 10].join(", ")
        ));
    }
    text.push_str("train: .\nnames: *a11\n");
    fs::write(&path, text).unwrap();
    let start = Instant::now();
    assert!(matches!(open(&path), Err(DatasetError::Yaml { .. })));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn pictures_that_claim_to_be_huge_are_refused_before_they_are_decoded() {
    let mut png = encoded("png");
    // Width and height stand behind the signature, the length and the name of the first chunk.
    png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let mut jpeg = encoded("jpg");
    let frame = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
    let start = Instant::now();
    let refused = Picture::decode(&jpeg, &Limits::default());
    assert!(
        matches!(refused, Err(PictureError::TooManyPixels { .. })),
        "{refused:?}"
    );
    // The checksum of the changed chunk is wrong as well; which of the two is said first is the decoder's affair.
    assert!(Picture::decode(&png, &Limits::default()).is_err());
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn annotations_that_name_files_elsewhere_do_not_lead_there() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("set");
    fs::create_dir_all(inside.join("images/train")).unwrap();
    fs::create_dir_all(inside.join("annotations")).unwrap();
    let picture = encoded("png");
    fs::write(inside.join("images/train/good.png"), &picture).unwrap();
    let secret = folder.path().join("secret.png");
    fs::write(&secret, &picture).unwrap();
    let names = [
        "good.png",
        "../../../secret.png",
        secret.to_str().unwrap(),
        "x/../../../../secret.png",
    ];
    let images: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(id, name)| serde_json::json!({"id": id, "file_name": name, "width": 40, "height": 30}))
        .collect();
    let annotations = serde_json::json!({
        "images": images,
        "annotations": [],
        "categories": [{"id": 1, "name": "thing"}],
    });
    fs::write(
        inside.join("annotations/instances_train.json"),
        annotations.to_string(),
    )
    .unwrap();
    let dataset = open(&inside).unwrap();
    assert_eq!(dataset.len(), 1);
    assert_eq!(dataset.skipped.len(), 3);
    for skipped in &dataset.skipped {
        assert!(matches!(skipped.reason, SkipReason::OutsideFolder), "{skipped}");
    }
}
