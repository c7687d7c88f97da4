//! Bottleneck: two 3x3 convolutions, around which the input may be added.

use burn::tensor::Tensor;

use crate::declare::Declaration;
use crate::layer::Conv;
use crate::onnx::{Graph, Map};
use crate::pass::Pass;
use crate::table::Shortcut;

/// Two 3x3 convolutions in a row; as many channels out as in.
#[derive(Clone, Debug)]
pub(crate) struct Bottleneck {
    first: Conv,
    second: Conv,
    shortcut: Shortcut,
}

impl Bottleneck {
    /// Declares `{scope}.cv1` and `{scope}.cv2`; `hidden` channels lie between them.
    pub(crate) fn declare(
        declaration: &mut Declaration,
        scope: &str,
        channels: usize,
        hidden: usize,
        shortcut: Shortcut,
    ) -> Self {
        let mut conv =
            |name: &str, widths| Conv::declare(declaration, &format!("{scope}.{name}"), widths, 3, 1);
        Self {
            first: conv("cv1", [channels, hidden]),
            second: conv("cv2", [hidden, channels]),
            shortcut,
        }
    }

    /// # Shapes
    /// `[B, channels, H, W]` to the same
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let y = self.first.forward(x.clone(), pass);
        let y = self.second.forward(y, pass);
        match self.shortcut {
            Shortcut::Added => x + y,
            Shortcut::Absent => y,
        }
    }

    /// Appends the operations to an export.
    pub(crate) fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        let y = self.first.export(graph, x);
        let y = self.second.export(graph, &y);
        match self.shortcut {
            Shortcut::Added => graph.sum(x, &y),
            Shortcut::Absent => y,
        }
    }
}
