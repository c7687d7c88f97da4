//! The fused operations made of burn's own: what a backend without kernels of its own runs.

use burn::backend::ops::{BatchNormTrainBackward, ConvOptions};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Slice};

/// A normalisation with the statistics it used.
pub(super) struct Norm<T> {
    pub(super) gamma: T,
    pub(super) beta: T,
    pub(super) mean: T,
    pub(super) variance: T,
    pub(super) epsilon: f64,
}

/// Returns each channel convolved with its own kernel.
pub(super) fn depthwise<B: Backend>(x: FloatTensor<B>, kernel: FloatTensor<B>) -> FloatTensor<B> {
    let [channels, _, side, _] = kernel.shape().dims();
    let options = ConvOptions::new([1; 2], [side / 2; 2], [1; 2], channels);
    B::conv2d(x, kernel, None, options)
}

/// Returns `[channels, 1, side, side]`: for each weight, the sum of the shifted images times the gradient.
pub(super) fn depthwise_kernel_gradient<B: Backend>(
    x: FloatTensor<B>,
    gradient: FloatTensor<B>,
    side: usize,
) -> FloatTensor<B> {
    let [batch, channels, height, width] = x.shape().dims();
    let border = side / 2;
    let padded = Shape::new([batch, channels, height + 2 * border, width + 2 * border]);
    let inside = |down: usize, right: usize| {
        [0..batch, 0..channels, down..down + height, right..right + width].map(Slice::from)
    };
    let zeros = B::float_zeros(padded, &x.device(), x.dtype().into());
    let padded = B::float_slice_assign(zeros, &inside(border, border), x);
    let weights = (0..side * side)
        .map(|weight| {
            let met = B::float_slice(padded.clone(), &inside(weight / side, weight % side));
            let product = B::float_mul(met, gradient.clone());
            let flat = B::float_reshape(product, Shape::new([batch, channels, height * width]));
            B::float_sum_dim(B::float_sum_dim(flat, 2), 0)
        })
        .collect();
    let weights = B::float_cat(weights, 2);
    B::float_reshape(weights, Shape::new([channels, 1, side, side]))
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
