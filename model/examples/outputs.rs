//! A detector's outputs, for other runtimes to be compared with: `outputs WEIGHTS SIZE BATCH FILE [DEVICE]`.
//!
//! Writes a safetensors file with drawn `images` `[batch, 3, size, size]` in `0..1`, and `output0` in the layout of an ONNX
//! export. `tests/reference/check_onnx.py` reads it.

use std::error::Error;
use std::path::Path;

use model::device::open_device;
use model::weights::load;
use model::yolo::Yolo;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| {
        arguments
            .get(index)
            .ok_or("outputs WEIGHTS SIZE BATCH FILE [DEVICE]")
    };
    let weights = load(Path::new(argument(0)?))?;
    let size: usize = argument(1)?.parse()?;
    let batch: usize = argument(2)?.parse()?;
    let device = open_device(arguments.get(4).map_or("cpu:flex", String::as_str), None)?;
    let mut yolo = Yolo::new(weights.metadata.architecture(), &device);
    yolo.load(&weights.state.parameters, &weights.state.buffers);

    let pixels: Vec<u8> = (0..batch * 3 * size * size)
        .map(|index| {
            let (plane, place) = (index / (size * size), index % (size * size));
            let (row, column) = ((place / size) as f32, (place % size) as f32);
            let wave = (row / (7.0 + plane as f32)).sin() + (column / 11.0).cos();
            (127.5 + 60.0 * wave) as u8
        })
        .collect();
    let candidates = yolo.candidates(&yolo.infer(yolo.images(&pixels, [batch, size, size])));
    let anchors = candidates[0].boxes.len();
    let classes = candidates[0].classes;
    let mut output = Vec::with_capacity(batch * (4 + classes) * anchors);
    for image in &candidates {
        let edges = |axis: usize| image.boxes.iter().map(move |xyxy| [xyxy[axis], xyxy[axis + 2]]);
        for axis in [0, 1] {
            output.extend(edges(axis).map(|[low, high]| (low + high) / 2.0));
        }
        for axis in [0, 1] {
            output.extend(edges(axis).map(|[low, high]| high - low));
        }
        for class in 0..classes {
            output.extend(image.probabilities.iter().skip(class).step_by(classes));
        }
    }
    let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let images: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
    let (images, output) = (bytes(&images), bytes(&output));
    let tensors = [
        (
            "images",
            TensorView::new(Dtype::F32, vec![batch, 3, size, size], &images)?,
        ),
        (
            "output0",
            TensorView::new(Dtype::F32, vec![batch, 4 + classes, anchors], &output)?,
        ),
    ];
    serialize_to_file(tensors, None, Path::new(argument(3)?))?;
    Ok(())
}
