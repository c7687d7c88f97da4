//! Dataset descriptions in data.yaml, as users of Ultralytics write them.
//!
//! Keys: `path` (root, relative to the file; its folder if absent), `train`, `val` (or `validation`) and `test` (a
//! folder, a list file, or a list of these), `names` (list or map), `nc`, and `kpt_shape`, by which the keypoints of pose
//! labels are told from polygons. One key is ours: `annotations` maps splits to COCO annotation files; a split that has
//! one takes its images from the single folder given for it. Other keys (`download`, licences) are ignored.
//!
//! ```yaml
//! path: /data/coco
//! train: train2017
//! val: val2017
//! annotations:
//!   train: annotations/instances_train2017.json
//!   val: annotations/instances_val2017.json
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::{
    DatasetError, Split,
    check::{Annotation, Candidate, Found},
    coco, files,
};
use crate::picture::Limits;

pub(super) fn find(file: &Path, split: Split, limits: &Limits) -> Result<Found, DatasetError> {
    let text = files::read_text(file, "dataset description", limits.text_bytes)?;
    let invalid = |reason: String| DatasetError::Yaml {
        path: file.to_owned(),
        reason,
    };
    let yaml: DataYaml =
        serde_saphyr::from_str(&text).map_err(|error| invalid(one_line(&error.to_string())))?;
    let root = files::join(file.parent().unwrap_or(file), yaml.path.as_deref().unwrap_or("."));
    if !root.is_dir() {
        if let Some(path) = yaml.path.as_deref().filter(|path| Path::new(path).is_relative()) {
            return Err(invalid(format!(
                "'path' is '{path}', which is taken relative to the folder of the data.yaml, and {} does not exist",
                root.display()
            )));
        }
        return Err(DatasetError::Missing {
            what: "dataset folder (key 'path')",
            path: root,
        });
    }
    let entries = yaml.entries(split);
    if entries.is_empty() {
        return Err(DatasetError::NoSplit {
            path: file.to_owned(),
            split,
        });
    }

    if let Some(annotations) = yaml.annotations.as_ref().and_then(|files| files.of(split)) {
        let [images] = entries else {
            return Err(invalid(format!(
                "'{split}' must be one folder, because it has annotations"
            )));
        };
        let images = existing(&root, images, "image folder")?;
        let annotations = existing(&root, annotations, "annotations file")?;
        let found = coco::find(&images, &annotations, &root, limits)?;
        if let Some(names) = yaml.names.as_ref().map(|names| &names.0)
            && *names != found.names
        {
            return Err(invalid(format!(
                "'names' differ from the categories of {}",
                annotations.display()
            )));
        }
        return Ok(found);
    }

    let mut found = Found {
        names: yaml.class_names().map_err(invalid)?,
        keypoint_values: yaml.keypoint_values(),
        ..Found::default()
    };
    for (number, entry) in entries.iter().enumerate() {
        let entry = existing(&root, entry, "image folder")?;
        if entries.len() == 1 {
            found.categories = coco::list_categories(&entry, found.names.len());
        }
        let listing = list(&entry, limits)?;
        found.skipped.extend(listing.skipped);
        let candidates = listing.images.into_iter().map(|path| Candidate {
            name: sample_name(&path, &root, &entry, number),
            annotation: Annotation::File(files::label_path(&path)),
            path,
        });
        found.candidates.extend(candidates);
    }
    Ok(found)
}

/// The images of a folder, or those that a list file names, relative to itself.
fn list(entry: &Path, limits: &Limits) -> Result<files::Listing, DatasetError> {
    let mut listing = files::Listing::default();
    if entry.is_dir() {
        listing.add_folder(entry)?;
        if let Some(path) = files::labels_counterpart(entry).filter(|labels| !labels.is_dir()) {
            return Err(DatasetError::Missing {
                what: "label folder",
                path,
            });
        }
    } else {
        let text = files::read_text(entry, "list of images", limits.text_bytes)?;
        let folder = entry.parent().unwrap_or(entry);
        let lines = files::without_mark(&text)
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        lines.for_each(|line| listing.add(files::join(folder, line)));
    }
    Ok(listing)
}

#[derive(Debug, Deserialize)]
struct DataYaml {
    path: Option<String>,
    train: Option<Entries>,
    #[serde(alias = "validation")]
    val: Option<Entries>,
    test: Option<Entries>,
    names: Option<Names>,
    nc: Option<usize>,
    /// Number of keypoints, and of values of each.
    kpt_shape: Option<[usize; 2]>,
    annotations: Option<AnnotationFiles>,
}

impl DataYaml {
    fn entries(&self, split: Split) -> &[String] {
        let entries = match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        };
        entries.as_ref().map_or(&[], |entries| &entries.0)
    }

    fn class_names(&self) -> Result<Vec<String>, String> {
        match (&self.names, self.nc) {
            (Some(names), Some(nc)) if names.0.len() != nc => {
                Err(format!("'nc' is {nc}, but 'names' has {} entries", names.0.len()))
            }
            (Some(names), _) if names.0.is_empty() => Err("'names' is empty".to_owned()),
            (Some(names), _) => Ok(names.0.clone()),
            (None, Some(nc @ 1..=CLASSES_MAX)) => Ok((0..nc).map(|class| format!("class_{class}")).collect()),
            (None, Some(nc)) => Err(format!("'nc' is {nc}, it must be between 1 and {CLASSES_MAX}")),
            (None, None) => Err("the key 'names' is missing".to_owned()),
        }
    }

    /// Number of values that pose labels have behind the box.
    fn keypoint_values(&self) -> usize {
        self.kpt_shape
            .map_or(0, |[keypoints, values]| keypoints.saturating_mul(values))
    }
}

#[derive(Debug, Deserialize)]
struct AnnotationFiles {
    train: Option<String>,
    val: Option<String>,
    test: Option<String>,
}

impl AnnotationFiles {
    fn of(&self, split: Split) -> Option<&str> {
        match split {
            Split::Train => self.train.as_deref(),
            Split::Val => self.val.as_deref(),
            Split::Test => self.test.as_deref(),
        }
    }
}

/// One path or a list of paths.
#[derive(Debug)]
struct Entries(Vec<String>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or a list of paths")
            }

            fn visit_str<E>(self, path: &str) -> Result<Entries, E> {
                Ok(Entries(if path.is_empty() {
                    Vec::new()
                } else {
                    vec![path.to_owned()]
                }))
            }

            fn visit_unit<E>(self) -> Result<Entries, E> {
                Ok(Entries(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Entries, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = sequence.next_element()? {
                    paths.push(path);
                }
                Ok(Entries(paths))
            }
        }
        deserializer.deserialize_any(EntriesVisitor)
    }
}

/// Class names in order, written as a list or as a map from 0, 1, 2 and so on.
#[derive(Debug)]
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor;
        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of class names or a map from class number to name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = sequence.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = BTreeMap::new();
                while let Some((class, name)) = map.next_entry::<usize, String>()? {
                    names.insert(class, name);
                }
                if names.keys().copied().ne(0..names.len()) {
                    return Err(serde::de::Error::custom(
                        "the class numbers of 'names' must be 0, 1, 2 and so on",
                    ));
                }
                Ok(Names(names.into_values().collect()))
            }
        }
        deserializer.deserialize_any(NamesVisitor)
    }
}

/// An image's name: relative to the root, or, where that lies elsewhere, to the entry of data.yaml that led to it. Either
/// way it does not depend on where a host keeps its data.
fn sample_name(image: &Path, root: &Path, entry: &Path, number: usize) -> String {
    if image.starts_with(root) {
        return files::relative_name(image, root);
    }
    let base = if entry.is_dir() {
        entry
    } else {
        entry.parent().unwrap_or(entry)
    };
    format!("{number}/{}", files::relative_name(image, base))
}

/// A path below the root. Some exports write `../train/images` beside the folder `train`; that is understood too.
fn existing(root: &Path, entry: &str, what: &'static str) -> Result<PathBuf, DatasetError> {
    let path = files::join(root, entry);
    if path.exists() {
        return Ok(path);
    }
    let sibling = entry.strip_prefix("../").map(|entry| files::join(root, entry));
    sibling
        .filter(|sibling| sibling.exists())
        .ok_or(DatasetError::Missing { what, path })
}

/// The first line of a parser's message; the lines after it draw the place.
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// More classes than any detection dataset has.
const CLASSES_MAX: usize = 100_000;
