//! C2f: a cross-stage block that concatenates the outputs of all its bottlenecks.

use burn::tensor::Tensor;

use crate::declare::Declaration;
use crate::layer::{Conv, concatenate};
use crate::pass::Pass;
use crate::table::Shortcut;

/// Splits in two, runs one half through bottlenecks, and joins everything.
#[derive(Clone, Debug)]
pub(crate) struct C2f {
    split: Conv,
    join: Conv,
    bottlenecks: Vec<Bottleneck>,
    hidden: usize,
}

impl C2f {
    /// Declares `{scope}.cv1`, `{scope}.cv2`, `{scope}.m.0`, ...
    pub(crate) fn declare(
        declaration: &mut Declaration,
        scope: &str,
        [input, output]: [usize; 2],
        repeats: usize,
        shortcut: Shortcut,
    ) -> Self {
        let hidden = output / 2;
        let split = Conv::declare(declaration, &format!("{scope}.cv1"), [input, 2 * hidden], 1, 1);
        let join = Conv::declare(
            declaration,
            &format!("{scope}.cv2"),
            [(2 + repeats) * hidden, output],
            1,
            1,
        );
        let bottlenecks = (0..repeats)
            .map(|index| Bottleneck::declare(declaration, &format!("{scope}.m.{index}"), hidden, shortcut))
            .collect();
        Self {
            split,
            join,
            bottlenecks,
            hidden,
        }
    }

    /// # Shapes
    /// `[B, in, H, W]` to `[B, out, H, W]`
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let halves = self.split.forward(x, pass);
        // The join reads both halves, so they stay together; only the second is cut out.
        let mut last = halves.clone().slice_dim(1, self.hidden..2 * self.hidden);
        let mut parts = vec![halves];
        for bottleneck in &self.bottlenecks {
            last = bottleneck.forward(last, pass);
            parts.push(last.clone());
        }
        self.join.forward(concatenate(parts), pass)
    }
}

/// Two 3x3 convolutions, around which the input may be added.
#[derive(Clone, Debug)]
struct Bottleneck {
    first: Conv,
    second: Conv,
    shortcut: Shortcut,
}

impl Bottleneck {
    fn declare(declaration: &mut Declaration, scope: &str, channels: usize, shortcut: Shortcut) -> Self {
        let mut conv =
            |name: &str| Conv::declare(declaration, &format!("{scope}.{name}"), [channels; 2], 3, 1);
        Self {
            first: conv("cv1"),
            second: conv("cv2"),
            shortcut,
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let y = self.first.forward(x.clone(), pass);
        let y = self.second.forward(y, pass);
        match self.shortcut {
            Shortcut::Added => x + y,
            Shortcut::Absent => y,
        }
    }
}
