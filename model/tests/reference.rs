//! Compares loss, assigner, suppression and metrics with stored figures of Ultralytics 8.4.190.
//!
//! `reference/make.py` made the figures; inputs are drawn here again from the same formula, so they are not stored.

use burn::tensor::{Device, Tensor, TensorData};
use model::assign::{AssignConfig, assign, candidates};
use model::decode::{Candidates, decode};
use model::head::{AnchorGrid, DISTANCE_BINS, HeadOutput, Level};
use model::loss::{LossGains, detection_loss};
use model::metric::{ImageEvidence, match_detections, summarise};
use model::nms::{Detection, Labels, NmsConfig, Suppression, nms};
use model::target::Target;
use serde::Deserialize;

/// Numbers in `[-0.5, 0.5)`: the high bits of SplitMix64's mixer over (seed, index).
fn noise(seed: u64, length: usize) -> Vec<f32> {
    (0..length as u64)
        .map(|index| {
            let mut bits = (seed << 32 | index).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((bits ^ bits >> 31) >> 40) as f32 / (1u32 << 24) as f32 - 0.5
        })
        .collect()
}

/// Boxes in quarter pixels, from 2 pixels to half of the image.
fn random_boxes(seed: u64, count: usize, sides: [f32; 2]) -> Vec<[f32; 4]> {
    let draws: Vec<f32> = noise(seed, count * 4).iter().map(|x| x + 0.5).collect();
    draws
        .chunks_exact(4)
        .map(|draw| {
            let extent: [f32; 2] = std::array::from_fn(|axis| {
                (draw[2 + axis] * draw[2 + axis] * (sides[axis] / 2.0 - 2.0) * 4.0).floor() / 4.0 + 2.0
            });
            let low: [f32; 2] =
                std::array::from_fn(|axis| (draw[axis] * (sides[axis] - extent[axis]) * 4.0).floor() / 4.0);
            [low[0], low[1], low[0] + extent[0], low[1] + extent[1]]
        })
        .collect()
}

/// Replaces every box that has an original by a moved copy of it, then keeps all boxes at least a pixel wide and high.
fn copy_moved(
    boxes: &mut [[f32; 4]],
    shift: &[f32],
    original: impl Fn(&[[f32; 4]], usize) -> Option<[f32; 4]>,
) {
    for index in 0..boxes.len() {
        if let Some(original) = original(boxes, index) {
            boxes[index] = std::array::from_fn(|i| original[i] + shift[index * 4 + i]);
        }
    }
    for xyxy in boxes {
        xyxy[2] = xyxy[2].max(xyxy[0] + 1.0);
        xyxy[3] = xyxy[3].max(xyxy[1] + 1.0);
    }
}

fn close(found: f32, expected: f64, relative: f64, context: &str) {
    let difference = (f64::from(found) - expected).abs();
    assert!(
        difference <= relative * expected.abs().max(1e-3),
        "{context}: {found} instead of {expected}"
    );
}

#[derive(Deserialize)]
struct LossCase {
    name: String,
    size: [usize; 2],
    classes: usize,
    /// All logits alike: many anchors are equally good.
    flat: bool,
    truths: Vec<Vec<[f32; 5]>>,
    sums: [f64; 3],
    normaliser: f64,
    positives: Vec<(usize, usize, usize, f64)>,
    distance_gradient: Gradient,
    score_gradient: Gradient,
}

#[derive(Deserialize)]
struct Gradient {
    norm: f64,
    samples: Vec<(usize, f64)>,
}

impl Gradient {
    /// Compares the norm, and single entries unless the case has ties.
    fn check(&self, found: Option<Tensor<3>>, case: &LossCase) {
        let name = &case.name;
        let Some(found) = found else {
            assert_eq!(self.norm, 0.0, "{name}");
            return;
        };
        let found: Vec<f32> = found.into_data().iter::<f32>().collect();
        let norm: f64 = found.iter().map(|&g| f64::from(g).powi(2)).sum();
        close(norm.sqrt() as f32, self.norm, 1e-5, name);
        for &(index, expected) in self.samples.iter().filter(|_| !case.flat) {
            close(found[index], expected, 1e-4, name);
        }
    }
}

impl LossCase {
    fn grid(&self) -> AnchorGrid {
        let [width, height] = self.size;
        let level = |stride: usize| Level {
            height: height / stride,
            width: width / stride,
            stride: stride as f32,
        };
        AnchorGrid::new([8, 16, 32].map(level).to_vec())
    }

    fn output(&self) -> HeadOutput {
        let (grid, images) = (self.grid(), self.truths.len());
        let spread = if self.flat { 0.0 } else { 1.0 };
        let mut distances = noise(11, images * grid.len() * 4 * DISTANCE_BINS);
        for (index, logit) in distances.iter_mut().enumerate() {
            *logit *= 2.0 * spread;
            *logit += if index % DISTANCE_BINS == 2 { 3.0 } else { 0.0 };
        }
        let mut scores = noise(12, images * grid.len() * self.classes);
        for logit in &mut scores {
            *logit = (*logit * 4.0 - 2.0) * spread;
        }
        let device = Device::flex().autodiff();
        let tensor = |values: Vec<f32>, channels: usize| -> Tensor<3> {
            let shape = [images, grid.len(), channels];
            Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
        };
        HeadOutput {
            distances: tensor(distances, 4 * DISTANCE_BINS),
            scores: tensor(scores, self.classes),
            grid,
        }
    }

    fn targets(&self) -> Vec<Vec<Target>> {
        let target = |&[class, left, top, right, bottom]: &[f32; 5]| Target {
            class: class as u32,
            xyxy: [left, top, right, bottom],
        };
        (self.truths.iter())
            .map(|truths| truths.iter().map(target).collect())
            .collect()
    }
}

fn loss_cases() -> Vec<LossCase> {
    serde_json::from_str(include_str!("reference/loss.json")).unwrap()
}

#[test]
fn loss_terms_and_gradients_agree() {
    for case in loss_cases() {
        let output = case.output();
        let loss = detection_loss(&output, &case.targets(), &LossGains::default());
        close(loss.normaliser, case.normaliser, 1e-5, &case.name);
        for (found, expected) in loss.sums.into_iter().zip(case.sums) {
            close(found, expected, 1e-5, &case.name);
        }
        let gradients = loss.total.backward();
        (case.distance_gradient).check(output.distances.grad(&gradients), &case);
        (case.score_gradient).check(output.scores.grad(&gradients), &case);
    }
}

#[test]
fn assigner_choices_are_equal() {
    for case in loss_cases() {
        let images = decode(&case.output());
        let mut found = Vec::new();
        for (image, truths) in case.targets().iter().enumerate() {
            let pairs = candidates(&case.grid(), truths);
            let (probabilities, boxes): (Vec<f32>, Vec<[f32; 4]>) = (pairs.iter())
                .map(|pair| {
                    let class = truths[pair.truth].class as usize;
                    let at = pair.anchor * case.classes + class;
                    (images[image].probabilities[at], images[image].boxes[pair.anchor])
                })
                .unzip();
            let config = AssignConfig::default();
            for positive in assign(&config, &pairs, &probabilities, &boxes, truths) {
                found.push((image, positive.anchor, positive.truth, positive.score));
            }
        }
        // A positive with target score 0 teaches nothing; which of them are listed depends on how ties are sorted.
        let mut expected: Vec<_> = case.positives.iter().filter(|p| p.3 > 0.0).collect();
        found.retain(|positive| positive.3 > 0.0);
        assert_eq!(found.len(), expected.len(), "{}", case.name);
        if case.flat {
            // Among equal anchors the lowest are ours; which are PyTorch's depends on its device. Scores still agree.
            found.sort_by(|a, b| a.3.total_cmp(&b.3));
            expected.sort_by(|a, b| a.3.total_cmp(&b.3));
        }
        for (found, expected) in found.into_iter().zip(expected) {
            if !case.flat {
                let choice = (expected.0, expected.1, expected.2);
                assert_eq!((found.0, found.1, found.2), choice, "{}", case.name);
            }
            close(found.3, expected.3, 1e-4, &case.name);
        }
    }
}

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
    let cases: Vec<NmsCase> = serde_json::from_str(include_str!("reference/nms.json")).unwrap();
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

#[derive(Deserialize)]
struct MetricCase {
    name: String,
    images: Vec<(usize, usize)>,
    classes: usize,
    correct: Vec<u16>,
    precision: f64,
    recall: f64,
    map50: f64,
    map50_95: f64,
    per_class: Vec<(u32, f64, f64, f64, f64)>,
}

impl MetricCase {
    fn evidence(&self, image: usize) -> ImageEvidence {
        let (count, found) = self.images[image];
        let seed = image as u64;
        let truths: Vec<Target> = (random_boxes(100 + seed, count, [320.0; 2]).into_iter())
            .enumerate()
            .map(|(index, xyxy)| Target {
                class: (index * 7 % self.classes) as u32,
                xyxy,
            })
            .collect();
        let shift: Vec<f32> = (noise(300 + seed, found * 4).iter())
            .map(|x| (x * 40.0).floor() / 4.0)
            .collect();
        let original = |index: usize| (index % 2 == 0 && count > 0).then(|| truths[index / 2 % count]);
        let mut boxes = random_boxes(200 + seed, found, [320.0; 2]);
        copy_moved(&mut boxes, &shift, |_, index| original(index).map(|t| t.xyxy));
        let mut scores: Vec<f32> = noise(400 + seed, found).iter().map(|x| x + 0.5).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        let detections: Vec<Detection> = (boxes.into_iter().zip(scores).enumerate())
            .map(|(index, (xyxy, score))| Detection {
                xyxy,
                score,
                class: original(index).map_or(((index * 5 + image) % self.classes) as u32, |t| t.class),
            })
            .collect();
        match_detections(&detections, &truths)
    }
}

#[test]
fn matches_and_metrics_agree() {
    let cases: Vec<MetricCase> = serde_json::from_str(include_str!("reference/metric.json")).unwrap();
    for case in cases {
        let images: Vec<ImageEvidence> = (0..case.images.len()).map(|image| case.evidence(image)).collect();
        let correct: Vec<u16> = (images.iter())
            .flat_map(|image| image.detections.iter().map(|d| d.correct.0))
            .collect();
        assert_eq!(correct, case.correct, "{}", case.name);
        let metrics = summarise(&images, case.classes);
        let agree = |found: f64, expected: f64| {
            assert!(
                (found - expected).abs() < 1e-9,
                "{}: {found} {expected}",
                case.name
            );
        };
        agree(metrics.precision, case.precision);
        agree(metrics.recall, case.recall);
        agree(metrics.map50, case.map50);
        agree(metrics.map50_95, case.map50_95);
        assert_eq!(metrics.per_class.len(), case.per_class.len());
        for (found, expected) in metrics.per_class.iter().zip(case.per_class) {
            assert_eq!(found.class, expected.0);
            agree(found.precision, expected.1);
            agree(found.recall, expected.2);
            agree(found.ap50, expected.3);
            agree(found.ap50_95, expected.4);
        }
    }
}
