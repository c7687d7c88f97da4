//! Files made to do harm: they are refused, and in no time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../../tests/mutation.rs"]
mod mutation;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use data::{Dataset, DatasetError, Limits, Picture, PictureError, SkipReason, Split};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;

use self::mutation::{any_mutations, mutated};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What opening a data set may need beside the length of its text: threads, a header of a picture, names of as many
/// classes as there may be.
const MEMORY_BASE: usize = 32 << 20;
/// How many times its length: each of a row's numbers is looked at as a text of its own, and YAML is read into events.
const MEMORY_PER_BYTE: usize = 200;

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(path, Split::Train, &Limits::default())
}

/// Opens a data set whose texts have this length, and checks how much memory that took at once.
fn open_measured(path: &Path, length: usize) -> Result<Dataset, DatasetError> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = open(path);
    let used = MEMORY.peak_usage().saturating_sub(before);
    let bound = MEMORY_BASE + MEMORY_PER_BYTE * length;
    assert!(used <= bound, "{used} bytes of memory for a text of {length}");
    if let Err(error) = &result {
        assert!(!error.to_string().is_empty());
    }
    result
}

/// A folder with one picture and room for a label file and a `data.yaml`.
fn one_picture() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["images", "labels"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("images/a.png"), encoded("png")).unwrap();
    folder
}

/// Opens a data set whose description is these bytes.
fn described(bytes: &[u8]) -> Result<Dataset, DatasetError> {
    let folder = one_picture();
    fs::write(folder.path().join("labels/a.txt"), "0 0.5 0.5 0.1 0.1\n").unwrap();
    let path = folder.path().join("data.yaml");
    fs::write(&path, bytes).unwrap();
    open_measured(&path, bytes.len())
}

/// Opens a data set of three classes whose one label file is these bytes; returns what was read or why it was not.
fn labelled(bytes: &[u8]) -> Result<Dataset, DatasetError> {
    let folder = one_picture();
    fs::write(folder.path().join("labels/a.txt"), bytes).unwrap();
    let path = folder.path().join("data.yaml");
    fs::write(&path, "train: images\nnames: [a, b, c]\n").unwrap();
    open_measured(&path, bytes.len())
}

fn check_labels(opened: Result<Dataset, DatasetError>) {
    match opened {
        Ok(dataset) => {
            let labels = &dataset.sample(data::SampleId(0)).labels;
            assert!(labels.iter().all(|label| label.class < 3));
            let bounds = labels.iter().flat_map(|label| label.bounds);
            assert!(bounds.into_iter().all(|value| (0.0..=1.0).contains(&value)));
        }
        Err(error) => assert!(matches!(error, DatasetError::NothingLeft { .. }), "{error}"),
    }
}

const DESCRIPTION: &str = "path: .\ntrain: [images]\nval: images\ntest:\nnc: 3\nnames:\n  0: \"a\"\n  1: 'b'\n  2: &c c\n\
                           download: |\n  text\n  more\nannotations: {}\n";
const LABELS: &str = "0 0.5 0.5 0.25 1\n2.0\t0.1 0.2 0.3 0.4  \r\n\n1 1.000001 0 1e-3 .5\n";

/// A small picture as a file of this extension.
fn encoded(extension: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture").with_extension(extension);
    Picture::filled(40, 30, [200, 90, 10]).write(&path).unwrap();
    fs::read(path).unwrap()
}

proptest! {
    #[test]
    fn any_description_is_understood_or_refused(text in "([a-z]{1,6}: ?[-\\[\\]{}&*!|>'\"a-z0-9., ]{0,20}\n|.{0,30}\n){0,8}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.yaml");
        fs::write(&path, text).unwrap();
        // There are no pictures, so nothing can be opened.
        prop_assert!(open(&path).is_err());
    }

    #[test]
    fn descriptions_of_any_bytes_are_understood_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = described(&bytes);
    }

    #[test]
    fn damaged_descriptions_are_understood_or_refused(mutations in any_mutations()) {
        let _ = described(&mutated(DESCRIPTION.as_bytes(), &mutations));
    }

    #[test]
    fn descriptions_of_any_structure_are_understood_or_refused(
        text in r#"((train|val|names|nc|path|annotations|x): |- |\? |: |\{|\}|\[|\]|,|&a |\*a|!!(map|int|str) |<<: |"|'|\||>|\n|\n  |images|[0-9]{1,20}|-1|~|#|---\n|%){0,40}"#,
    ) {
        let _ = described(text.as_bytes());
    }

    #[test]
    fn label_files_of_any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_labels(labelled(&bytes));
    }

    #[test]
    fn damaged_label_files_are_read_or_refused(mutations in any_mutations()) {
        check_labels(labelled(&mutated(LABELS.as_bytes(), &mutations)));
    }

    #[test]
    fn label_files_of_any_numbers_are_read_or_refused(
        text in "((0|1|2|3|-1|0\\.5|1\\.0000011|1e[0-9]{1,5}|-0|nan|inf|0x1|[0-9]{1,40})( |\t|\n|\r\n)){0,40}",
    ) {
        check_labels(labelled(text.as_bytes()));
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
fn descriptions_that_are_deep_or_say_one_thing_many_times_are_refused_at_once() {
    let nested =
        |open: &str, close: &str, depth: usize| format!("x: {}{}\n", open.repeat(depth), close.repeat(depth));
    let good = "train: images\nnames: [a]\n";
    let long = "n".repeat(100_000);
    let texts = [
        format!("{}{good}", nested("[", "]", 100_000)),
        format!("{}{good}", nested("{a: ", "}", 100_000)),
        format!("x:\n{}{good}", " - ".repeat(50_000)),
        format!("x: {}1\n{good}", "- ".repeat(100_000)),
        format!("x: {}\n{good}", "!a ".repeat(100_000)),
        format!(
            "train: images\nx: &a {long}\nnames: [{}]\n",
            "*a, ".repeat(20_000)
        ),
        format!(
            "train: images\nx: &a {long}\nnames:\n  0: a\n{}",
            "  *a : *a\n".repeat(20_000)
        ),
        "train: images\nnc: 18446744073709551615\n".to_owned(),
        "train: images\nnames: {18446744073709551615: a}\n".to_owned(),
        format!("train: [{}]\nnames: [a]\n", "images, ".repeat(20_000)),
    ];
    for text in texts {
        let begin = Instant::now();
        let result = described(text.as_bytes());
        let seconds = begin.elapsed();
        assert!(seconds < Duration::from_secs(10), "{seconds:?}: {text:.60}");
        println!(
            "{seconds:?}: {:.40?}: {:.100}",
            text,
            result.map_or_else(|error| error.to_string(), |_| "read".into())
        );
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    let folder = one_picture();
    let make = |name: &str| {
        let path = folder.path().join(name);
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        path
    };
    make("labels/a.txt");
    let yaml = folder.path().join("data.yaml");
    fs::write(&yaml, "train: images\nnames: [a]\n").unwrap();
    let refused = open(&yaml).unwrap_err().to_string();
    assert!(refused.contains("no regular file"), "{refused}");
    fs::remove_file(folder.path().join("labels/a.txt")).unwrap();
    make("list.txt");
    fs::write(&yaml, "train: list.txt\nnames: [a]\n").unwrap();
    let refused = open(&yaml).unwrap_err().to_string();
    assert!(refused.contains("no regular file"), "{refused}");
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
