//! From images that a format found to samples: each image and its labels are looked at, and kept or left out.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    Dataset, DatasetError, ImageSource, Label, Sample, SkipReason, Skipped, Split, files,
    labels::{self, RowFormat},
};
use crate::picture::{Limits, PictureHeader, inspect};

/// What a format found: images with annotations, before any image was looked at.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) names: Vec<String>,
    /// Category of each class; empty for 1, 2, 3 and so on.
    pub(super) categories: Vec<u64>,
    /// Number of values that pose labels have behind the box.
    pub(super) keypoint_values: usize,
    pub(super) candidates: Vec<Candidate>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) dropped_boxes: usize,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) annotation: Annotation,
}

/// Where the labels of an image are.
#[derive(Debug)]
pub(super) enum Annotation {
    /// In this file, if it exists.
    File(PathBuf),
    /// Here, made for an image of this size.
    Known {
        image_id: u64,
        labels: Vec<Label>,
        width: u32,
        height: u32,
    },
}

impl Found {
    /// Looks at every image and its labels, and keeps what is usable.
    pub(super) fn check(
        mut self,
        path: &Path,
        split: Split,
        limits: &Limits,
    ) -> Result<Dataset, DatasetError> {
        if self.candidates.is_empty() && self.skipped.is_empty() {
            return Err(DatasetError::NoImages {
                path: path.to_owned(),
            });
        }
        self.candidates
            .sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
        self.candidates.dedup_by(|a, b| a.path == b.path);
        let format = RowFormat {
            classes: self.names.len(),
            keypoint_values: self.keypoint_values,
        };
        let checked = files::parallel_map(&self.candidates, |candidate| check(candidate, format, limits));
        if let Some(Annotation::File(example)) = self.candidates.first().map(|first| &first.annotation)
            && checked.iter().any(Result::is_ok)
            && !(self.candidates.iter().zip(&checked))
                .any(|(candidate, checked)| candidate.has_annotation(checked))
        {
            let (images, example) = (checked.len(), example.clone());
            return Err(DatasetError::NoLabels {
                path: path.to_owned(),
                images,
                example,
            });
        }

        let mut dataset = Dataset {
            split,
            categories: if self.categories.is_empty() {
                (1..=self.names.len() as u64).collect()
            } else {
                self.categories
            },
            names: self.names,
            samples: Vec::with_capacity(checked.len()),
            skipped: self.skipped,
            dropped_boxes: self.dropped_boxes,
            limits: limits.clone(),
        };
        for (candidate, checked) in self.candidates.into_iter().zip(checked) {
            match checked {
                Ok(Checked {
                    header: PictureHeader { width, height, bytes },
                    labels,
                    dropped,
                    has_annotation,
                }) => {
                    dataset.dropped_boxes += dropped;
                    let source = ImageSource::File(candidate.path);
                    dataset.samples.push(Sample {
                        name: candidate.name,
                        source,
                        width,
                        height,
                        bytes,
                        image_id: match candidate.annotation {
                            Annotation::Known { image_id, .. } => Some(image_id),
                            Annotation::File(_) => None,
                        },
                        is_annotated: has_annotation,
                        labels,
                    });
                }
                Err(skipped) => dataset.skipped.push(skipped),
            }
        }
        let skipped = dataset.skipped.len();
        if dataset.samples.is_empty() {
            return Err(DatasetError::NothingLeft {
                path: path.to_owned(),
                count: skipped,
                first: Box::new(first_fault(dataset.skipped)),
            });
        }
        if split == Split::Train && skipped > 0 && dataset.box_count() == 0 {
            return Err(DatasetError::NoBoxLeft {
                path: path.to_owned(),
                images: dataset.len(),
                skipped,
                first: Box::new(first_fault(dataset.skipped)),
            });
        }
        Ok(dataset)
    }
}

impl Candidate {
    /// Whether something says what is in the image, be it only a label file that had to be refused.
    fn has_annotation(&self, checked: &Result<Checked, Skipped>) -> bool {
        match (checked, &self.annotation) {
            (Ok(checked), _) => checked.has_annotation,
            (Err(skipped), Annotation::File(labels)) => skipped.file == *labels,
            (Err(_), Annotation::Known { .. }) => true,
        }
    }
}

/// The first of these that tells most: a format that is not read is seldom why nothing is left.
///
/// # Panics
/// When there is none.
fn first_fault(mut skipped: Vec<Skipped>) -> Skipped {
    let is_telling = |skipped: &Skipped| !matches!(skipped.reason, SkipReason::UnsupportedFormat { .. });
    let first = skipped.iter().position(is_telling).unwrap_or(0);
    skipped.swap_remove(first)
}

struct Checked {
    header: PictureHeader,
    labels: Vec<Label>,
    dropped: usize,
    has_annotation: bool,
}

fn check(candidate: &Candidate, format: RowFormat, limits: &Limits) -> Result<Checked, Skipped> {
    let skip_image = |reason| Skipped {
        file: candidate.path.clone(),
        line: None,
        reason,
    };
    if !candidate.path.is_file() {
        return Err(skip_image(SkipReason::MissingImage));
    }
    let header = inspect(&candidate.path, limits).map_err(|error| skip_image(error.into()))?;
    match &candidate.annotation {
        Annotation::Known {
            labels,
            width,
            height,
            ..
        } => {
            if (*width, *height) != (header.width, header.height) {
                return Err(skip_image(SkipReason::OtherSize {
                    expected_width: *width,
                    expected_height: *height,
                    width: header.width,
                    height: header.height,
                }));
            }
            Ok(Checked {
                header,
                labels: labels.clone(),
                dropped: 0,
                has_annotation: true,
            })
        }
        Annotation::File(path) => {
            let skip = |line, reason| Skipped {
                file: path.clone(),
                line,
                reason,
            };
            let text = read_label_file(path, limits.text_bytes).map_err(|reason| skip(None, reason))?;
            let parsed = labels::parse(text.as_deref().unwrap_or_default(), format)
                .map_err(|fault| skip(Some(fault.line), fault.reason))?;
            let has_annotation = text.is_some();
            Ok(Checked {
                header,
                labels: parsed.labels,
                dropped: parsed.dropped,
                has_annotation,
            })
        }
    }
}

/// The text of a label file, or `None` if there is no file: then nothing is in the image.
fn read_label_file(path: &Path, limit: u64) -> Result<Option<String>, SkipReason> {
    let file = match files::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SkipReason::LabelFile(error)),
    };
    let mut text = String::new();
    file.take(limit.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(SkipReason::LabelFile)?;
    if text.len() as u64 > limit {
        return Err(SkipReason::LabelFileTooLarge { limit });
    }
    Ok(Some(text))
}
