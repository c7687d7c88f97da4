//! The fused operations for burn's CPU backend, on slices.
//!
//! Work is split over channels, planes or rows, never over the terms of a sum, so the number of threads does not
//! change a bit.

mod depthwise;
mod norm_silu;
mod sigmoid;
mod unfold;

use burn::backend::ops::{FloatTensorOps, ModuleOps};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, FlexDevice, TensorMetadata};
use burn::tensor::{Shape, TensorData};

use super::{FusedOps, options};

type Primitive = FloatTensor<Flex>;

impl FusedOps for Flex {
    fn image_gradient(
        x: Primitive,
        kernel: Primitive,
        gradient: Primitive,
        stride: usize,
        padding: usize,
    ) -> Primitive {
        let [outputs, inputs, side, _] = kernel.shape().dims();
        if (side, stride) != (1, 1) {
            return Self::conv2d_x_backward(x, kernel, gradient, options(stride, padding));
        }
        // A pointwise convolution is a matrix product; the general way would fold columns that do not overlap.
        let [batch, _, height, width] = gradient.shape().dims();
        let kernel = Self::float_reshape(kernel, Shape::new([1, outputs, inputs]));
        let flat = Shape::new([batch, outputs, height * width]);
        let gradient = Self::float_reshape(gradient, flat);
        let product = Self::float_matmul(Self::float_swap_dims(kernel, 1, 2), gradient);
        Self::float_reshape(product, x.shape())
    }

    fn kernel_gradient(
        x: Primitive,
        kernel: Primitive,
        gradient: Primitive,
        stride: usize,
        padding: usize,
    ) -> Primitive {
        let shape = kernel.shape();
        let (x, gradient) = (Map::new(&x), Map::new(&gradient));
        let product = unfold::kernel_gradient(&x, &gradient, shape[2], stride, padding);
        Self::float_reshape(product, shape)
    }

    fn depthwise_kernel_gradient(x: Primitive, gradient: Primitive, side: usize) -> Primitive {
        let (x, gradient) = (Map::new(&x), Map::new(&gradient));
        let weights = depthwise::kernel_gradient(&x, &gradient, side);
        tensor(weights, [x.channels, 1, side, side])
    }

    fn norm_silu(
        x: Primitive,
        gamma: Primitive,
        beta: Primitive,
        epsilon: f64,
    ) -> (Primitive, Primitive, Primitive) {
        let shape = x.shape();
        let x = Map::new(&x);
        let [gamma, beta] = [gamma, beta].map(|vector| vector.to_contiguous());
        let (output, mean, variance) = norm_silu::forward(&x, values(&gamma), values(&beta), epsilon as f32);
        (
            tensor(output, shape),
            tensor(mean, [x.channels]),
            tensor(variance, [x.channels]),
        )
    }

    fn norm_silu_gradient(
        x: Primitive,
        gamma: Primitive,
        beta: Primitive,
        mean: Primitive,
        variance: Primitive,
        epsilon: f64,
        gradient: Primitive,
    ) -> (Primitive, Primitive, Primitive) {
        let shape = x.shape();
        let (x, gradient) = (Map::new(&x), Map::new(&gradient));
        let vectors = [gamma, beta, mean, variance].map(|vector| vector.to_contiguous());
        let [gamma, beta, mean, variance] = vectors.each_ref().map(values);
        let norms = norm_silu::affine(mean, variance, gamma, beta, epsilon as f32);
        let (x_gradient, gamma, beta) = norm_silu::backward(&x, &norms, &gradient);
        (
            tensor(x_gradient, shape),
            tensor(gamma, [x.channels]),
            tensor(beta, [x.channels]),
        )
    }
}

/// Feature maps `[batch, channels, height, width]` as a slice.
struct Map {
    tensor: Primitive,
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
}

impl Map {
    fn new(primitive: &Primitive) -> Self {
        let [batch, channels, height, width] = primitive.shape().dims();
        Self {
            tensor: primitive.to_contiguous(),
            batch,
            channels,
            height,
            width,
        }
    }

    fn values(&self) -> &[f32] {
        values(&self.tensor)
    }

    /// Values of one channel of one image.
    fn plane(&self) -> usize {
        self.height * self.width
    }

    fn at(&self, image: usize, channel: usize) -> &[f32] {
        let plane = self.plane();
        let start = (image * self.channels + channel) * plane;
        &self.values()[start..start + plane]
    }
}

fn values(primitive: &Primitive) -> &[f32] {
    // Invariant: the callers have made it contiguous, and all tensors of this crate are f32.
    primitive.as_slice().expect("contiguous f32 values")
}

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Primitive {
    Flex::float_from_data(TensorData::new(values, shape.into()), &FlexDevice)
}
