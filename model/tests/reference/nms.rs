//! Which boxes are kept, and in which order.

use model::decode::Candidates;
use model::nms::{Labels, NmsConfig, Suppression, nms};
use serde::Deserialize;

use crate::draw::{copy_moved, noise, random_boxes};

#[derive(Deserialize)]
struct NmsCase {
    name: String,
    anchors: usize,
    classes: usize,
    sharpness: u32,
    settings: NmsSettings,
    kept: Vec<(usize, u32)>,
}

#[derive(Deserialize)]
struct NmsSettings {
    conf_thres: f32,
    iou_thres: f32,
    max_det: usize,
    max_nms: usize,
    multi_label: bool,
    agnostic: bool,
    classes: Option<Vec<u32>>,
}

#[test]
fn suppression_keeps_the_same_boxes_in_the_same_order() {
    let cases: Vec<NmsCase> = serde_json::from_str(include_str!("nms.json")).unwrap();
    for case in cases {
        let mut boxes = random_boxes(30, case.anchors, [640.0, 480.0]);
        let shift: Vec<f32> = (noise(31, case.anchors * 4).iter())
            .map(|x| (x * 64.0).floor() / 4.0)
            .collect();
        copy_moved(&mut boxes, &shift, |boxes, index| {
            (index % 4 != 0).then(|| boxes[index - index % 4])
        });
        let probabilities = (noise(32, case.anchors * case.classes).iter())
            .map(|x| (0..case.sharpness).fold(x + 0.5, |p, _| p * p))
            .collect();
        let settings = case.settings;
        let config = NmsConfig {
            confidence: settings.conf_thres,
            iou: settings.iou_thres,
            max_detections: settings.max_det,
            max_candidates: settings.max_nms,
            labels: if settings.multi_label {
                Labels::All
            } else {
                Labels::Best
            },
            suppression: if settings.agnostic {
                Suppression::AcrossClasses
            } else {
                Suppression::WithinClass
            },
            classes: settings.classes,
        };
        let input = Candidates {
            boxes,
            probabilities,
            classes: case.classes,
        };
        let found = nms(&input, &config);
        assert_eq!(found.len(), case.kept.len(), "{}", case.name);
        for (rank, (found, &(anchor, class))) in found.iter().zip(&case.kept).enumerate() {
            let score = input.probabilities[anchor * case.classes + class as usize];
            let expected = (input.boxes[anchor], class, score);
            let found = (found.xyxy, found.class, found.score);
            assert_eq!(found, expected, "{}, rank {rank}", case.name);
        }
    }
}
