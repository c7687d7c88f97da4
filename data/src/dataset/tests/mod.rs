//! Tests of opening datasets: layouts, bad input, and the fingerprint.

mod coco;

use std::path::PathBuf;

use super::*;

/// A folder that a test fills.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Two labelled pictures per split, and a description.
    fn with_dataset() -> Self {
        let folder = Self::new();
        for split in ["train", "val"] {
            for name in ["b", "a"] {
                folder.picture(&format!("images/{split}/{name}.png"), 40, 30);
                folder.text(
                    &format!("labels/{split}/{name}.txt"),
                    "0 0.5 0.5 0.2 0.2\n1 0.25 0.25 0.1 0.1\n",
                );
            }
        }
        folder.text(
            "data.yaml",
            "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n",
        );
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn picture(&self, name: &str, width: u32, height: u32) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        Picture::filled(width, height, [90, 100, 110])
            .write(&self.path(name))
            .unwrap();
    }

    fn open(&self, name: &str, split: Split) -> Result<Dataset, DatasetError> {
        Dataset::open(self.path(name), split, &Limits::default())
    }

    /// The train split, its description replaced.
    fn open_as(&self, description: &str) -> Result<Dataset, DatasetError> {
        self.text("data.yaml", description);
        self.open("data.yaml", Split::Train)
    }
}

fn names(dataset: &Dataset) -> Vec<&str> {
    dataset
        .samples
        .iter()
        .map(|sample| sample.name.as_str())
        .collect()
}

#[test]
fn a_dataset_is_opened_sorted_with_sizes_and_labels() {
    let folder = Folder::with_dataset();
    let dataset = folder.open("data.yaml", Split::Train).unwrap();
    assert_eq!(dataset.names, ["cat", "dog"]);
    assert_eq!(names(&dataset), ["images/train/a.png", "images/train/b.png"]);
    assert_eq!((dataset.samples[0].width, dataset.samples[0].height), (40, 30));
    assert_eq!(dataset.box_count(), 4);
    assert_eq!(dataset.picture(SampleId(1)).unwrap().width, 40);
    assert!(
        dataset
            .description()
            .starts_with("2 train images (0 skipped), 4 boxes, classes: cat, dog")
    );
    // A folder stands for the data.yaml in it.
    assert_eq!(
        folder.open(".", Split::Train).unwrap().fingerprint(),
        dataset.fingerprint()
    );
}

#[test]
fn the_ways_to_write_data_yaml_mean_the_same() {
    let folder = Folder::with_dataset();
    folder.text(
        "lists/train.txt",
        "../images/train/b.png\n\n./../images/train/a.png\n",
    );
    folder.text(
        "lists/marked.txt",
        "\u{feff}../images/train/b.png\n../images/train/a.png\n",
    );
    let expected = folder.open("data.yaml", Split::Train).unwrap().fingerprint();
    let root = folder.path("");
    for description in [
        "train: images/train\nnames: [cat, dog]".to_owned(),
        "train: [images/train]\nnc: 2\nnames: ['cat', \"dog\"]\nval:".to_owned(),
        "train: lists/train.txt\nnames:\n  1: dog\n  0: cat\n".to_owned(),
        "\u{feff}train: lists/marked.txt\nnames: [cat, dog]".to_owned(),
        format!(
            "path: {}\ntrain: images/train\nnames: [cat, dog]\ndownload: |\n  anything",
            root.display()
        ),
        "train: ../images/train\nnames: [cat, dog]".to_owned(),
        "train: [images/train/a.png.txt, images/train]\nnames: [cat, dog]".to_owned(),
    ] {
        folder.text("images/train/a.png.txt", "a.png\n");
        assert_eq!(
            folder.open_as(&description).unwrap().fingerprint(),
            expected,
            "{description}"
        );
    }
}

#[test]
fn names_may_be_numbers_or_only_counted() {
    let folder = Folder::with_dataset();
    assert_eq!(
        folder
            .open_as("train: images/train\nnames: [0, 1]")
            .unwrap()
            .names,
        ["0", "1"]
    );
    assert_eq!(
        folder.open_as("train: images/train\nnc: 2").unwrap().names,
        ["class_0", "class_1"]
    );
}

#[test]
fn a_bad_description_is_one_clear_sentence() {
    let folder = Folder::with_dataset();
    for (description, expected) in [
        ("train: images/train", "data.yaml: the key 'names' is missing"),
        (
            "train: images/train\nnames: [a, b]\nnc: 3",
            "data.yaml: 'nc' is 3, but 'names' has 2 entries",
        ),
        (
            "train: images/train\nnames: {0: a, 2: b}",
            "the class numbers of 'names' must be 0, 1, 2 and so on",
        ),
        ("val: images/val\nnames: [a, b]", "data.yaml has no 'train' split"),
        (
            "train: images/trian\nnames: [a, b]",
            "images/trian does not exist",
        ),
        (
            "path: /no/such/folder\ntrain: images\nnames: [a, b]",
            "/no/such/folder does not exist",
        ),
        (
            "path: datasets/mine\ntrain: images\nnames: [a, b]",
            "'path' is 'datasets/mine', which is taken relative to the folder of the data.yaml",
        ),
        (
            "train: labels\nnames: [a, b]",
            "holds no JPEG, PNG, WebP, BMP or TIFF image",
        ),
        ("names: [a, b", "data.yaml: "),
        ("train: images/train\nnames: [a, b]\nkpt_shape: 17", "data.yaml: "),
        ("", "data.yaml has no 'train' split"),
    ] {
        let error = folder.open_as(description).unwrap_err().to_string();
        assert!(error.contains(expected), "{description}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let missing = Dataset::open("/no/such.yaml", Split::Train, &Limits::default()).unwrap_err();
    assert_eq!(missing.to_string(), "the dataset /no/such.yaml does not exist");
    let unknown = folder.open("images/train/a.png", Split::Train).unwrap_err();
    assert!(matches!(unknown, DatasetError::UnknownKind { .. }));
}

#[test]
fn missing_labels_are_an_error_but_a_missing_file_is_a_background() {
    let folder = Folder::with_dataset();
    fs::remove_file(folder.path("labels/train/a.txt")).unwrap();
    let dataset = folder.open("data.yaml", Split::Train).unwrap();
    assert_eq!(
        dataset
            .samples
            .iter()
            .map(|sample| sample.labels.len())
            .collect::<Vec<_>>(),
        [0, 2]
    );
    assert!(dataset.skipped.is_empty());
    assert_eq!(dataset.unannotated(), 1);

    fs::remove_file(folder.path("labels/train/b.txt")).unwrap();
    assert!(matches!(
        folder.open("data.yaml", Split::Train),
        Err(DatasetError::NoLabels { images: 2, .. })
    ));
    fs::remove_dir(folder.path("labels/train")).unwrap();
    let error = folder.open("data.yaml", Split::Train).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::Missing {
                what: "label folder",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn label_files_that_are_all_refused_are_not_missing_and_leave_nothing_to_train_on() {
    let folder = Folder::with_dataset();
    for split in ["train", "val"] {
        fs::remove_file(folder.path(&format!("labels/{split}/a.txt"))).unwrap();
        folder.text(&format!("labels/{split}/b.txt"), "7 0.5 0.5 0.2 0.2\n");
    }
    folder.text("images/train/a.heic", "");
    let error = folder.open("data.yaml", Split::Train).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::NoBoxLeft {
                images: 1,
                skipped: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .ends_with("labels/train/b.txt:1: class 7 is out of range, there are 2 classes"),
        "{error}"
    );
    let validation = folder.open("data.yaml", Split::Val).unwrap();
    assert_eq!(
        (
            validation.len(),
            validation.unannotated(),
            validation.skipped.len()
        ),
        (1, 1, 1)
    );
}

#[test]
fn an_image_with_a_bad_row_is_skipped_with_file_and_line() {
    let folder = Folder::with_dataset();
    folder.text("labels/train/a.txt", "0 0.5 0.5 0.2 0.2\n2 0.5 0.5 0.2 0.2\n");
    let dataset = folder.open("data.yaml", Split::Train).unwrap();
    assert_eq!(names(&dataset), ["images/train/b.png"]);
    let [skipped] = dataset.skipped.as_slice() else {
        panic!("one is skipped")
    };
    let message = skipped.to_string();
    assert!(
        message.ends_with("labels/train/a.txt:2: class 2 is out of range, there are 2 classes"),
        "{message}"
    );

    folder.text("labels/train/b.txt", "0 0.5 nan 0.2 0.2\n");
    let error = folder.open("data.yaml", Split::Train).unwrap_err();
    assert!(
        matches!(error, DatasetError::NothingLeft { count: 2, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("all 2 images"), "{error}");
}

#[test]
fn polygons_are_boxes_and_keypoints_are_passed_over_where_the_description_has_them() {
    let folder = Folder::with_dataset();
    let description = "train: images/train\nnames: [cat, dog]\n";
    let boxes = folder.open_as(description).unwrap().fingerprint();
    for name in ["a", "b"] {
        folder.text(
            &format!("labels/train/{name}.txt"),
            "0 0.5 0.5 0.2 0.2 0.45 0.55\n1 0.25 0.25 0.1 0.1 0.3 0.3\n",
        );
    }
    let pose = folder
        .open_as(&format!("{description}kpt_shape: [1, 2]\n"))
        .unwrap();
    assert_eq!(pose.fingerprint(), boxes);
    let polygons = folder.open_as(description).unwrap();
    assert_eq!((polygons.box_count(), polygons.dropped_boxes), (4, 0));
    assert_ne!(polygons.fingerprint(), boxes);
}

#[test]
fn bad_images_are_skipped_and_counted() {
    let folder = Folder::with_dataset();
    folder.picture("images/train/cut.jpg", 200, 100);
    let content = fs::read(folder.path("images/train/cut.jpg")).unwrap();
    fs::write(
        folder.path("images/train/cut.jpg"),
        &content[..content.len() - 20],
    )
    .unwrap();
    folder.text("images/train/empty.png", "");
    folder.text("images/train/phone.heic", "");
    folder.picture("images/train/huge.png", 200, 200);
    let limits = Limits {
        image_pixels: 150 * 200,
        ..Limits::default()
    };
    let dataset = Dataset::open(folder.path("data.yaml"), Split::Train, &limits).unwrap();
    assert_eq!(names(&dataset), ["images/train/a.png", "images/train/b.png"]);
    let mut reasons: Vec<_> = dataset
        .skipped
        .iter()
        .map(|skipped| skipped.reason.to_string())
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "the file is no JPEG, PNG, WebP, BMP or TIFF",
            "the file is truncated: its end is missing",
            "the format 'heic' is not read; convert it to JPEG or PNG",
            "the image is 200 x 200, the limit is 30000 pixels",
        ]
    );
}

#[test]
fn the_fingerprint_covers_names_sizes_and_labels_but_not_the_place() {
    let fingerprint = |change: &dyn Fn(&Folder)| {
        let folder = Folder::with_dataset();
        change(&folder);
        folder.open("data.yaml", Split::Train).unwrap().fingerprint()
    };
    let base = fingerprint(&|_| {});
    assert_eq!(base.len(), 64);
    assert_eq!(base, fingerprint(&|_| {}), "another folder, another time");
    let changes: [&dyn Fn(&Folder); 5] = [
        &|folder| folder.text("labels/train/a.txt", "0 0.5 0.5 0.2 0.2\n1 0.25 0.25 0.1 0.11\n"),
        &|folder| folder.text("labels/train/a.txt", "1 0.5 0.5 0.2 0.2\n1 0.25 0.25 0.1 0.1\n"),
        &|folder| folder.text("data.yaml", "train: images/train\nnames: [cat, cow]"),
        &|folder| folder.picture("images/train/a.png", 41, 30),
        &|folder| {
            fs::rename(
                folder.path("images/train/a.png"),
                folder.path("images/train/c.png"),
            )
            .unwrap()
        },
    ];
    for change in changes {
        assert_ne!(fingerprint(change), base);
    }
    let folder = Folder::with_dataset();
    assert_ne!(
        folder.open("data.yaml", Split::Val).unwrap().fingerprint(),
        base,
        "splits differ"
    );
}

#[test]
fn folders_outside_of_the_root_give_names_that_do_not_depend_on_their_place() {
    let fingerprint = || {
        let (folder, outside) = (Folder::with_dataset(), Folder::with_dataset());
        let images = outside.path("images/train");
        let yaml = format!("train: [images/train, {}]\nnames: [cat, dog]", images.display());
        let dataset = folder.open_as(&yaml).unwrap();
        assert_eq!(
            names(&dataset),
            ["1/a.png", "1/b.png", "images/train/a.png", "images/train/b.png"]
        );
        dataset.fingerprint()
    };
    assert_eq!(fingerprint(), fingerprint());
}
