//! Layers without tensors of their own: concatenation and upsampling.

use burn::tensor::{
    Tensor,
    module::interpolate,
    ops::{InterpolateMode, InterpolateOptions},
};

use crate::onnx::{Graph, Map, Setting};

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
