//! The two box terms, from the distance logits of the positives: distribution focal loss, and CIoU of the expectation.

use burn::tensor::{Device, Tensor, activation::log_softmax};

use super::foreground::{Foreground, constant, indices};
use super::overlap::ciou;
use crate::decode::bins;
use crate::head::DISTANCE_BINS;

/// Returns the summed box and distribution terms, both weighted by the target scores.
///
/// # Shapes
/// `distances`: `[B, A, 4 * DISTANCE_BINS]` logits.
///
/// # Source
/// Generalized Focal Loss (Li et al. 2020, <https://arxiv.org/abs/2006.04388>), equation 6.
pub(super) fn terms(distances: &Tensor<3>, foreground: &Foreground) -> (Tensor<1>, Tensor<1>) {
    let [images, anchors, channels] = distances.dims();
    let device = distances.device();
    let rows = indices(foreground.rows.iter().copied(), &device);
    let logits: Tensor<3> = distances
        .clone()
        .reshape([images * anchors, channels])
        .select(0, rows)
        .reshape([foreground.len(), 4, DISTANCE_BINS]);
    let log_probabilities = log_softmax(logits, 2);
    let expected = (log_probabilities.clone().exp() * bins(&device)).sum_dim(2);
    let focal = (log_probabilities * focal_weights(foreground, &device))
        .sum()
        .neg();
    (box_term(expected, foreground, &device), focal)
}

/// Returns the summed `1 - CIoU` in cells of the anchors' levels.
fn box_term(expected: Tensor<3>, foreground: &Foreground, device: &Device) -> Tensor<1> {
    let count = foreground.len();
    let expected: Tensor<2> = expected.reshape([count, 4]);
    let points = constant(foreground.points.as_flattened().to_vec(), [count, 2], device);
    let truth = constant(foreground.boxes.as_flattened().to_vec(), [count, 4], device);
    let weights = constant(foreground.scores.clone(), [count, 1], device);
    let low = points.clone() - expected.clone().narrow(1, 0, 2);
    let high = points + expected.narrow(1, 2, 2);
    let overlap = ciou(
        [low, high],
        [truth.clone().narrow(1, 0, 2), truth.narrow(1, 2, 2)],
    );
    (overlap.neg().add_scalar(1.0) * weights).sum()
}

/// Returns what each log-probability counts: the two bins around the true distance share the target score by nearness,
/// and the four sides are averaged.
fn focal_weights(foreground: &Foreground, device: &Device) -> Tensor<3> {
    let mut weights = vec![0f32; foreground.len() * 4 * DISTANCE_BINS];
    for (row, side_weights) in weights.chunks_exact_mut(4 * DISTANCE_BINS).enumerate() {
        let [x, y] = foreground.points[row];
        let [left, top, right, bottom] = foreground.boxes[row];
        let weight = foreground.scores[row] / 4.0;
        let distances = [x - left, y - top, right - x, bottom - y];
        for (distance, bins) in distances
            .into_iter()
            .zip(side_weights.chunks_exact_mut(DISTANCE_BINS))
        {
            let distance = distance.clamp(0.0, FARTHEST);
            let below = distance as usize;
            let share_below = (below + 1) as f32 - distance;
            bins[below] = share_below * weight;
            bins[below + 1] = (1.0 - share_below) * weight;
        }
    }
    constant(weights, [foreground.len(), 4, DISTANCE_BINS], device)
}

/// Longest distance that can be learned, in cells: just below the last bin, so that there is a bin above it.
const FARTHEST: f32 = (DISTANCE_BINS - 1) as f32 - 0.01;
