//! The class term: binary cross entropy of all logits against the target scores.

use burn::tensor::{Tensor, activation::log_sigmoid};

use super::foreground::{Foreground, constant, indices};

/// Returns the summed cross entropy of every anchor and class.
///
/// With logit `x` and target `t` the entropy is `softplus(x) - t x`. The first part is dense and finite for any logit;
/// the second is not 0 for positives only, so only those are touched.
///
/// # Shapes
/// `scores`: `[B, A, classes]` logits.
pub(super) fn cross_entropy(scores: &Tensor<3>, foreground: &Foreground) -> Tensor<1> {
    let [_, _, classes] = scores.dims();
    let dense = log_sigmoid(scores.clone().neg()).sum().neg();
    if foreground.is_empty() {
        return dense;
    }
    let device = scores.device();
    let flat: Tensor<1> = scores.clone().reshape([-1]);
    let learned = (foreground.rows.iter().zip(&foreground.classes))
        .map(|(&row, &class)| row * classes + class as usize);
    let logits = flat.select(0, indices(learned, &device));
    let targets = constant(foreground.scores.clone(), [foreground.len()], &device);
    dense - (logits * targets).sum()
}
