//! The class term: binary cross entropy of all logits against the target scores.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, sigmoid};

use super::foreground::{Foreground, constant, indices};

/// Returns the summed cross entropy of every anchor and class, each class with its factor; no factors mean 1 for all.
///
/// With logit `x` and target `t` the entropy is `softplus(x) - t x` and its slope `sigmoid(x) - t`. The first parts are
/// dense and finite for any logit; targets are not 0 for positives only, so only those are touched.
///
/// The slope is given to autodiff in closed form, as the constant factor of `x`: one product on the way back instead of
/// the dozen operations that some backends need for the slope of a softplus.
///
/// # Shapes
/// `scores`: `[B, A, classes]` logits.
///
/// # Panics
/// When there are factors for another number of classes.
pub(super) fn cross_entropy(scores: &Tensor<3>, foreground: &Foreground, factors: &[f32]) -> Tensor<1> {
    let constants = scores.clone().inner();
    let learned = learned(scores, foreground, factors);
    let weighted = weights(factors, &constants);
    let entropy = weighted(log_sigmoid(constants.clone().neg())).sum().neg();
    let entropy = match &learned {
        Some(learned) => entropy - learned.clone().inner(),
        None => entropy,
    };
    if !scores.is_autodiff() {
        return entropy;
    }
    let slope = weighted(sigmoid(constants));
    let slope = (scores.clone() * slope).sum();
    let slope = match learned {
        Some(learned) => slope - learned,
        None => slope,
    };
    let correction = entropy - slope.clone().inner();
    slope + correction
}

/// Returns what multiplies each class of a tensor like `scores` by its factor.
fn weights(factors: &[f32], scores: &Tensor<3>) -> impl Fn(Tensor<3>) -> Tensor<3> + use<> {
    let [_, _, classes] = scores.dims();
    let row = (!factors.is_empty()).then(|| constant(factors.to_vec(), [1, 1, classes], &scores.device()));
    move |tensor| match &row {
        Some(row) => tensor * row.clone(),
        None => tensor,
    }
}

/// Returns the sum of `t x` over the positives with their classes' factors, if there are any.
fn learned(scores: &Tensor<3>, foreground: &Foreground, factors: &[f32]) -> Option<Tensor<1>> {
    if foreground.is_empty() {
        return None;
    }
    let [_, _, classes] = scores.dims();
    let device = scores.device();
    let flat: Tensor<1> = scores.clone().reshape([-1]);
    let rows = (foreground.rows.iter().zip(&foreground.classes))
        .map(|(&row, &class)| row * classes + class as usize);
    let logits = flat.select(0, indices(rows, &device));
    let targets = (foreground.scores.iter().zip(&foreground.classes))
        .map(|(&score, &class)| score * factors.get(class as usize).unwrap_or(&1.0))
        .collect();
    let targets = constant(targets, [foreground.len()], &device);
    Some((logits * targets).sum())
}
