//! The positives of a slot, gathered over its images: which rows of the output learn what.

use burn::tensor::{Device, Int, Tensor, TensorData, activation::sigmoid};

use crate::assign::{AssignConfig, Pair, assign, candidates};
use crate::decode::{decode_boxes, floats};
use crate::head::HeadOutput;
use crate::target::Target;

/// The positive anchors of all images of a slot, images in order, anchors ascending.
pub(super) struct Foreground {
    /// Rows of the output, flattened over images and anchors.
    pub(super) rows: Vec<usize>,
    /// Class to learn, per row.
    pub(super) classes: Vec<u32>,
    /// Target score, per row.
    pub(super) scores: Vec<f32>,
    /// Anchor centre in cells, per row.
    pub(super) points: Vec<[f32; 2]>,
    /// True box in cells of the row's level, per row.
    pub(super) boxes: Vec<[f32; 4]>,
}

impl Foreground {
    /// Runs the assigner on every image. Reads boxes and candidate scores in one transfer.
    pub(super) fn assign(output: &HeadOutput, targets: &[Vec<Target>], config: &AssignConfig) -> Self {
        let [images, anchors, classes] = output.scores.dims();
        assert_eq!(images, targets.len(), "one list of targets per image");
        let pairs: Vec<Vec<Pair>> = targets
            .iter()
            .map(|truths| candidates(&output.grid, truths))
            .collect();
        let wanted: Vec<usize> = pairs
            .iter()
            .enumerate()
            .flat_map(|(image, pairs)| pairs.iter().map(move |pair| (image, pair)))
            .map(|(image, pair)| {
                let class = targets[image][pair.truth].class as usize;
                assert!(class < classes, "class {class} of {classes}");
                (image * anchors + pair.anchor) * classes + class
            })
            .collect();
        let mut foreground = Self::empty();
        if wanted.is_empty() {
            return foreground;
        }
        let (probabilities, boxes) = predictions(output, &wanted);
        let mut first = 0;
        for (image, pairs) in pairs.iter().enumerate() {
            let probabilities = &probabilities[first..first + pairs.len()];
            first += pairs.len();
            let boxes = &boxes[image * anchors..(image + 1) * anchors];
            let predicted: Vec<[f32; 4]> = pairs.iter().map(|pair| boxes[pair.anchor]).collect();
            let truths = &targets[image];
            for positive in assign(config, pairs, probabilities, &predicted, truths) {
                let stride = output.grid.strides[positive.anchor];
                let truth = truths[positive.truth];
                foreground.rows.push(image * anchors + positive.anchor);
                foreground.classes.push(truth.class);
                foreground.scores.push(positive.score);
                foreground.points.push(output.grid.points[positive.anchor]);
                foreground.boxes.push(truth.xyxy.map(|edge| edge / stride));
            }
        }
        foreground
    }

    fn empty() -> Self {
        Self {
            rows: Vec::new(),
            classes: Vec::new(),
            scores: Vec::new(),
            points: Vec::new(),
            boxes: Vec::new(),
        }
    }

    /// Whether no anchor is positive.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the number of positive anchors `N`.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the sum of the target scores.
    pub(super) fn normaliser(&self) -> f32 {
        let sum: f64 = self.scores.iter().map(|&score| f64::from(score)).sum();
        sum as f32
    }
}

/// Puts indices on a device.
pub(super) fn indices(values: impl ExactSizeIterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.map(|value| value as i64).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// Puts rows of numbers on a device.
pub(super) fn constant<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Reads the probabilities at flat indices of the scores, and all decoded boxes in pixels.
fn predictions(output: &HeadOutput, wanted: &[usize]) -> (Vec<f32>, Vec<[f32; 4]>) {
    let scores = output.scores.clone().inner();
    let flat: Tensor<1> = scores.reshape([-1]);
    let device = flat.device();
    let picked = sigmoid(flat.select(0, indices(wanted.iter().copied(), &device)));
    let boxes = decode_boxes(output.distances.clone().inner(), &output.grid);
    let boxes: Tensor<1> = boxes.reshape([-1]);
    let values = floats(Tensor::cat(vec![picked, boxes], 0).into_data());
    let (picked, boxes) = values.split_at(wanted.len());
    let boxes = boxes.as_chunks::<4>().0.to_vec();
    (picked.to_vec(), boxes)
}
