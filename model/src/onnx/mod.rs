//! Export to ONNX: a graph of standard operators that other runtimes run.
//!
//! Input `images` is `[batch, 3, size, size]`, RGB in `0..1`, with a batch of any size. Output `output0` is
//! `[batch, 4 + classes, anchors]`: centre x, centre y, width and height in pixels of the input, then the class
//! probabilities, as the exports of Ultralytics have it. Suppression is left to the user of the file.
//!
//! Each layer writes its own operations (`export`, beside its `forward`); batch normalisation is worked into kernels.

mod graph;
mod message;
#[cfg(all(test, feature = "flex"))]
mod tests;

use std::ops::RangeInclusive;

use prost::Message;
use thiserror::Error;

pub(crate) use graph::{Geometry, Graph, Map, Setting};

use crate::network::Network;
use crate::weights::Weights;
use crate::yolo::MAX_STRIDE;
use message::{Model, OperatorSet, Property};

/// What an export looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnnxConfig {
    /// Height and width of the input in pixels; that of the training when absent.
    pub image_size: Option<u32>,
    /// Version of the operators, one of [`OPSETS`].
    pub opset: u32,
}

impl Default for OnnxConfig {
    /// The size of the training, and operators that runtimes have known since 2022.
    fn default() -> Self {
        Self {
            image_size: None,
            opset: 17,
        }
    }
}

/// Versions of the operators that an export can be written for: softmax as we use it is of version 13.
pub const OPSETS: RangeInclusive<u32> = 13..=21;

/// Why nothing was exported.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OnnxError {
    /// Not a multiple of the largest stride.
    #[error("image size {size} is not a multiple of {MAX_STRIDE}")]
    ImageSize {
        /// What was asked for.
        size: u32,
    },
    /// A version of the operators that is not written.
    #[error("opset {opset} is not one of {} to {}", OPSETS.start(), OPSETS.end())]
    Opset {
        /// What was asked for.
        opset: u32,
    },
}

/// Returns the bytes of an ONNX file.
///
/// # Errors
/// If the image size or the version of the operators cannot be used.
pub fn export(weights: &Weights, config: &OnnxConfig) -> Result<Vec<u8>, OnnxError> {
    let metadata = &weights.metadata;
    let size = config.image_size.unwrap_or(metadata.image_size);
    if size == 0 || !size.is_multiple_of(MAX_STRIDE as u32) {
        return Err(OnnxError::ImageSize { size });
    }
    if !OPSETS.contains(&config.opset) {
        return Err(OnnxError::Opset { opset: config.opset });
    }
    let (network, declaration) = Network::new(metadata.architecture());
    let mut graph = Graph::new(&declaration, &weights.state);
    let side = size as usize;
    graph.input(INPUT, &[3, side, side]);
    let images = Map {
        name: INPUT.to_owned(),
        channels: 3,
        height: side,
        width: side,
    };
    let (output, shape) = network.export(&mut graph, images);
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "ringmaster".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph.finish(&output, OUTPUT, &shape)),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: i64::from(config.opset),
        }],
        metadata_props: properties(weights, size),
    };
    Ok(model.encode_to_vec())
}

/// What readers of Ultralytics' exports look for; names and lists are Python literals.
fn properties(weights: &Weights, size: u32) -> Vec<Property> {
    let metadata = &weights.metadata;
    let names = metadata.names.iter().enumerate();
    // A JSON string is a Python string, too.
    let names: Vec<String> = names
        .map(|(class, name)| format!("{class}: {}", serde_json::Value::from(name.as_str())))
        .collect();
    [
        ("description", format!("{} by Ringmaster", metadata.kind)),
        ("task", "detect".to_owned()),
        ("stride", MAX_STRIDE.to_string()),
        ("batch", "1".to_owned()),
        ("imgsz", format!("[{size}, {size}]")),
        ("names", format!("{{{}}}", names.join(", "))),
    ]
    .map(|(key, value)| Property {
        key: key.to_owned(),
        value,
    })
    .to_vec()
}

const INPUT: &str = "images";
const OUTPUT: &str = "output0";

/// Known to every runtime that knows opset 13 to 18, and accepted with later ones.
const IR_VERSION: i64 = 8;
