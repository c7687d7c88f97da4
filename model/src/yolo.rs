//! A YOLO detector on a device: load a flat state, run it, take the flat gradient.
//!
//! Parameters are no burn module: burn finds parameters by ids that are random per process, whereas a cluster
//! needs one order that all ranks share. So the state lives in flat vectors on the host, is uploaded whole, and
//! the layers read views of it.

use burn::tensor::{Device, Tensor, TensorData};

use crate::declare::Declaration;
use crate::decode::Candidates;
use crate::frozen::{self, Frozen, TooManyFrozen};
use crate::head::HeadOutput;
use crate::initial;
use crate::kind::{Architecture, ModelKind};
use crate::layout::{FlatState, Layout};
use crate::loss::{LossGains, SlotLoss};
use crate::native;
use crate::network::Network;
use crate::outlet::Outlet;
use crate::pass::{Ended, Loaded, NormStatistics, Pass, Training};
use crate::target::Target;
use crate::trace::Trace;

/// Height and width of the input must be multiples of this.
pub const MAX_STRIDE: usize = 32;

/// A detector. Calling order: [`new`](Self::new), [`load`](Self::load), then either
/// [`infer`](Self::infer), or [`train_forward`](Self::train_forward), a loss, and [`backward`](Self::backward);
/// [`load`](Self::load) again after each optimizer update.
#[derive(Debug)]
pub struct Yolo {
    architecture: Architecture,
    network: Network,
    declaration: Declaration,
    frozen: Frozen,
    device: Device,
    loaded: Option<Loaded>,
}

impl Yolo {
    /// Builds the layers of a model. Allocates nothing on the device.
    ///
    /// # Panics
    /// If it has no classes.
    pub fn new(architecture: Architecture, device: &Device) -> Self {
        assert!(architecture.classes() > 0, "a detector needs at least one class");
        let (network, declaration) = Network::new(architecture);
        Self {
            architecture,
            network,
            declaration,
            frozen: Frozen::default(),
            device: device.clone().without_autodiff(),
            loaded: None,
        }
    }

    /// Returns the same detector with its first layers held: in training they run as in detection, with their running
    /// statistics, and their gradient is zero.
    ///
    /// # Errors
    /// If that includes the head.
    pub fn with_frozen(self, layers: usize) -> Result<Self, TooManyFrozen> {
        frozen::check(self.kind(), layers)?;
        let frozen = Frozen::first(layers, self.layout());
        Ok(Self { frozen, ..self })
    }

    /// Returns what is held fixed.
    pub fn frozen(&self) -> Frozen {
        self.frozen
    }

    /// Returns what it was built as.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Returns the model's name.
    pub fn kind(&self) -> ModelKind {
        self.architecture.kind()
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.architecture.classes()
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns names, shapes and places of all tensors.
    pub fn layout(&self) -> &Layout {
        &self.declaration.layout
    }

    /// Returns the state that training from scratch starts from.
    pub fn initial_state(&self, seed: u64) -> FlatState {
        initial::initial_state(self.layout(), seed)
    }

    /// Uploads a state, in one copy per vector.
    ///
    /// # Panics
    /// If a length is not that of the layout.
    pub fn load(&mut self, parameters: &[f32], buffers: &[f32]) {
        let layout = self.layout();
        assert_eq!(parameters.len(), layout.parameters_len(), "parameters");
        assert_eq!(buffers.len(), layout.buffers_len(), "buffers");
        // The old state goes first: two states of a large model need not fit the device.
        self.loaded = None;
        let loaded = Loaded::upload(&self.declaration, parameters, buffers, &self.device);
        self.loaded = Some(loaded);
    }

    /// Uploads pictures, scaled to `0..1`.
    ///
    /// # Shapes
    /// `pixels`: `[batch, 3, height, width]` RGB, flat; returns the same shape
    ///
    /// # Panics
    /// If the length is not the product of the shape.
    pub fn images(&self, pixels: &[u8], [batch, height, width]: [usize; 3]) -> Tensor<4> {
        assert_eq!(pixels.len(), batch * 3 * height * width, "pixels");
        let scaled = |&value: &u8| f32::from(value) / 255.0;
        if !native::keeps_graphs(&self.device) {
            let values: Vec<f32> = pixels.iter().map(scaled).collect();
            return Tensor::from_data(TensorData::new(values, [batch, 3, height, width]), &self.device);
        }
        // libtorch likes the channels of a cell together.
        let plane = height * width;
        let mut values = Vec::with_capacity(pixels.len());
        for picture in pixels.chunks_exact(3 * plane) {
            let (red, rest) = picture.split_at(plane);
            let (green, blue) = rest.split_at(plane);
            for ((r, g), b) in red.iter().zip(green).zip(blue) {
                values.extend([r, g, b].map(scaled));
            }
        }
        let cells = TensorData::new(values, [batch, height, width, 3]);
        Tensor::<4>::from_data(cells, &self.device).permute([0, 3, 1, 2])
    }

    /// Runs the network for training: batch normalisation uses the statistics of these images, which are
    /// returned and not stored. Frozen layers return their running statistics.
    ///
    /// # Shapes
    /// `[B, 3, H, W]`, height and width multiples of [`MAX_STRIDE`]
    ///
    /// # Panics
    /// If no state is loaded, or on another shape.
    pub fn train_forward(&self, images: Tensor<4>) -> Forward {
        self.forward(images, None)
    }

    /// As [`train_forward`](Self::train_forward), for a backward pass that hands gradients on as it finishes them.
    ///
    /// # Panics
    /// If no state is loaded, or on another shape.
    pub fn train_forward_into(&self, images: Tensor<4>, outlet: &Outlet) -> Forward {
        self.forward(images, Some(outlet))
    }

    fn forward(&self, images: Tensor<4>, outlet: Option<&Outlet>) -> Forward {
        check_shape(&images);
        let training = Training::new(&self.declaration, self.loaded(), outlet, &self.device);
        let Ended {
            output,
            native,
            norms,
        } = (self.network).train_forward(images, self.frozen.layers, self.loaded(), Pass::Train(training));
        Forward {
            output,
            statistics: BatchStatistics { norms },
            trace: Trace {
                native,
                outlet: outlet.cloned(),
            },
        }
    }

    /// Runs the network for detection: batch normalisation uses the running statistics, and no gradient can be
    /// taken.
    ///
    /// # Shapes
    /// `[B, 3, H, W]`, height and width multiples of [`MAX_STRIDE`]
    ///
    /// # Panics
    /// If no state is loaded, or on another shape.
    pub fn infer(&self, images: Tensor<4>) -> HeadOutput {
        check_shape(&images);
        self.network.infer(images.without_autodiff(), self.loaded())
    }

    /// Returns the loss of an output by the model's family; see [`detection_loss`](crate::loss::detection_loss).
    ///
    /// # Panics
    /// When the number of images differs, or a class is not below the number of classes.
    pub fn loss(&self, output: &HeadOutput, targets: &[Vec<Target>], gains: &LossGains) -> SlotLoss {
        self.kind().family.criterion()(output, targets, gains)
    }

    /// Returns the predictions of each image of an output, before suppression.
    pub fn candidates(&self, output: &HeadOutput) -> Vec<Candidates> {
        self.kind().family.decoder()(output)
    }

    /// Runs the backward pass from a loss, a scalar that was computed from the output of a training pass. Returns the gradient
    /// of all parameters in traversal order; zero for a parameter that the loss does not depend on.
    ///
    /// After [`train_forward_into`](Self::train_forward_into) all gradients have gone to the outlet when this returns, and nothing is
    /// returned; a parameter that the loss does not depend on was never handed on.
    ///
    /// # Panics
    /// If no state is loaded, or the device fails.
    pub fn backward(&self, trace: Trace, loss: &Tensor<1>) -> Vec<f32> {
        let mut gradients = loss.backward();
        let Trace { native, outlet } = trace;
        let specs = &self.layout().parameters;
        match (native, outlet) {
            (None, None) => {
                let loaded = self.loaded();
                to_host(loaded.flat_gradient(&self.declaration, gradients, &self.device))
            }
            (Some(native), None) => {
                let mut flat = vec![0.0; self.layout().parameters_len()];
                native.backward(&mut gradients, |tensor, gradient| {
                    gradient.copy_to(&mut flat[specs[tensor].range.clone()]);
                });
                flat
            }
            (native, Some(outlet)) => {
                if let Some(native) = native {
                    native.backward(&mut gradients, |tensor, gradient| {
                        let len = specs[tensor].range.len();
                        outlet.hand_on(tensor, len, move || {
                            let mut values = vec![0.0; len];
                            gradient.copy_to(&mut values);
                            values
                        });
                    });
                }
                outlet.flush();
                Vec::new()
            }
        }
    }

    fn loaded(&self) -> &Loaded {
        self.loaded.as_ref().expect("`load` comes first")
    }
}

/// A training pass up to the head.
#[derive(Debug)]
pub struct Forward {
    /// What a loss is computed from.
    pub output: HeadOutput,
    /// What batch normalisation saw.
    pub statistics: BatchStatistics,
    /// The way back, for [`Yolo::backward`].
    pub trace: Trace,
}

/// What batch normalisation saw in one slot, still on the device.
#[derive(Debug)]
pub struct BatchStatistics {
    norms: Vec<NormStatistics>,
}

impl BatchStatistics {
    /// Returns means and unbiased variances in the order of [`Layout::buffers`], in one copy from the device:
    /// what running statistics move towards.
    ///
    /// With one value per channel the variance is zero (PyTorch refuses that case).
    pub fn into_vec(self) -> Vec<f32> {
        let mut corrections = Vec::new();
        let mut parts = Vec::with_capacity(2 * self.norms.len());
        for norm in self.norms {
            let [channels] = norm.mean.dims();
            corrections.push((channels, norm.correction));
            parts.push(norm.mean);
            parts.push(norm.variance);
        }
        let mut values = to_host(Tensor::cat(parts, 0));
        let mut rest = values.as_mut_slice();
        for (channels, correction) in corrections {
            let (norm, tail) = rest.split_at_mut(2 * channels);
            norm[channels..].iter_mut().for_each(|value| *value *= correction);
            rest = tail;
        }
        values
    }
}

fn check_shape(images: &Tensor<4>) {
    let [_, channels, height, width] = images.dims();
    assert_eq!(channels, 3, "images are RGB");
    assert!(
        height.is_multiple_of(MAX_STRIDE) && width.is_multiple_of(MAX_STRIDE),
        "{height} x {width} is not a multiple of {MAX_STRIDE}"
    );
}

fn to_host(tensor: Tensor<1>) -> Vec<f32> {
    // Invariant: all tensors of this crate are f32.
    tensor.into_data().try_into_vec().expect("f32 values")
}

#[cfg(all(test, feature = "flex"))]
#[path = "yolo_tests.rs"]
mod tests;
