//! C2PSA: a cross-stage block in which half of the channels attend to all positions of the map.

use burn::tensor::{Tensor, activation::softmax};

use crate::declare::Declaration;
use crate::layer::{Conv, concatenate, halves};
use crate::onnx::{Graph, Map, Setting};
use crate::pass::Pass;

/// Splits in two, runs one half through attention blocks, and joins both; as many channels out as in.
///
/// # Source
/// Partial self-attention of YOLOv10 (Wang et al. 2024), as in YOLO11.
#[derive(Clone, Debug)]
pub(crate) struct C2psa {
    split: Conv,
    join: Conv,
    blocks: Vec<AttentionBlock>,
    hidden: usize,
}

impl C2psa {
    /// Declares `{scope}.cv1`, `{scope}.cv2`, `{scope}.m.0`, ...
    pub(crate) fn declare(
        declaration: &mut Declaration,
        scope: &str,
        channels: usize,
        repeats: usize,
    ) -> Self {
        let hidden = channels / 2;
        let mut conv =
            |name: &str, widths| Conv::declare(declaration, &format!("{scope}.{name}"), widths, 1, 1);
        let split = conv("cv1", [channels, 2 * hidden]);
        let join = conv("cv2", [2 * hidden, channels]);
        let blocks = (0..repeats)
            .map(|index| AttentionBlock::declare(declaration, &format!("{scope}.m.{index}"), hidden))
            .collect();
        Self {
            split,
            join,
            blocks,
            hidden,
        }
    }

    /// # Shapes
    /// `[B, channels, H, W]` to the same
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let [kept, mut attended] = halves(self.split.forward(x, pass));
        for block in &self.blocks {
            attended = block.forward(attended, pass);
        }
        self.join.forward(concatenate(vec![kept, attended]), pass)
    }

    /// Appends the operations to an export.
    pub(crate) fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        let halves = self.split.export(graph, x);
        let kept = graph.channels(&halves, 0, self.hidden);
        let attended = graph.channels(&halves, self.hidden, 2 * self.hidden);
        let attended = (self.blocks.iter()).fold(attended, |x, block| block.export(graph, &x));
        let both = graph.concatenate(&[kept, attended]);
        self.join.export(graph, &both)
    }
}

/// Attention, then two pointwise convolutions; each adds its input.
#[derive(Clone, Debug)]
struct AttentionBlock {
    attention: Attention,
    widen: Conv,
    narrow: Conv,
}

impl AttentionBlock {
    fn declare(declaration: &mut Declaration, scope: &str, channels: usize) -> Self {
        let attention = Attention::declare(declaration, &format!("{scope}.attn"), channels);
        let mut conv =
            |name: &str, widths| Conv::declare(declaration, &format!("{scope}.{name}"), widths, 1, 1);
        Self {
            attention,
            widen: conv("ffn.0", [channels, 2 * channels]),
            narrow: conv("ffn.1", [2 * channels, channels]).linear(),
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let x = x.clone() + self.attention.forward(x, pass);
        let y = self.widen.forward(x.clone(), pass);
        x + self.narrow.forward(y, pass)
    }

    fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        let attended = self.attention.export(graph, x);
        let x = graph.sum(x, &attended);
        let y = self.widen.export(graph, &x);
        let y = self.narrow.export(graph, &y);
        graph.sum(&x, &y)
    }
}

/// Multi-head attention over the positions of a map; a depthwise convolution of the values tells where they are.
#[derive(Clone, Debug)]
struct Attention {
    project_in: Conv,
    project_out: Conv,
    position: Conv,
    heads: usize,
    /// Channels of a head's keys; its values have twice as many.
    key: usize,
}

/// Channels of a head's values.
const HEAD_CHANNELS: usize = 64;

impl Attention {
    fn declare(declaration: &mut Declaration, scope: &str, channels: usize) -> Self {
        let heads = (channels / HEAD_CHANNELS).max(1);
        let key = channels / heads / 2;
        let mut conv =
            |name: &str, widths| Conv::declare(declaration, &format!("{scope}.{name}"), widths, 1, 1);
        let project_in = conv("qkv", [channels, channels + 2 * key * heads]).linear();
        let project_out = conv("proj", [channels, channels]).linear();
        let position = Conv::depthwise(declaration, &format!("{scope}.pe"), channels, 3).linear();
        Self {
            project_in,
            project_out,
            position,
            heads,
            key,
        }
    }

    /// # Shapes
    /// `[B, channels, H, W]` to the same
    fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let (heads, key, value) = (self.heads, self.key, channels / self.heads);
        let mixed = self.project_in.forward(x, pass);
        let mixed = mixed.reshape([batch, heads, 2 * key + value, height * width]);
        let part = |range| mixed.clone().slice_dim(2, range);
        let queries = part(0..key) * (key as f64).powf(-0.5);
        let keys = part(key..2 * key);
        let values = part(2 * key..2 * key + value);
        // Rows are the positions that ask, columns those that answer.
        let weights = softmax(queries.swap_dims(2, 3).matmul(keys), 3);
        let attended = values.clone().matmul(weights.swap_dims(2, 3));
        let map = [batch, channels, height, width];
        let placed = self.position.forward(values.reshape(map), pass);
        self.project_out.forward(attended.reshape(map) + placed, pass)
    }

    fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        let (heads, key, value) = (self.heads, self.key, x.channels / self.heads);
        let map = [x.channels, x.height, x.width];
        let mixed = self.project_in.export(graph, x);
        let scale = (key as f64).powf(-0.5) as f32;
        let scale = graph.floats(format!("{}_scale", mixed.name), &[1], &[scale]);
        let mixed = graph.reshape(&mixed.name, &[heads, 2 * key + value, x.height * x.width]);
        let queries = graph.slice(&mixed, 2, 0, key);
        let queries = graph.add("Mul", &[&queries, &scale], &[]);
        let keys = graph.slice(&mixed, 2, key, 2 * key);
        let values = graph.slice(&mixed, 2, 2 * key, 2 * key + value);
        let turn = [("perm", Setting::Ints(&[0, 1, 3, 2]))];
        let queries = graph.add("Transpose", &[&queries], &turn);
        let weights = graph.add("MatMul", &[&queries, &keys], &[]);
        let weights = graph.add("Softmax", &[&weights], &[("axis", Setting::Int(3))]);
        let weights = graph.add("Transpose", &[&weights], &turn);
        let attended = graph.add("MatMul", &[&values, &weights], &[]);
        let [attended, values] = [attended, values].map(|tensor| Map {
            name: graph.reshape(&tensor, &map),
            ..x.clone()
        });
        let placed = self.position.export(graph, &values);
        let both = graph.sum(&attended, &placed);
        self.project_out.export(graph, &both)
    }
}
