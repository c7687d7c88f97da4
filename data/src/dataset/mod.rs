//! Datasets: what they consist of, and opening them.
//!
//! [`Dataset::open`] takes a data.yaml (label files or COCO annotations), a folder in COCO's layout, or the name of the
//! built-in set. It reads the header of every image and every label, leaves out what is unusable, with the reason, and
//! decodes nothing. Samples are sorted by relative name, so that every host numbers them alike.
//!
//! `yaml` and `coco` find images and annotations, `check` looks at each of them, `labels` parses label files, `select`
//! takes a part, `synthetic` draws the built-in set, and `fingerprint` sums up what all workers must agree on.

mod check;
mod coco;
mod error;
mod files;
mod fingerprint;
mod labels;
mod sample;
mod select;
mod synthetic;
mod yaml;

use std::{fs, path::Path};

use check::Found;
pub use error::{DatasetError, SkipReason, Skipped};
pub use sample::{ImageSource, Label, Sample, SampleId, Split};
pub use select::{SINGLE_CLASS, Selection};
pub use synthetic::Scene;

use crate::picture::{Limits, Picture, PictureError};

/// One split of a dataset, opened.
#[derive(Debug)]
pub struct Dataset {
    /// Which split it is.
    pub split: Split,
    /// Class names, by class.
    pub names: Vec<String>,
    /// The number of each class in results that COCO's tools read: its category in the annotations file, or that of COCO
    /// itself for its own lists of images, or 1, 2, 3 and so on.
    pub categories: Vec<u64>,
    /// The usable samples, sorted by name.
    pub samples: Vec<Sample>,
    /// The images that were left out, and why.
    pub skipped: Vec<Skipped>,
    /// Number of boxes that were left out of usable images: repeated, without area, or of no listed image.
    pub dropped_boxes: usize,
    limits: Limits,
}

impl Dataset {
    /// Opens a split of a dataset.
    ///
    /// `path` is a data.yaml, a folder with a data.yaml or in COCO's layout (`images/`, `annotations/instances_*.json`),
    /// or [`SHAPES`], the built-in set (a folder of that name is `./shapes`).
    ///
    /// # Errors
    /// When something named does not exist or is not understood, or when no sample is left after skipping.
    pub fn open(path: impl AsRef<Path>, split: Split, limits: &Limits) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let dataset = if path == Path::new(SHAPES) {
            synthetic::open(split, limits)
        } else {
            find(path, split, limits)?.check(path, split, limits)?
        };
        dataset.log(path);
        Ok(dataset)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no sample; never true of an opened dataset.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// A sample.
    ///
    /// # Panics
    /// When the dataset has no such sample.
    pub fn sample(&self, id: SampleId) -> &Sample {
        &self.samples[id.0 as usize]
    }

    /// The image file of a sample; none for a drawn one.
    pub(crate) fn file(&self, id: SampleId) -> Option<&Path> {
        match &self.sample(id).source {
            ImageSource::File(path) => Some(path),
            ImageSource::Drawn(_) => None,
        }
    }

    /// Number of boxes of all samples, crowds included.
    pub fn box_count(&self) -> usize {
        self.samples.iter().map(|sample| sample.labels.len()).sum()
    }

    /// Number of samples without a label file, which count as background. Annotations in one file leave none out.
    pub fn unannotated(&self) -> usize {
        self.samples.iter().filter(|sample| !sample.is_annotated).count()
    }

    /// Number of boxes of each class, crowds left out.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.names.len()];
        let labels = self.samples.iter().flat_map(|sample| &sample.labels);
        for label in labels.filter(|label| !label.crowd) {
            counts[label.class as usize] += 1;
        }
        counts
    }

    /// Objects of the image that has most, crowds left out.
    pub fn most_objects(&self) -> usize {
        let objects = |sample: &Sample| sample.labels.iter().filter(|label| !label.crowd).count();
        self.samples.iter().map(objects).max().unwrap_or(0)
    }

    /// Digest of what all workers must agree on: names, sizes and labels. 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        fingerprint::of(self)
    }

    /// The dataset in a few words, for messages that compare two hosts.
    pub fn description(&self) -> String {
        let images = self.len();
        let boxes = self.box_count();
        let skipped = self.skipped.len();
        format!(
            "{images} {} images ({skipped} skipped), {boxes} boxes, classes: {}",
            self.split,
            self.names.join(", ")
        )
    }

    /// Reads or draws the picture of a sample.
    ///
    /// # Errors
    /// When the file cannot be read or decoded, or is not the one that was there when the dataset was opened.
    pub fn picture(&self, id: SampleId) -> Result<Picture, PictureError> {
        let sample = self.sample(id);
        let picture = match &sample.source {
            ImageSource::File(path) => Picture::read(path, &self.limits)?,
            ImageSource::Drawn(scene) => scene.draw(),
        };
        if (picture.width, picture.height) != (sample.width, sample.height) {
            return Err(PictureError::Changed {
                width: sample.width,
                height: sample.height,
            });
        }
        Ok(picture)
    }

    fn log(&self, path: &Path) {
        for skipped in self.skipped.iter().take(SKIPPED_LOGGED_MAX) {
            tracing::warn!(file = %skipped.file.display(), line = skipped.line, reason = %skipped.reason, "image skipped");
        }
        tracing::info!(
            path = %path.display(),
            split = %self.split,
            images = self.len(),
            boxes = self.box_count(),
            skipped = self.skipped.len(),
            dropped_boxes = self.dropped_boxes,
            "dataset opened"
        );
    }
}

/// The path that stands for the built-in set of drawn shapes.
pub const SHAPES: &str = "shapes";

fn find(path: &Path, split: Split, limits: &Limits) -> Result<Found, DatasetError> {
    if !path.exists() {
        return Err(DatasetError::Missing {
            what: "dataset",
            path: path.to_owned(),
        });
    }
    // Absolute, so that messages from other hosts can be told apart.
    let path = fs::canonicalize(path).map_err(|source| DatasetError::Io {
        path: path.to_owned(),
        source,
    })?;
    let extension = path.extension().unwrap_or_default();
    if path.is_dir() && path.join("data.yaml").is_file() {
        yaml::find(&path.join("data.yaml"), split, limits)
    } else if path.is_dir() && path.join("annotations").is_dir() {
        coco::find_in_folder(&path, split, limits)
    } else if path.is_file() && (extension == "yaml" || extension == "yml") {
        yaml::find(&path, split, limits)
    } else {
        Err(DatasetError::UnknownKind { path })
    }
}

/// Single skipped images are worth a line each only while they are few.
const SKIPPED_LOGGED_MAX: usize = 10;

#[cfg(test)]
mod tests;
