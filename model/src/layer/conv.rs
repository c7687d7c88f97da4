//! Convolutions: with batch normalisation and SiLU (`Conv`), or with a bias only (`Projection`).

use burn::tensor::{Tensor, activation::silu, module::conv2d, ops::ConvOptions};

use crate::declare::{Declaration, Handle, NormedKernel};
use crate::fused;
use crate::onnx::{Geometry, Graph, Map};
use crate::pass::Pass;

/// Convolution without bias, batch normalisation, and SiLU unless linear; `same` padding for odd kernels.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    tensors: NormedKernel,
    stride: usize,
    padding: usize,
    reach: Reach,
    activation: Activation,
}

/// Which channels an output channel sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    All,
    /// Only its own; the number of channels.
    Own(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activation {
    Silu,
    Linear,
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
            reach: Reach::All,
            activation: Activation::Silu,
        }
    }

    /// Declares the tensors of the same names of a convolution of each channel by itself, of stride 1.
    pub(crate) fn depthwise(
        declaration: &mut Declaration,
        scope: &str,
        channels: usize,
        kernel: usize,
    ) -> Self {
        Self {
            tensors: declaration.normed_kernel(scope, [channels, 1, kernel, kernel]),
            stride: 1,
            padding: kernel / 2,
            reach: Reach::Own(channels),
            activation: Activation::Silu,
        }
    }

    /// Returns the same convolution without SiLU.
    pub(crate) fn linear(self) -> Self {
        Self {
            activation: Activation::Linear,
            ..self
        }
    }

    /// # Shapes
    /// `[B, in, H, W]` to `[B, out, H / stride, W / stride]`
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        match pass {
            Pass::Train(training) => {
                let kernel = training.kernel(self.tensors.kernel, &x);
                let y = match self.reach {
                    Reach::All => fused::convolve(x, kernel, self.stride, self.padding),
                    Reach::Own(_) => fused::depthwise(x, kernel),
                };
                match self.activation {
                    Activation::Silu => training.norm_silu(y, self.tensors),
                    Activation::Linear => training.norm(y, self.tensors),
                }
            }
            Pass::Infer(loaded) => {
                let (kernel, bias) = loaded.folded(self.tensors);
                let options = ConvOptions::new([self.stride; 2], [self.padding; 2], [1; 2], self.groups());
                let y = conv2d(x, kernel, Some(bias), options);
                match self.activation {
                    Activation::Silu => silu(y),
                    Activation::Linear => y,
                }
            }
        }
    }

    /// Appends the operations to an export.
    pub(crate) fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        let geometry = Geometry {
            stride: self.stride,
            padding: self.padding,
            groups: self.groups(),
        };
        let y = graph.normed_convolution(x, self.tensors, geometry);
        match self.activation {
            Activation::Silu => graph.silu(y),
            Activation::Linear => y,
        }
    }

    fn groups(&self) -> usize {
        match self.reach {
            Reach::All => 1,
            Reach::Own(channels) => channels,
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
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let bias = pass.vector(self.bias, &x);
        let channels = bias.dims()[0];
        let bias = bias.reshape([1, channels, 1, 1]);
        let kernel = pass.kernel(self.kernel, &x);
        fused::convolve(x, kernel, 1, 0) + bias
    }

    /// Appends the operation to an export.
    pub(crate) fn export(&self, graph: &mut Graph<'_>, x: &Map) -> Map {
        graph.projection(x, self.kernel, self.bias)
    }
}
