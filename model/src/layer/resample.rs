//! Layers without tensors of their own: concatenation and upsampling.

use burn::tensor::{
    Tensor,
    module::interpolate,
    ops::{InterpolateMode, InterpolateOptions},
};

use crate::native;
use crate::onnx::{Graph, Map, Setting};

/// Returns the tensors side by side along the channels.
///
/// # Shapes
/// `[B, c_i, H, W]` to `[B, sum of c_i, H, W]`
pub(crate) fn concatenate(parts: Vec<Tensor<4>>) -> Tensor<4> {
    Tensor::cat(parts, 1)
}

/// Returns the two halves of the map's channels.
///
/// # Shapes
/// `[B, 2 c, H, W]` to two of `[B, c, H, W]`
pub(crate) fn halves(x: Tensor<4>) -> [Tensor<4>; 2] {
    if native::keeps_graphs(&x.device()) {
        return native::halves(x);
    }
    let half = x.dims()[1] / 2;
    [x.clone().slice_dim(1, 0..half), x.slice_dim(1, half..2 * half)]
}

/// Returns the map, in parts to be concatenated, and the second half of its channels.
///
/// # Shapes
/// `[B, 2 c, H, W]` to `[B, c, H, W]`
pub(crate) fn with_second_half(x: Tensor<4>) -> (Vec<Tensor<4>>, Tensor<4>) {
    if native::keeps_graphs(&x.device()) {
        let [first, second] = native::halves(x);
        return (vec![first, second.clone()], second);
    }
    // In burn's graph a slice costs a pass over the whole map on the way back: one is enough.
    let channels = x.dims()[1];
    let second = x.clone().slice_dim(1, channels / 2..channels);
    (vec![x], second)
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

/// Appends [`upsample`] to an export.
pub(crate) fn export_upsample(graph: &mut Graph<'_>, x: &Map) -> Map {
    let scales = graph.floats(format!("{}_scales", x.name), &[4], &[1.0, 1.0, 2.0, 2.0]);
    let settings = [
        ("mode", Setting::Text("nearest")),
        ("coordinate_transformation_mode", Setting::Text("asymmetric")),
        ("nearest_mode", Setting::Text("floor")),
    ];
    // The second input, a region, is not given.
    let name = graph.add("Resize", &[&x.name, "", &scales], &settings);
    Map {
        name,
        channels: x.channels,
        height: 2 * x.height,
        width: 2 * x.width,
    }
}
