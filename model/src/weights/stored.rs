//! Tensors as a file has them, whatever its format.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors};

/// Tensors by state-dict name.
pub(super) type Tensors = BTreeMap<String, Stored>;

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Numbers,
}

/// A tensor's numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    /// Rows before columns; converted if the file has another precision.
    Floats(Vec<f32>),
    /// Of a type that holds no fractions, by its name.
    Other(String),
}

/// Returns all tensors of a safetensors file.
pub(super) fn from_safetensors(file: &SafeTensors<'_>) -> Tensors {
    let convert = |dtype: Dtype, bytes: &[u8]| match dtype {
        Dtype::F32 => floats(bytes, f32::from_le_bytes),
        Dtype::F16 => floats(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => floats(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::F64 => floats(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        other => Numbers::Other(format!("{other:?}")),
    };
    let stored = |(name, tensor): (String, safetensors::tensor::TensorView<'_>)| {
        let stored = Stored {
            shape: tensor.shape().to_vec(),
            numbers: convert(tensor.dtype(), tensor.data()),
        };
        (name, stored)
    };
    file.tensors().into_iter().map(stored).collect()
}

fn floats<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Numbers {
    Numbers::Floats(bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect())
}
