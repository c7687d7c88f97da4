//! Precision, recall and mean average precision.
//!
//! Each image gives [`ImageEvidence`]: which detections were right at which overlap. Evidence is small, can be sent,
//! and is summarised once by whoever has all of it, in the order of the images. So the figures do not depend on how
//! the images were dealt out.
//!
//! # Source
//! The definitions of COCO (overlaps 0.5 to 0.95, 101 recall points), in the form Ultralytics 8.4 reports them.

mod average;
mod coco;
mod confusion;
mod curve;
mod evidence;
mod summary;

pub use coco::{CocoImage, CocoMetrics, CocoTruth, coco_metrics};
pub use confusion::ConfusionMatrix;
pub use evidence::{Correct, DetectionEvidence, ImageEvidence, THRESHOLDS, match_detections};
pub use summary::{ClassCurves, ClassMetrics, Metrics, class_curves, smooth, summarise};
