//! Operations of the training step that burn's own would compute in many small pieces.
//!
//! Three of them: a convolution whose kernel gradient is one matrix product; a depthwise convolution, whose kernel
//! gradient burn computes channel by channel; and batch normalisation followed by SiLU as a single operation that
//! keeps nothing but its input for the backward pass. Each has a default made of burn's operations, which every
//! backend runs; `flex` has its own kernels. libtorch has kernels for all of them, and their gradients in
//! [its own graph](crate::native). Measured: see `model/LOG.md`.

#![cfg_attr(
    feature = "tch",
    allow(
        deprecated,
        reason = "burn-tch is deprecated, and pinned: it is the only CUDA path besides CubeCL"
    )
)]

mod autodiff;
mod composed;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "tch")]
mod tch;

use burn::backend::ops::ConvOptions;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchTensor, backend_extension};
use burn::tensor::Tensor;

use crate::outlet::Outlet;

/// Convolution without bias.
///
/// # Shapes
/// `[B, in, H, W]` and `[out, in, k, k]` to `[B, out, H', W']`
pub(crate) fn convolve(x: Tensor<4>, kernel: Tensor<4>, stride: usize, padding: usize) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::convolve(
        x.into_dispatch(),
        kernel.into_dispatch(),
        stride,
        padding,
    ))
}

/// Convolution of each channel by itself, without bias, of stride 1 and with `same` padding.
///
/// # Shapes
/// `[B, C, H, W]` and `[C, 1, k, k]`, k odd, to `[B, C, H, W]`
pub(crate) fn depthwise(x: Tensor<4>, kernel: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::depthwise(
        x.into_dispatch(),
        kernel.into_dispatch(),
    ))
}

/// Batch normalisation by the statistics of `x`, then SiLU. Also returns mean and biased variance, outside the
/// autodiff graph.
///
/// # Shapes
/// `[B, C, H, W]`, `[C]` and `[C]` to `[B, C, H, W]`, `[C]` and `[C]`
pub(crate) fn norm_silu(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let [gamma, beta] = [gamma, beta].map(Tensor::into_dispatch);
    normed(<Dispatch as FusedOps>::norm_silu(
        x.into_dispatch(),
        gamma,
        beta,
        epsilon,
    ))
}

/// Batch normalisation by the statistics of `x`. Also returns mean and biased variance, outside the autodiff graph.
///
/// # Shapes
/// As [`norm_silu`]
pub(crate) fn norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let [gamma, beta] = [gamma, beta].map(Tensor::into_dispatch);
    normed(<Dispatch as FusedOps>::norm(
        x.into_dispatch(),
        gamma,
        beta,
        epsilon,
    ))
}

/// A map and the statistics it was normalised by.
fn normed(
    (output, mean, variance): (DispatchTensor, DispatchTensor, DispatchTensor),
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    (
        Tensor::from_dispatch(output),
        Tensor::from_dispatch(mean),
        Tensor::from_dispatch(variance),
    )
}

/// A parameter as it is. Its gradient goes to `outlet`, as that of the tensor at `position`, and nowhere else: when the
/// backward pass comes to what was computed from `beside`, for burn goes by the depth of the graph, and a parameter alone has
/// none.
pub(crate) fn tap<const D: usize>(
    parameter: Tensor<D>,
    beside: Tensor<4>,
    position: usize,
    outlet: Outlet,
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::tap(
        parameter.into_dispatch(),
        beside.into_dispatch(),
        position,
        outlet,
    ))
}

/// The operations by backend. Those named `*_gradient` are for the backward pass and not differentiable.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    LibTorch: cfg(feature = "tch"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda"))
)]
pub(crate) trait FusedOps: Backend {
    /// See [`tap`]; nothing without autodiff.
    fn tap(
        parameter: FloatTensor<Self>,
        _beside: FloatTensor<Self>,
        _position: usize,
        _outlet: Outlet,
    ) -> FloatTensor<Self> {
        parameter
    }

    /// See [`convolve`].
    fn convolve(
        x: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d(x, kernel, None, options(stride, padding))
    }

    /// Gradient of [`convolve`] with respect to the images.
    fn image_gradient(
        x: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_x_backward(x, kernel, gradient, options(stride, padding))
    }

    /// Gradient of [`convolve`] with respect to the kernel.
    fn kernel_gradient(
        x: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_weight_backward(x, kernel, gradient, options(stride, padding))
    }

    /// See [`depthwise`].
    fn depthwise(x: FloatTensor<Self>, kernel: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::depthwise::<Self>(x, kernel)
    }

    /// Gradient of [`depthwise`] with respect to the kernel, whose side is `side`.
    fn depthwise_kernel_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        side: usize,
    ) -> FloatTensor<Self> {
        composed::depthwise_kernel_gradient::<Self>(x, gradient, side)
    }

    /// See [`norm`].
    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let normed = Self::batch_norm_train(x, gamma, beta, epsilon);
        (normed.output, normed.mean, normed.variance)
    }

    /// See [`norm_silu`].
    fn norm_silu(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::norm_silu::<Self>(x, gamma, beta, epsilon)
    }

    /// Gradients of [`norm_silu`] with respect to `x`, `gamma` and `beta`.
    fn norm_silu_gradient(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let parameters = composed::Norm {
            gamma,
            beta,
            mean,
            variance,
            epsilon,
        };
        composed::norm_silu_gradient::<Self>(x, parameters, gradient)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl FusedOps for burn::backend::Cube {}

fn options(stride: usize, padding: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1)
}

#[cfg(all(test, feature = "flex"))]
mod tests;
