//! Whether a file's tensors fit a model, and what exactly does not.

use std::fmt;

use safetensors::tensor::{Dtype, SafeTensors};
use thiserror::Error;

use crate::layout::{FlatState, Layout, TensorSpec};
use crate::weights::COUNTER;

/// Tensors that do not fit: those of the model in state-dict order, then the file's own by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatches(pub Vec<Mismatch>);

/// One tensor that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// The model has it, the file does not.
    #[error("`{name}` is missing")]
    Missing {
        /// State-dict name.
        name: String,
    },
    /// The file has it, the model does not.
    #[error("`{name}` is unknown to the model")]
    Extra {
        /// State-dict name.
        name: String,
    },
    /// Both have it, in different shapes.
    #[error("`{name}` is {found:?} in the file and {expected:?} in the model")]
    Shape {
        /// State-dict name.
        name: String,
        /// The file's shape.
        found: Vec<usize>,
        /// The model's shape.
        expected: Vec<usize>,
    },
    /// Not in single precision.
    #[error("`{name}` is of type {found:?}, not F32")]
    Type {
        /// State-dict name.
        name: String,
        /// The file's type.
        found: Dtype,
    },
}

/// Names shown before "and N more".
const SHOWN: usize = 4;

impl fmt::Display for Mismatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mismatch) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{mismatch}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// Returns the flat vectors of a layout out of a file, or everything that does not fit. The counters of batches
/// may be there or not.
pub(super) fn read(file: &SafeTensors<'_>, layout: &Layout) -> Result<FlatState, Mismatches> {
    let mismatches = compare(file, layout);
    if !mismatches.0.is_empty() {
        return Err(mismatches);
    }
    let values = |specs: &[TensorSpec]| {
        let tensors = specs.iter().filter_map(|spec| file.tensor(&spec.name).ok());
        tensors
            .flat_map(|tensor| tensor.data().as_chunks().0.iter().copied())
            .map(f32::from_le_bytes)
            .collect()
    };
    Ok(FlatState {
        parameters: values(&layout.parameters),
        buffers: values(&layout.buffers),
    })
}

fn compare(file: &SafeTensors<'_>, layout: &Layout) -> Mismatches {
    let specs = || {
        let trained = layout.parameters.iter().chain(&layout.buffers);
        trained.chain(&layout.constants)
    };
    let mut mismatches: Vec<Mismatch> = specs().filter_map(|spec| compare_tensor(file, spec)).collect();
    let mut extra: Vec<&str> = file
        .names()
        .into_iter()
        .filter(|name| !name.ends_with(COUNTER) && !specs().any(|spec| spec.name == *name))
        .collect();
    extra.sort_unstable();
    mismatches.extend(extra.into_iter().map(|name| Mismatch::Extra {
        name: name.to_owned(),
    }));
    Mismatches(mismatches)
}

fn compare_tensor(file: &SafeTensors<'_>, spec: &TensorSpec) -> Option<Mismatch> {
    let name = spec.name.clone();
    let Ok(tensor) = file.tensor(&name) else {
        return Some(Mismatch::Missing { name });
    };
    if tensor.shape() != spec.shape {
        return Some(Mismatch::Shape {
            name,
            found: tensor.shape().to_vec(),
            expected: spec.shape.clone(),
        });
    }
    let found = tensor.dtype();
    (found != Dtype::F32).then_some(Mismatch::Type { name, found })
}
