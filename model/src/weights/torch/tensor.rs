//! Tensors of a checkpoint: from their description in the pickle to numbers.

use half::{bf16, f16};

use super::TorchError;
use super::archive::Archive;
use super::value::{Ref, Value, Values};
use crate::weights::stored::{Numbers, Stored};

/// What the pickle says about a tensor.
#[derive(Debug)]
pub(super) struct Description {
    storage: String,
    kind: String,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Returns the description of a tensor or parameter; `None` for any other value.
pub(super) fn describe(values: &Values, place: Ref) -> Option<Description> {
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
                values
                    .sequence(place)
                    .iter()
                    .map(number)
                    .collect::<Option<Vec<_>>>()
            };
            Some(Description {
                storage: values.text(key)?.to_owned(),
                kind: values.global(kind)?.1.to_owned(),
                offset: usize::try_from(values.integer(offset)?).ok()?,
                shape: numbers(shape)?,
                strides: numbers(strides)?,
            })
        }
        _ => None,
    }
}

/// Reads a tensor's numbers.
pub(super) fn read(
    archive: &mut Archive<'_>,
    name: &str,
    description: &Description,
) -> Result<Stored, TorchError> {
    let decode: fn(&[u8]) -> Vec<f32> = match description.kind.as_str() {
        "FloatStorage" => |bytes| numbers(bytes, f32::from_le_bytes),
        "HalfStorage" => |bytes| numbers(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        "BFloat16Storage" => |bytes| numbers(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        "DoubleStorage" => |bytes| numbers(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        other => {
            return Ok(Stored {
                shape: description.shape.clone(),
                numbers: Numbers::Other(other.to_owned()),
            });
        }
    };
    let flat = decode(&archive.storage(&description.storage)?);
    let values = gather(&flat, description).ok_or_else(|| TorchError::Tensor {
        name: name.to_owned(),
    })?;
    Ok(Stored {
        shape: description.shape.clone(),
        numbers: Numbers::Floats(values),
    })
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()
}

/// Returns the values in row-major order; `None` when they lie outside of the storage, or are more than it has.
fn gather(flat: &[f32], description: &Description) -> Option<Vec<f32>> {
    let Description {
        offset,
        shape,
        strides,
        ..
    } = description;
    if shape.len() != strides.len() {
        return None;
    }
    let count = shape
        .iter()
        .try_fold(1_usize, |product, &side| product.checked_mul(side))?;
    if count == 0 || count > flat.len() {
        return (count == 0).then(Vec::new);
    }
    let mut last = *offset;
    for (&side, &stride) in shape.iter().zip(strides) {
        last = last.checked_add((side - 1).checked_mul(stride)?)?;
    }
    if last >= flat.len() {
        return None;
    }
    let mut places = vec![*offset];
    for (&side, &stride) in shape.iter().zip(strides) {
        places = places
            .iter()
            .flat_map(|place| (0..side).map(move |index| place + index * stride))
            .collect();
    }
    Some(places.into_iter().map(|place| flat[place]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(offset: usize, shape: &[usize], strides: &[usize]) -> Description {
        Description {
            storage: "0".into(),
            kind: "FloatStorage".into(),
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        }
    }

    #[test]
    fn strides_and_offsets_are_followed() {
        let flat = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let rows = gather(&flat, &description(1, &[2, 3], &[3, 1])).unwrap();
        assert_eq!(rows, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let columns = gather(&flat, &description(0, &[2, 3], &[1, 2])).unwrap();
        assert_eq!(columns, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        assert_eq!(gather(&flat, &description(6, &[], &[])), Some(vec![6.0]));
        assert_eq!(gather(&flat, &description(0, &[0], &[1])), Some(vec![]));
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
            assert_eq!(gather(&flat, &description(offset, shape, strides)), None);
        }
    }
}
