//! The fused operations for libtorch: its own kernels, forward and backward.
//!
//! burn's libtorch backend has no backward of a convolution: it computes the gradient of the images as a transposed convolution
//! and that of the kernel as a convolution with a kernel as large as the map, for which libtorch has slow paths only. Here
//! libtorch's own graph is kept from the forward pass, for each operation by itself, and run backwards when burn's graph
//! comes by.

use burn::backend::tensor::FloatTensor;
use burn::backend::{LibTorch, TensorMetadata};
use burn_tch::TchTensor;
use tch::Tensor;

use super::FusedOps;

type Primitive = FloatTensor<LibTorch>;

impl FusedOps for LibTorch {
    fn convolve_kept(
        x: Primitive,
        kernel: Primitive,
        stride: usize,
        padding: usize,
    ) -> (Primitive, Primitive, Primitive, Primitive) {
        convolve(&x, &kernel, stride, padding, 1)
    }

    fn convolve_gradients(
        x: Primitive,
        kernel: Primitive,
        output: Primitive,
        gradient: Primitive,
        _stride: usize,
        _padding: usize,
    ) -> (Primitive, Primitive) {
        let [x, kernel] = backward(&output, &gradient, [&x, &kernel]);
        (x, kernel)
    }

    fn first_kernel_gradient(
        _x: Primitive,
        kernel: Primitive,
        output: Primitive,
        gradient: Primitive,
        _stride: usize,
        _padding: usize,
    ) -> Primitive {
        let [kernel] = backward(&output, &gradient, [&kernel]);
        kernel
    }

    fn depthwise_kept(x: Primitive, kernel: Primitive) -> (Primitive, Primitive, Primitive, Primitive) {
        let [channels, _, side, _] = kernel.shape().dims();
        convolve(&x, &kernel, 1, side / 2, channels)
    }

    fn depthwise_gradients(
        x: Primitive,
        kernel: Primitive,
        output: Primitive,
        gradient: Primitive,
    ) -> (Primitive, Primitive) {
        let [x, kernel] = backward(&output, &gradient, [&x, &kernel]);
        (x, kernel)
    }

    fn norm_silu_kept(
        x: Primitive,
        gamma: Primitive,
        beta: Primitive,
        epsilon: f64,
    ) -> (
        Primitive,
        Primitive,
        Primitive,
        Primitive,
        Primitive,
        Primitive,
        Primitive,
    ) {
        let [x, gamma, beta] = [&x, &gamma, &beta].map(leaf);
        let (normed, mean, deviation) = Tensor::native_batch_norm(
            &x.tensor,
            Some(&gamma.tensor),
            Some(&beta.tensor),
            None,
            None,
            true,
            0.0,
            epsilon,
        );
        // What comes back is the inverse deviation, epsilon included.
        let variance = (deviation.detach().pow_tensor_scalar(-2) - epsilon).clamp_min(0);
        let (output, kept) = kept(normed.silu());
        let [mean, variance] = [mean.detach(), variance].map(TchTensor::new);
        (output, mean, variance, x, gamma, beta, kept)
    }

    fn norm_silu_gradients(
        x: Primitive,
        gamma: Primitive,
        beta: Primitive,
        output: Primitive,
        _mean: Primitive,
        _variance: Primitive,
        _epsilon: f64,
        gradient: Primitive,
    ) -> (Primitive, Primitive, Primitive) {
        let [x, gamma, beta] = backward(&output, &gradient, [&x, &gamma, &beta]);
        (x, gamma, beta)
    }
}

/// Returns the output, and what [`backward`] needs: images and kernel as leaves of libtorch's graph, and its output.
fn convolve(
    x: &Primitive,
    kernel: &Primitive,
    stride: usize,
    padding: usize,
    groups: usize,
) -> (Primitive, Primitive, Primitive, Primitive) {
    let (x, kernel) = (leaf(x), leaf(kernel));
    let [stride, padding] = [stride, padding].map(|pixels| [pixels as i64; 2]);
    let output = Tensor::conv2d(
        &x.tensor,
        &kernel.tensor,
        None::<Tensor>,
        stride,
        padding,
        [1, 1],
        groups as i64,
    );
    let (output, kept) = kept(output);
    (output, x, kernel, kept)
}

/// The same values as a leaf of a graph of libtorch. It holds on to the storage, so nobody overwrites them.
fn leaf(primitive: &Primitive) -> Primitive {
    TchTensor {
        tensor: primitive.tensor.detach().set_requires_grad(true),
        storage: primitive.storage.clone(),
    }
}

/// Returns a result outside libtorch's graph, and inside it. Both hold on to the storage.
fn kept(result: Tensor) -> (Primitive, Primitive) {
    let output = TchTensor::new(result.detach());
    let kept = TchTensor {
        tensor: result,
        storage: output.storage.clone(),
    };
    (output, kept)
}

/// Returns the gradients with respect to leaves, from that with respect to the kept output, whose graph is used up.
fn backward<const N: usize>(
    output: &Primitive,
    gradient: &Primitive,
    leaves: [&Primitive; N],
) -> [Primitive; N] {
    // Its gradient with respect to the output is `gradient`.
    let [output, gradient] = [output, gradient].map(|side| side.tensor.reshape([-1]));
    let objective = output.dot(&gradient);
    let leaves = leaves.map(|leaf| &leaf.tensor);
    let mut gradients = Tensor::run_backward(&[objective], &leaves, false, false).into_iter();
    // Invariant: there is one for each leaf.
    std::array::from_fn(|_| TchTensor::new(gradients.next().expect("a gradient for each leaf")))
}
