//! Convolutions: with batch normalisation and SiLU (`Conv`), or with a bias only (`Projection`).

use burn::tensor::{Tensor, activation::silu, module::conv2d, ops::ConvOptions};

use crate::declare::{Declaration, Handle, NormedKernel};
use crate::fused;
use crate::pass::Pass;

/// Convolution without bias, batch normalisation, SiLU; `same` padding for odd kernels.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    tensors: NormedKernel,
    stride: usize,
    padding: usize,
}

impl Conv {
    /// Declares `{scope}.conv` and `{scope}.bn`.
    pub(crate) fn declare(
        declaration: &mut Declaration,
        scope: &str,
        [input, output]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Self {
        Self {
            tensors: declaration.normed_kernel(scope, [output, input, kernel, kernel]),
            stride,
            padding: kernel / 2,
        }
    }

    /// # Shapes
    /// `[B, in, H, W]` to `[B, out, H / stride, W / stride]`
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        match pass {
            Pass::Train(training) => {
                let kernel = training.kernel(self.tensors.kernel);
                let y = fused::convolve(x, kernel, self.stride, self.padding);
                training.norm_silu(y, self.tensors)
            }
            Pass::Infer(loaded) => {
                let (kernel, bias) = loaded.folded(self.tensors);
                let options = ConvOptions::new([self.stride; 2], [self.padding; 2], [1; 2], 1);
                silu(conv2d(x, kernel, Some(bias), options))
            }
        }
    }
}

/// Pointwise convolution with a bias: the last layer of a head's branch.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    kernel: Handle<4>,
    bias: Handle<1>,
}

impl Projection {
    /// Declares `{scope}.weight` and `{scope}.bias`, which starts at `start`.
    pub(crate) fn declare(
        declaration: &mut Declaration,
        scope: &str,
        [input, output]: [usize; 2],
        start: f32,
    ) -> Self {
        Self {
            kernel: declaration.kernel(format!("{scope}.weight"), [output, input, 1, 1]),
            bias: declaration.bias(format!("{scope}.bias"), output, start),
        }
    }

    /// # Shapes
    /// `[B, in, H, W]` to `[B, out, H, W]`
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &Pass<'_>) -> Tensor<4> {
        let bias = pass.vector(self.bias);
        let channels = bias.dims()[0];
        let bias = bias.reshape([1, channels, 1, 1]);
        fused::convolve(x, pass.kernel(self.kernel), 1, 0) + bias
    }
}
