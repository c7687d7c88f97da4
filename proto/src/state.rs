//! Ranges of training states on the move, and their digests.

use crate::identity::{Fingerprint, Sender};
use crate::parse::{ParseError, required};
use crate::wire;

/// Asks a peer for a range of the image that it offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchRequest {
    /// Who asks, and in which generation.
    pub sender: Sender,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Asks the coordinator for a range of the newest checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetRequest {
    /// Who asks, and in which generation.
    pub sender: Sender,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// Its length in bytes; up to the end when it is longer.
    pub length: u64,
}

/// Describes a range of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageHeader {
    /// Steps applied in the state.
    pub step: u64,
    /// Length of the whole image in bytes.
    pub total_bytes: u64,
    /// Digest of the whole image.
    pub state_digest: Fingerprint,
    /// Digest of the range.
    pub range_blake3: Fingerprint,
}

/// Describes one rank's range of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardHeader {
    /// Who, and in which generation.
    pub sender: Sender,
    /// Steps applied in the state.
    pub step: u64,
    /// Which range: the sender's rank.
    pub shard: u32,
    /// Number of ranges.
    pub shards: u32,
    /// Where the range begins in the image, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Length of the whole image in bytes.
    pub total_bytes: u64,
    /// Digest of the range.
    pub blake3: Fingerprint,
    /// Digest of the whole image.
    pub state_digest: Fingerprint,
}

/// Digest of a whole training state after some step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDigest {
    /// Steps applied.
    pub step: u64,
    /// BLAKE3 of the state's image.
    pub blake3: Fingerprint,
}

impl TryFrom<wire::FetchRequest> for FetchRequest {
    type Error = ParseError;

    fn try_from(request: wire::FetchRequest) -> Result<Self, ParseError> {
        Ok(Self {
            sender: required("sender", request.sender)?.try_into()?,
            offset: request.offset,
            length: request.length,
        })
    }
}

impl From<FetchRequest> for wire::FetchRequest {
    fn from(request: FetchRequest) -> Self {
        Self {
            sender: Some(request.sender.into()),
            offset: request.offset,
            length: request.length,
        }
    }
}

impl TryFrom<wire::GetRequest> for GetRequest {
    type Error = ParseError;

    fn try_from(request: wire::GetRequest) -> Result<Self, ParseError> {
        Ok(Self {
            sender: required("sender", request.sender)?.try_into()?,
            offset: request.offset,
            length: request.length,
        })
    }
}

impl From<GetRequest> for wire::GetRequest {
    fn from(request: GetRequest) -> Self {
        Self {
            sender: Some(request.sender.into()),
            offset: request.offset,
            length: request.length,
        }
    }
}

impl TryFrom<wire::ImageHeader> for ImageHeader {
    type Error = ParseError;

    fn try_from(header: wire::ImageHeader) -> Result<Self, ParseError> {
        Ok(Self {
            step: header.step,
            total_bytes: header.total_bytes,
            state_digest: Fingerprint::from_field("state_digest", &header.state_digest)?,
            range_blake3: Fingerprint::from_field("range_blake3", &header.range_blake3)?,
        })
    }
}

impl From<ImageHeader> for wire::ImageHeader {
    fn from(header: ImageHeader) -> Self {
        Self {
            step: header.step,
            total_bytes: header.total_bytes,
            state_digest: bytes(header.state_digest),
            range_blake3: bytes(header.range_blake3),
        }
    }
}

impl TryFrom<wire::ShardHeader> for ShardHeader {
    type Error = ParseError;

    fn try_from(header: wire::ShardHeader) -> Result<Self, ParseError> {
        Ok(Self {
            sender: required("sender", header.sender)?.try_into()?,
            step: header.step,
            shard: header.shard,
            shards: header.shards,
            offset: header.offset,
            size_bytes: header.size_bytes,
            total_bytes: header.total_bytes,
            blake3: Fingerprint::from_field("blake3", &header.blake3)?,
            state_digest: Fingerprint::from_field("state_digest", &header.state_digest)?,
        })
    }
}

impl From<ShardHeader> for wire::ShardHeader {
    fn from(header: ShardHeader) -> Self {
        Self {
            sender: Some(header.sender.into()),
            step: header.step,
            shard: header.shard,
            shards: header.shards,
            offset: header.offset,
            size_bytes: header.size_bytes,
            total_bytes: header.total_bytes,
            blake3: bytes(header.blake3),
            state_digest: bytes(header.state_digest),
        }
    }
}

impl TryFrom<wire::StateDigest> for StateDigest {
    type Error = ParseError;

    fn try_from(digest: wire::StateDigest) -> Result<Self, ParseError> {
        Ok(Self {
            step: digest.step,
            blake3: Fingerprint::from_field("blake3", &digest.blake3)?,
        })
    }
}

impl From<StateDigest> for wire::StateDigest {
    fn from(digest: StateDigest) -> Self {
        Self {
            step: digest.step,
            blake3: bytes(digest.blake3),
        }
    }
}

fn bytes(digest: Fingerprint) -> tonic::codegen::Bytes {
    digest.as_bytes().to_vec().into()
}

#[cfg(test)]
mod tests {
    use collective::Generation;

    use super::*;
    use crate::identity::{RunId, WorkerId};

    const SENDER: Sender = Sender {
        run: RunId::from_u128(1),
        worker: WorkerId::from_u128(2),
        generation: Generation(3),
    };

    #[test]
    fn every_message_survives_the_wire() {
        let fetch = FetchRequest {
            sender: SENDER,
            offset: 4,
            length: 5,
        };
        assert_eq!(FetchRequest::try_from(wire::FetchRequest::from(fetch)), Ok(fetch));
        let get = GetRequest {
            sender: SENDER,
            offset: 4,
            length: 5,
        };
        assert_eq!(GetRequest::try_from(wire::GetRequest::from(get)), Ok(get));
        let header = ImageHeader {
            step: 6,
            total_bytes: 7,
            state_digest: Fingerprint::of(b"state"),
            range_blake3: Fingerprint::of(b"range"),
        };
        assert_eq!(ImageHeader::try_from(wire::ImageHeader::from(header)), Ok(header));
        let shard = ShardHeader {
            sender: SENDER,
            step: 8,
            shard: 1,
            shards: 2,
            offset: 9,
            size_bytes: 10,
            total_bytes: 19,
            blake3: Fingerprint::of(b"range"),
            state_digest: Fingerprint::of(b"state"),
        };
        assert_eq!(ShardHeader::try_from(wire::ShardHeader::from(shard)), Ok(shard));
        let digest = StateDigest {
            step: 11,
            blake3: Fingerprint::of(b"state"),
        };
        assert_eq!(StateDigest::try_from(wire::StateDigest::from(digest)), Ok(digest));
        assert!(StateDigest::try_from(wire::StateDigest::default()).is_err());
    }
}
