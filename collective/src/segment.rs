//! One message on a link: a piece of a chunk, with its full name and a checksum over both.
//!
//! TCP's own checksum is 16 bits and misses damage that memory, drivers and proxies do; a wrong gradient
//! would go unnoticed into every rank's weights. XXH3 runs at memory speed, so each segment carries one.

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::error::RingError;
use crate::header::{CHECKED_BYTES, HEADER_BYTES, HeaderError, SegmentHeader};
use crate::id::SegmentId;

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
    pub fn new(id: SegmentId, payload: Bytes) -> Self {
        assert!(
            payload.len() <= MAX_SEGMENT_BYTES,
            "a segment of {} bytes is over the limit of {MAX_SEGMENT_BYTES}",
            payload.len()
        );
        let checksum = checksum(&id, &payload);
        Self {
            id,
            checksum,
            payload,
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
        header_of(&self.id, &self.payload, self.checksum).encode()
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

    /// Checks id and payload against the checksum.
    ///
    /// # Errors
    ///
    /// [`RingError::BadChecksum`] when either was damaged.
    pub fn verify(&self) -> Result<(), RingError> {
        let computed = checksum(&self.id, &self.payload);
        if computed == self.checksum {
            return Ok(());
        }
        Err(RingError::BadChecksum {
            id: self.id,
            expected: self.checksum,
            got: computed,
        })
    }
}

/// XXH3-64 of the payload, seeded with that of the header's other fields: one pass each, no buffer, no
/// allocation.
fn checksum(id: &SegmentId, payload: &Bytes) -> u64 {
    let header = header_of(id, payload, 0).encode();
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(&header[..CHECKED_BYTES]), payload)
}

fn header_of(id: &SegmentId, payload: &Bytes, checksum: u64) -> SegmentHeader {
    SegmentHeader {
        id: *id,
        // Invariant: no constructor lets a payload over MAX_SEGMENT_BYTES in, so this does not truncate.
        payload_len: payload.len() as u32,
        checksum,
    }
}

/// The largest payload of a segment, in bytes. Well below the message limits of common transports (gRPC: 4
/// MiB).
pub const MAX_SEGMENT_BYTES: usize = 1 << 20;
