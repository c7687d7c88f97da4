//! Tensors of a checkpoint: from their description in the pickle to numbers.

use half::{bf16, f16};

use super::value::{Ref, Value, Values};
use crate::weights::stored::{Numbers, Stored};

/// What the pickle says about a tensor.
#[derive(Clone, Debug)]
pub(super) struct Description<'a> {
    pub(super) storage: &'a str,
    kind: &'a str,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Returns the description of a tensor or parameter; `None` for any other value.
pub(super) fn describe(values: &Values, place: Ref) -> Option<Description<'_>> {
    let arguments = values.arguments(place);
    match values.callable(place)? {
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            // The tensor that a parameter wraps is no parameter.
            let tensor = *arguments.first()?;
            let (_, name) = values.callable(tensor)?;
            (name == "_rebuild_tensor_v2").then(|| describe(values, tensor))?
        }
        ("torch._utils", "_rebuild_tensor_v2") => {
            let &[storage, offset, shape, strides, ..] = arguments else {
                return None;
            };
            let Value::Persistent(id) = values.get(storage) else {
                return None;
            };
            let &[_, kind, key, ..] = values.sequence(*id) else {
                return None;
            };
            let numbers = |place: Ref| {
                let number = |&place: &Ref| usize::try_from(values.integer(place)?).ok();
                let sequence = values.sequence(place);
                // One long tuple may be named by every tensor of the file.
                if sequence.len() > DIMENSIONS_MAX {
                    return None;
                }
                sequence.iter().map(number).collect::<Option<Vec<_>>>()
            };
            Some(Description {
                storage: values.text(key)?,
                kind: values.global(kind)?.1,
                offset: usize::try_from(values.integer(offset)?).ok()?,
                shape: numbers(shape)?,
                strides: numbers(strides)?,
            })
        }
        _ => None,
    }
}

impl Description<'_> {
    /// How many numbers the tensor has; `None` when they cannot be counted.
    pub(super) fn count(&self) -> Option<usize> {
        let mut sides = self.shape.iter();
        sides.try_fold(1_usize, |product, &side| product.checked_mul(side))
    }

    /// Returns the tensor out of the bytes of its storage; `None` when it lies outside of them.
    pub(super) fn read(&self, storage: &[u8]) -> Option<Stored> {
        let numbers = match self.kind {
            "FloatStorage" => self.gather(storage, f32::from_le_bytes)?,
            "HalfStorage" => self.gather(storage, |bytes| f16::from_le_bytes(bytes).to_f32())?,
            "BFloat16Storage" => self.gather(storage, |bytes| bf16::from_le_bytes(bytes).to_f32())?,
            "DoubleStorage" => self.gather(storage, |bytes| f64::from_le_bytes(bytes) as f32)?,
            other => {
                return Some(Stored {
                    shape: self.shape.clone(),
                    numbers: Numbers::Other(other.to_owned()),
                });
            }
        };
        Some(Stored {
            shape: self.shape.clone(),
            numbers: Numbers::Floats(numbers),
        })
    }

    /// Returns the values in row-major order; `None` when they lie outside of the storage, or are more than it has.
    fn gather<const N: usize>(&self, storage: &[u8], number: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        let flat = storage.as_chunks().0;
        if self.shape.len() != self.strides.len() {
            return None;
        }
        let count = self.count()?;
        if count == 0 || count > flat.len() {
            return (count == 0).then(Vec::new);
        }
        let mut last = self.offset;
        for (&side, &stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add((side - 1).checked_mul(stride)?)?;
        }
        if last >= flat.len() {
            return None;
        }
        let mut places = vec![self.offset];
        for (&side, &stride) in self.shape.iter().zip(&self.strides) {
            places = places
                .iter()
                .flat_map(|place| (0..side).map(move |index| place + index * stride))
                .collect();
        }
        Some(places.into_iter().map(|place| number(flat[place])).collect())
    }
}

/// A convolution's kernel has four.
const DIMENSIONS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(flat: &[f32], offset: usize, shape: &[usize], strides: &[usize]) -> Option<Vec<f32>> {
        let description = Description {
            storage: "0",
            kind: "FloatStorage",
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        let bytes: Vec<u8> = flat.iter().flat_map(|value| value.to_le_bytes()).collect();
        match description.read(&bytes)?.numbers {
            Numbers::Floats(values) => Some(values),
            Numbers::Other(kind) => panic!("{kind}"),
        }
    }

    #[test]
    fn strides_and_offsets_are_followed() {
        let flat = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let rows = gather(&flat, 1, &[2, 3], &[3, 1]).unwrap();
        assert_eq!(rows, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let columns = gather(&flat, 0, &[2, 3], &[1, 2]).unwrap();
        assert_eq!(columns, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        assert_eq!(gather(&flat, 6, &[], &[]), Some(vec![6.0]));
        assert_eq!(gather(&flat, 0, &[0], &[1]), Some(vec![]));
    }

    #[test]
    fn a_tensor_outside_of_its_storage_is_none() {
        let flat = [0.0; 6];
        for (offset, shape, strides) in [
            (1, &[2, 3][..], &[3, 1][..]),
            (0, &[7], &[0]),
            (usize::MAX, &[2], &[1]),
            (0, &[2, 2], &[usize::MAX, 1]),
            (0, &[usize::MAX, 2], &[1, 1]),
            (0, &[2], &[1, 1]),
        ] {
            assert_eq!(gather(&flat, offset, shape, strides), None);
        }
    }
}
