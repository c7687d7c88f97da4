//! From the evidence of all images to the figures that people compare.

use serde::{Deserialize, Serialize};

use super::average::{average_precision, precision_at};
use super::curve::{argmax, box_filter, interpolate};
use super::evidence::{DetectionEvidence, ImageEvidence, THRESHOLDS};

/// The figures of a whole data set. Means are taken over the classes that have objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean precision at overlap 0.5, at the confidence of the best mean F1.
    pub precision: f64,
    /// Mean recall at overlap 0.5, at the same confidence.
    pub recall: f64,
    /// Mean average precision at overlap 0.5.
    pub map50: f64,
    /// Mean average precision over the overlaps 0.5 to 0.95.
    pub map50_95: f64,
    /// The figures of each class that has objects, by class.
    pub per_class: Vec<ClassMetrics>,
}

impl Metrics {
    /// Returns the figure that picks the best epoch: `map50_95`.
    pub fn fitness(&self) -> f64 {
        self.map50_95
    }
}

/// The figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Class index.
    pub class: u32,
    /// True objects of the class.
    pub truths: u64,
    /// Precision at overlap 0.5, at the confidence of the best mean F1 over all classes.
    pub precision: f64,
    /// Recall at overlap 0.5, at the same confidence.
    pub recall: f64,
    /// Average precision at overlap 0.5.
    pub ap50: f64,
    /// Mean of the average precisions at the overlaps 0.5 to 0.95.
    pub ap50_95: f64,
}

/// Returns the figures for the evidence of all images; all 0 without objects.
///
/// The order of the images matters only where two detections have equal scores.
///
/// # Panics
/// When a class is not below `classes`.
pub fn summarise(images: &[ImageEvidence], classes: usize) -> Metrics {
    let curves = class_curves(images, classes);
    let best = argmax(&smooth(&mean_f1(&curves)));
    let per_class: Vec<ClassMetrics> = curves.iter().map(|curves| curves.at(best)).collect();
    let mean = |figure: fn(&ClassMetrics) -> f64| {
        per_class.iter().map(figure).sum::<f64>() / per_class.len().max(1) as f64
    };
    Metrics {
        precision: mean(|class| class.precision),
        recall: mean(|class| class.recall),
        map50: mean(|class| class.ap50),
        map50_95: mean(|class| class.ap50_95),
        per_class,
    }
}

/// Returns the curves of each class that has objects, by class: what the figures are read from.
///
/// # Panics
/// When a class is not below `classes`.
pub fn class_curves(images: &[ImageEvidence], classes: usize) -> Vec<ClassCurves> {
    let mut truths = vec![0u64; classes];
    let mut detections: Vec<Vec<DetectionEvidence>> = vec![Vec::new(); classes];
    for image in images {
        for &class in &image.truth_classes {
            truths[class as usize] += 1;
        }
        for &detection in &image.detections {
            detections[detection.class as usize].push(detection);
        }
    }
    truths
        .iter()
        .zip(&mut detections)
        .enumerate()
        .filter(|(_, (truths, _))| **truths > 0)
        .map(|(class, (&truths, detections))| {
            detections.sort_by(|a, b| b.score.total_cmp(&a.score));
            ClassCurves::new(class as u32, truths, detections)
        })
        .collect()
}

/// Returns a curve over the confidence grid, smoothed as it is before its maximum is looked for.
pub fn smooth(curve: &[f64]) -> Vec<f64> {
    box_filter(curve, SMOOTHING_WINDOW)
}

/// Precision and recall of one class at overlap 0.5, and its average precisions.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassCurves {
    /// Class index.
    pub class: u32,
    /// True objects of the class.
    pub truths: u64,
    /// Precision at 1000 confidences from 0 to 1.
    pub precision: Vec<f64>,
    /// Recall at the same confidences.
    pub recall: Vec<f64>,
    /// Precision at 1000 recalls from 0 to 1, made to fall only.
    pub precision_at_recall: Vec<f64>,
    /// Average precision at the overlaps 0.5 to 0.95.
    pub average_precisions: [f64; THRESHOLDS],
}

impl ClassCurves {
    /// Builds the curves from detections by descending score.
    fn new(class: u32, truths: u64, detections: &[DetectionEvidence]) -> Self {
        let mut curves = Self {
            class,
            truths,
            precision: vec![0.0; CONFIDENCES],
            recall: vec![0.0; CONFIDENCES],
            precision_at_recall: vec![0.0; CONFIDENCES],
            average_precisions: [0.0; THRESHOLDS],
        };
        if detections.is_empty() {
            return curves;
        }
        for threshold in 0..THRESHOLDS {
            let (recall, precision) = running(truths, detections, threshold);
            curves.average_precisions[threshold] = average_precision(&recall, &precision);
            if threshold == 0 {
                curves.precision_at_recall = precision_at(&recall, &precision, CONFIDENCES);
                // Negated, because scores descend and interpolation wants ascending points.
                let scores: Vec<f64> = detections.iter().map(|d| -f64::from(d.score)).collect();
                for index in 0..CONFIDENCES {
                    let confidence = -(index as f64 / (CONFIDENCES - 1) as f64);
                    curves.recall[index] = interpolate(confidence, &scores, &recall, 0.0);
                    curves.precision[index] = interpolate(confidence, &scores, &precision, 1.0);
                }
            }
        }
        curves
    }

    /// F1 score at a point of the confidence grid.
    pub fn f1(&self, index: usize) -> f64 {
        let (precision, recall) = (self.precision[index], self.recall[index]);
        2.0 * precision * recall / (precision + recall + EPSILON)
    }

    fn at(&self, index: usize) -> ClassMetrics {
        ClassMetrics {
            class: self.class,
            truths: self.truths,
            precision: self.precision[index],
            recall: self.recall[index],
            ap50: self.average_precisions[0],
            ap50_95: self.average_precisions.iter().sum::<f64>() / THRESHOLDS as f64,
        }
    }
}

/// Returns recall and precision after each detection, at one overlap.
fn running(truths: u64, detections: &[DetectionEvidence], threshold: usize) -> (Vec<f64>, Vec<f64>) {
    let mut right = 0u64;
    (1u64..)
        .zip(detections)
        .map(|(seen, detection)| {
            right += u64::from(detection.correct.at(threshold));
            let right = right as f64;
            (right / (truths as f64 + EPSILON), right / seen as f64)
        })
        .unzip()
}

/// Returns the F1 score averaged over the classes, over the confidence grid.
fn mean_f1(curves: &[ClassCurves]) -> Vec<f64> {
    let classes = curves.len().max(1) as f64;
    (0..CONFIDENCES)
        .map(|index| curves.iter().map(|class| class.f1(index)).sum::<f64>() / classes)
        .collect()
}

/// Points of the confidence grid, from 0 to 1; the recall grid has as many.
const CONFIDENCES: usize = 1000;
/// A tenth of the grid, odd: the F1 curve is smoothed before its maximum is looked for.
const SMOOTHING_WINDOW: usize = CONFIDENCES / 10 + 1;
/// Keeps 0 / 0 at 0.
const EPSILON: f64 = 1e-16;

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
