//! Samples: one image, where it comes from, and its labels.

use std::{fmt, path::PathBuf};

use super::synthetic::Scene;

/// Which part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What is trained on.
    Train,
    /// What is validated on after each epoch.
    Val,
    /// What is kept apart.
    Test,
}

impl Split {
    /// The name in data.yaml and in folder names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A sample's position in its dataset; the same on every host, because samples are sorted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId(pub u32);

/// One image and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Path relative to the dataset's root (or to the entry of data.yaml that led outside of it), with `/` on every
    /// system: the same on every host.
    pub name: String,
    /// Where the pixels come from.
    pub source: ImageSource,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Size of the file in bytes; 0 for a drawn picture.
    pub bytes: u64,
    /// Its id in the COCO annotations, if it comes from some.
    pub image_id: Option<u64>,
    /// Whether something says what is in it. An image without a label file counts as background.
    pub is_annotated: bool,
    /// What is in it.
    pub labels: Vec<Label>,
}

/// Where the pixels of a sample come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageSource {
    /// An image file.
    File(PathBuf),
    /// A picture of the built-in set, drawn when it is needed.
    Drawn(Scene),
}

/// One object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// Class, an index into the dataset's names.
    pub class: u32,
    /// Centre x, centre y, width, height, as fractions of the image. The box may stick out of it; in label files the
    /// centre lies at most a hundredth outside.
    pub bounds: [f32; 4],
    /// A crowd of objects in one box (COCO): not trained on, and in evaluation it neither counts as an object nor makes
    /// detections in it wrong.
    pub crowd: bool,
}

impl Label {
    /// The box in an image of the given size.
    ///
    /// # Shapes
    /// xyxy, pixels.
    pub fn xyxy(&self, width: f32, height: f32) -> [f32; 4] {
        let [x, y, w, h] = self.bounds;
        [
            (x - w / 2.0) * width,
            (y - h / 2.0) * height,
            (x + w / 2.0) * width,
            (y + h / 2.0) * height,
        ]
    }
}
