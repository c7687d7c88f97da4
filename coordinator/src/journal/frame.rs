//! How a record lies in the file.
//!
//! ```text
//! length u32 LE | version u8 | kind u8 | checksum 8 bytes | payload of that length
//! ```
//!
//! The checksum is the first 8 bytes of BLAKE3 over the frame's offset in the file, length, version, kind and
//! payload: a bit that flips anywhere shows, and so does a frame that lies where it was not written.

use std::io::{self, Read};

/// What begins at an offset of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The end of the file.
    End,
    /// A whole frame.
    Whole { version: u8, kind: u8, payload: Vec<u8> },
    /// Bytes that are no whole frame.
    Damaged { reason: &'static str },
}

/// Returns the bytes of a frame that will lie at this offset, or `None` when the payload is too long.
pub(super) fn encode(offset: u64, kind: u8, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return None;
    }
    let length = u32::try_from(payload.len()).ok()?.to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&[VERSION, kind]);
    bytes.extend_from_slice(&checksum(offset, length, VERSION, kind, payload));
    bytes.extend_from_slice(payload);
    Some(bytes)
}

/// Reads the frame at `offset` of a file of `file_bytes`; the reader stands at `offset`.
pub(super) fn read(reader: &mut impl Read, offset: u64, file_bytes: u64) -> io::Result<Frame> {
    let damaged = |reason| Ok(Frame::Damaged { reason });
    let left = file_bytes.saturating_sub(offset);
    if left == 0 {
        return Ok(Frame::End);
    }
    if left < HEADER_BYTES as u64 {
        return damaged("the file ends inside the header of a record");
    }
    let mut header = [0; HEADER_BYTES];
    reader.read_exact(&mut header)?;
    let [l0, l1, l2, l3, version, kind, sum @ ..] = header;
    let length = [l0, l1, l2, l3];
    let payload_bytes = u32::from_le_bytes(length) as usize;
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return damaged("the length of a record is impossible");
    }
    if left - (HEADER_BYTES as u64) < payload_bytes as u64 {
        return damaged("the file ends inside a record");
    }
    let mut payload = vec![0; payload_bytes];
    reader.read_exact(&mut payload)?;
    if sum != checksum(offset, length, version, kind, &payload) {
        return damaged("the checksum of a record does not fit");
    }
    Ok(Frame::Whole {
        version,
        kind,
        payload,
    })
}

fn checksum(offset: u64, length: [u8; 4], version: u8, kind: u8, payload: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(&length);
    hasher.update(&[version, kind]);
    hasher.update(payload);
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// Version of the frames and of the payloads in them.
pub(super) const VERSION: u8 = 1;

/// Length, version, kind, checksum.
pub(super) const HEADER_BYTES: usize = 4 + 1 + 1 + 8;

/// A join request has a few hundred bytes and a ring a few dozen members: this is far more than is ever written,
/// and little enough that a damaged length does no harm.
pub(super) const PAYLOAD_BYTES_MAX: usize = 4 << 20;
