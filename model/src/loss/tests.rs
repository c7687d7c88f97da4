use burn::tensor::{Device, TensorData};

use super::plain::Plain;
use super::*;
use crate::head::{AnchorGrid, DISTANCE_BINS, Level};

const CLASSES: usize = 3;

fn grid() -> AnchorGrid {
    let level = |side, stride| Level {
        height: side,
        width: side,
        stride,
    };
    AnchorGrid::new(vec![level(8, 8.0), level(4, 16.0), level(2, 32.0)])
}

/// Numbers in `[-0.5, 0.5)` that are the same everywhere: the high bits of a 64-bit mixer (SplitMix64).
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

struct Inputs {
    images: usize,
    distances: Vec<f32>,
    scores: Vec<f32>,
}

impl Inputs {
    /// Logits that favour the second bin, so that boxes are about the size of the targets.
    fn new(images: usize) -> Self {
        let anchors = grid().len();
        let mut distances: Vec<f32> = noise(1, images * anchors * 4 * DISTANCE_BINS)
            .into_iter()
            .map(|value| value * 2.0)
            .collect();
        for bins in distances.chunks_exact_mut(DISTANCE_BINS) {
            bins[2] += 3.0;
        }
        Self {
            images,
            distances,
            scores: noise(2, images * anchors * CLASSES)
                .into_iter()
                .map(|value| value * 4.0 - 2.0)
                .collect(),
        }
    }

    fn output(&self, device: &Device) -> HeadOutput {
        let grid = grid();
        let tensor = |values: &[f32], channels| -> Tensor<3> {
            let shape = [self.images, grid.len(), channels];
            let tensor = Tensor::from_data(TensorData::new(values.to_vec(), shape), device);
            if device.is_autodiff() {
                tensor.require_grad()
            } else {
                tensor
            }
        };
        HeadOutput {
            distances: tensor(&self.distances, 4 * DISTANCE_BINS),
            scores: tensor(&self.scores, CLASSES),
            grid,
        }
    }

    /// Returns the gradients of the total with respect to distances and scores.
    fn gradients(&self, targets: &[Vec<Target>]) -> (Vec<f32>, Vec<f32>) {
        let output = self.output(&Device::flex().autodiff());
        let loss = detection_loss(&output, targets, &LossGains::default());
        let gradients = loss.total.backward();
        let read = |tensor: &Tensor<3>| {
            tensor
                .grad(&gradients)
                .map_or_else(Vec::new, |gradient| gradient.into_data().iter::<f32>().collect())
        };
        (read(&output.distances), read(&output.scores))
    }
}

fn target(class: u32, xyxy: [f32; 4]) -> Target {
    Target { class, xyxy }
}

fn targets() -> Vec<Vec<Target>> {
    vec![
        vec![
            target(0, [3.0, 5.0, 30.0, 41.0]),
            target(2, [20.0, 11.0, 61.0, 58.0]),
            target(2, [50.0, 2.0, 54.0, 7.0]),
        ],
        vec![],
        vec![target(1, [0.0, 0.0, 64.0, 64.0])],
    ]
}

/// Binary cross entropy of a logit, in `f64`.
fn entropy(logit: f32, target: f64) -> f64 {
    let logit = f64::from(logit);
    logit.max(0.0) + (-logit.abs()).exp().ln_1p() - target * logit
}

#[test]
fn without_objects_the_loss_is_the_cross_entropy_against_zero() {
    let inputs = Inputs::new(2);
    let loss = detection_loss(
        &inputs.output(&Device::flex()),
        &[vec![], vec![]],
        &LossGains::default(),
    );
    let expected: f64 = inputs.scores.iter().map(|&x| 0.5 * entropy(x, 0.0)).sum();
    assert!((f64::from(loss.sums[1]) / expected - 1.0).abs() < 1e-6);
    assert_eq!((loss.sums[0], loss.sums[2], loss.normaliser), (0.0, 0.0, 0.0));

    let (distances, scores) = inputs.gradients(&[vec![], vec![]]);
    assert!(distances.iter().all(|&g| g == 0.0));
    for (logit, gradient) in inputs.scores.iter().zip(scores) {
        assert!((gradient - 0.5 / (1.0 + (-logit).exp())).abs() < 1e-6);
    }
}

#[test]
fn the_terms_equal_a_plain_evaluation_on_the_host() {
    let inputs = Inputs::new(3);
    let output = inputs.output(&Device::flex());
    let loss = detection_loss(&output, &targets(), &LossGains::default());
    let foreground = Foreground::assign(&output, &targets(), &AssignConfig::default());
    assert!(foreground.len() > 15, "{}", foreground.len());

    let plain = Plain::new(&foreground, |at| f64::from(inputs.distances[at]), None);
    let mut wanted = vec![0f64; inputs.scores.len()];
    for (index, &row) in foreground.rows.iter().enumerate() {
        wanted[row * CLASSES + foreground.classes[index] as usize] = f64::from(foreground.scores[index]);
    }
    let class: f64 = (inputs.scores.iter().zip(&wanted))
        .map(|(&logit, &wanted)| entropy(logit, wanted))
        .sum();
    let expected = [7.5 * plain.overlap, 0.5 * class, 1.5 * plain.focal];
    for (sum, expected) in loss.sums.into_iter().zip(expected) {
        assert!((f64::from(sum) / expected - 1.0).abs() < 1e-5, "{sum} {expected}");
    }
    let [total] = read::<1>(loss.total);
    assert!((total / loss.sums.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    let weights: f32 = foreground.scores.iter().sum();
    assert!((loss.normaliser - weights).abs() < 1e-4);
}

#[test]
fn each_class_has_its_factor_in_the_class_term_and_in_its_slope() {
    let inputs = Inputs::new(3);
    let gains = LossGains {
        classes: vec![0.5, 2.0, 0.25],
        ..LossGains::default()
    };
    let output = inputs.output(&Device::flex().autodiff());
    let loss = detection_loss(&output, &targets(), &gains);
    let foreground = Foreground::assign(&output, &targets(), &AssignConfig::default());
    let mut wanted = vec![0f32; inputs.scores.len()];
    for (index, &row) in foreground.rows.iter().enumerate() {
        wanted[row * CLASSES + foreground.classes[index] as usize] = foreground.scores[index];
    }
    let logits = inputs.scores.iter().zip(&wanted).enumerate();
    let class: f64 = logits
        .map(|(at, (&logit, &wanted))| {
            f64::from(gains.classes[at % CLASSES]) * entropy(logit, f64::from(wanted))
        })
        .sum();
    assert!((f64::from(loss.sums[1]) / (0.5 * class) - 1.0).abs() < 1e-5);
    let gradients = loss.total.backward();
    let slopes = output.scores.grad(&gradients).unwrap().into_data();
    for (at, slope) in slopes.iter::<f32>().enumerate() {
        let sigmoid = 1.0 / (1.0 + (-inputs.scores[at]).exp());
        let expected = 0.5 * gains.classes[at % CLASSES] * (sigmoid - wanted[at]);
        assert!((slope - expected).abs() < 1e-6, "logit {at}: {slope} {expected}");
    }
}

#[test]
fn the_loss_of_a_slot_is_the_sum_over_its_images() {
    let inputs = Inputs::new(3);
    let targets = targets();
    let gains = LossGains::default();
    let whole = detection_loss(&inputs.output(&Device::flex()), &targets, &gains);
    let mut sums = [0f32; 3];
    let mut normaliser = 0.0;
    for (image, truths) in targets.iter().enumerate() {
        let cut = |values: &[f32]| values[image * values.len() / 3..][..values.len() / 3].to_vec();
        let one = Inputs {
            images: 1,
            distances: cut(&inputs.distances),
            scores: cut(&inputs.scores),
        };
        let output = one.output(&Device::flex());
        let loss = detection_loss(&output, std::slice::from_ref(truths), &gains);
        for (sum, part) in sums.iter_mut().zip(loss.sums) {
            *sum += part;
        }
        normaliser += loss.normaliser;
    }
    for (sum, whole) in sums.into_iter().zip(whole.sums) {
        assert!((sum / whole - 1.0).abs() < 1e-5, "{sum} {whole}");
    }
    assert!((normaliser - whole.normaliser).abs() < 1e-4);
}

#[test]
fn autodiff_changes_no_number_beyond_rounding() {
    let inputs = Inputs::new(3);
    let gains = LossGains::default();
    let plain = detection_loss(&inputs.output(&Device::flex()), &targets(), &gains);
    let tracked = inputs.output(&Device::flex().autodiff());
    let tracked = detection_loss(&tracked, &targets(), &gains);
    for (plain, tracked) in plain.sums.into_iter().zip(tracked.sums) {
        assert!((plain / tracked - 1.0).abs() < 1e-6, "{plain} {tracked}");
    }
    assert_eq!(plain.normaliser, tracked.normaliser);
}

#[test]
fn gradients_agree_with_finite_differences() {
    let inputs = Inputs::new(3);
    let output = inputs.output(&Device::flex());
    // Neither the assigner nor the trade-off of the aspect term is differentiated: both are held while logits move.
    let foreground = Foreground::assign(&output, &targets(), &AssignConfig::default());
    let held = Plain::new(&foreground, |at| f64::from(inputs.distances[at]), None).trade_offs;
    let total = |moved: usize, by: f64| {
        let logit = |at| f64::from(inputs.distances[at]) + if at == moved { by } else { 0.0 };
        let plain = Plain::new(&foreground, logit, Some(&held));
        7.5 * plain.overlap + 1.5 * plain.focal
    };
    let (distances, scores) = inputs.gradients(&targets());
    let step = 1e-4;
    for (index, &row) in foreground.rows.iter().enumerate() {
        let first = row * 4 * DISTANCE_BINS;
        for (at, &found) in distances.iter().enumerate().skip(first).take(4 * DISTANCE_BINS) {
            let slope = (total(at, step) - total(at, -step)) / (2.0 * step);
            let found = f64::from(found);
            assert!(
                (slope - found).abs() < 1e-4 * slope.abs().max(0.1),
                "logit {at}: {slope} against {found}"
            );
        }
        let at = row * CLASSES + foreground.classes[index] as usize;
        let expected = 0.5 / (1.0 + (-inputs.scores[at]).exp()) - 0.5 * foreground.scores[index];
        assert!((scores[at] - expected).abs() < 1e-6);
    }
    let learned = distances.iter().filter(|&&gradient| gradient != 0.0).count();
    assert!(learned <= foreground.len() * 4 * DISTANCE_BINS);
}

#[test]
fn extreme_logits_stay_finite() {
    let mut inputs = Inputs::new(3);
    for (index, logit) in inputs.scores.iter_mut().enumerate() {
        *logit = if index % 2 == 0 { 200.0 } else { -200.0 };
    }
    for (index, logit) in inputs.distances.iter_mut().enumerate() {
        *logit *= if index % 5 == 0 { 100.0 } else { 1.0 };
    }
    let output = inputs.output(&Device::flex());
    let loss = detection_loss(&output, &targets(), &LossGains::default());
    assert!(loss.sums.iter().all(|sum| sum.is_finite()), "{:?}", loss.sums);
    let (distances, scores) = inputs.gradients(&targets());
    assert!(distances.iter().chain(&scores).all(|g| g.is_finite()));
}

#[test]
#[should_panic(expected = "class 3 of 3")]
fn a_class_beyond_the_head_is_a_bug() {
    let output = Inputs::new(1).output(&Device::flex());
    let truths = vec![target(3, [0.0, 0.0, 30.0, 30.0])];
    let _ = detection_loss(&output, &[truths], &LossGains::default());
}
