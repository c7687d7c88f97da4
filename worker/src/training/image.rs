//! The image of a state: one string of bytes, to copy, to keep, to compare.
//!
//! ```text
//! u32 length of the head | head, padded with zeros to 4 bytes | vectors, little-endian f32, in the head's order
//! ```
//!
//! Everything that training changes is in it, so equal images mean equal futures. Ranges of it are what ranks put into a
//! checkpoint and what a rank that is behind copies from its peers; nobody but this file knows what is inside.

use std::ops::Range;

use bytes::{Buf, BufMut};
use prost::Message;
use proto::{Fingerprint, wire};

use super::fixed_point::Exponents;
use super::state::{Best, EpochProgress, State};

/// Why bytes are no state of this run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The head does not decode.
    #[error("the state's head cannot be read: {reason}")]
    Head {
        /// What was wrong.
        reason: String,
    },
    /// Another program wrote it.
    #[error("the state has format version {got}, this program reads version {VERSION}")]
    Version {
        /// The version that came.
        got: u32,
    },
    /// Vectors of another model, optimizer or length.
    #[error("the state has vectors of {got:?} numbers, this run's have {expected:?}")]
    Shape {
        /// The lengths that came.
        got: Vec<u64>,
        /// The lengths of this run.
        expected: Vec<u64>,
    },
    /// Too few or too many bytes.
    #[error("the state has {got} bytes instead of {expected}")]
    Length {
        /// The bytes that came.
        got: usize,
        /// The bytes that its head announces.
        expected: usize,
    },
}

/// A state as bytes, without a copy of its vectors.
pub struct Image<'a> {
    head: Vec<u8>,
    vectors: Vec<&'a [f32]>,
}

impl<'a> Image<'a> {
    /// Returns the image of a state.
    pub fn of(state: &'a State) -> Self {
        let vectors = state.vectors();
        let encoded = head(state, &vectors).encode_to_vec();
        let mut head = Vec::with_capacity(encoded.len() + 8);
        head.put_u32_le(encoded.len() as u32);
        head.extend(encoded);
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        Self { head, vectors }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }

    /// Whether there is nothing in it, which cannot be: a state has a head.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the BLAKE3 of all bytes.
    pub fn digest(&self) -> Fingerprint {
        let mut hasher = blake3::Hasher::new();
        for part in self.parts() {
            hasher.update(part);
        }
        Fingerprint::from(*hasher.finalize().as_bytes())
    }

    /// Copies a range of the bytes; what lies beyond the end is left out.
    pub fn copy(&self, range: Range<usize>) -> Vec<u8> {
        let mut copied = Vec::with_capacity(range.len());
        let mut start = 0;
        for part in self.parts() {
            let end = start + part.len();
            let from = range.start.clamp(start, end) - start;
            let to = range.end.clamp(start, end) - start;
            if from < to {
                copied.extend_from_slice(&part[from..to]);
            }
            start = end;
        }
        copied
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let vectors = self.vectors.iter().map(|vector| bytemuck::cast_slice(vector));
        std::iter::once(&self.head[..]).chain(vectors)
    }
}

/// Returns the state that `bytes` are the image of; `like` is any state of the run.
///
/// # Errors
/// When they are no image, or one of another model or optimizer.
pub fn restore(bytes: &[u8], like: &State) -> Result<State, ImageError> {
    let bad_head = |reason: String| ImageError::Head { reason };
    let mut rest = bytes;
    let head_length = rest
        .try_get_u32_le()
        .map_err(|error| bad_head(error.to_string()))? as usize;
    let encoded = rest
        .get(..head_length)
        .ok_or_else(|| bad_head("it is cut off".to_owned()))?;
    let head = wire::StateHead::decode(encoded).map_err(|error| bad_head(error.to_string()))?;
    if head.version != VERSION {
        return Err(ImageError::Version { got: head.version });
    }
    let expected: Vec<u64> = like.vectors().iter().map(|vector| vector.len() as u64).collect();
    if head.lengths != expected {
        return Err(ImageError::Shape {
            got: head.lengths,
            expected,
        });
    }
    let begin = (size_of::<u32>() + head_length).next_multiple_of(ALIGNMENT);
    let numbers: u64 = expected.iter().sum();
    let length = begin + numbers as usize * size_of::<f32>();
    if bytes.len() != length {
        return Err(ImageError::Length {
            got: bytes.len(),
            expected: length,
        });
    }
    let exponents = Exponents::from_bytes(&head.exponents)
        .filter(|exponents| exponents.to_bytes().len() == like.exponents.to_bytes().len())
        .ok_or_else(|| bad_head("it has exponents of another number of tensors".to_owned()))?;
    let mut state = like.clone();
    let mut vectors = &bytes[begin..];
    for vector in state.vectors_mut() {
        let (own, others) = vectors.split_at(vector.len() * size_of::<f32>());
        bytemuck::cast_slice_mut(vector).copy_from_slice(own);
        vectors = others;
    }
    let progress = head.progress.unwrap_or_default();
    let mut losses = [0.0; 3];
    for (loss, &sum) in losses.iter_mut().zip(&progress.losses) {
        *loss = sum;
    }
    state.step = head.step;
    state.updates = head.updates;
    state.nonfinite_run = head.nonfinite_run;
    state.best = head.best.map(|best| Best {
        fitness: best.fitness,
        epoch: best.epoch,
    });
    state.epochs = head.epochs;
    state.progress = EpochProgress {
        losses,
        steps: progress.steps,
        images: progress.images,
        unreadable: progress.unreadable,
        redone: progress.redone,
    };
    state.exponents = exponents;
    Ok(state)
}

fn head(state: &State, vectors: &[&[f32]]) -> wire::StateHead {
    wire::StateHead {
        version: VERSION,
        step: state.step,
        updates: state.updates,
        nonfinite_run: state.nonfinite_run,
        best: state.best.map(|best| wire::BestEpoch {
            fitness: best.fitness,
            epoch: best.epoch,
        }),
        epochs: state.epochs,
        progress: Some(wire::EpochProgress {
            losses: state.progress.losses.to_vec(),
            steps: state.progress.steps,
            images: state.progress.images,
            unreadable: state.progress.unreadable,
            redone: state.progress.redone,
        }),
        exponents: state.exponents.to_bytes().into(),
        lengths: vectors.iter().map(|vector| vector.len() as u64).collect(),
    }
}

/// Version of the format.
const VERSION: u32 = 1;

/// Vectors begin where numbers may begin.
const ALIGNMENT: usize = size_of::<f32>();

#[cfg(test)]
mod tests {
    use model::layout::FlatState;

    use super::*;

    fn state() -> State {
        let initial = FlatState {
            parameters: vec![1.0, -2.0, 3.5],
            buffers: vec![0.25, 4.0],
        };
        let mut state = State::new(initial, 2, 3);
        state.step = 7;
        state.updates = 6;
        state.nonfinite_run = 1;
        state.moments[1][2] = 0.125;
        state.exponents.raise(&[1, 100, 200]);
        state.best = Some(Best {
            fitness: 0.5,
            epoch: 0,
        });
        state.epochs = 1;
        state.progress.losses = [1.0, 2.0, 3.0];
        state.progress.redone = 2;
        state
    }

    #[test]
    fn a_state_comes_back_from_its_image() {
        let state = state();
        let image = Image::of(&state);
        let bytes = image.copy(0..image.len());
        assert_eq!(bytes.len(), image.len());
        assert_eq!(Fingerprint::of(&bytes), image.digest());
        let fresh = State::new(
            FlatState {
                parameters: vec![0.0; 3],
                buffers: vec![0.0; 2],
            },
            2,
            3,
        );
        assert_eq!(restore(&bytes, &fresh), Ok(state));
    }

    #[test]
    fn ranges_make_up_the_whole() {
        let state = state();
        let image = Image::of(&state);
        let whole = image.copy(0..image.len());
        for cut in 0..=image.len() {
            let joined = [image.copy(0..cut), image.copy(cut..image.len() + 9)].concat();
            assert_eq!(joined, whole, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_of_another_model_and_cut_ones_are_refused() {
        let state = state();
        let image = Image::of(&state);
        let bytes = image.copy(0..image.len());
        for end in 0..bytes.len() {
            assert!(restore(&bytes[..end], &state).is_err(), "cut at {end}");
        }
        let mut larger = state.clone();
        larger.parameters.push(0.0);
        assert!(matches!(restore(&bytes, &larger), Err(ImageError::Shape { .. })));
    }
}
