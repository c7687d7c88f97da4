//! From raw head output to boxes in pixels and class probabilities.

use burn::tensor::{
    Device, Tensor, TensorData, Transaction,
    activation::{sigmoid, softmax},
};

use crate::head::{AnchorGrid, DISTANCE_BINS, HeadOutput};

/// The predictions of one image before suppression, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// One box per anchor, left, top, right, bottom. Boxes may reach beyond the image.
    ///
    /// # Units
    /// Pixels of the network input.
    pub boxes: Vec<[f32; 4]>,
    /// Class probabilities, anchors before classes.
    ///
    /// # Shapes
    /// `[A, classes]`
    pub probabilities: Vec<f32>,
    /// Number of classes.
    pub classes: usize,
}

/// Returns the predictions of each image of an output.
pub fn decode(output: &HeadOutput) -> Vec<Candidates> {
    let [_, anchors, classes] = output.scores.dims();
    let read: Vec<TensorData> = Transaction::default()
        .register(decode_boxes(output.distances.clone().inner(), &output.grid))
        .register(sigmoid(output.scores.clone().inner()))
        .execute();
    // Invariant: a transaction returns what was registered.
    let [boxes, probabilities] = read.try_into().expect("as many tensors as were registered");
    let (boxes, probabilities) = (floats(boxes), floats(probabilities));
    boxes
        .as_chunks::<4>()
        .0
        .chunks(anchors)
        .zip(probabilities.chunks(anchors * classes))
        .map(|(boxes, probabilities)| Candidates {
            boxes: boxes.to_vec(),
            probabilities: probabilities.to_vec(),
            classes,
        })
        .collect()
}

/// Returns the box of every anchor: the expected distance to each side, times the stride.
///
/// # Shapes
/// `[B, A, 4 * DISTANCE_BINS]` logits to `[B, A, 4]` xyxy in pixels.
pub(crate) fn decode_boxes(distances: Tensor<3>, grid: &AnchorGrid) -> Tensor<3> {
    let [images, anchors, _] = distances.dims();
    let device = distances.device();
    let probabilities = softmax(distances.reshape([images * anchors, 4, DISTANCE_BINS]), 2);
    let expected: Tensor<3> = (probabilities * bins(&device))
        .sum_dim(2)
        .reshape([images, anchors, 4]);
    let constant = |values: Vec<f32>, width: usize| {
        Tensor::<3>::from_data(TensorData::new(values, [1, anchors, width]), &device)
    };
    let signed = constant([-1.0, -1.0, 1.0, 1.0].repeat(anchors), 4);
    let points = (grid.points.iter().flat_map(|&[x, y]| [x, y, x, y])).collect();
    (expected * signed + constant(points, 4)) * constant(grid.strides.clone(), 1)
}

/// Returns the distance that each bin stands for, in cells.
///
/// # Shapes
/// `[1, 1, DISTANCE_BINS]`
pub(crate) fn bins(device: &Device) -> Tensor<3> {
    let values: Vec<f32> = (0..DISTANCE_BINS).map(|bin| bin as f32).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, DISTANCE_BINS]), device)
}

/// Returns the numbers of a tensor that was read, without a copy where the device gave `f32`.
pub(crate) fn floats(data: TensorData) -> Vec<f32> {
    // Invariant: every float format of a device converts to f32.
    data.try_into_vec_as::<f32>().expect("float data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Level;

    #[test]
    fn a_sharp_distribution_decodes_to_its_bin_times_the_stride() {
        let device = Device::flex();
        let grid = AnchorGrid::new(vec![Level {
            height: 1,
            width: 2,
            stride: 8.0,
        }]);
        let mut logits = vec![0f32; 2 * 4 * DISTANCE_BINS];
        // The second anchor: left 1, top 2, right 3, bottom 4 cells.
        for (side, bin) in [1, 2, 3, 4].into_iter().enumerate() {
            logits[(4 + side) * DISTANCE_BINS + bin] = 100.0;
        }
        let output = HeadOutput {
            distances: Tensor::from_data(TensorData::new(logits, [1, 2, 4 * DISTANCE_BINS]), &device),
            scores: Tensor::from_data([[[0.0, 2.0, -2.0], [0.0, 0.0, 100.0]]], &device),
            grid,
        };
        let images = decode(&output);
        assert_eq!(images.len(), 1);
        let [first, second] = images[0].boxes[..] else {
            panic!("two anchors")
        };
        // Even distribution: 7.5 cells to each side of (0.5, 0.5).
        for (edge, expected) in first.into_iter().zip([-56.0, -56.0, 64.0, 64.0]) {
            assert!((edge - expected).abs() < 1e-3, "{first:?}");
        }
        for (edge, expected) in second.into_iter().zip([4.0, -12.0, 36.0, 36.0]) {
            assert!((edge - expected).abs() < 1e-3, "{second:?}");
        }
        let expected = [0.5, 0.880_797, 0.119_203, 0.5, 0.5, 1.0];
        for (probability, expected) in images[0].probabilities.iter().zip(expected) {
            assert!((probability - expected).abs() < 1e-5);
        }
    }
}
