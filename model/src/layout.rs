//! The order, names and shapes of a model's tensors inside its flat vectors.
//!
//! A training state is a few flat `f32` vectors in traversal order: the order in which the layers declare
//! their tensors, which is also the order of a PyTorch state dict. A layout is made without any tensor, so it
//! is cheap for the largest model too.

use std::ops::Range;

/// Which rule of the optimizer, or which running statistic, a tensor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Convolution kernels: weight decay applies.
    Decay,
    /// Scales of batch normalisation: no weight decay.
    Norm,
    /// Biases, those of batch normalisation included: no weight decay, own warm-up.
    Bias,
    /// Running mean of batch normalisation (a buffer).
    RunningMean,
    /// Running variance of batch normalisation (a buffer).
    RunningVariance,
}

/// What a tensor starts as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// One value everywhere.
    Constant(f32),
    /// Uniform in `-bound..bound`.
    Uniform {
        /// Largest magnitude.
        bound: f32,
    },
    /// `0, 1, 2, ...`
    Count,
}

/// One tensor inside a flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// State-dict name, such as `model.0.conv.weight`.
    pub name: String,
    /// Where its values lie in the flat vector, rows before columns.
    pub range: Range<usize>,
    /// Its shape as in the state dict.
    pub shape: Vec<usize>,
    /// Its group.
    pub group: Group,
    /// What it starts as.
    pub initial: Initial,
}

/// All tensors of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// Trained tensors; ranges lie one behind the other in the vector of parameters.
    pub parameters: Vec<TensorSpec>,
    /// Running statistics; ranges lie one behind the other in the vector of buffers: for each batch
    /// normalisation its mean, then its variance.
    pub buffers: Vec<TensorSpec>,
    /// Tensors that a state dict holds but nobody trains; in no flat vector. Ranges lie one behind the other.
    pub constants: Vec<TensorSpec>,
}

/// A whole state of the network on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct FlatState {
    /// Trained values in the order of [`Layout::parameters`].
    pub parameters: Vec<f32>,
    /// Running statistics in the order of [`Layout::buffers`].
    pub buffers: Vec<f32>,
}

impl Layout {
    /// Returns the length of the vector of parameters.
    pub fn parameters_len(&self) -> usize {
        end(&self.parameters)
    }

    /// Returns the length of the vector of buffers.
    pub fn buffers_len(&self) -> usize {
        end(&self.buffers)
    }

    /// Returns the number of parameters as the model's users count them: with the constants.
    pub fn parameter_count(&self) -> usize {
        self.parameters_len() + end(&self.constants)
    }

    /// Returns the number of entries of a state dict: with the constants, and with a counter of batches for
    /// each batch normalisation.
    pub fn state_dict_len(&self) -> usize {
        self.parameters.len() + self.buffers.len() + self.constants.len() + self.norms().count()
    }

    /// Returns the trained tensor of that name.
    pub fn parameter(&self, name: &str) -> Option<&TensorSpec> {
        self.parameters.iter().find(|spec| spec.name == name)
    }

    /// Returns the running statistic of that name.
    pub fn buffer(&self, name: &str) -> Option<&TensorSpec> {
        self.buffers.iter().find(|spec| spec.name == name)
    }

    /// Returns the names of the batch normalisations (`model.0.bn`, ...), in traversal order.
    pub fn norms(&self) -> impl Iterator<Item = &str> {
        self.buffers
            .iter()
            .filter_map(|spec| spec.name.strip_suffix(".running_mean"))
    }

    /// Returns what the names of the branch that tells classes begin with: the head is the last module, and its third
    /// list of convolutions scores classes.
    pub fn class_branch(&self) -> Option<String> {
        let head = self.parameters.last()?.name.splitn(3, '.').take(2);
        Some(head.collect::<Vec<_>>().join(".") + ".cv3.")
    }

    /// Returns the BLAKE3 of names, shapes and order in hexadecimal: equal for two workers if and only if
    /// their flat vectors mean the same.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (section, specs) in [
            ("parameters", &self.parameters),
            ("buffers", &self.buffers),
            ("constants", &self.constants),
        ] {
            hasher.update(section.as_bytes());
            for spec in specs {
                // A name has neither spaces nor line ends, so the text is unambiguous.
                hasher.update(format!("\n{} {:?}", spec.name, spec.shape).as_bytes());
            }
            hasher.update(b"\n");
        }
        hasher.finalize().to_hex().to_string()
    }
}

fn end(specs: &[TensorSpec]) -> usize {
    specs.last().map_or(0, |spec| spec.range.end)
}
