//! Weights files: safetensors with the state-dict names that Python users know, and PyTorch's `.pt`, which is only read.
//!
//! A safetensors file holds everything a strict `load_state_dict` asks for, the batch counters and the fixed projection
//! of the head included. One metadata entry says which model it is; a file without it (saved by Python) and a `.pt` are
//! recognised by their shapes. What a file lacks for another number of classes starts fresh: see [`transfer`].

mod fit;
mod stored;
mod torch;
mod transfer;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use fit::{Mismatch, Mismatches};
pub use torch::{PickleError, TorchError};
pub use transfer::{ClassRow, PartCount, Transfer, transfer};

use crate::initial::initial_values;
use crate::kind::{Architecture, ModelKind, UnknownModel};
use crate::layout::{FlatState, Layout};
use crate::network::Network;
use stored::Tensors;

/// What a file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The model.
    pub kind: ModelKind,
    /// Class names by class number.
    pub names: Vec<String>,
    /// Channels of the branches that tell classes.
    pub class_width: usize,
    /// Side of the square images it was trained on, in pixels.
    pub image_size: u32,
}

impl Metadata {
    /// Returns what the tensors depend on.
    pub fn architecture(&self) -> Architecture {
        self.tuned_to(self.names.len())
    }

    /// Returns the model for so many classes that starts from this file: its class branches are as wide as here, so that
    /// they can be taken, too.
    ///
    /// # Source
    /// Ultralytics 8.4; releases before it began the branches anew where another number of classes made them wider.
    pub fn tuned_to(&self, classes: usize) -> Architecture {
        let published = self.kind.with_classes(classes);
        published.with_class_width(self.class_width)
    }
}

/// A file's content.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The model, its classes and its image size.
    pub metadata: Metadata,
    /// Parameters and running statistics.
    pub state: FlatState,
}

/// Why weights could not be read or written.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("cannot access the weights file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No weights file, but something else that is often found in the place of one.
    #[error("this is {what}")]
    Foreign {
        /// What it is, and what to do.
        what: &'static str,
    },
    /// Not safetensors, or truncated.
    #[error("not a whole safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// A `.pt` file that cannot be read.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The metadata entry cannot be understood.
    #[error("the metadata of the weights file is damaged: {reason}")]
    Metadata {
        /// What is wrong with it.
        reason: String,
    },
    /// No metadata entry, and no head of a known model.
    #[error("the weights file names no model, and its tensors are those of none that is known")]
    Unrecognised,
    /// Tensors do not fit the model.
    #[error("the weights do not fit {kind} with {classes} classes: {mismatches}")]
    Mismatch {
        /// The model.
        kind: ModelKind,
        /// Its number of classes.
        classes: usize,
        /// What does not fit.
        mismatches: Mismatches,
    },
}

/// The metadata entry, as text.
#[derive(Serialize, Deserialize)]
struct Entry {
    model: String,
    names: Vec<String>,
    /// Where it is not the published one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class_width: Option<usize>,
    image_size: u32,
}

/// One metadata entry and not several: the format keeps its entries in a map without an order, and the same
/// state shall give the same bytes.
const ENTRY_KEY: &str = "ringmaster";

/// PyTorch counts batches in this tensor of each batch normalisation, and uses the count only without momentum.
const COUNTER: &str = "num_batches_tracked";

/// More classes than any detection data set has.
const CLASSES_MAX: usize = 100_000;

/// Several times the width of any class branch that was published.
const CLASS_WIDTH_MAX: usize = 4096;

/// How a zip archive, and so a `.pt` file, begins.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// How other files begin.
const FOREIGN: [(&[u8], &str); 3] = [
    (
        b"\x80\x02\x8a\x0a",
        "a file of PyTorch in the format of before 1.6: load it there and save it again",
    ),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS: fetch the file that it stands for",
    ),
    (b"<", "a web page: the download of the file has failed"),
];

/// Assumed for files that do not say.
const DEFAULT_IMAGE_SIZE: u32 = 640;

/// Returns the bytes of a weights file; the same state gives the same bytes.
///
/// # Panics
/// If the lengths of the vectors are not those of the model with that many class names.
///
/// # Errors
/// If the format refuses a tensor, which no layout of this crate causes.
pub fn to_bytes(metadata: &Metadata, parameters: &[f32], buffers: &[f32]) -> Result<Vec<u8>, WeightsError> {
    let layout = layout(metadata.architecture());
    assert_eq!(parameters.len(), layout.parameters_len(), "parameters");
    assert_eq!(buffers.len(), layout.buffers_len(), "buffers");
    let counters: Vec<String> = layout.norms().map(|norm| format!("{norm}.{COUNTER}")).collect();
    let mut tensors: Vec<(&str, Dtype, &[usize], Vec<u8>)> = Vec::new();
    for (specs, values) in [(&layout.parameters, parameters), (&layout.buffers, buffers)] {
        for spec in specs {
            let bytes = little_endian(&values[spec.range.clone()]);
            tensors.push((&spec.name, Dtype::F32, &spec.shape, bytes));
        }
    }
    for spec in &layout.constants {
        let bytes = little_endian(&initial_values(spec, 0));
        tensors.push((&spec.name, Dtype::F32, &spec.shape, bytes));
    }
    for name in &counters {
        tensors.push((name, Dtype::I64, &[], 0_i64.to_le_bytes().to_vec()));
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.to_vec(), bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    let entries = HashMap::from([(ENTRY_KEY.to_owned(), encode(metadata)?)]);
    Ok(serialize(views, Some(entries))?)
}

/// Writes a weights file: beside its place first, then renamed, so that no reader meets half of it.
///
/// # Errors
/// If the file cannot be written.
pub fn save(
    path: &Path,
    metadata: &Metadata,
    parameters: &[f32],
    buffers: &[f32],
) -> Result<(), WeightsError> {
    let bytes = to_bytes(metadata, parameters, buffers)?;
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|source| access(path, source))
}

/// Reads a weights file.
///
/// # Errors
/// If the file cannot be read, is no weights file, or does not fit the model it names.
pub fn load(path: &Path) -> Result<Weights, WeightsError> {
    let bytes = fs::read(path).map_err(|source| access(path, source))?;
    from_bytes(&bytes)
}

/// Reads the bytes of a weights file, of either format.
///
/// # Errors
/// If they are no weights file, or do not fit the model they name.
pub fn from_bytes(bytes: &[u8]) -> Result<Weights, WeightsError> {
    if bytes.starts_with(ZIP_MAGIC) {
        let checkpoint = torch::read(bytes)?;
        let mut weights = recognise(&checkpoint.tensors)?;
        let metadata = &mut weights.metadata;
        if let Some(names) = checkpoint
            .names
            .filter(|names| names.len() == metadata.names.len())
        {
            metadata.names = names;
        }
        metadata.image_size = checkpoint.image_size.unwrap_or(DEFAULT_IMAGE_SIZE);
        return Ok(weights);
    }
    let file =
        SafeTensors::deserialize(bytes).map_err(|error| foreign(bytes).unwrap_or_else(|| error.into()))?;
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let tensors = stored::from_safetensors(&file);
    let entries = header.metadata().as_ref();
    match entries.and_then(|entries| entries.get(ENTRY_KEY)) {
        Some(text) => {
            let metadata = decode(text)?;
            let state = read(&tensors, metadata.architecture())?;
            Ok(Weights { metadata, state })
        }
        None => recognise(&tensors),
    }
}

/// Returns what a file is that is no weights file, where that is known.
fn foreign(bytes: &[u8]) -> Option<WeightsError> {
    let &(_, what) = FOREIGN.iter().find(|(begin, _)| bytes.starts_with(begin))?;
    Some(WeightsError::Foreign { what })
}

fn read(file: &Tensors, architecture: Architecture) -> Result<FlatState, WeightsError> {
    fit::read(file, &layout(architecture)).map_err(|mismatches| WeightsError::Mismatch {
        kind: architecture.kind(),
        classes: architecture.classes(),
        mismatches,
    })
}

/// Reads a file that does not say what it is, as the first model that it fits; classes get their numbers as
/// names.
fn recognise(file: &Tensors) -> Result<Weights, WeightsError> {
    let mut nearest = None;
    for kind in ModelKind::ALL {
        let Some(architecture) = by_projection(file, kind) else {
            continue;
        };
        match read(file, architecture) {
            Ok(state) => {
                let metadata = Metadata {
                    kind,
                    names: (0..architecture.classes())
                        .map(|class| class.to_string())
                        .collect(),
                    class_width: architecture.class_width(),
                    image_size: DEFAULT_IMAGE_SIZE,
                };
                return Ok(Weights { metadata, state });
            }
            Err(error) => {
                let count = match &error {
                    WeightsError::Mismatch { mismatches, .. } => mismatches.0.len(),
                    _ => usize::MAX,
                };
                if nearest.as_ref().is_none_or(|&(least, _)| count < least) {
                    nearest = Some((count, error));
                }
            }
        }
    }
    Err(nearest.map_or(WeightsError::Unrecognised, |(_, error)| error))
}

/// Returns the model as the head's last projection shows it: rows are classes, columns are channels of the class branch.
fn by_projection(file: &Tensors, kind: ModelKind) -> Option<Architecture> {
    let projection = Network::new(kind.with_classes(1)).1.class_rows;
    let weight = projection.iter().rev().find(|name| name.ends_with(".weight"))?;
    let &[classes, width, 1, 1] = file.get(weight)?.shape.as_slice() else {
        return None;
    };
    // A tensor of another type has not been compared with what is stored: its shape is only text.
    let is_plausible = (1..=CLASSES_MAX).contains(&classes) && (1..=CLASS_WIDTH_MAX).contains(&width);
    is_plausible.then(|| kind.with_classes(classes).with_class_width(width))
}

fn encode(metadata: &Metadata) -> Result<String, WeightsError> {
    let entry = Entry {
        model: metadata.kind.to_string(),
        names: metadata.names.clone(),
        class_width: (!metadata.architecture().is_as_published()).then_some(metadata.class_width),
        image_size: metadata.image_size,
    };
    serde_json::to_string(&entry).map_err(damaged)
}

fn decode(text: &str) -> Result<Metadata, WeightsError> {
    let entry: Entry = serde_json::from_str(text).map_err(damaged)?;
    if entry.names.is_empty() {
        return Err(damaged("no class names"));
    }
    let kind: ModelKind = entry.model.parse().map_err(damaged::<UnknownModel>)?;
    let published = kind.with_classes(entry.names.len()).class_width();
    let class_width = entry.class_width.unwrap_or(published);
    if !(1..=CLASS_WIDTH_MAX).contains(&class_width) {
        return Err(damaged("class branches of an impossible width"));
    }
    Ok(Metadata {
        kind,
        names: entry.names,
        class_width,
        image_size: entry.image_size,
    })
}

fn damaged<E: ToString>(reason: E) -> WeightsError {
    WeightsError::Metadata {
        reason: reason.to_string(),
    }
}

fn layout(architecture: Architecture) -> Layout {
    Network::new(architecture).1.layout
}

fn access(path: &Path, source: io::Error) -> WeightsError {
    WeightsError::File {
        path: path.to_owned(),
        source,
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests;
