//! From images that a format found to samples: each image and its labels are looked at, and kept or left out.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{Dataset, DatasetError, ImageSource, Label, Sample, SkipReason, Skipped, Split, files, labels};
use crate::picture::{Limits, PictureHeader, inspect};

/// What a format found: images with annotations, before any image was looked at.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) names: Vec<String>,
    /// Category of each class; empty for 1, 2, 3 and so on.
    pub(super) categories: Vec<u64>,
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
        let classes = self.names.len();
        let checked = files::parallel_map(&self.candidates, |candidate| check(candidate, classes, limits));
        if let Some(Annotation::File(example)) = self.candidates.first().map(|first| &first.annotation)
            && checked.iter().flatten().all(|checked| !checked.has_annotation)
            && checked.iter().any(Result::is_ok)
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
                    ..
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
                        labels,
                    });
                }
                Err(skipped) => dataset.skipped.push(skipped),
            }
        }
        if dataset.samples.is_empty() {
            let count = dataset.skipped.len();
            let first = Box::new(dataset.skipped.swap_remove(0));
            return Err(DatasetError::NothingLeft {
                path: path.to_owned(),
                count,
                first,
            });
        }
        Ok(dataset)
    }
}

struct Checked {
    header: PictureHeader,
    labels: Vec<Label>,
    dropped: usize,
    has_annotation: bool,
}

fn check(candidate: &Candidate, classes: usize, limits: &Limits) -> Result<Checked, Skipped> {
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
            let parsed = labels::parse(text.as_deref().unwrap_or_default(), classes)
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
