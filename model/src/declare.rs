//! How layers declare their tensors: each call appends to the layout and returns a handle.
//!
//! A layer is built once, without tensors; its handles find the tensors of whatever state is loaded. So the
//! layout and the network come from one traversal and cannot disagree.

use crate::layout::{Group, Initial, Layout, TensorSpec};

/// Finds a trained tensor of rank `D` in a loaded state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle<const D: usize>(pub(crate) usize);

/// Finds the tensors of one convolution that is followed by batch normalisation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormedKernel {
    pub(crate) kernel: Handle<4>,
    pub(crate) gamma: Handle<1>,
    pub(crate) beta: Handle<1>,
    /// Index among the batch normalisations, in traversal order.
    pub(crate) norm: usize,
}

/// A trained tensor's place by rank, in traversal order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Kernel(Handle<4>),
    Vector(Handle<1>),
}

/// A layout in the making.
#[derive(Debug, Default)]
pub(crate) struct Declaration {
    pub(crate) layout: Layout,
    /// One entry per entry of `layout.parameters`.
    pub(crate) places: Vec<Place>,
    /// All convolutions with batch normalisation, in traversal order.
    pub(crate) normed: Vec<NormedKernel>,
    /// Names of the tensors that have one row per class.
    pub(crate) class_rows: Vec<String>,
    /// Positions in `layout.parameters`, by `Handle<4>`.
    pub(crate) kernels: Vec<usize>,
    /// Positions in `layout.parameters`, by `Handle<1>`.
    pub(crate) vectors: Vec<usize>,
}

impl Declaration {
    /// Declares `{scope}.conv.weight` and the tensors of `{scope}.bn`.
    ///
    /// # Shapes
    /// `shape`: `[out, in, height, width]`
    pub(crate) fn normed_kernel(&mut self, scope: &str, shape: [usize; 4]) -> NormedKernel {
        let channels = [shape[0]];
        let kernel = self.kernel(format!("{scope}.conv.weight"), shape);
        let gamma = self.vector(
            format!("{scope}.bn.weight"),
            channels,
            Group::Norm,
            Initial::Constant(1.0),
        );
        let beta = self.bias(format!("{scope}.bn.bias"), shape[0], 0.0);
        for (name, group, start) in [
            ("running_mean", Group::RunningMean, 0.0),
            ("running_var", Group::RunningVariance, 1.0),
        ] {
            let name = format!("{scope}.bn.{name}");
            push(
                &mut self.layout.buffers,
                name,
                &channels,
                group,
                Initial::Constant(start),
            );
        }
        let normed = NormedKernel {
            kernel,
            gamma,
            beta,
            norm: self.normed.len(),
        };
        self.normed.push(normed);
        normed
    }

    /// Declares a kernel that starts as PyTorch starts a convolution: uniform within `1 / sqrt(fan_in)`.
    pub(crate) fn kernel(&mut self, name: String, shape: [usize; 4]) -> Handle<4> {
        let fan_in: usize = shape[1..].iter().product();
        let initial = Initial::Uniform {
            bound: (1.0 / (fan_in as f64).sqrt()) as f32,
        };
        push(&mut self.layout.parameters, name, &shape, Group::Decay, initial);
        let handle = Handle(self.kernels.len());
        self.kernels.push(self.places.len());
        self.places.push(Place::Kernel(handle));
        handle
    }

    /// Declares a bias of one starting value.
    pub(crate) fn bias(&mut self, name: String, channels: usize, start: f32) -> Handle<1> {
        self.vector(name, [channels], Group::Bias, Initial::Constant(start))
    }

    /// Declares a tensor that is in the state dict and never trained.
    pub(crate) fn constant(&mut self, name: String, shape: &[usize], initial: Initial) {
        push(&mut self.layout.constants, name, shape, Group::Decay, initial);
    }

    fn vector(&mut self, name: String, shape: [usize; 1], group: Group, initial: Initial) -> Handle<1> {
        push(&mut self.layout.parameters, name, &shape, group, initial);
        let handle = Handle(self.vectors.len());
        self.vectors.push(self.places.len());
        self.places.push(Place::Vector(handle));
        handle
    }
}

fn push(specs: &mut Vec<TensorSpec>, name: String, shape: &[usize], group: Group, initial: Initial) {
    let start = specs.last().map_or(0, |spec| spec.range.end);
    let len: usize = shape.iter().product();
    specs.push(TensorSpec {
        name,
        range: start..start + len,
        shape: shape.to_vec(),
        group,
        initial,
    });
}
