//! What a worker says about itself when it joins, and how two workers differ in what they opened.
//!
//! Every member of a run must have the same data and the same model. The cards carry a digest, which
//! decides, and a few plain facts, which let a refusal name the difference.

use std::fmt;

use crate::identity::{Address, Fingerprint, RunId, WorkerId};
use crate::parse::{ParseError, required, sentence, text};
use crate::wire;

/// A worker that asks to take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The run that it wants to join.
    pub run: RunId,
    /// The worker process.
    pub worker: WorkerId,
    /// Version of its program.
    pub version: String,
    /// Name of its machine.
    pub host: String,
    /// Where its neighbours would reach it.
    pub address: Address,
    /// The device it computes on, for people.
    pub device: String,
    /// Number of threads that it computes with.
    pub threads: u32,
    /// Its data.
    pub dataset: DatasetCard,
    /// Its model.
    pub model: ModelCard,
}

/// What a worker has opened as the data of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetCard {
    /// Digest over class names, file names, image sizes and labels of the splits in use.
    pub fingerprint: Fingerprint,
    /// Number of usable training images.
    pub train_images: u64,
    /// Number of usable validation images.
    pub val_images: u64,
    /// Class names in class order.
    pub class_names: Vec<String>,
}

/// What a worker has built as the model of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// Digest over name, shape and position of each tensor of the flat state.
    pub layout_digest: Fingerprint,
    /// The model and what distinguishes it, for people.
    pub description: String,
    /// What the bits of a result depend on besides data and recipe; empty when sums are not exact.
    pub arithmetic: String,
}

/// The first difference between a candidate and the first worker of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Other classes.
    ClassNames {
        /// Of the first worker.
        expected: Vec<String>,
        /// Of the candidate.
        found: Vec<String>,
    },
    /// Another number of images in a split.
    Images {
        /// "training" or "validation".
        split: &'static str,
        /// Of the first worker.
        expected: u64,
        /// Of the candidate.
        found: u64,
    },
    /// Same counts and classes, but some file, size or label is another.
    Contents {
        /// Of the first worker.
        expected: Fingerprint,
        /// Of the candidate.
        found: Fingerprint,
    },
    /// Another model.
    Model {
        /// Description by the first worker.
        expected: String,
        /// Description by the candidate.
        found: String,
    },
    /// Results would differ in their last bits.
    Arithmetic {
        /// Of the first worker.
        expected: String,
        /// Of the candidate.
        found: String,
    },
}

impl DatasetCard {
    /// The first difference from the card of the first worker, or `None` when the data is the same.
    pub fn difference_from(&self, first: &Self) -> Option<Difference> {
        if self.fingerprint == first.fingerprint {
            return None;
        }
        let images = |split, expected, found| Difference::Images {
            split,
            expected,
            found,
        };
        Some(if self.class_names != first.class_names {
            Difference::ClassNames {
                expected: first.class_names.clone(),
                found: self.class_names.clone(),
            }
        } else if self.train_images != first.train_images {
            images("training", first.train_images, self.train_images)
        } else if self.val_images != first.val_images {
            images("validation", first.val_images, self.val_images)
        } else {
            Difference::Contents {
                expected: first.fingerprint,
                found: self.fingerprint,
            }
        })
    }
}

impl ModelCard {
    /// The difference from the card of the first worker, or `None` when the model is the same.
    pub fn difference_from(&self, first: &Self) -> Option<Difference> {
        if self.layout_digest != first.layout_digest {
            return Some(Difference::Model {
                expected: first.description.clone(),
                found: self.description.clone(),
            });
        }
        (self.arithmetic != first.arithmetic).then(|| Difference::Arithmetic {
            expected: first.arithmetic.clone(),
            found: self.arithmetic.clone(),
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClassNames { expected, found } if expected.len() != found.len() => write!(
                f,
                "{} classes where the first worker has {}",
                found.len(),
                expected.len()
            ),
            Self::ClassNames { expected, found } => {
                let class = expected.iter().zip(found).position(|(a, b)| a != b).unwrap_or(0);
                write!(
                    f,
                    "class {class} is called {:?} where the first worker has {:?}",
                    found[class], expected[class]
                )
            }
            Self::Images {
                split,
                expected,
                found,
            } => {
                write!(f, "{found} {split} images where the first worker has {expected}")
            }
            Self::Contents { expected, found } => {
                let (expected, found) = (expected.to_string(), found.to_string());
                write!(
                    f,
                    "as many images and the same classes, but other files, image sizes or labels (fingerprint {} where the first worker has {})",
                    &found[..8],
                    &expected[..8]
                )
            }
            Self::Model { expected, found } if expected == found => {
                write!(
                    f,
                    "{found}, but with another order or shape of tensors than the first worker"
                )
            }
            Self::Model { expected, found } => write!(f, "{found} where the first worker has {expected}"),
            Self::Arithmetic { expected, found } => write!(
                f,
                "exact sums and MuSGD need the same arithmetic on all workers, but this one has {found} where the first worker has {expected}; make them alike, or train with --sum f32 and another --optimizer"
            ),
        }
    }
}

impl TryFrom<wire::JoinRequest> for Candidate {
    type Error = ParseError;

    fn try_from(request: wire::JoinRequest) -> Result<Self, ParseError> {
        let dataset = required("dataset", request.dataset)?;
        let model = required("model", request.model)?;
        Ok(Self {
            run: request.run_id.parse()?,
            worker: request.worker_id.parse()?,
            version: text("version", request.version)?,
            host: text("host", request.host)?,
            address: request.address.parse()?,
            device: text("device", request.device)?,
            threads: request.threads,
            dataset: DatasetCard {
                fingerprint: Fingerprint::from_field("fingerprint", &dataset.fingerprint)?,
                train_images: dataset.train_images,
                val_images: dataset.val_images,
                class_names: dataset.class_names,
            },
            model: ModelCard {
                layout_digest: Fingerprint::from_field("layout_digest", &model.layout_digest)?,
                description: text("description", model.description)?,
                arithmetic: sentence(&model.arithmetic),
            },
        })
    }
}

impl From<Candidate> for wire::JoinRequest {
    fn from(candidate: Candidate) -> Self {
        Self {
            run_id: candidate.run.to_string(),
            worker_id: candidate.worker.to_string(),
            version: candidate.version,
            host: candidate.host,
            address: candidate.address.to_string(),
            device: candidate.device,
            threads: candidate.threads,
            dataset: Some(wire::DatasetCard {
                fingerprint: candidate.dataset.fingerprint.as_bytes().to_vec().into(),
                train_images: candidate.dataset.train_images,
                val_images: candidate.dataset.val_images,
                class_names: candidate.dataset.class_names,
            }),
            model: Some(wire::ModelCard {
                layout_digest: candidate.model.layout_digest.as_bytes().to_vec().into(),
                description: candidate.model.description,
                arithmetic: candidate.model.arithmetic,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(train_images: u64, class_names: &[&str], bytes: &[u8]) -> DatasetCard {
        DatasetCard {
            fingerprint: Fingerprint::of(bytes),
            train_images,
            val_images: 3,
            class_names: class_names.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_difference_is_named_in_one_sentence() {
        let first = card(205, &["cell", "rod"], b"first");
        let cases = [
            (
                card(205, &["cell"], b"a"),
                "1 classes where the first worker has 2",
            ),
            (
                card(205, &["cell", "dot"], b"a"),
                "class 1 is called \"dot\" where the first worker has \"rod\"",
            ),
            (
                card(204, &["cell", "rod"], b"a"),
                "204 training images where the first worker has 205",
            ),
        ];
        for (other, sentence) in cases {
            assert_eq!(other.difference_from(&first).unwrap().to_string(), sentence);
        }
        let contents = card(205, &["cell", "rod"], b"b").difference_from(&first).unwrap();
        assert!(matches!(contents, Difference::Contents { .. }));
        assert_eq!(first.difference_from(&first), None);
    }

    #[test]
    fn a_candidate_survives_the_wire() {
        let candidate = Candidate {
            run: RunId::from_u128(1),
            worker: WorkerId::from_u128(2),
            version: "0.1.0".into(),
            host: "node".into(),
            address: "node:1".parse().unwrap(),
            device: "cpu".into(),
            threads: 2,
            dataset: card(1, &["cell"], b"x"),
            model: ModelCard {
                layout_digest: Fingerprint::of(b"m"),
                description: "yolov8n".into(),
                arithmetic: "flex".into(),
            },
        };
        assert_eq!(
            Candidate::try_from(wire::JoinRequest::from(candidate.clone())),
            Ok(candidate)
        );
        assert_eq!(
            Candidate::try_from(wire::JoinRequest::default()),
            Err(ParseError::Missing { field: "dataset" })
        );
    }
}
