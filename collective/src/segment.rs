//! One message on a link: a piece of a chunk, with its full name and a checksum over both.
//!
//! TCP's own checksum is 16 bits and misses damage that memory, drivers and proxies do; a wrong gradient
//! would go unnoticed into every rank's weights. XXH3 runs at memory speed, so each segment carries one.

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::error::RingError;
use crate::header::{CHECKED_BYTES, HEADER_BYTES, HeaderError, SegmentHeader};
use crate::id::SegmentId;
use crate::payload::{Blocks, Payload};

/// A message between ring neighbours. Cheap to clone: the payload is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    id: SegmentId,
    checksum: u64,
    payload: Bytes,
}

impl Segment {
    /// Makes a segment and its checksum.
    ///
    /// # Panics
    ///
    /// When the payload is over [`MAX_SEGMENT_BYTES`].
    pub fn new(id: SegmentId, payload: impl Into<Payload>) -> Self {
        let payload = payload.into();
        assert!(
            payload.len() <= MAX_SEGMENT_BYTES,
            "a segment of {} bytes is over the limit of {MAX_SEGMENT_BYTES}",
            payload.len()
        );
        let checksum = checksum(&id, payload.len(), payload.hash());
        Self {
            id,
            checksum,
            payload: payload.into_bytes(),
        }
    }

    /// Puts a segment together from the header and payload that came over a link.
    ///
    /// The checksum is not checked yet: the operation that takes the segment does so, once.
    ///
    /// # Errors
    ///
    /// The header does not decode, or announces another payload length.
    pub fn from_wire(header: &[u8], payload: Bytes) -> Result<Self, HeaderError> {
        let SegmentHeader {
            id,
            payload_len,
            checksum,
        } = SegmentHeader::decode(header)?;
        if payload.len() != payload_len as usize {
            return Err(HeaderError::PayloadLengthDiffers {
                announced: payload_len,
                got: payload.len(),
            });
        }
        Ok(Self {
            id,
            checksum,
            payload,
        })
    }

    /// The header that travels in front of the payload.
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        header_of(&self.id, self.payload.len(), self.checksum).encode()
    }

    /// The segment's full name.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// The checksum it carries.
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// The bytes it carries.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The bytes it carries, without a copy.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// The payload block by block. What is made of them counts only when they are [`verified`](Self::verified) afterwards.
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        Blocks::of(&self.payload)
    }

    /// Checks id and payload against the checksum, and gives the payload.
    ///
    /// # Errors
    ///
    /// [`RingError::BadChecksum`] when either was damaged.
    pub fn verify(&self) -> Result<Payload, RingError> {
        self.verified(self.blocks())
    }

    /// The same, with [`blocks`](Self::blocks) of which some were read.
    pub(crate) fn verified(&self, blocks: Blocks<'_>) -> Result<Payload, RingError> {
        let payload = blocks.finish();
        let computed = checksum(&self.id, payload.len(), payload.hash());
        if computed == self.checksum {
            return Ok(payload);
        }
        Err(RingError::BadChecksum {
            id: self.id,
            expected: self.checksum,
            got: computed,
        })
    }
}

/// XXH3-64 of the header's other fields, seeded with the hash of the payload: a rank that passes a payload on need not read it again.
fn checksum(id: &SegmentId, payload_len: usize, payload_hash: u64) -> u64 {
    let header = header_of(id, payload_len, 0).encode();
    XxHash3_64::oneshot_with_seed(payload_hash, &header[..CHECKED_BYTES])
}

fn header_of(id: &SegmentId, payload_len: usize, checksum: u64) -> SegmentHeader {
    SegmentHeader {
        id: *id,
        // Invariant: no constructor lets a payload over MAX_SEGMENT_BYTES in, so this does not truncate.
        payload_len: payload_len as u32,
        checksum,
    }
}

/// The largest payload of a segment, in bytes. Well below the message limits of common transports (gRPC: 4
/// MiB).
pub const MAX_SEGMENT_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, Phase};

    #[test]
    fn checksums_are_those_of_version_2() {
        let id = SegmentId {
            generation: Generation(1),
            step: 2,
            operation: 3,
            bucket: 4,
            phase: Phase::AllGather,
            hop: 5,
            segment: 6,
        };
        let checksum = |length: usize| Segment::new(id, Bytes::from(vec![7; length])).checksum();
        // By Python's xxhash.
        let expected = [
            3_800_468_070_454_487_247,
            12_122_961_355_694_402_191,
            187_409_956_537_014_283,
        ];
        assert_eq!([0, 8192, 8193].map(checksum), expected);
    }
}
