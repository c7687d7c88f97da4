//! The decoupled, anchor-free head: per level one branch for box distances and one for classes.

use burn::tensor::Tensor;

use crate::declare::Declaration;
use crate::head::{AnchorGrid, DISTANCE_BINS, HeadOutput, Level};
use crate::layer::{Conv, Projection};
use crate::layout::Initial;
use crate::pass::Pass;

/// The head over all levels, finest first.
///
/// # Source
/// YOLOv8 (Jocher et al. 2023); distances as in Generalized Focal Loss (Li et al. 2020).
#[derive(Clone, Debug)]
pub(crate) struct Detect {
    boxes: Vec<Branch>,
    classes: Vec<Branch>,
    strides: Vec<usize>,
}

impl Detect {
    /// Declares `{scope}.cv2`, `{scope}.cv3` and the constant `{scope}.dfl.conv.weight`.
    ///
    /// `inputs` holds channels and stride of each level.
    pub(crate) fn declare(
        declaration: &mut Declaration,
        scope: &str,
        inputs: &[(usize, usize)],
        classes: usize,
    ) -> Self {
        // Invariant: a graph's head reads at least one level (the tables are tested).
        let finest = inputs[0].0;
        let box_width = (finest / 4).max(4 * DISTANCE_BINS);
        let class_width = finest.max(classes.min(100));
        let box_outputs = 4 * DISTANCE_BINS;
        let boxes = declare_branches(inputs, |level, channels, _| {
            let widths = [channels, box_width, box_outputs];
            Branch::declare(declaration, &format!("{scope}.cv2.{level}"), widths, 1.0)
        });
        let class_branches = declare_branches(inputs, |level, channels, stride| {
            let widths = [channels, class_width, classes];
            let start = class_bias(classes, stride);
            Branch::declare(declaration, &format!("{scope}.cv3.{level}"), widths, start)
        });
        declaration.constant(
            format!("{scope}.dfl.conv.weight"),
            &[1, DISTANCE_BINS, 1, 1],
            Initial::Count,
        );
        Self {
            boxes,
            classes: class_branches,
            strides: inputs.iter().map(|&(_, stride)| stride).collect(),
        }
    }

    /// # Shapes
    /// One `[B, channels, H, W]` per level
    pub(crate) fn forward(&self, levels: Vec<Tensor<4>>, pass: &mut Pass<'_>) -> HeadOutput {
        let mut distances = Vec::with_capacity(levels.len());
        let mut scores = Vec::with_capacity(levels.len());
        let mut grid = Vec::with_capacity(levels.len());
        for (level, x) in levels.into_iter().enumerate() {
            let [_, _, height, width] = x.dims();
            grid.push(Level {
                height,
                width,
                stride: self.strides[level] as f32,
            });
            distances.push(self.boxes[level].forward(x.clone(), pass).flatten(2, 3));
            scores.push(self.classes[level].forward(x, pass).flatten(2, 3));
        }
        HeadOutput {
            distances: anchors_before_channels(distances),
            scores: anchors_before_channels(scores),
            grid: AnchorGrid::new(grid),
        }
    }
}

/// Two 3x3 convolutions and a projection.
#[derive(Clone, Debug)]
struct Branch {
    first: Conv,
    second: Conv,
    last: Projection,
}

impl Branch {
    fn declare(
        declaration: &mut Declaration,
        scope: &str,
        [input, width, output]: [usize; 3],
        start: f32,
    ) -> Self {
        Self {
            first: Conv::declare(declaration, &format!("{scope}.0"), [input, width], 3, 1),
            second: Conv::declare(declaration, &format!("{scope}.1"), [width, width], 3, 1),
            last: Projection::declare(declaration, &format!("{scope}.2"), [width, output], start),
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let y = self.first.forward(x, pass);
        let y = self.second.forward(y, pass);
        self.last.forward(y, pass)
    }
}

fn declare_branches(
    inputs: &[(usize, usize)],
    mut declare: impl FnMut(usize, usize, usize) -> Branch,
) -> Vec<Branch> {
    inputs
        .iter()
        .enumerate()
        .map(|(level, &(channels, stride))| declare(level, channels, stride))
        .collect()
}

/// The logit of about five objects in a 640-pixel image, spread over classes and cells.
fn class_bias(classes: usize, stride: usize) -> f32 {
    let cells = (640.0 / stride as f64).powi(2);
    (5.0 / classes as f64 / cells).ln() as f32
}

/// # Shapes
/// One `[B, C, a_i]` per level to `[B, sum of a_i, C]`
fn anchors_before_channels(levels: Vec<Tensor<3>>) -> Tensor<3> {
    Tensor::cat(levels, 2).swap_dims(1, 2)
}
