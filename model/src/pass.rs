//! One run through the network: the tensors of a loaded state, and how batch normalisation gets its statistics.

use std::sync::OnceLock;

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::declare::{Declaration, Handle, NormedKernel, Place};
use crate::fused::{norm, norm_silu, tap};
use crate::head::HeadOutput;
use crate::layout::TensorSpec;
use crate::native;
use crate::outlet::Outlet;
use crate::trace::{Native, Readers, Recorder};

/// Added to the variance before its root is taken.
///
/// # Source
/// The published models; PyTorch's default is 1e-5.
pub(crate) const NORM_EPSILON: f64 = 1e-3;

/// A state on the device: two uploads, of which every tensor is a view.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// By `Handle<4>`: leaves of burn's graph, unless the device keeps graphs itself.
    kernels: Vec<Tensor<4>>,
    /// By `Handle<1>`: the same.
    vectors: Vec<Tensor<1>>,
    /// Means and variances in turn, outside the autodiff graph.
    statistics: Vec<Tensor<1>>,
    /// By index of the normalisation; made by the first inference.
    folded: Vec<OnceLock<(Tensor<4>, Tensor<1>)>>,
}

impl Loaded {
    /// Uploads a state. The lengths must be those of the layout.
    pub(crate) fn upload(
        declaration: &Declaration,
        parameters: &[f32],
        buffers: &[f32],
        device: &Device,
    ) -> Self {
        let layout = &declaration.layout;
        let is_native = native::keeps_graphs(device);
        let upload = |values: &[f32]| match is_native {
            true => native::upload(values, device),
            false => Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), device),
        };
        let flat = upload(parameters);
        let mut kernels = Vec::new();
        let mut vectors = Vec::new();
        for (spec, place) in layout.parameters.iter().zip(&declaration.places) {
            let view = flat.clone().slice([spec.range.clone()]);
            match place {
                Place::Kernel(_) if is_native => kernels.push(view.reshape(rank4(spec))),
                Place::Kernel(_) => kernels.push(view.reshape(rank4(spec)).autodiff().require_grad()),
                Place::Vector(_) if is_native => vectors.push(view),
                Place::Vector(_) => vectors.push(view.autodiff().require_grad()),
            }
        }
        let flat = upload(buffers);
        let statistics = layout
            .buffers
            .iter()
            .map(|spec| flat.clone().slice([spec.range.clone()]))
            .collect();
        Self {
            kernels,
            vectors,
            statistics,
            folded: declaration.normed.iter().map(|_| OnceLock::new()).collect(),
        }
    }

    /// Returns the kernel with the running statistics worked into it, and the bias that remains; both outside
    /// the autodiff graph.
    pub(crate) fn folded(&self, tensors: NormedKernel) -> (Tensor<4>, Tensor<1>) {
        self.folded[tensors.norm]
            .get_or_init(|| {
                let mean = self.statistics[2 * tensors.norm].clone();
                let variance = self.statistics[2 * tensors.norm + 1].clone();
                let gamma = self.vectors[tensors.gamma.0].clone().inner();
                let beta = self.vectors[tensors.beta.0].clone().inner();
                let kernel = self.kernels[tensors.kernel.0].clone().inner();
                let scale = gamma / (variance + NORM_EPSILON).sqrt();
                let channels = scale.dims()[0];
                let kernel = kernel * scale.clone().reshape([channels, 1, 1, 1]);
                (kernel, beta - mean * scale)
            })
            .clone()
    }

    /// Takes the gradients of all parameters out of `gradients` as one flat tensor, in traversal order. A
    /// parameter without gradient counts as zeros.
    pub(crate) fn flat_gradient(
        &self,
        declaration: &Declaration,
        mut gradients: Gradients,
        device: &Device,
    ) -> Tensor<1> {
        let specs = &declaration.layout.parameters;
        let parts = specs
            .iter()
            .zip(&declaration.places)
            .map(|(spec, place)| {
                let flat = match place {
                    Place::Kernel(handle) => self.kernels[handle.0]
                        .grad_remove(&mut gradients)
                        .map(|gradient| gradient.flatten(0, 3)),
                    Place::Vector(handle) => self.vectors[handle.0].grad_remove(&mut gradients),
                };
                flat.unwrap_or_else(|| Tensor::zeros([spec.range.len()], device))
            })
            .collect();
        Tensor::cat(parts, 0)
    }
}

/// How the layers run.
#[derive(Debug)]
pub(crate) enum Pass<'a> {
    /// With gradients, and normalisation by the statistics of the batch.
    Train(Training<'a>),
    /// Without gradients, and normalisation by the running statistics.
    Infer(&'a Loaded),
}

impl Pass<'_> {
    /// Returns the kernel that a layer applies to `x`, within the autodiff graph when training.
    pub(crate) fn kernel(&mut self, handle: Handle<4>, x: &Tensor<4>) -> Tensor<4> {
        match self {
            Pass::Train(training) => training.kernel(handle, x),
            Pass::Infer(loaded) => loaded.kernels[handle.0].clone().inner(),
        }
    }

    /// Returns the vector that a layer applies to `x`, within the autodiff graph when training.
    pub(crate) fn vector(&mut self, handle: Handle<1>, x: &Tensor<4>) -> Tensor<1> {
        match self {
            Pass::Train(training) => training.vector(handle, x),
            Pass::Infer(loaded) => loaded.vectors[handle.0].clone().inner(),
        }
    }

    /// Ends the pass with the head, which read the outputs of the rows `inputs`.
    pub(crate) fn end(self, inputs: &[usize], output: HeadOutput) -> Ended {
        match self {
            Pass::Train(training) => training.end(inputs, output),
            Pass::Infer(_) => Ended {
                output,
                native: None,
                norms: Vec::new(),
            },
        }
    }

    /// Ends a row that read the outputs of the rows `inputs`; returns its output as other rows are to read it.
    pub(crate) fn end_row(
        &mut self,
        row: usize,
        inputs: &[usize],
        readers: Readers,
        output: Tensor<4>,
    ) -> Tensor<4> {
        match self {
            Pass::Train(Training {
                recorder: Some(recorder),
                ..
            }) => recorder.end_row(row, inputs, readers, output),
            _ => output,
        }
    }
}

/// What is left of a pass when the head has run.
#[derive(Debug)]
pub(crate) struct Ended {
    /// As the loss is to read it: in burn's graph when training.
    pub(crate) output: HeadOutput,
    /// The graph, if the device keeps it.
    pub(crate) native: Option<Native>,
    /// In traversal order; none after detection.
    pub(crate) norms: Vec<NormStatistics>,
}

/// A training pass and the statistics that it has met.
#[derive(Debug)]
pub(crate) struct Training<'a> {
    declaration: &'a Declaration,
    loaded: &'a Loaded,
    /// Where gradients go where burn keeps the graph, if not to its container of them.
    outlet: Option<&'a Outlet>,
    /// By index of the normalisation, whatever the order of execution.
    seen: Vec<Option<NormStatistics>>,
    /// Notes the graph, where the device keeps it.
    recorder: Option<Recorder>,
}

/// Statistics of one batch normalisation on the device.
#[derive(Debug)]
pub(crate) struct NormStatistics {
    /// `[C]`
    pub(crate) mean: Tensor<1>,
    /// `[C]`, biased: divided by the number of values.
    pub(crate) variance: Tensor<1>,
    /// What makes the variance unbiased.
    pub(crate) correction: f32,
}

impl<'a> Training<'a> {
    pub(crate) fn new(
        declaration: &'a Declaration,
        loaded: &'a Loaded,
        outlet: Option<&'a Outlet>,
        device: &Device,
    ) -> Self {
        Self {
            recorder: native::keeps_graphs(device).then(Recorder::default),
            declaration,
            loaded,
            outlet,
            seen: loaded.folded.iter().map(|_| None).collect(),
        }
    }

    pub(crate) fn kernel(&mut self, handle: Handle<4>, x: &Tensor<4>) -> Tensor<4> {
        let kernel = self.loaded.kernels[handle.0].clone();
        self.parameter(kernel, self.declaration.kernels[handle.0], x)
    }

    fn vector(&mut self, handle: Handle<1>, x: &Tensor<4>) -> Tensor<1> {
        let vector = self.loaded.vectors[handle.0].clone();
        self.parameter(vector, self.declaration.vectors[handle.0], x)
    }

    /// Returns a parameter as part of the graph. Its gradient goes to the outlet, if there is one, as soon as it is computed.
    fn parameter<const D: usize>(
        &mut self,
        parameter: Tensor<D>,
        position: usize,
        x: &Tensor<4>,
    ) -> Tensor<D> {
        match (&mut self.recorder, self.outlet) {
            (Some(recorder), _) => recorder.parameter(parameter, position, x),
            (None, Some(outlet)) => tap(parameter, x.clone(), position, outlet.clone()),
            (None, None) => parameter,
        }
    }

    /// Normalises with the mean and the biased variance of `x` itself, keeps both, and applies SiLU.
    ///
    /// # Shapes
    /// `[B, C, H, W]` to the same
    pub(crate) fn norm_silu(&mut self, x: Tensor<4>, tensors: NormedKernel) -> Tensor<4> {
        let count = values_per_channel(&x);
        let [gamma, beta] = self.affine(tensors, &x);
        let (output, mean, variance) = norm_silu(x, gamma, beta, NORM_EPSILON);
        self.keep(tensors, mean, variance, count);
        output
    }

    /// As [`norm_silu`](Self::norm_silu), without SiLU.
    pub(crate) fn norm(&mut self, x: Tensor<4>, tensors: NormedKernel) -> Tensor<4> {
        let count = values_per_channel(&x);
        let [gamma, beta] = self.affine(tensors, &x);
        let (output, mean, variance) = norm(x, gamma, beta, NORM_EPSILON);
        self.keep(tensors, mean, variance, count);
        output
    }

    fn affine(&mut self, tensors: NormedKernel, x: &Tensor<4>) -> [Tensor<1>; 2] {
        [tensors.gamma, tensors.beta].map(|handle| self.vector(handle, x))
    }

    fn keep(&mut self, tensors: NormedKernel, mean: Tensor<1>, variance: Tensor<1>, count: usize) {
        self.seen[tensors.norm] = Some(NormStatistics {
            mean: mean.inner(),
            variance: variance.inner(),
            correction: count as f32 / (count.max(2) - 1) as f32,
        });
    }

    fn end(mut self, inputs: &[usize], output: HeadOutput) -> Ended {
        let (output, native) = match self.recorder.take() {
            Some(recorder) => {
                let (output, native) = recorder.end_head(inputs, output);
                (output, Some(native))
            }
            None => (output, None),
        };
        Ended {
            output,
            native,
            norms: self.into_statistics(),
        }
    }

    /// Returns the statistics in traversal order; the running ones where a layer was frozen.
    fn into_statistics(self) -> Vec<NormStatistics> {
        let running = |norm: usize| NormStatistics {
            mean: self.loaded.statistics[2 * norm].clone(),
            variance: self.loaded.statistics[2 * norm + 1].clone(),
            correction: 1.0,
        };
        let seen = self.seen.into_iter().enumerate();
        seen.map(|(norm, seen)| seen.unwrap_or_else(|| running(norm)))
            .collect()
    }
}

fn values_per_channel(x: &Tensor<4>) -> usize {
    let [batch, _, height, width] = x.dims();
    batch * height * width
}

fn rank4(spec: &TensorSpec) -> [usize; 4] {
    std::array::from_fn(|axis| spec.shape[axis])
}
