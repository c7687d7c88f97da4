//! Greedy non-maximum suppression: keeps the best box of each group that overlaps too much.
//!
//! Candidates are taken by descending score, equal scores in the order of anchors, then classes. One is dropped when its
//! IoU with a kept one of the same class is above the threshold. Boxes of different classes are told apart as torchvision's
//! users do it, by moving each class by a fixed offset: at large offsets this rounds coordinates to fractions of a
//! pixel, which is kept here because it decides border cases, and the same boxes shall be kept.

use std::cmp::Ordering;

use crate::boxes::{area, intersection};
use crate::decode::Candidates;

/// How many labels one anchor may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Every class above the confidence: for measuring, where low scores count too.
    All,
    /// The most probable class: for pictures.
    Best,
}

/// Which boxes suppress each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppression {
    /// Boxes of the same class.
    WithinClass,
    /// All boxes.
    AcrossClasses,
}

/// Settings of the suppression.
#[derive(Clone, Debug, PartialEq)]
pub struct NmsConfig {
    /// Only probabilities above it become detections.
    pub confidence: f32,
    /// Overlaps above it suppress.
    pub iou: f32,
    /// Detections kept per image.
    pub max_detections: usize,
    /// Candidates looked at per image, best first. Bounds the time of an untrained model.
    pub max_candidates: usize,
    /// How many labels one anchor may give.
    pub labels: Labels,
    /// Which boxes suppress each other.
    pub suppression: Suppression,
    /// Only these classes, if any are named.
    pub classes: Option<Vec<u32>>,
}

impl NmsConfig {
    /// Returns the settings people measure mAP with.
    pub fn validation() -> Self {
        Self {
            confidence: 0.001,
            iou: 0.7,
            max_detections: 300,
            max_candidates: 30_000,
            labels: Labels::All,
            suppression: Suppression::WithinClass,
            classes: None,
        }
    }

    /// Returns the settings for looking at detections.
    pub fn prediction() -> Self {
        Self {
            confidence: 0.25,
            labels: Labels::Best,
            ..Self::validation()
        }
    }
}

/// One found object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Left, top, right, bottom, in the unit of the candidates.
    pub xyxy: [f32; 4],
    /// Class probability.
    pub score: f32,
    /// Class index.
    pub class: u32,
}

/// Returns what is left of the candidates of one image, by descending score.
pub fn nms(candidates: &Candidates, config: &NmsConfig) -> Vec<Detection> {
    let mut labels = labels(candidates, config);
    if labels.len() > config.max_candidates {
        labels.select_nth_unstable_by(config.max_candidates, Label::best_first);
        labels.truncate(config.max_candidates);
    }
    labels.sort_unstable_by(Label::best_first);
    suppress(candidates, &labels, config)
}

/// One class of one anchor.
#[derive(Clone, Copy)]
struct Label {
    score: f32,
    /// Index in the probabilities; it settles the order of equal scores.
    index: usize,
}

impl Label {
    fn best_first(&self, other: &Self) -> Ordering {
        (other.score.total_cmp(&self.score)).then(self.index.cmp(&other.index))
    }
}

/// Returns the labels with a score above the confidence, by anchor, then by class.
fn labels(candidates: &Candidates, config: &NmsConfig) -> Vec<Label> {
    let classes = candidates.classes.max(1);
    let is_wanted = |index: usize| {
        (config.classes.as_ref()).is_none_or(|wanted| wanted.contains(&((index % classes) as u32)))
    };
    let every = candidates.probabilities.iter().copied().enumerate();
    let mut labels: Vec<Label> = match config.labels {
        Labels::All => every
            .filter(|&(_, score)| score > config.confidence)
            .map(|(index, score)| Label { score, index })
            .collect(),
        Labels::Best => (candidates.probabilities.chunks_exact(classes).enumerate())
            .map(|(anchor, row)| {
                let class =
                    (1..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
                Label {
                    score: row[class],
                    index: anchor * classes + class,
                }
            })
            .filter(|label| label.score > config.confidence)
            .collect(),
    };
    labels.retain(|label| is_wanted(label.index));
    labels
}

/// A kept box, moved by its class.
struct Kept {
    xyxy: [f32; 4],
    area: f32,
}

fn suppress(candidates: &Candidates, labels: &[Label], config: &NmsConfig) -> Vec<Detection> {
    let classes = candidates.classes.max(1);
    let mut detections = Vec::new();
    let mut kept: Vec<Vec<Kept>> = Vec::new();
    kept.resize_with(classes, Vec::new);
    for label in labels {
        if detections.len() == config.max_detections {
            break;
        }
        let (anchor, class) = (label.index / classes, label.index % classes);
        let (group, offset) = match config.suppression {
            Suppression::WithinClass => (class, class as f32 * CLASS_OFFSET),
            Suppression::AcrossClasses => (0, 0.0),
        };
        let xyxy = candidates.boxes[anchor].map(|edge| edge + offset);
        let own_area = area(xyxy);
        let is_suppressed = kept[group].iter().any(|other| {
            let shared = intersection(other.xyxy, xyxy);
            shared / (other.area + own_area - shared) > config.iou
        });
        if !is_suppressed {
            kept[group].push(Kept { xyxy, area: own_area });
            detections.push(Detection {
                xyxy: candidates.boxes[anchor],
                score: label.score,
                class: class as u32,
            });
        }
    }
    detections
}

/// Distance in pixels between the boxes of neighbouring classes.
const CLASS_OFFSET: f32 = 7680.0;

#[cfg(test)]
#[path = "nms_tests.rs"]
mod tests;
