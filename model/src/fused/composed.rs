//! The fused operations made of burn's own: what a backend without kernels of its own runs.

use burn::backend::Backend;
use burn::backend::ops::BatchNormTrainBackward;
use burn::backend::tensor::FloatTensor;

/// A normalisation with the statistics it used.
pub(super) struct Norm<T> {
    pub(super) gamma: T,
    pub(super) beta: T,
    pub(super) mean: T,
    pub(super) variance: T,
    pub(super) epsilon: f64,
}

/// Returns the output, the mean and the biased variance.
pub(super) fn norm_silu<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let normed = B::batch_norm_train(x, gamma, beta, epsilon);
    let gate = B::sigmoid(normed.output.clone());
    let output = B::float_mul(normed.output, gate);
    (output, normed.mean, normed.variance)
}

/// Returns the gradients with respect to `x`, the scales and the shifts. The normalised values and the gate are
/// computed once more, which costs less than keeping them for the whole pass.
pub(super) fn norm_silu_gradient<B: Backend>(
    x: FloatTensor<B>,
    norm: Norm<FloatTensor<B>>,
    gradient: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let normed = B::batch_norm(
        x.clone(),
        norm.gamma.clone(),
        norm.beta,
        norm.mean.clone(),
        norm.variance.clone(),
        norm.epsilon,
    );
    // d(z s)/dz = s + z s (1 - s), where s is the sigmoid of z.
    let gate = B::sigmoid(normed.clone());
    let onto_gate = B::float_mul(gradient.clone(), normed);
    let through_gate = B::sigmoid_backward(gate.clone(), onto_gate);
    let gradient = B::float_add(B::float_mul(gradient, gate), through_gate);
    let BatchNormTrainBackward {
        x_grad,
        gamma_grad,
        beta_grad,
    } = B::batch_norm_train_backward(x, norm.gamma, norm.mean, norm.variance, norm.epsilon, gradient);
    (x_grad, gamma_grad, beta_grad)
}
