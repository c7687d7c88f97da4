//! Checkpoints as PyTorch and Ultralytics save them (`.pt`), read without Python.
//!
//! A whole model is pickled as its object tree; the tensors' names in the state dict are the paths in it. Nothing of the
//! file is run (see [`pickle`]), so a file that still carries its optimizer, loss and callbacks is read as any other:
//! these stay names and are passed over. A plain state dict is read too.

mod archive;
mod pickle;
mod tensor;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use thiserror::Error;
use zip::result::ZipError;

pub use pickle::PickleError;

use super::stored::Tensors;
use crate::pass::NORM_EPSILON;
use archive::Archive;
use value::{Ref, Value, Values};

/// Why a checkpoint could not be read.
#[derive(Debug, Error)]
pub enum TorchError {
    /// Not a zip archive, or a damaged one.
    #[error("not a whole PyTorch file (PyTorch writes zip archives since version 1.6): {0}")]
    Archive(ZipError),
    /// The archive holds something else.
    #[error("the archive has no `data.pkl`, so it is no PyTorch file")]
    NoPickle,
    /// Written on a machine that orders bytes the other way.
    #[error("the file was written in big-endian byte order; save it again on another machine")]
    ByteOrder,
    /// The description of the model cannot be read.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// Nothing that could be a model.
    #[error("the file holds neither a model nor a state dict")]
    NoModel,
    /// A tensor lies outside of what is stored.
    #[error("tensor `{name}` lies outside of its storage: the file is damaged")]
    Tensor {
        /// State-dict name.
        name: String,
    },
    /// A model of other parts than ours.
    #[error("`{name}` of the file is {found}, which no known model has")]
    Foreign {
        /// Path in the model.
        name: String,
        /// What is there.
        found: String,
    },
    /// Nested or repeated without end.
    #[error("the file's modules are nested too deeply, too many, or have names too long")]
    Nesting,
    /// Far more numbers than any model has: tensors that share what is stored.
    #[error("the file's tensors have more than {NUMBERS_MAX} numbers, or more than the file stores")]
    TooManyNumbers,
}

/// A checkpoint's content.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// By state-dict name.
    pub(super) tensors: Tensors,
    /// Class names by class number, when the file has them.
    pub(super) names: Option<Vec<String>>,
    /// Side of the images it was trained on.
    pub(super) image_size: Option<u32>,
}

/// Reads a checkpoint. The moving average is preferred to the model itself.
pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint, TorchError> {
    let mut archive = Archive::open(bytes)?;
    let (values, root) = pickle::read(&archive.pickle()?)?;
    let present = |key| {
        let place = values.entry(root, key)?;
        (*values.get(place) != Value::None).then_some(place)
    };
    let model = present("ema").or_else(|| present("model")).unwrap_or(root);
    let mut walk = Walk {
        values: &values,
        found: Vec::new(),
        visited: 0,
    };
    walk.module("", model, 0)?;
    if walk.found.is_empty() {
        return Err(TorchError::NoModel);
    }
    let tensors = read_tensors(&mut archive, walk.found, bytes.len())?;
    let image_size = values
        .entry(root, "train_args")
        .and_then(|arguments| values.entry(arguments, "imgsz"))
        .and_then(|size| values.integer(size))
        .and_then(|size| u32::try_from(size).ok());
    Ok(Checkpoint {
        tensors,
        names: values
            .attribute(model, "names")
            .and_then(|names| class_names(&values, names)),
        image_size,
    })
}

/// Reads the tensors, each storage once. Of two that have one name the last counts.
///
/// Tensors may be views of the same storage, and entries of the archive may lie over each other, so neither is bounded by
/// the file's length by itself.
fn read_tensors(
    archive: &mut Archive<'_>,
    found: Vec<(String, tensor::Description<'_>)>,
    file_bytes: usize,
) -> Result<Tensors, TorchError> {
    let mut by_storage: BTreeMap<&str, Vec<(String, tensor::Description<'_>)>> = BTreeMap::new();
    let mut numbers = 0_usize;
    for (name, description) in found.into_iter().collect::<BTreeMap<_, _>>() {
        numbers = description
            .count()
            .and_then(|count| numbers.checked_add(count))
            .filter(|&numbers| numbers <= NUMBERS_MAX)
            .ok_or(TorchError::TooManyNumbers)?;
        let tensors = by_storage.entry(description.storage).or_default();
        tensors.push((name, description));
    }
    let mut tensors = Tensors::default();
    let mut left = file_bytes;
    for (storage, described) in by_storage {
        let bytes = archive.storage(storage)?;
        left = left.checked_sub(bytes.len()).ok_or(TorchError::TooManyNumbers)?;
        for (name, description) in described {
            match description.read(&bytes) {
                Some(stored) => drop(tensors.insert(name, stored)),
                None => return Err(TorchError::Tensor { name }),
            }
        }
    }
    Ok(tensors)
}

/// Names by number out of `{0: "a", 1: "b"}` or a list; `None` when a number is missing, or there are far too many.
fn class_names(values: &Values, place: Ref) -> Option<Vec<String>> {
    let texts: Vec<&str> = match values.entries(place) {
        Some(entries) => {
            // Of two with one number the first counts.
            let numbered = entries.iter().rev();
            let numbered: BTreeMap<i64, Ref> = numbered
                .filter_map(|&(number, name)| Some((values.integer(number)?, name)))
                .collect();
            let count = i64::try_from(entries.len()).ok()?;
            (0..count)
                .map(|number| values.text(*numbered.get(&number)?))
                .collect::<Option<_>>()?
        }
        None => {
            let names = values.sequence(place).iter();
            let names = names.map(|&name| values.text(name)).collect::<Option<Vec<_>>>()?;
            (!names.is_empty()).then_some(names)?
        }
    };
    // One long text may be the name of every class.
    let bytes: usize = texts.iter().map(|name| name.len()).sum();
    (bytes <= CLASS_NAMES_BYTES_MAX).then(|| texts.into_iter().map(str::to_owned).collect())
}

/// Collects the tensors of a tree of modules.
struct Walk<'a> {
    values: &'a Values,
    found: Vec<(String, tensor::Description<'a>)>,
    /// Modules and entries of their dictionaries.
    visited: usize,
}

impl<'a> Walk<'a> {
    fn module(&mut self, path: &str, place: Ref, depth: usize) -> Result<(), TorchError> {
        self.visit(1)?;
        if depth > DEPTH_MAX {
            return Err(TorchError::Nesting);
        }
        let values = self.values;
        if let Some(entries) = values.entries(place) {
            // A state dict.
            return self.tensors(path, entries);
        }
        self.check(path, place)?;
        for part in ["_parameters", "_buffers"] {
            let entries = values
                .attribute(place, part)
                .and_then(|part| values.entries(part));
            self.tensors(path, entries.unwrap_or_default())?;
        }
        let children = values
            .attribute(place, "_modules")
            .and_then(|part| values.entries(part))
            .unwrap_or_default();
        self.visit(children.len())?;
        for &(name, child) in children {
            if let Some(name) = values.text(name) {
                self.module(&join(path, name)?, child, depth + 1)?;
            }
        }
        Ok(())
    }

    fn tensors(&mut self, path: &str, entries: &[(Ref, Ref)]) -> Result<(), TorchError> {
        self.visit(entries.len())?;
        for &(name, place) in entries {
            let description = tensor::describe(self.values, place);
            if let (Some(name), Some(description)) = (self.values.text(name), description) {
                self.found.push((join(path, name)?, description));
            }
        }
        Ok(())
    }

    fn visit(&mut self, count: usize) -> Result<(), TorchError> {
        self.visited = self.visited.saturating_add(count);
        if self.visited > VISITS_MAX {
            return Err(TorchError::Nesting);
        }
        Ok(())
    }

    /// Refuses what has our tensors' shapes and computes something else.
    fn check(&self, path: &str, place: Ref) -> Result<(), TorchError> {
        let values = self.values;
        let Some((module, class)) = values.callable(place) else {
            return Ok(());
        };
        let foreign = |found: String| {
            Err(TorchError::Foreign {
                name: path.to_owned(),
                found,
            })
        };
        if class == "BatchNorm2d" {
            let epsilon = values
                .attribute(place, "eps")
                .and_then(|epsilon| values.float(epsilon));
            if let Some(epsilon) = epsilon.filter(|epsilon| (epsilon - NORM_EPSILON).abs() > 1e-9) {
                return foreign(format!("a batch normalisation with eps {epsilon}"));
            }
        }
        if module == "torch.nn.modules.activation" && class != "SiLU" {
            return foreign(format!("a {class}"));
        }
        Ok(())
    }
}

fn join(path: &str, name: &str) -> Result<String, TorchError> {
    if path.len() + name.len() > NAME_BYTES_MAX {
        return Err(TorchError::Nesting);
    }
    Ok(if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    })
}

/// Modules of the known models are nested half as deep.
const DEPTH_MAX: usize = 24;
/// The largest known model has about a tenth of this.
const VISITS_MAX: usize = 50_000;
/// The longest name of a known model has fifty.
const NAME_BYTES_MAX: usize = 512;
/// Twice as many as the largest known model has: 512 MiB.
const NUMBERS_MAX: usize = 1 << 27;
/// A thousand classes with names of a kilobyte.
const CLASS_NAMES_BYTES_MAX: usize = 1 << 20;
