//! A segment's id, length and checksum as fixed little-endian bytes.
//!
//! The layout of version 2, 48 bytes in all:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | version, which also fixes the size |
//! | 1 | 1 | phase: 1 reduce-scatter, 2 all-gather, 3 gather |
//! | 2 | 2 | zero |
//! | 4 | 4 | payload length in bytes |
//! | 8 | 8 | generation |
//! | 16 | 8 | step |
//! | 24 | 4 | operation |
//! | 28 | 4 | bucket |
//! | 32 | 4 | hop |
//! | 36 | 4 | segment |
//! | 40 | 8 | checksum: XXH3-64 of bytes 0 to 40, seeded with the hash of the payload |
//!
//! A payload's hash is the XXH3-64 of its last 8 KiB, or what is left, seeded with that of the 8 KiB before them, and so on; the first
//! ones are seeded with 0, and 0 is the hash of no bytes at all.
//!
//! Decoding is total: any bytes give a header or a clear error. Each header has exactly one encoding.

use crate::id::{Generation, Phase, SegmentId};
use crate::segment::MAX_SEGMENT_BYTES;

/// What travels in front of a segment's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's full name.
    pub id: SegmentId,
    /// The number of bytes that follow, at most [`MAX_SEGMENT_BYTES`].
    pub payload_len: u32,
    /// XXH3-64 of the fields above, seeded with the hash of the payload.
    pub checksum: u64,
}

impl SegmentHeader {
    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let id = &self.id;
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[1] = phase_code(id.phase);
        bytes[4..8].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&id.generation.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&id.step.to_le_bytes());
        bytes[24..28].copy_from_slice(&id.operation.to_le_bytes());
        bytes[28..32].copy_from_slice(&id.bucket.to_le_bytes());
        bytes[32..36].copy_from_slice(&id.hop.to_le_bytes());
        bytes[36..40].copy_from_slice(&id.segment.to_le_bytes());
        bytes[CHECKED_BYTES..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// Reads a header from exactly [`HEADER_BYTES`] bytes. The checksum is read, not checked.
    ///
    /// # Errors
    ///
    /// Another size, version or phase, a reserved byte that is not zero, or a payload over the limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Ok(bytes) = <&[u8; HEADER_BYTES]>::try_from(bytes) else {
            return Err(HeaderError::WrongSize { got: bytes.len() });
        };
        if bytes[0] != VERSION {
            return Err(HeaderError::UnknownVersion { got: bytes[0] });
        }
        if bytes[2..4] != [0, 0] {
            return Err(HeaderError::ReservedBytesSet {
                got: u16_at(bytes, 2),
            });
        }
        let payload_len = u32_at(bytes, 4);
        if payload_len as usize > MAX_SEGMENT_BYTES {
            return Err(HeaderError::PayloadTooLong { got: payload_len });
        }
        Ok(Self {
            id: SegmentId {
                generation: Generation(u64_at(bytes, 8)),
                step: u64_at(bytes, 16),
                operation: u32_at(bytes, 24),
                bucket: u32_at(bytes, 28),
                phase: phase_of_code(bytes[1]).ok_or(HeaderError::UnknownPhase { got: bytes[1] })?,
                hop: u32_at(bytes, 32),
                segment: u32_at(bytes, 36),
            },
            payload_len,
            checksum: u64_at(bytes, CHECKED_BYTES),
        })
    }
}

fn phase_code(phase: Phase) -> u8 {
    match phase {
        Phase::ReduceScatter => 1,
        Phase::AllGather => 2,
        Phase::Gather => 3,
    }
}

fn phase_of_code(code: u8) -> Option<Phase> {
    match code {
        1 => Some(Phase::ReduceScatter),
        2 => Some(Phase::AllGather),
        3 => Some(Phase::Gather),
        _ => None,
    }
}

fn bytes_at<const N: usize>(bytes: &[u8; HEADER_BYTES], offset: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[offset + i])
}

fn u16_at(bytes: &[u8; HEADER_BYTES], offset: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, offset))
}

fn u32_at(bytes: &[u8; HEADER_BYTES], offset: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, offset))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], offset: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, offset))
}

/// The size of an encoded header.
pub const HEADER_BYTES: usize = 48;

/// The bytes in front of the checksum, which it covers.
pub(crate) const CHECKED_BYTES: usize = 40;

pub(crate) const VERSION: u8 = 2;

/// Why bytes are not a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too few or too many bytes.
    #[error("a segment header has {HEADER_BYTES} bytes, but {got} came")]
    WrongSize {
        /// The number of bytes that came.
        got: usize,
    },
    /// The sender speaks another version of this format.
    #[error("segment header version {got} is not known here, only version {VERSION}")]
    UnknownVersion {
        /// The version that came.
        got: u8,
    },
    /// A phase that does not exist.
    #[error("segment phase {got} does not exist")]
    UnknownPhase {
        /// The code that came.
        got: u8,
    },
    /// Bytes that this version leaves zero.
    #[error("the reserved bytes of a segment header are {got:#06x} instead of zero")]
    ReservedBytesSet {
        /// Their value.
        got: u16,
    },
    /// A payload over the limit.
    #[error("a segment of {got} bytes is over the limit of {MAX_SEGMENT_BYTES}")]
    PayloadTooLong {
        /// The length in the header.
        got: u32,
    },
    /// The payload that came is not as long as its header says.
    #[error("a segment header announces {announced} payload bytes, but {got} came")]
    PayloadLengthDiffers {
        /// The length in the header.
        announced: u32,
        /// The length that came.
        got: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            id: SegmentId {
                generation: Generation(0x0807_0605_0403_0201),
                step: 2,
                operation: 3,
                bucket: 4,
                phase: Phase::AllGather,
                hop: 5,
                segment: 6,
            },
            payload_len: 7,
            checksum: 8,
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut expected = [0; HEADER_BYTES];
        expected[0] = 2;
        expected[1] = 2;
        expected[4] = 7;
        expected[8..16].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        expected[16] = 2;
        expected[24] = 3;
        expected[28] = 4;
        expected[32] = 5;
        expected[36] = 6;
        expected[40] = 8;
        assert_eq!(header().encode(), expected);
    }

    #[test]
    fn bytes_that_are_no_header_say_why() {
        let with = |offset: usize, value: u8| {
            let mut bytes = header().encode();
            bytes[offset] = value;
            SegmentHeader::decode(&bytes)
        };
        assert_eq!(SegmentHeader::decode(&[]), Err(HeaderError::WrongSize { got: 0 }));
        assert_eq!(
            SegmentHeader::decode(&[2; 49]),
            Err(HeaderError::WrongSize { got: 49 })
        );
        assert_eq!(with(0, 1), Err(HeaderError::UnknownVersion { got: 1 }));
        assert_eq!(with(1, 0), Err(HeaderError::UnknownPhase { got: 0 }));
        assert_eq!(with(3, 1), Err(HeaderError::ReservedBytesSet { got: 0x100 }));
        assert_eq!(with(6, 0x20), Err(HeaderError::PayloadTooLong { got: 0x20_0007 }));
    }
}
