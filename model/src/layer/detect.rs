//! The decoupled, anchor-free head: per level one branch for box distances and one for classes.

use burn::tensor::Tensor;

use crate::declare::Declaration;
use crate::head::{AnchorGrid, DISTANCE_BINS, HeadOutput, Level};
use crate::kind::Architecture;
use crate::layer::{Conv, Projection};
use crate::layout::Initial;
use crate::onnx::{Graph, Map, Setting};
use crate::pass::Pass;
use crate::table::ClassBranch;

/// The head over all levels, finest first.
///
/// # Source
/// YOLOv8 (Jocher et al. 2023); distances as in Generalized Focal Loss (Li et al. 2020); depthwise class branches as
/// in YOLO11 (Jocher & Qiu 2024).
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
        architecture: Architecture,
        class_branch: ClassBranch,
    ) -> Self {
        let (classes, class_width) = (architecture.classes(), architecture.class_width());
        // Invariant: a graph's head reads at least one level (the tables are tested).
        let box_width = (inputs[0].0 / 4).max(4 * DISTANCE_BINS);
        let box_outputs = 4 * DISTANCE_BINS;
        let boxes = declare_branches(inputs, |level, channels, _| {
            let widths = [channels, box_width, box_outputs];
            Branch::declare(declaration, &format!("{scope}.cv2.{level}"), widths, BOX_BIAS)
        });
        let class_branches = declare_branches(inputs, |level, channels, stride| {
            let widths = [channels, class_width, classes];
            let start = class_bias(classes, stride);
            let scope = format!("{scope}.cv3.{level}");
            let rows = ["weight", "bias"].map(|tensor| format!("{scope}.2.{tensor}"));
            declaration.class_rows.extend(rows);
            match class_branch {
                ClassBranch::Dense => Branch::declare(declaration, &scope, widths, start),
                ClassBranch::Depthwise => Branch::declare_depthwise(declaration, &scope, widths, start),
            }
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

impl Detect {
    /// Appends the operations to an export, decoding included. Returns the output's name, and its shape behind the
    /// batch: boxes as centre and extent in pixels, then class probabilities, by anchor.
    pub(crate) fn export(&self, graph: &mut Graph<'_>, levels: &[Map]) -> (String, [usize; 2]) {
        let cells = |(map, &stride): (&Map, &usize)| Level {
            height: map.height,
            width: map.width,
            stride: stride as f32,
        };
        let grid = AnchorGrid::new(levels.iter().zip(&self.strides).map(cells).collect());
        let anchors = grid.len();
        let distances = export_branches(graph, &self.boxes, levels);
        let distances = graph.reshape(&distances.0, &[4, DISTANCE_BINS, anchors]);
        let weights = graph.add("Softmax", &[&distances], &[("axis", Setting::Int(2))]);
        let bins: Vec<f32> = (0..DISTANCE_BINS).map(|bin| bin as f32).collect();
        let bins = graph.floats("bins".to_owned(), &[1, 1, DISTANCE_BINS, 1], &bins);
        let weighted = graph.add("Mul", &[&weights, &bins], &[]);
        let axis = graph.integers(&[2]);
        let distances = graph.add("ReduceSum", &[&weighted, &axis], &[("keepdims", Setting::Int(0))]);
        let points: Vec<f32> = (0..2)
            .flat_map(|axis| grid.points.iter().map(move |point| point[axis]))
            .collect();
        let points = graph.floats("points".to_owned(), &[1, 2, anchors], &points);
        let strides = graph.floats("strides".to_owned(), &[1, 1, anchors], &grid.strides);
        let half = graph.floats("half".to_owned(), &[1], &[0.5]);
        let low = graph.slice(&distances, 1, 0, 2);
        let low = graph.add("Sub", &[&points, &low], &[]);
        let high = graph.slice(&distances, 1, 2, 4);
        let high = graph.add("Add", &[&points, &high], &[]);
        let centre = graph.add("Add", &[&low, &high], &[]);
        let centre = graph.add("Mul", &[&centre, &half], &[]);
        let extent = graph.add("Sub", &[&high, &low], &[]);
        let along_channels = [("axis", Setting::Int(1))];
        let boxes = graph.add("Concat", &[&centre, &extent], &along_channels);
        let boxes = graph.add("Mul", &[&boxes, &strides], &[]);
        let (scores, classes) = export_branches(graph, &self.classes, levels);
        let scores = graph.add("Sigmoid", &[&scores], &[]);
        let output = graph.add("Concat", &[&boxes, &scores], &along_channels);
        (output, [4 + classes, anchors])
    }
}

/// Appends the branches of all levels; returns `[batch, channels, anchors]` and its channels.
fn export_branches(graph: &mut Graph<'_>, branches: &[Branch], levels: &[Map]) -> (String, usize) {
    let mut channels = 0;
    let mut parts = Vec::new();
    for (branch, level) in branches.iter().zip(levels) {
        let map = branch.export(graph, level);
        channels = map.channels;
        parts.push(graph.reshape(&map.name, &[map.channels, map.height * map.width]));
    }
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    (
        graph.add("Concat", &names, &[("axis", Setting::Int(2))]),
        channels,
    )
}

/// Convolutions and a projection.
#[derive(Clone, Debug)]
struct Branch {
    convolutions: Vec<Conv>,
    last: Projection,
}

impl Branch {
    /// Declares two 3x3 convolutions `{scope}.0` and `{scope}.1`, and the projection `{scope}.2`.
    fn declare(
        declaration: &mut Declaration,
        scope: &str,
        [input, width, output]: [usize; 3],
        start: f32,
    ) -> Self {
        let mut conv =
            |name: &str, widths| Conv::declare(declaration, &format!("{scope}.{name}"), widths, 3, 1);
        let convolutions = vec![conv("0", [input, width]), conv("1", [width, width])];
        let last = Projection::declare(declaration, &format!("{scope}.2"), [width, output], start);
        Self { convolutions, last }
    }

    /// Declares a depthwise and a pointwise convolution `{scope}.0.0` and `{scope}.0.1`, two more, and the projection
    /// `{scope}.2`.
    fn declare_depthwise(
        declaration: &mut Declaration,
        scope: &str,
        [input, width, output]: [usize; 3],
        start: f32,
    ) -> Self {
        let mut convolutions = Vec::new();
        for (index, from) in [input, width].into_iter().enumerate() {
            let own = format!("{scope}.{index}.0");
            convolutions.push(Conv::depthwise(declaration, &own, from, 3));
            let across = format!("{scope}.{index}.1");
            convolutions.push(Conv::declare(declaration, &across, [from, width], 1, 1));
        }
        let last = Projection::declare(declaration, &format!("{scope}.2"), [width, output], start);
        Self { convolutions, last }
    }

    fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let y = self.convolutions.iter().fold(x, |x, conv| conv.forward(x, pass));
        self.last.forward(y, pass)
    }

    fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        let y = (self.convolutions.iter()).fold(x.clone(), |x, conv| conv.export(graph, &x));
        self.last.export(graph, &y)
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

/// The bias from which all bins of all distances start; being one value for all, it favours none.
///
/// # Source
/// Ultralytics 8.4; releases before it started from 1.
const BOX_BIAS: f32 = 2.0;

/// # Shapes
/// One `[B, C, a_i]` per level to `[B, sum of a_i, C]`
fn anchors_before_channels(levels: Vec<Tensor<3>>) -> Tensor<3> {
    let levels = levels.into_iter().map(|level| level.swap_dims(1, 2)).collect();
    Tensor::cat(levels, 1)
}
