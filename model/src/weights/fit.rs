//! Whether a file's tensors fit a model, and what exactly does not.

use std::collections::HashSet;
use std::fmt;

use thiserror::Error;

use crate::layout::{FlatState, Layout, TensorSpec};
use crate::weights::COUNTER;
use crate::weights::stored::{Numbers, Tensors};

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
    /// Not floating-point numbers.
    #[error("`{name}` is of type {found}, which holds no fractions")]
    Type {
        /// State-dict name.
        name: String,
        /// The file's type.
        found: String,
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
pub(super) fn read(file: &Tensors, layout: &Layout) -> Result<FlatState, Mismatches> {
    let mismatches = compare(file, layout);
    if !mismatches.0.is_empty() {
        return Err(mismatches);
    }
    let values = |specs: &[TensorSpec]| {
        let mut flat = Vec::with_capacity(specs.last().map_or(0, |spec| spec.range.end));
        for spec in specs {
            if let Some(Numbers::Floats(values)) = file.get(&spec.name).map(|stored| &stored.numbers) {
                flat.extend_from_slice(values);
            }
        }
        flat
    };
    Ok(FlatState {
        parameters: values(&layout.parameters),
        buffers: values(&layout.buffers),
    })
}

fn compare(file: &Tensors, layout: &Layout) -> Mismatches {
    let specs = || {
        let trained = layout.parameters.iter().chain(&layout.buffers);
        trained.chain(&layout.constants)
    };
    let mut mismatches: Vec<Mismatch> = specs().filter_map(|spec| compare_tensor(file, spec)).collect();
    let known: HashSet<&str> = specs().map(|spec| spec.name.as_str()).collect();
    let extra = (file.keys()).filter(|name| !name.ends_with(COUNTER) && !known.contains(name.as_str()));
    mismatches.extend(extra.map(|name| Mismatch::Extra { name: name.clone() }));
    Mismatches(mismatches)
}

fn compare_tensor(file: &Tensors, spec: &TensorSpec) -> Option<Mismatch> {
    let name = spec.name.clone();
    let Some(stored) = file.get(&name) else {
        return Some(Mismatch::Missing { name });
    };
    if stored.shape != spec.shape {
        return Some(Mismatch::Shape {
            name,
            found: stored.shape.clone(),
            expected: spec.shape.clone(),
        });
    }
    match &stored.numbers {
        Numbers::Floats(_) => None,
        Numbers::Other(found) => Some(Mismatch::Type {
            name,
            found: found.clone(),
        }),
    }
}
