//! What one image says about a detector: its detections, right or wrong, and the objects it should have found.
//!
//! Objects that shall neither count nor be held against a detection (COCO's crowds) are not known here; leave them out.

use serde::{Deserialize, Serialize};

use crate::boxes::iou;
use crate::nms::Detection;
use crate::target::Target;

/// Number of overlaps at which a detection is judged: 0.5 to 0.95 in steps of 0.05.
pub const THRESHOLDS: usize = 10;

/// At which overlaps a detection is right, as bits: bit 0 for 0.5, bit 9 for 0.95.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correct(pub u16);

impl Correct {
    /// Whether the detection is right at the given threshold index.
    pub fn at(self, threshold: usize) -> bool {
        self.0 >> threshold & 1 == 1
    }
}

/// One judged detection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionEvidence {
    /// Class probability.
    pub score: f32,
    /// Class index.
    pub class: u32,
    /// At which overlaps it is right.
    pub correct: Correct,
}

/// All that the metrics need to know about one image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageEvidence {
    /// The detections by descending score.
    pub detections: Vec<DetectionEvidence>,
    /// The class of each true object.
    pub truth_classes: Vec<u32>,
}

/// Judges the detections of an image against its true objects.
///
/// At each overlap, detections in the given order (descending score) take the free object of their class that they
/// overlap most; they are right when that overlap reaches the threshold. An object is taken once.
///
/// # Units
/// Detections and truths in the same pixels, of the original image or of the network input.
pub fn match_detections(detections: &[Detection], truths: &[Target]) -> ImageEvidence {
    let thresholds = thresholds();
    let mut taken = vec![Correct::default(); truths.len()];
    let judged = detections.iter().map(|detection| {
        let overlaps: Vec<(usize, f32)> = truths
            .iter()
            .enumerate()
            .filter(|(_, truth)| truth.class == detection.class)
            .map(|(index, truth)| (index, iou(truth.xyxy, detection.xyxy)))
            .filter(|&(_, overlap)| overlap >= thresholds[0])
            .collect();
        let mut correct = Correct::default();
        for (bit, &threshold) in thresholds.iter().enumerate() {
            let best = overlaps
                .iter()
                .filter(|&&(index, _)| !taken[index].at(bit))
                .reduce(|best, next| if next.1 > best.1 { next } else { best });
            if let Some(&(index, overlap)) = best
                && overlap >= threshold
            {
                correct.0 |= 1 << bit;
                taken[index].0 |= 1 << bit;
            }
        }
        DetectionEvidence {
            score: detection.score,
            class: detection.class,
            correct,
        }
    });
    ImageEvidence {
        detections: judged.collect(),
        truth_classes: truths.iter().map(|truth| truth.class).collect(),
    }
}

/// Returns the overlap thresholds as `torch.linspace(0.5, 0.95, 10)` rounds them: from both ends inwards.
fn thresholds() -> [f32; THRESHOLDS] {
    let step = (0.95f32 - 0.5) / (THRESHOLDS - 1) as f32;
    std::array::from_fn(|index| {
        if index < THRESHOLDS / 2 {
            0.5 + step * index as f32
        } else {
            0.95 - step * (THRESHOLDS - 1 - index) as f32
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(x: f32, width: f32, score: f32, class: u32) -> Detection {
        Detection {
            xyxy: [x, 0.0, x + width, 10.0],
            score,
            class,
        }
    }

    fn truth(x: f32, class: u32) -> Target {
        Target {
            class,
            xyxy: [x, 0.0, x + 10.0, 10.0],
        }
    }

    fn bits(detections: &[Detection], truths: &[Target]) -> Vec<u16> {
        let evidence = match_detections(detections, truths);
        evidence.detections.iter().map(|d| d.correct.0).collect()
    }

    #[test]
    fn thresholds_step_by_a_twentieth() {
        for (index, threshold) in thresholds().into_iter().enumerate() {
            assert!((threshold - (0.5 + 0.05 * index as f32)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_detection_is_right_up_to_its_overlap() {
        // IoU 0.72: right at 0.5, 0.55, 0.6, 0.65, 0.7.
        assert_eq!(bits(&[detection(0.0, 7.2, 0.9, 0)], &[truth(0.0, 0)]), [0b11111]);
    }

    #[test]
    fn an_object_is_found_once_and_only_by_its_class() {
        let detections = [
            detection(0.0, 10.0, 0.9, 1),
            detection(0.0, 9.0, 0.8, 0),
            detection(0.0, 10.0, 0.7, 0),
        ];
        // The second takes the object up to IoU 0.9; beyond that it is free for the third.
        assert_eq!(bits(&detections, &[truth(0.0, 0)]), [0, 0x1FF, 0x200]);
    }

    #[test]
    fn a_detection_takes_the_next_best_object_when_the_best_is_taken() {
        let detections = [detection(0.0, 10.0, 0.9, 0), detection(0.5, 10.0, 0.8, 0)];
        let truths = [truth(0.0, 0), truth(2.5, 0)];
        // Second: IoU 0.905 with the taken object, 8/12 with the free one; at 0.95 neither helps.
        assert_eq!(bits(&detections, &truths), [0x3FF, 0b1111]);
    }

    #[test]
    fn without_objects_every_detection_is_wrong() {
        let evidence = match_detections(&[detection(0.0, 5.0, 0.5, 3)], &[]);
        assert_eq!(evidence.detections[0].correct, Correct(0));
        assert!(evidence.truth_classes.is_empty());
    }

    #[test]
    fn evidence_survives_its_compact_encoding() {
        let evidence = match_detections(&[detection(0.0, 9.0, 0.5, 3)], &[truth(0.0, 3)]);
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(&evidence, config).unwrap();
        let (back, _): (ImageEvidence, usize) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
        assert_eq!(back, evidence);
        assert!(bytes.len() <= 12, "{} bytes", bytes.len());
    }
}
