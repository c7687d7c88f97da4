use super::*;
use crate::boxes::iou;
use proptest::prelude::*;

fn candidates(boxes: &[[f32; 4]], probabilities: &[f32], classes: usize) -> Candidates {
    Candidates {
        boxes: boxes.to_vec(),
        probabilities: probabilities.to_vec(),
        classes,
    }
}

const BOXES: [[f32; 4]; 3] = [
    [0.0, 0.0, 10.0, 10.0],
    [1.0, 0.0, 11.0, 10.0], // IoU 9/11 with the first
    [50.0, 50.0, 60.0, 60.0],
];

#[test]
fn the_better_of_two_overlapping_boxes_stays() {
    let found = nms(&candidates(&BOXES, &[0.5, 0.8, 0.6], 1), &NmsConfig::validation());
    let scores: Vec<f32> = found.iter().map(|d| d.score).collect();
    assert_eq!(scores, [0.8, 0.6]);
}

#[test]
fn an_overlap_below_the_threshold_does_not_suppress() {
    let config = NmsConfig {
        iou: 0.82,
        ..NmsConfig::validation()
    };
    let found = nms(&candidates(&BOXES, &[0.5, 0.8, 0.6], 1), &config);
    assert_eq!(found.len(), 3);
}

#[test]
fn classes_suppress_each_other_only_when_asked_to() {
    let input = candidates(&BOXES, &[0.9, 0.0, 0.0, 0.8, 0.0, 0.0], 2);
    let mut config = NmsConfig::validation();
    assert_eq!(nms(&input, &config).len(), 2);
    config.suppression = Suppression::AcrossClasses;
    let found = nms(&input, &config);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].class, 0);
}

#[test]
fn all_labels_of_an_anchor_count_in_validation_and_the_best_in_prediction() {
    let input = candidates(&BOXES[..1], &[0.4, 0.6, 0.3], 3);
    let classes = |config: &NmsConfig| -> Vec<u32> { nms(&input, config).iter().map(|d| d.class).collect() };
    assert_eq!(classes(&NmsConfig::validation()), [1, 0, 2]);
    assert_eq!(classes(&NmsConfig::prediction()), [1]);
    let only = NmsConfig {
        classes: Some(vec![0, 2]),
        ..NmsConfig::validation()
    };
    assert_eq!(classes(&only), [0, 2]);
}

#[test]
fn limits_keep_the_best() {
    let boxes: Vec<[f32; 4]> = (0..20)
        .map(|i| [i as f32 * 20.0, 0.0, i as f32 * 20.0 + 10.0, 10.0])
        .collect();
    let scores: Vec<f32> = (0..20).map(|i| 0.1 + 0.01 * i as f32).collect();
    let input = candidates(&boxes, &scores, 1);
    let mut config = NmsConfig {
        max_detections: 3,
        ..NmsConfig::validation()
    };
    let best =
        |config: &NmsConfig| -> Vec<f32> { nms(&input, config).iter().map(|d| d.xyxy[0] / 20.0).collect() };
    assert_eq!(best(&config), [19.0, 18.0, 17.0]);
    config.max_candidates = 2;
    assert_eq!(best(&config), [19.0, 18.0]);
}

#[test]
fn a_score_at_the_confidence_is_no_detection_and_equal_scores_keep_their_order() {
    let config = NmsConfig {
        confidence: 0.5,
        ..NmsConfig::validation()
    };
    let found = nms(&candidates(&BOXES, &[0.5, 0.75, 0.75], 1), &config);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].xyxy, BOXES[1]);
    assert!(nms(&candidates(&[], &[], 1), &config).is_empty());
}

#[test]
fn numbers_that_are_not_numbers_are_no_detections() {
    let found = nms(
        &candidates(&BOXES, &[f32::NAN, 0.8, f32::NAN], 1),
        &NmsConfig::validation(),
    );
    assert_eq!(found.len(), 1);
}

fn any_candidates() -> impl Strategy<Value = Candidates> {
    let one = (
        (0f32..300.0, 0f32..300.0, 1f32..120.0, 1f32..120.0),
        prop::array::uniform3(0f32..1.0),
    );
    prop::collection::vec(one, 0..60).prop_map(|all| Candidates {
        boxes: all
            .iter()
            .map(|&((x, y, w, h), _)| [x, y, x + w, y + h])
            .collect(),
        probabilities: all.iter().flat_map(|&(_, scores)| scores).collect(),
        classes: 3,
    })
}

proptest! {
    #[test]
    fn no_two_kept_boxes_of_a_class_overlap_too_much(input in any_candidates(), threshold in 0.1f32..0.9) {
        let config = NmsConfig { iou: threshold, ..NmsConfig::validation() };
        let found = nms(&input, &config);
        prop_assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        for (index, a) in found.iter().enumerate() {
            for b in &found[index + 1..] {
                // The offset of a class rounds coordinates by up to 1/1024 pixel here.
                prop_assert!(a.class != b.class || iou(a.xyxy, b.xyxy) <= threshold + 2e-3);
            }
        }
    }

    #[test]
    fn every_dropped_candidate_overlaps_a_better_kept_one(input in any_candidates()) {
        let config = NmsConfig::validation();
        let found = nms(&input, &config);
        for (anchor, &xyxy) in input.boxes.iter().enumerate() {
            for class in 0..3 {
                let score = input.probabilities[anchor * 3 + class];
                let explained = score <= config.confidence || found.iter().any(|kept| {
                    kept.class == class as u32
                        && kept.score >= score
                        && (kept.xyxy == xyxy || iou(kept.xyxy, xyxy) > config.iou - 2e-3)
                });
                prop_assert!(explained, "anchor {} class {}", anchor, class);
            }
        }
    }
}
