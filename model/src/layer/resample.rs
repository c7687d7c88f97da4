//! Layers without tensors of their own: concatenation and upsampling.

use burn::tensor::{
    Tensor,
    module::interpolate,
    ops::{InterpolateMode, InterpolateOptions},
};

/// Returns the tensors side by side along the channels.
///
/// # Shapes
/// `[B, c_i, H, W]` to `[B, sum of c_i, H, W]`
pub(crate) fn concatenate(parts: Vec<Tensor<4>>) -> Tensor<4> {
    Tensor::cat(parts, 1)
}

/// Returns the map at twice its height and width, nearest neighbour.
///
/// # Shapes
/// `[B, C, H, W]` to `[B, C, 2 H, 2 W]`
pub(crate) fn upsample(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let options = InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([2 * height, 2 * width]);
    interpolate(x, options)
}
