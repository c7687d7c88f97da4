//! The fused operations for libtorch: its own kernels, which its own graph knows the gradients of.

use burn::backend::tensor::FloatTensor;
use burn::backend::{LibTorch, TensorMetadata};
use burn_tch::TchTensor;
use tch::Tensor;

use super::FusedOps;

type Primitive = FloatTensor<LibTorch>;

impl FusedOps for LibTorch {
    fn convolve(x: Primitive, kernel: Primitive, stride: usize, padding: usize) -> Primitive {
        let [_, _, height, width] = kernel.shape().dims();
        // With one thread, libtorch takes MKL's matrix products for a pointwise kernel, which know no AVX-512 on processors other
        // than Intel's, unless it is dilated: and whatever the distance of its only cell to the next, it is the same kernel.
        // oneDNN then takes all but single small maps, as `ConvParams::use_mkldnn` of libtorch 2.9 has it.
        let values = x.tensor.numel();
        let is_pointwise = height * width == 1 && x.tensor.device() == tch::Device::Cpu;
        let is_large = x.tensor.size()[0] > 1 || values > 20_480;
        let dilation = if is_pointwise && is_large { 2 } else { 1 };
        let [stride, padding] = [stride, padding].map(|cells| [cells as i64; 2]);
        let (kernel, none) = (&kernel.tensor, None::<Tensor>);
        TchTensor::new(x.tensor.conv2d(kernel, none, stride, padding, [dilation; 2], 1))
    }

    fn depthwise(x: Primitive, kernel: Primitive) -> Primitive {
        let [channels, _, side, _] = kernel.shape().dims();
        let padding = [side as i64 / 2; 2];
        let (kernel, none) = (&kernel.tensor, None::<Tensor>);
        TchTensor::new(
            x.tensor
                .conv2d(kernel, none, [1, 1], padding, [1, 1], channels as i64),
        )
    }

    fn norm(
        x: Primitive,
        gamma: Primitive,
        beta: Primitive,
        epsilon: f64,
    ) -> (Primitive, Primitive, Primitive) {
        let (normed, mean, variance) = norm(&x, &gamma, &beta, epsilon);
        (TchTensor::new(normed), mean, variance)
    }

    fn norm_silu(
        x: Primitive,
        gamma: Primitive,
        beta: Primitive,
        epsilon: f64,
    ) -> (Primitive, Primitive, Primitive) {
        let (normed, mean, variance) = norm(&x, &gamma, &beta, epsilon);
        (TchTensor::new(normed.silu()), mean, variance)
    }
}

/// Returns the normalised map inside the graph, and mean and biased variance outside it.
fn norm(x: &Primitive, gamma: &Primitive, beta: &Primitive, epsilon: f64) -> (Tensor, Primitive, Primitive) {
    let [gamma, beta] = [gamma, beta].map(|vector| Some(&vector.tensor));
    let (normed, mean, deviation) = (x.tensor).native_batch_norm(gamma, beta, None, None, true, 0.0, epsilon);
    // What comes back is the inverse deviation, epsilon included.
    let variance = (deviation.detach().pow_tensor_scalar(-2) - epsilon).clamp_min(0);
    let [mean, variance] = [mean.detach(), variance].map(TchTensor::new);
    (normed, mean, variance)
}
