//! Files made to do harm: they are refused, and in no time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../../tests/mutation.rs"]
mod mutation;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
/// How many times its length: rows of label files are kept as numbers, to find repeated ones, and YAML is read into events.
const MEMORY_PER_BYTE: usize = 200;

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(path, Split::Train, &Limits::default())
}

/// Waits for everybody else whose memory is measured, or is large.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a result, and the most memory that it took at once.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let _turn = alone();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    let used = MEMORY.peak_usage().saturating_sub(before);
    (result, used)
}

/// Opens a data set whose texts have this length, and checks how much memory that took at once.
fn open_measured(path: &Path, length: usize) -> Result<Dataset, DatasetError> {
    let (result, used) = measured(|| open(path));
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
            let mut bounds = labels.iter().flat_map(|label| label.bounds);
            assert!(bounds.all(|value| (-0.01..=1.01).contains(&value)));
        }
        Err(error) => assert!(matches!(error, DatasetError::NothingLeft { .. }), "{error}"),
    }
}

const DESCRIPTION: &str = "path: .\ntrain: [images]\nval: images\ntest:\nnc: 3\nnames:\n  0: \"a\"\n  1: 'b'\n  2: &c c\n\
                           download: |\n  text\n  more\nannotations: {}\n";
const LABELS: &str = "0 0.5 0.5 0.25 1\n2.0\t0.1 0.2 0.3 0.4  \r\n\n1 1.000001 0 1e-3 .5\n";
const POLYGONS: &str = "\u{feff}0 0.5 0.5 0.25 1 .75 .25\n2.0\t-0.1 0.2 0.3 0.4 0.9 1 0 .5 \r\n\n1 .5 .5\n";

/// A small picture as a file of this extension.
fn encoded(extension: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture").with_extension(extension);
    Picture::filled(40, 30, [200, 90, 10]).write(&path).unwrap();
    fs::read(path).unwrap()
}

/// A WebP file of these chunks.
fn webp(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (kind, content) in chunks {
        body.extend_from_slice(&kind[..]);
        body.extend_from_slice(&(content.len() as u32).to_le_bytes());
        body.extend_from_slice(content);
        body.resize(body.len().next_multiple_of(2), 0);
    }
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(body.len() as u32).to_le_bytes());
    file.extend_from_slice(&body);
    file
}

/// A TIFF file of 40 x 30 RGB pixels, as far as these tags do not say otherwise: each with its number of values, and the one
/// value, or the place of many. There is nothing but zeros behind them.
fn tiff(changed: &[(u16, u32, u32)]) -> Vec<u8> {
    let mut tags: BTreeMap<u16, (u32, u32)> = [
        (256, 40),
        (257, 30),
        (258, 8),
        (259, 1),
        (262, 2),
        (273, TIFF_PIXELS),
        (277, 3),
        (279, 3600),
    ]
    .map(|(tag, value)| (tag, (1, value)))
    .into();
    tags.extend(changed.iter().map(|&(tag, count, value)| (tag, (count, value))));
    let is_tiled = tags.contains_key(&322);
    tags.retain(|&tag, _| !(is_tiled && [273, 279].contains(&tag)));
    let mut file = b"II\x2A\0\x08\0\0\0".to_vec();
    file.extend_from_slice(&(tags.len() as u16).to_le_bytes());
    for (tag, (count, value)) in tags {
        file.extend_from_slice(&tag.to_le_bytes());
        // Numbers of 16 bits, or 32.
        let kind: u16 = if count == 1 && value < 1 << 16 { 3 } else { 4 };
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&count.to_le_bytes());
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.resize(300_000, 0);
    file
}

/// Behind the tags.
const TIFF_PIXELS: u32 = 1024;

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
    fn damaged_label_files_are_read_or_refused(has_polygons in any::<bool>(), mutations in any_mutations()) {
        let text = if has_polygons { POLYGONS } else { LABELS };
        check_labels(labelled(&mutated(text.as_bytes(), &mutations)));
    }

    #[test]
    fn label_files_of_any_numbers_are_read_or_refused(
        text in "((0|1|2|3|-1|0\\.5|1\\.0000011|1e[0-9]{1,5}|-0|nan|inf|0x1|[0-9]{1,40})( |\t|\n|\r\n)){0,40}",
    ) {
        check_labels(labelled(text.as_bytes()));
    }

    #[test]
    fn damaged_pictures_decode_or_are_refused(
        extension in prop::sample::select(vec!["png", "jpg", "webp", "bmp", "tiff"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(extension);
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        let limits = Limits { image_pixels: 1 << 20, ..Limits::default() };
        let _turn = alone();
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
    // Each side of a lossless picture has 14 bits, behind the signature of its chunk.
    let mut lossless = encoded("webp");
    lossless[21..25].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0x0F]);
    let mut bmp = encoded("bmp");
    bmp[18..26].copy_from_slice(&[0xFF, 0xFF, 0, 0, 0xFF, 0xFF, 0, 0]);
    let tiff = tiff(&[(256, 1, 1 << 20), (257, 1, 1 << 20)]);
    let start = Instant::now();
    for content in [jpeg, lossless, bmp, tiff] {
        let refused = Picture::decode(&content, &Limits::default());
        assert!(
            matches!(refused, Err(PictureError::TooManyPixels { .. })),
            "{refused:?}"
        );
    }
    // The checksum of the changed chunk is wrong as well; which of the two is said first is the decoder's affair.
    assert!(Picture::decode(&png, &Limits::default()).is_err());
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn pictures_whose_parts_claim_more_than_the_whole_are_refused_in_little_memory() {
    let limits = Limits::default();
    let whole = Picture::decode(&tiff(&[]), &limits).unwrap();
    assert_eq!((whole.width, whole.height), (40, 30));
    let canvas: &[u8] = &[0, 0, 0, 0, 39, 0, 0, 29, 0, 0];
    let animated: &[u8] = &[2, 0, 0, 0, 39, 0, 0, 29, 0, 0];
    // A key frame of 8000 x 8000.
    let lossy: &[u8] = &[0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x40, 0x1F, 0x40, 0x1F];
    let metadata: &[u8] = &[0; 64];
    let cases = [
        (
            "not as large as its canvas",
            webp(&[(b"VP8X", canvas), (b"VP8 ", lossy)]),
        ),
        ("animations", webp(&[(b"VP8X", animated), (b"VP8 ", lossy)])),
        ("no picture", webp(&[(b"VP8X", canvas), (b"EXIF", metadata)])),
        // The length of the first chunk.
        ("its end is missing", {
            let mut cut = webp(&[(b"VP8X", canvas), (b"VP8 ", lossy)]);
            cut[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
            cut
        }),
        // Rows of 1000 pixels with 60,000 channels each, all but three without a meaning.
        (
            "60000 channels",
            tiff(&[(256, 1, 1000), (257, 1, 1), (277, 1, 60_000), (338, 59_997, 2048)]),
        ),
        // One tile of a size that only a fourth channel brings to light.
        (
            "far larger than the picture",
            tiff(&[
                (277, 1, 4),
                (322, 1, 1 << 24),
                (323, 1, 32),
                (324, 1, TIFF_PIXELS),
                (325, 1, 64),
                (338, 1, 0),
            ]),
        ),
        ("compression 7", tiff(&[(259, 1, 7)])),
        ("preview", tiff(&[(254, 1, 1)])),
        ("its end is missing", tiff(&[(279, 1, 1 << 20)])),
    ];
    for (reason, content) in cases {
        let (refused, used) = measured(|| Picture::decode(&content, &limits));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(reason), "{reason}: {refused}");
        assert!(used <= MEMORY_BASE, "{reason}: {used} bytes");
    }
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
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [5, 5, 20, 10]}],
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
