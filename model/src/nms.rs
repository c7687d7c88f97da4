//! Greedy non-maximum suppression: keeps the best box of each group that overlaps too much.
//!
//! Candidates are taken by descending score, equal scores in the order of anchors, then classes. One is dropped when its
//! IoU with a kept one of the same class is above the threshold. Boxes of different classes are told apart as torchvision's
//! users do it, by moving each class by a fixed offset: at large offsets this rounds coordinates to fractions of a
//! pixel, which is kept here because it decides border cases, and the same boxes shall be kept.

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
    let mut labelled = labelled(candidates, config);
    // A stable sort: of equal scores the same ones stay, whatever the length.
    labelled.sort_by(|a, b| b.score.total_cmp(&a.score));
    labelled.truncate(config.max_candidates);
    suppress(labelled, candidates.classes, config)
}

/// Returns the candidates with a score above the confidence, by anchor, then by class.
fn labelled(candidates: &Candidates, config: &NmsConfig) -> Vec<Detection> {
    let wanted =
        |class: usize| (config.classes.as_ref()).is_none_or(|classes| classes.contains(&(class as u32)));
    let mut labelled = Vec::new();
    let rows = candidates.probabilities.chunks_exact(candidates.classes.max(1));
    for (&xyxy, row) in candidates.boxes.iter().zip(rows) {
        let mut add = |class: usize| {
            if wanted(class) {
                labelled.push(Detection {
                    xyxy,
                    score: row[class],
                    class: class as u32,
                });
            }
        };
        match config.labels {
            Labels::All => {
                for (class, &score) in row.iter().enumerate() {
                    if score > config.confidence {
                        add(class);
                    }
                }
            }
            Labels::Best => {
                let mut best = 0;
                for (class, &score) in row.iter().enumerate() {
                    if score > row[best] {
                        best = class;
                    }
                }
                if row[best] > config.confidence {
                    add(best);
                }
            }
        }
    }
    labelled
}

/// A kept box, moved by its class.
struct Kept {
    xyxy: [f32; 4],
    area: f32,
}

fn suppress(sorted: Vec<Detection>, classes: usize, config: &NmsConfig) -> Vec<Detection> {
    let mut detections = Vec::new();
    let mut kept: Vec<Vec<Kept>> = Vec::new();
    kept.resize_with(classes.max(1), Vec::new);
    for detection in sorted {
        if detections.len() == config.max_detections {
            break;
        }
        let (group, offset) = match config.suppression {
            Suppression::WithinClass => (detection.class as usize, detection.class as f32 * CLASS_OFFSET),
            Suppression::AcrossClasses => (0, 0.0),
        };
        let xyxy = detection.xyxy.map(|edge| edge + offset);
        let own_area = area(xyxy);
        let is_suppressed = kept[group].iter().any(|other| {
            let shared = intersection(other.xyxy, xyxy);
            shared / (other.area + own_area - shared) > config.iou
        });
        if !is_suppressed {
            kept[group].push(Kept { xyxy, area: own_area });
            detections.push(detection);
        }
    }
    detections
}

/// Distance in pixels between the boxes of neighbouring classes.
const CLASS_OFFSET: f32 = 7680.0;

#[cfg(test)]
#[path = "nms_tests.rs"]
mod tests;
