//! What can be wrong with a dataset as a whole, and with single images of it.

use std::{fmt, io, path::PathBuf};

use super::Split;
use crate::picture::{FORMATS, PictureError};

/// A dataset that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file or folder does not exist.
    #[error("the {what} {} does not exist", path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is over its limit of [`Limits`](crate::Limits).
    #[error("{} has {bytes} bytes, the limit is {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A path that is neither a data.yaml nor a folder with a known layout nor the name of the built-in set.
    #[error(
        "{} is no dataset: give a data.yaml, a folder with images/ and annotations/instances_*.json, or 'shapes'",
        path.display()
    )]
    UnknownKind {
        /// The path given.
        path: PathBuf,
    },
    /// A data.yaml that is not understood.
    #[error("{}: {reason}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A COCO annotations file that is not understood.
    #[error("{}: {reason}", path.display())]
    Annotations {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The dataset does not have this split.
    #[error("{} has no '{split}' split", path.display())]
    NoSplit {
        /// The dataset.
        path: PathBuf,
        /// The split asked for.
        split: Split,
    },
    /// There is no image.
    #[error("{} holds no {} image", path.display(), FORMATS)]
    NoImages {
        /// Where images were looked for.
        path: PathBuf,
    },
    /// There are images, but no image has a label file, not even one that had to be refused.
    #[error("none of the {images} images of {} has a label file (looked for files like {})", path.display(), example.display())]
    NoLabels {
        /// Where the images are.
        path: PathBuf,
        /// Number of images.
        images: usize,
        /// Where the label file of the first image would be.
        example: PathBuf,
    },
    /// A class was selected that the dataset does not have.
    #[error("there is no class {class}, the dataset has 0 to {}: {}", names.len() - 1, names.join(", "))]
    UnknownClass {
        /// The class.
        class: u32,
        /// The classes that there are.
        names: Vec<String>,
    },
    /// No object is of a selected class.
    #[error("none of the {images} {split} images has an object of the selected classes")]
    NoObjectLeft {
        /// The split.
        split: Split,
        /// Number of images looked at.
        images: usize,
    },
    /// No object is left to train on, and images were skipped: training on background only is never meant.
    #[error(
        "none of the {images} usable images of {} has an object, and {skipped} had to be skipped; the first: {first}",
        path.display()
    )]
    NoBoxLeft {
        /// The dataset.
        path: PathBuf,
        /// Number of usable images.
        images: usize,
        /// Number of skipped images.
        skipped: usize,
        /// The first of them.
        first: Box<Skipped>,
    },
    /// Every image was skipped.
    #[error("all {count} images of {} had to be skipped; the first: {first}", path.display())]
    NothingLeft {
        /// The dataset.
        path: PathBuf,
        /// Number of images.
        count: usize,
        /// The first of them.
        first: Box<Skipped>,
    },
}

/// An image that was left out, and why.
#[derive(Debug)]
pub struct Skipped {
    /// The image or label file at fault.
    pub file: PathBuf,
    /// The line at fault, from 1, where the file is a text.
    pub line: Option<u32>,
    /// What is wrong.
    pub reason: SkipReason,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// What is wrong with an image or its labels.
#[derive(Debug, thiserror::Error)]
pub enum SkipReason {
    /// The image cannot be used.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The image is listed but does not exist.
    #[error("the image does not exist")]
    MissingImage,
    /// The annotations name a file that is not below their image folder.
    #[error("the name leads out of the image folder")]
    OutsideFolder,
    /// The file's format is known but not read.
    #[error("the format '{extension}' is not read; convert it to JPEG or PNG")]
    UnsupportedFormat {
        /// The extension.
        extension: String,
    },
    /// The label file cannot be read as text.
    #[error("the label file cannot be read: {0}")]
    LabelFile(#[source] io::Error),
    /// The label file is over its limit.
    #[error("the label file has more than {limit} bytes")]
    LabelFileTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A row does not hold class, centre x, centre y, width and height.
    #[error("the row has {found} values, a row is: class x y width height")]
    NotFiveNumbers {
        /// Number of values.
        found: usize,
    },
    /// A row in a file of polygons does not hold class and points.
    #[error("the row has {found} values, in a file of polygons a row is: class x1 y1 x2 y2 x3 y3 and so on")]
    NotPoints {
        /// Number of values.
        found: usize,
    },
    /// A row in a file of polygons holds a box.
    #[error("the row is a box, other rows are polygons; a file holds either boxes or polygons")]
    BoxAmongPolygons,
    /// A value is no finite number.
    #[error("'{text}' is not a finite number")]
    NotANumber {
        /// The value.
        text: String,
    },
    /// The class is unknown.
    #[error("class {class} is out of range, there are {classes} classes")]
    ClassOutOfRange {
        /// The class as written.
        class: String,
        /// Number of classes.
        classes: usize,
    },
    /// A box lies further outside of the image than is tolerated, or has a negative size.
    #[error("the box has the coordinate {value}, coordinates are fractions of the image between 0 and 1")]
    OutsideImage {
        /// The coordinate.
        value: f32,
    },
    /// An annotation names a category that the file does not define.
    #[error("annotation {annotation} has the unknown category {category}")]
    UnknownCategory {
        /// Id of the annotation.
        annotation: u64,
        /// Id of the category.
        category: u64,
    },
    /// The annotations were made for an image of another size.
    #[error(
        "the annotations are for {expected_width} x {expected_height} pixels, the image has {width} x {height}"
    )]
    OtherSize {
        /// Width that the annotations give.
        expected_width: u32,
        /// Height that the annotations give.
        expected_height: u32,
        /// Width of the image.
        width: u32,
        /// Height of the image.
        height: u32,
    },
}
