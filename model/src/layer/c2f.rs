//! C2f and C3k2: cross-stage blocks that concatenate the outputs of all their inner blocks.

use burn::tensor::Tensor;

use crate::declare::Declaration;
use crate::layer::{Bottleneck, C3k, Conv, concatenate, with_second_half};
use crate::onnx::{Graph, Map};
use crate::pass::Pass;
use crate::table::{Inner, Shortcut};

/// Splits in two, runs one half through inner blocks, and joins everything.
#[derive(Clone, Debug)]
pub(crate) struct C2f {
    split: Conv,
    join: Conv,
    blocks: Vec<InnerBlock>,
    hidden: usize,
}

#[derive(Clone, Debug)]
enum InnerBlock {
    Bottleneck(Bottleneck),
    C3k(C3k),
}

impl C2f {
    /// Declares `{scope}.cv1`, `{scope}.cv2`, `{scope}.m.0`, ... of a C2f block.
    pub(crate) fn declare(
        declaration: &mut Declaration,
        scope: &str,
        [input, output]: [usize; 2],
        repeats: usize,
        shortcut: Shortcut,
    ) -> Self {
        let hidden = output / 2;
        Self::around(
            declaration,
            scope,
            [input, hidden, output],
            repeats,
            |declaration, scope| {
                let block = Bottleneck::declare(declaration, scope, hidden, hidden, shortcut);
                InnerBlock::Bottleneck(block)
            },
        )
    }

    /// Declares the tensors of the same names of a C3k2 block; `hidden` channels run through the inner blocks.
    pub(crate) fn declare_c3k2(
        declaration: &mut Declaration,
        scope: &str,
        [input, hidden, output]: [usize; 3],
        repeats: usize,
        inner: Inner,
    ) -> Self {
        let widths = [input, hidden, output];
        Self::around(
            declaration,
            scope,
            widths,
            repeats,
            |declaration, scope| match inner {
                Inner::Bottleneck => {
                    let block = Bottleneck::declare(declaration, scope, hidden, hidden / 2, Shortcut::Added);
                    InnerBlock::Bottleneck(block)
                }
                Inner::C3k => InnerBlock::C3k(C3k::declare(declaration, scope, hidden)),
            },
        )
    }

    fn around(
        declaration: &mut Declaration,
        scope: &str,
        [input, hidden, output]: [usize; 3],
        repeats: usize,
        inner: impl Fn(&mut Declaration, &str) -> InnerBlock,
    ) -> Self {
        let mut conv =
            |name: &str, widths| Conv::declare(declaration, &format!("{scope}.{name}"), widths, 1, 1);
        let split = conv("cv1", [input, 2 * hidden]);
        let join = conv("cv2", [(2 + repeats) * hidden, output]);
        let blocks = (0..repeats)
            .map(|index| inner(declaration, &format!("{scope}.m.{index}")))
            .collect();
        Self {
            split,
            join,
            blocks,
            hidden,
        }
    }

    /// # Shapes
    /// `[B, in, H, W]` to `[B, out, H, W]`
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        // The join reads both halves, the blocks the second.
        let (mut parts, mut last) = with_second_half(self.split.forward(x, pass));
        for block in &self.blocks {
            last = match block {
                InnerBlock::Bottleneck(block) => block.forward(last, pass),
                InnerBlock::C3k(block) => block.forward(last, pass),
            };
            parts.push(last.clone());
        }
        self.join.forward(concatenate(parts), pass)
    }

    /// Appends the operations to an export.
    pub(crate) fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        let halves = self.split.export(graph, x);
        let mut last = graph.channels(&halves, self.hidden, 2 * self.hidden);
        let mut parts = vec![halves];
        for block in &self.blocks {
            last = match block {
                InnerBlock::Bottleneck(block) => block.export(graph, &last),
                InnerBlock::C3k(block) => block.export(graph, &last),
            };
            parts.push(last.clone());
        }
        let all = graph.concatenate(&parts);
        self.join.export(graph, &all)
    }
}
