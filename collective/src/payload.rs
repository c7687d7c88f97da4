//! What a segment carries, with its hash.
//!
//! Bytes are hashed block by block, each while the nearest cache holds it: before a received block is added up or
//! taken over, and after one that is to be sent was made.

use std::ops::Deref;
use std::slice::Chunks;

use bytes::{Bytes, BytesMut};
use twox_hash::XxHash3_64;

use crate::reduction::Reduction;

/// Bytes with their hash: computed once, and passed on from rank to rank with the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    bytes: Bytes,
    hash: u64,
}

impl Payload {
    /// Has the first `length` bytes of `buffer` filled by `make`, block by block, and gives them and the whole buffer.
    pub(crate) fn make(
        mut buffer: BytesMut,
        length: usize,
        mut make: impl FnMut(&mut [u8]),
    ) -> (Self, Bytes) {
        let mut hash = 0;
        for block in buffer[..length].chunks_mut(BLOCK_BYTES) {
            make(block);
            hash = chained(hash, block);
        }
        let buffer = buffer.freeze();
        let bytes = buffer.slice(..length);
        (Self { bytes, hash }, buffer)
    }

    /// XXH3-64 of the last block, seeded with that of the block before it, and so on; 0 before the first.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Blocks::of(&bytes).finish()
    }
}

impl Deref for Payload {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// Received bytes, block by block, each hashed before it is given out: who uses a block reads it from the nearest cache.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    bytes: &'a Bytes,
    rest: Chunks<'a, u8>,
    hash: u64,
}

impl<'a> Blocks<'a> {
    pub(crate) fn of(bytes: &'a Bytes) -> Self {
        Self {
            bytes,
            rest: bytes.chunks(BLOCK_BYTES),
            hash: 0,
        }
    }

    /// All bytes with their hash, also those that were not given out.
    pub(crate) fn finish(mut self) -> Payload {
        self.by_ref().for_each(drop);
        Payload {
            bytes: self.bytes.clone(),
            hash: self.hash,
        }
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let block = self.rest.next()?;
        self.hash = chained(self.hash, block);
        Some(block)
    }
}

/// The hash of all blocks up to this one.
fn chained(before: u64, block: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(before, block)
}

/// The values that are encoded in a block.
pub(crate) const fn values_per_block<R: Reduction>() -> usize {
    const {
        assert!(
            BLOCK_BYTES.is_multiple_of(R::WIRE_BYTES),
            "a block holds whole values"
        );
    }
    BLOCK_BYTES / R::WIRE_BYTES
}

/// What is hashed at a time. With the values beside it, it fits a core's nearest cache. Ranks must agree on it: another size is
/// another [`VERSION`](crate::header::VERSION).
const BLOCK_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_one_hash_however_it_came_about() {
        for length in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            3 * BLOCK_BYTES,
        ] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut parts = bytes.chunks(BLOCK_BYTES);
            let (made, buffer) = Payload::make(BytesMut::zeroed(length + 3), length, |block| {
                block.copy_from_slice(parts.next().unwrap());
            });
            assert_eq!(buffer.len(), length + 3);
            let bytes = Bytes::from(bytes);
            assert_eq!(made, Payload::from(bytes.clone()));
            let mut blocks = Blocks::of(&bytes);
            assert_eq!(
                blocks.next().map(<[u8]>::len),
                bytes.chunks(BLOCK_BYTES).next().map(<[u8]>::len)
            );
            assert_eq!(blocks.finish(), made);
        }
    }

    #[test]
    fn the_order_of_blocks_counts() {
        let halves = [[1; BLOCK_BYTES], [2; BLOCK_BYTES]];
        let swapped = [halves[1], halves[0]];
        let hash = |blocks: [[u8; BLOCK_BYTES]; 2]| {
            Payload::from(Bytes::copy_from_slice(blocks.as_flattened())).hash()
        };
        assert_ne!(hash(halves), hash(swapped));
    }
}
