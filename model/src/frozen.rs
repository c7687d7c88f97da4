//! The first layers of a network held fixed: how much of the flat vectors that is.
//!
//! Layers come in order in the flat vectors, and read earlier layers only: what is frozen is a prefix of both vectors,
//! and no gradient has to pass through it.

use thiserror::Error;

use crate::kind::ModelKind;
use crate::layout::{Layout, TensorSpec};
use crate::table::graph;

/// The frozen part of a network; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Layers, counted from the first.
    pub layers: usize,
    /// Values of the vector of parameters, from its start.
    pub parameters: usize,
    /// Values of the vector of buffers, from its start.
    pub buffers: usize,
}

/// More layers than can be held.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("cannot freeze {asked} layers: the model has {most} before its head, which has to learn")]
pub struct TooManyFrozen {
    /// What was asked for.
    pub asked: usize,
    /// Layers before the head.
    pub most: usize,
}

impl Frozen {
    pub(crate) fn first(layers: usize, layout: &Layout) -> Self {
        Self {
            layers,
            parameters: prefix(&layout.parameters, layers),
            buffers: prefix(&layout.buffers, layers),
        }
    }
}

/// Checks that so many layers can be held.
///
/// # Errors
/// If that includes the head.
pub fn check(kind: ModelKind, layers: usize) -> Result<(), TooManyFrozen> {
    let (rows, _) = graph(kind);
    // The last row is the head.
    let most = rows.len() - 1;
    if layers > most {
        return Err(TooManyFrozen { asked: layers, most });
    }
    Ok(())
}

/// Returns the length of the first layers' values.
fn prefix(specs: &[TensorSpec], layers: usize) -> usize {
    let is_frozen = |spec: &&TensorSpec| layer(&spec.name).is_some_and(|layer| layer < layers);
    let frozen = specs.iter().take_while(is_frozen);
    frozen.last().map_or(0, |spec| spec.range.end)
}

/// Returns the layer in a state-dict name (`model.LAYER.…`).
fn layer(name: &str) -> Option<usize> {
    name.split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layers_but_the_head_can_be_frozen() {
        for (model, most) in [("yolov8n", 22), ("yolo11x", 23)] {
            let kind = model.parse().unwrap();
            assert!(check(kind, most).is_ok(), "{model}");
            let error = check(kind, most + 1).unwrap_err().to_string();
            assert!(
                error.contains(&format!("cannot freeze {} layers", most + 1)),
                "{error}"
            );
        }
    }
}
