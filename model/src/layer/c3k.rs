//! C3k: a cross-stage block whose bottlenecks see one of two projections of the input.

use burn::tensor::Tensor;

use crate::declare::Declaration;
use crate::layer::{Bottleneck, Conv, concatenate};
use crate::onnx::{Graph, Map};
use crate::pass::Pass;
use crate::table::Shortcut;

/// Two projections, of which one runs through bottlenecks, joined by a third; as many channels out as in.
///
/// # Source
/// CSPNet (Wang et al. 2020), as in YOLO11.
#[derive(Clone, Debug)]
pub(crate) struct C3k {
    deep: Conv,
    shallow: Conv,
    join: Conv,
    bottlenecks: Vec<Bottleneck>,
}

/// Bottlenecks of a block.
const BOTTLENECKS: usize = 2;

impl C3k {
    /// Declares `{scope}.cv1`, `{scope}.cv2`, `{scope}.cv3`, `{scope}.m.0`, ...
    pub(crate) fn declare(declaration: &mut Declaration, scope: &str, channels: usize) -> Self {
        let hidden = channels / 2;
        let mut conv =
            |name: &str, widths| Conv::declare(declaration, &format!("{scope}.{name}"), widths, 1, 1);
        let deep = conv("cv1", [channels, hidden]);
        let shallow = conv("cv2", [channels, hidden]);
        let join = conv("cv3", [2 * hidden, channels]);
        let bottlenecks = (0..BOTTLENECKS)
            .map(|index| {
                let scope = format!("{scope}.m.{index}");
                Bottleneck::declare(declaration, &scope, hidden, hidden, Shortcut::Added)
            })
            .collect();
        Self {
            deep,
            shallow,
            join,
            bottlenecks,
        }
    }

    /// # Shapes
    /// `[B, channels, H, W]` to the same
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let mut deep = self.deep.forward(x.clone(), pass);
        for bottleneck in &self.bottlenecks {
            deep = bottleneck.forward(deep, pass);
        }
        let shallow = self.shallow.forward(x, pass);
        self.join.forward(concatenate(vec![deep, shallow]), pass)
    }

    /// Appends the operations to an export.
    pub(crate) fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        let deep = self.deep.export(graph, x);
        let deep = (self.bottlenecks.iter()).fold(deep, |deep, block| block.export(graph, &deep));
        let shallow = self.shallow.export(graph, x);
        let both = graph.concatenate(&[deep, shallow]);
        self.join.export(graph, &both)
    }
}
