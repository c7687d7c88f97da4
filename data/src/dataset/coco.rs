//! COCO annotations: one JSON file with images, boxes and categories.
//!
//! Category ids (1..90 with gaps in COCO itself) become classes 0.. in the order of the ids. Boxes are cut at the
//! image's border; what has no area then is dropped and counted. Boxes that stand for crowds keep a flag. Polygons and
//! everything else in the file are passed over while reading, so a large file needs little memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::BufReader,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    DatasetError, Label, SkipReason, Skipped, Split,
    check::{Annotation, Candidate, Found},
    files,
};
use crate::picture::Limits;

/// Finds the split in a folder with `annotations/instances_NAME.json` and images in `images/NAME` or `NAME`, where NAME
/// begins with the split's name, such as `train2017`.
pub(super) fn find_in_folder(root: &Path, split: Split, limits: &Limits) -> Result<Found, DatasetError> {
    let folder = root.join("annotations");
    let entries = fs::read_dir(&folder).map_err(|source| DatasetError::Io {
        path: folder.clone(),
        source,
    })?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let name = file.to_str()?.strip_prefix("instances_")?.strip_suffix(".json")?;
            name.starts_with(split.name()).then(|| name.to_owned())
        })
        .collect();
    names.sort();
    let name = match names.as_slice() {
        [] => {
            return Err(DatasetError::NoSplit {
                path: root.to_owned(),
                split,
            });
        }
        [name] => name,
        [first, second, ..] => {
            let reason = format!(
                "both instances_{first}.json and instances_{second}.json fit the split '{split}'; \
                 name one in a data.yaml under 'annotations'"
            );
            return Err(DatasetError::Annotations { path: folder, reason });
        }
    };
    let images = [root.join("images").join(name), root.join(name)];
    let Some(images) = images.iter().find(|images| images.is_dir()) else {
        let [path, _] = images;
        return Err(DatasetError::Missing {
            what: "image folder",
            path,
        });
    };
    find(
        images,
        &folder.join(format!("instances_{name}.json")),
        root,
        limits,
    )
}

/// Reads an annotations file whose images are in `images`; names are relative to `root`.
pub(super) fn find(images: &Path, file: &Path, root: &Path, limits: &Limits) -> Result<Found, DatasetError> {
    let content = read(file, limits)?;
    let invalid = |reason: String| DatasetError::Annotations {
        path: file.to_owned(),
        reason,
    };

    let mut categories: BTreeMap<u64, String> = BTreeMap::new();
    for category in content.categories {
        if categories.insert(category.id, category.name).is_some() {
            return Err(invalid(format!("two categories have the id {}", category.id)));
        }
    }
    if categories.is_empty() {
        return Err(invalid("there are no categories".to_owned()));
    }
    let classes: BTreeMap<u64, u32> = categories.keys().copied().zip(0..).collect();

    let mut pictures: BTreeMap<u64, Picture> = BTreeMap::new();
    for image in content.images {
        let id = image.id;
        if pictures
            .insert(
                id,
                Picture {
                    image,
                    labels: Vec::new(),
                    fault: None,
                },
            )
            .is_some()
        {
            return Err(invalid(format!("two images have the id {id}")));
        }
    }
    let mut found = Found {
        categories: categories.keys().copied().collect(),
        names: categories.into_values().collect(),
        ..Found::default()
    };
    for annotation in content.annotations {
        match pictures.get_mut(&annotation.image_id) {
            Some(picture) => found.dropped_boxes += picture.add(&annotation, &classes),
            None => found.dropped_boxes += 1,
        }
    }
    for mut picture in pictures.into_values() {
        found.dropped_boxes += remove_repeated(&mut picture.labels);
        picture.finish(images, root, &mut found);
    }
    Ok(found)
}

/// Returns the categories of COCO's own list of validation or test images, which has no annotations beside it, for as many
/// classes as COCO has; none, which stands for 1, 2, 3 and so on, for any other list.
///
/// # Source
/// What counts as such a list is as in Ultralytics 8.4.190 (`init_metrics` of its validator).
pub(super) fn list_categories(list: &Path, classes: usize) -> Vec<u64> {
    let is_in_coco = list.to_string_lossy().contains("coco");
    let is_list = (list.file_name()).is_some_and(|name| LISTS.iter().any(|list| name == *list));
    if !(is_in_coco && is_list && classes == CLASSES) {
        return Vec::new();
    }
    (1..=LAST_CATEGORY)
        .filter(|category| !CATEGORY_GAPS.contains(category))
        .collect()
}

#[derive(Deserialize)]
struct Content {
    images: Vec<Image>,
    annotations: Vec<Object>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    id: u64,
    image_id: u64,
    category_id: u64,
    /// Left, top, width, height in pixels.
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

/// An image with the boxes gathered for it so far.
struct Picture {
    image: Image,
    labels: Vec<Label>,
    fault: Option<SkipReason>,
}

impl Picture {
    /// Adds an object; returns the number of boxes dropped.
    fn add(&mut self, object: &Object, classes: &BTreeMap<u64, u32>) -> usize {
        let Some(&class) = classes.get(&object.category_id) else {
            let fault = SkipReason::UnknownCategory {
                annotation: object.id,
                category: object.category_id,
            };
            self.fault.get_or_insert(fault);
            return 0;
        };
        let (width, height) = (f64::from(self.image.width), f64::from(self.image.height));
        let [left, top, box_width, box_height] = object.bbox;
        let (x1, x2) = (left.clamp(0.0, width), (left + box_width).clamp(0.0, width));
        let (y1, y2) = (top.clamp(0.0, height), (top + box_height).clamp(0.0, height));
        let has_area = x2 > x1 && y2 > y1;
        if !has_area {
            return 1;
        }
        let bounds = [
            (x1 + x2) / 2.0 / width,
            (y1 + y2) / 2.0 / height,
            (x2 - x1) / width,
            (y2 - y1) / height,
        ];
        self.labels.push(Label {
            class,
            bounds: bounds.map(|value| value as f32),
            crowd: object.iscrowd != 0,
        });
        0
    }

    fn finish(self, images: &Path, root: &Path, found: &mut Found) {
        let path: PathBuf = images.join(&self.image.file_name);
        // An annotations file is somebody else's; it says which pictures of its folder are meant, and no others.
        let cleaned = |path: &Path| files::join(Path::new(""), path);
        let is_outside = !cleaned(&path).starts_with(cleaned(images));
        let outside = is_outside.then_some(SkipReason::OutsideFolder);
        if let Some(reason) = outside.or(self.fault) {
            found.skipped.push(Skipped {
                file: path,
                line: None,
                reason,
            });
            return;
        }
        let annotation = Annotation::Known {
            image_id: self.image.id,
            labels: self.labels,
            width: self.image.width,
            height: self.image.height,
        };
        found.candidates.push(Candidate {
            name: files::relative_name(&path, root),
            path,
            annotation,
        });
    }
}

/// Keeps the first of equal labels; returns how many were removed.
fn remove_repeated(labels: &mut Vec<Label>) -> usize {
    let before = labels.len();
    let mut seen = BTreeSet::new();
    labels.retain(|label| seen.insert((label.class, label.crowd, label.bounds.map(f32::to_bits))));
    before - labels.len()
}

fn read(file: &Path, limits: &Limits) -> Result<Content, DatasetError> {
    let io = |source| DatasetError::Io {
        path: file.to_owned(),
        source,
    };
    let open = files::open_regular(file).map_err(io)?;
    let bytes = open.metadata().map_err(io)?.len();
    if bytes > limits.annotations_bytes {
        return Err(DatasetError::TooLarge {
            path: file.to_owned(),
            bytes,
            limit: limits.annotations_bytes,
        });
    }
    serde_json::from_reader(BufReader::with_capacity(READ_BYTES, open)).map_err(|error| {
        DatasetError::Annotations {
            path: file.to_owned(),
            reason: error.to_string(),
        }
    })
}

const READ_BYTES: usize = 1 << 20;
/// What the lists of images are called on which COCO is measured.
const LISTS: [&str; 2] = ["val2017.txt", "test-dev2017.txt"];
const CLASSES: usize = 80;
const LAST_CATEGORY: u64 = 90;
/// Numbers that COCO has left out.
const CATEGORY_GAPS: [u64; 10] = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83];
