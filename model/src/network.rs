//! A graph of the table, built: layers with handles, and which of their outputs others still need.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::declare::Declaration;
use crate::head::HeadOutput;
use crate::kind::Architecture;
use crate::layer::{C2f, C2psa, Conv, Detect, Sppf, concatenate, export_upsample, upsample};
use crate::native;
use crate::onnx::{self, Graph};
use crate::pass::{Ended, Loaded, Pass};
use crate::table::{Block, Row, Scale, graph};
use crate::trace::Readers;

/// The layers of a model in the order of its table. Holds no tensors.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    nodes: Vec<Node>,
    head: Detect,
    head_inputs: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Node {
    inputs: Vec<usize>,
    layer: Layer,
    /// Outputs that nobody reads after this node.
    done: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Layer {
    Conv(Conv),
    C2f(C2f),
    C2psa(C2psa),
    Sppf(Sppf),
    Upsample,
    Concat,
}

/// What a row puts out.
#[derive(Clone, Copy, Debug)]
struct Map {
    channels: usize,
    stride: usize,
}

/// Input of the first row.
const IMAGE: Map = Map {
    channels: 3,
    stride: 1,
};

impl Network {
    /// Builds the layers of a model and declares their tensors.
    pub(crate) fn new(architecture: Architecture) -> (Self, Declaration) {
        let (rows, scale) = graph(architecture.kind());
        let mut declaration = Declaration::default();
        let mut maps: Vec<Map> = Vec::with_capacity(rows.len());
        let mut nodes = Vec::with_capacity(rows.len());
        // Invariant: the head is the last row of every table.
        let (head_row, body) = rows.split_last().expect("a table has rows");
        for (index, row) in body.iter().enumerate() {
            let inputs = resolve(row, index);
            let (layer, map) = declare(&mut declaration, row, index, &inputs, &maps, scale);
            maps.push(map);
            nodes.push(Node {
                inputs,
                layer,
                done: Vec::new(),
            });
        }
        let head_inputs = resolve(head_row, body.len());
        let levels: Vec<(usize, usize)> = head_inputs
            .iter()
            .map(|&input| (maps[input].channels, maps[input].stride))
            .collect();
        let scope = format!("model.{}", body.len());
        let Block::Detect { classes: branch } = head_row.block else {
            unreachable!("the last row is a head");
        };
        let head = Detect::declare(&mut declaration, &scope, &levels, architecture, branch);
        release_early(&mut nodes, &head_inputs);
        let network = Self {
            nodes,
            head,
            head_inputs,
        };
        (network, declaration)
    }

    /// Returns the number of layers before the head.
    pub(crate) fn body_len(&self) -> usize {
        self.nodes.len()
    }

    /// Runs all layers for detection.
    ///
    /// # Shapes
    /// `[B, 3, H, W]`, height and width multiples of [`crate::yolo::MAX_STRIDE`]
    pub(crate) fn infer(&self, images: Tensor<4>, loaded: &Loaded) -> HeadOutput {
        let mut outputs = Outputs::new(images, self.nodes.len());
        let mut pass = Pass::Infer(loaded);
        self.run(0..self.nodes.len(), &mut outputs, &mut pass);
        self.head.forward(outputs.all(&self.head_inputs), &mut pass)
    }

    /// Runs the first `frozen` layers as for detection, and the others in `pass`, which is for training.
    ///
    /// # Shapes
    /// As [`infer`](Self::infer)
    pub(crate) fn train_forward(
        &self,
        images: Tensor<4>,
        frozen: usize,
        loaded: &Loaded,
        mut pass: Pass<'_>,
    ) -> Ended {
        let mut outputs = Outputs::new(images, self.nodes.len());
        self.run(0..frozen, &mut outputs, &mut Pass::Infer(loaded));
        if !native::keeps_graphs(&outputs.images.device()) {
            outputs.enter_graph();
        }
        self.run(frozen..self.nodes.len(), &mut outputs, &mut pass);
        let output = self.head.forward(outputs.all(&self.head_inputs), &mut pass);
        pass.end(&self.head_inputs, output)
    }

    /// Appends all operations to an export; returns the output's name, and its shape behind the batch.
    pub(crate) fn export(&self, graph: &mut Graph<'_>, images: onnx::Map) -> (String, [usize; 2]) {
        let mut maps: Vec<onnx::Map> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<onnx::Map> = node.inputs.iter().map(|&input| maps[input].clone()).collect();
            let single = inputs.first().unwrap_or(&images);
            let map = match &node.layer {
                Layer::Conv(layer) => layer.export(graph, single),
                Layer::C2f(layer) => layer.export(graph, single),
                Layer::C2psa(layer) => layer.export(graph, single),
                Layer::Sppf(layer) => layer.export(graph, single),
                Layer::Upsample => export_upsample(graph, single),
                Layer::Concat => graph.concatenate(&inputs),
            };
            maps.push(map);
        }
        let levels: Vec<onnx::Map> = self
            .head_inputs
            .iter()
            .map(|&input| maps[input].clone())
            .collect();
        self.head.export(graph, &levels)
    }

    fn readers(&self, row: usize) -> Readers {
        match self.nodes.get(row + 1) {
            Some(next) if next.inputs == [row] && next.done.contains(&row) => Readers::Next,
            _ => Readers::Others,
        }
    }

    fn run(&self, range: Range<usize>, outputs: &mut Outputs, pass: &mut Pass<'_>) {
        for index in range {
            let node = &self.nodes[index];
            let mut inputs = outputs.all(&node.inputs);
            for &done in &node.done {
                outputs.rows[done] = None;
            }
            let single = |inputs: &mut Vec<Tensor<4>>| inputs.pop().unwrap_or_else(|| outputs.images.clone());
            let output = match &node.layer {
                Layer::Conv(layer) => layer.forward(single(&mut inputs), pass),
                Layer::C2f(layer) => layer.forward(single(&mut inputs), pass),
                Layer::C2psa(layer) => layer.forward(single(&mut inputs), pass),
                Layer::Sppf(layer) => layer.forward(single(&mut inputs), pass),
                Layer::Upsample => upsample(single(&mut inputs)),
                Layer::Concat => concatenate(inputs),
            };
            outputs.rows[index] = Some(pass.end_row(index, &node.inputs, self.readers(index), output));
        }
    }
}

/// What the rows have put out so far and somebody still needs.
struct Outputs {
    images: Tensor<4>,
    rows: Vec<Option<Tensor<4>>>,
}

impl Outputs {
    fn new(images: Tensor<4>, rows: usize) -> Self {
        Self {
            images,
            rows: vec![None; rows],
        }
    }

    fn all(&self, rows: &[usize]) -> Vec<Tensor<4>> {
        // Invariant: rows read only earlier rows, and an output is released after its last reader.
        let output = |&row: &usize| self.rows[row].clone().expect("an earlier output");
        rows.iter().map(output).collect()
    }

    /// From here on burn keeps a graph.
    fn enter_graph(&mut self) {
        self.images = self.images.clone().autodiff();
        for row in &mut self.rows {
            *row = row.take().map(Tensor::autodiff);
        }
    }
}

/// Returns the rows that row `index` reads; none for the first row, which reads the images.
fn resolve(row: &Row, index: usize) -> Vec<usize> {
    row.from
        .iter()
        .filter_map(|&from| match from {
            from if from >= 0 => Some(from as usize),
            from => index.checked_sub(from.unsigned_abs()),
        })
        .collect()
}

fn declare(
    declaration: &mut Declaration,
    row: &Row,
    index: usize,
    inputs: &[usize],
    maps: &[Map],
    scale: Scale,
) -> (Layer, Map) {
    let scope = format!("model.{index}");
    let input = inputs.first().map_or(IMAGE, |&input| maps[input]);
    let Map { stride, .. } = input;
    let width = |channels| [input.channels, scale.channels(channels)];
    match row.block {
        Block::Conv {
            channels,
            kernel,
            stride: step,
        } => {
            let [from, to] = width(channels);
            let layer = Conv::declare(declaration, &scope, [from, to], kernel, step);
            (Layer::Conv(layer), map(to, stride * step))
        }
        Block::C2f { channels, shortcut } => {
            let [from, to] = width(channels);
            let repeats = scale.repeats(row.repeats);
            let layer = C2f::declare(declaration, &scope, [from, to], repeats, shortcut);
            (Layer::C2f(layer), map(to, stride))
        }
        Block::C3k2 {
            channels,
            narrowing,
            inner,
        } => {
            let [from, to] = width(channels);
            let widths = [from, to / narrowing, to];
            let repeats = scale.repeats(row.repeats);
            let layer = C2f::declare_c3k2(declaration, &scope, widths, repeats, inner);
            (Layer::C2f(layer), map(to, stride))
        }
        Block::C2psa => {
            let repeats = scale.repeats(row.repeats);
            let layer = C2psa::declare(declaration, &scope, input.channels, repeats);
            (Layer::C2psa(layer), map(input.channels, stride))
        }
        Block::Sppf { channels, kernel } => {
            let [from, to] = width(channels);
            let layer = Sppf::declare(declaration, &scope, [from, to], kernel);
            (Layer::Sppf(layer), map(to, stride))
        }
        Block::Upsample => (Layer::Upsample, map(input.channels, stride / 2)),
        Block::Concat => {
            let channels = inputs.iter().map(|&input| maps[input].channels).sum();
            (Layer::Concat, map(channels, stride))
        }
        Block::Detect { .. } => unreachable!("the head is the last row"),
    }
}

fn map(channels: usize, stride: usize) -> Map {
    Map { channels, stride }
}

/// Marks for each node the outputs that it is the last to read, so that inference frees them.
fn release_early(nodes: &mut [Node], head_inputs: &[usize]) {
    for output in 0..nodes.len() {
        if head_inputs.contains(&output) {
            continue;
        }
        let last = nodes.iter().rposition(|node| node.inputs.contains(&output));
        if let Some(last) = last {
            nodes[last].done.push(output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::ModelKind;
    use crate::layout::{Group, Layout};

    fn layout(name: &str) -> Layout {
        Network::new(name.parse::<ModelKind>().unwrap().with_classes(80))
            .1
            .layout
    }

    #[test]
    fn parameter_counts_at_80_classes_are_the_published_ones() {
        for (name, count) in [
            ("yolov8n", 3_157_200),
            ("yolov8s", 11_166_560),
            ("yolov8m", 25_902_640),
            ("yolov8l", 43_691_520),
            ("yolov8x", 68_229_648),
            ("yolo11n", 2_624_080),
            ("yolo11s", 9_458_752),
            ("yolo11m", 20_114_688),
            ("yolo11l", 25_372_160),
            ("yolo11x", 56_966_176),
        ] {
            assert_eq!(layout(name).parameter_count(), count, "{name}");
        }
    }

    #[test]
    fn state_dicts_have_the_published_number_of_entries() {
        for (name, entries) in [
            ("yolov8n", 355),
            ("yolov8m", 475),
            ("yolo11n", 499),
            ("yolo11l", 1015),
        ] {
            assert_eq!(layout(name).state_dict_len(), entries, "{name}");
        }
    }

    #[test]
    fn names_and_shapes_are_those_python_users_know() {
        let layout = layout("yolov8n");
        for (name, shape) in [
            ("model.0.conv.weight", vec![16, 3, 3, 3]),
            ("model.0.bn.weight", vec![16]),
            ("model.2.m.0.cv1.conv.weight", vec![16, 16, 3, 3]),
            ("model.4.m.1.cv2.bn.bias", vec![32]),
            ("model.9.cv2.conv.weight", vec![256, 512, 1, 1]),
            ("model.12.cv1.conv.weight", vec![128, 384, 1, 1]),
            ("model.22.cv2.0.0.conv.weight", vec![64, 64, 3, 3]),
            ("model.22.cv2.0.2.bias", vec![64]),
            ("model.22.cv3.2.2.weight", vec![80, 80, 1, 1]),
        ] {
            let spec = layout.parameter(name);
            assert_eq!(spec.map(|spec| &spec.shape), Some(&shape), "{name}");
        }
        assert!(layout.buffer("model.22.cv3.2.1.bn.running_var").is_some());
        assert_eq!(layout.constants[0].name, "model.22.dfl.conv.weight");
        assert_eq!(layout.constants[0].shape, [1, 16, 1, 1]);
    }

    #[test]
    fn the_names_and_shapes_of_yolo11_are_those_python_users_know() {
        let nano = layout("yolo11n");
        let large = layout("yolo11l");
        for (layout, name, shape) in [
            (&nano, "model.2.cv2.conv.weight", vec![64, 48, 1, 1]),
            (&nano, "model.2.m.0.cv1.conv.weight", vec![8, 16, 3, 3]),
            (&nano, "model.6.m.0.cv3.conv.weight", vec![64, 64, 1, 1]),
            (&nano, "model.6.m.0.m.1.cv2.bn.bias", vec![32]),
            (&nano, "model.10.m.0.attn.qkv.conv.weight", vec![256, 128, 1, 1]),
            (&nano, "model.10.m.0.attn.pe.conv.weight", vec![128, 1, 3, 3]),
            (&nano, "model.10.m.0.ffn.1.conv.weight", vec![128, 256, 1, 1]),
            (&nano, "model.23.cv3.1.0.0.conv.weight", vec![128, 1, 3, 3]),
            (&nano, "model.23.cv3.1.0.1.conv.weight", vec![80, 128, 1, 1]),
            (&nano, "model.23.cv3.1.2.weight", vec![80, 80, 1, 1]),
            (&large, "model.2.m.1.cv1.conv.weight", vec![32, 64, 1, 1]),
            (&large, "model.10.m.1.attn.proj.bn.weight", vec![256]),
        ] {
            let spec = layout.parameter(name);
            assert_eq!(spec.map(|spec| &spec.shape), Some(&shape), "{name}");
        }
    }

    #[test]
    fn ranges_tile_the_flat_vectors_and_groups_follow_the_names() {
        let layout = layout("yolov8s");
        for specs in [&layout.parameters, &layout.buffers] {
            let mut end = 0;
            for spec in specs {
                assert_eq!(spec.range.start, end, "{}", spec.name);
                assert_eq!(spec.range.len(), spec.shape.iter().product::<usize>());
                end = spec.range.end;
            }
        }
        for spec in &layout.parameters {
            let expected = match spec.name.as_str() {
                name if name.ends_with(".bn.weight") => Group::Norm,
                name if name.ends_with(".bias") => Group::Bias,
                _ => Group::Decay,
            };
            assert_eq!(spec.group, expected, "{}", spec.name);
        }
    }

    #[test]
    fn digests_differ_between_models_and_class_counts() {
        let digest = |name: &str, classes| {
            let kind: ModelKind = name.parse().unwrap();
            Network::new(kind.with_classes(classes)).1.layout.digest()
        };
        assert_eq!(digest("yolov8n", 80), digest("yolov8n", 80));
        assert_ne!(digest("yolov8n", 80), digest("yolov8n", 79));
        assert_ne!(digest("yolov8n", 80), digest("yolov8s", 80));
    }

    #[test]
    fn an_output_is_released_by_its_last_reader_only() {
        let (network, _) = Network::new("yolov8n".parse::<ModelKind>().unwrap().with_classes(80));
        assert_eq!(network.nodes[1].done, [0]);
        assert_eq!(network.nodes[14].done, [4, 13]);
        assert!(network.nodes.iter().all(|node| !node.done.contains(&15)));
    }
}
