//! SPPF: poolings of growing reach, made by pooling three times in a row.

use burn::tensor::{Tensor, module::max_pool2d, ops::MaxPoolOptions};

use crate::declare::Declaration;
use crate::layer::{Conv, concatenate};
use crate::onnx::{Graph, Map, Setting};
use crate::pass::Pass;

/// Fast spatial pyramid pooling.
#[derive(Clone, Debug)]
pub(crate) struct Sppf {
    reduce: Conv,
    join: Conv,
    kernel: usize,
}

impl Sppf {
    /// Declares `{scope}.cv1` and `{scope}.cv2`.
    pub(crate) fn declare(
        declaration: &mut Declaration,
        scope: &str,
        [input, output]: [usize; 2],
        kernel: usize,
    ) -> Self {
        let hidden = input / 2;
        Self {
            reduce: Conv::declare(declaration, &format!("{scope}.cv1"), [input, hidden], 1, 1),
            join: Conv::declare(declaration, &format!("{scope}.cv2"), [4 * hidden, output], 1, 1),
            kernel,
        }
    }

    /// # Shapes
    /// `[B, in, H, W]` to `[B, out, H, W]`
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let options = MaxPoolOptions::new([self.kernel; 2])
            .with_stride([1; 2])
            .with_padding([self.kernel / 2; 2]);
        let mut parts = vec![self.reduce.forward(x, pass)];
        for reach in 0..3 {
            parts.push(max_pool2d(parts[reach].clone(), options.clone()));
        }
        self.join.forward(concatenate(parts), pass)
    }

    /// Appends the operations to an export.
    pub(crate) fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        let mut parts = vec![self.reduce.export(graph, x)];
        for reach in 0..3 {
            let settings = [
                ("kernel_shape", Setting::Ints(&[self.kernel; 2])),
                ("strides", Setting::Ints(&[1; 2])),
                ("pads", Setting::Ints(&[self.kernel / 2; 4])),
            ];
            let name = graph.add("MaxPool", &[&parts[reach].name], &settings);
            parts.push(Map {
                name,
                ..parts[reach].clone()
            });
        }
        let all = graph.concatenate(&parts);
        self.join.export(graph, &all)
    }
}
