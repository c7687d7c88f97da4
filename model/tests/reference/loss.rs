//! Loss terms, their gradients, and the choices of the assigner.

use burn::tensor::{Device, Tensor, TensorData};
use model::assign::{AssignConfig, assign, candidates};
use model::decode::decode;
use model::head::{AnchorGrid, DISTANCE_BINS, HeadOutput, Level};
use model::loss::{LossGains, detection_loss};
use model::target::Target;
use serde::Deserialize;

use crate::draw::noise;

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
    /// A bin, and what its logits gain.
    peak: (usize, f32),
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
            *logit += if index % DISTANCE_BINS == self.peak.0 {
                self.peak.1
            } else {
                0.0
            };
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
    serde_json::from_str(include_str!("loss.json")).expect("the stored file is read")
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
