//! What a rank says about its shard before the bytes come.

use proto::Fingerprint;

use super::error::CheckpointError;

/// Describes one rank's range of the training state's byte image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardHeader {
    /// The step after which the state was taken.
    pub step: u64,
    /// The generation that took it.
    pub generation: u64,
    /// Which shard: the rank.
    pub shard: u32,
    /// How many shards there are: the world size.
    pub shards: u32,
    /// Where the range begins in the image, in bytes.
    pub offset: u64,
    /// Size of the range.
    pub size_bytes: u64,
    /// Size of the whole image.
    pub total_bytes: u64,
    /// BLAKE3 of the range.
    pub blake3: Fingerprint,
    /// Digest of the whole state, by which ranks are compared; what it is computed from is theirs to define.
    pub state_digest: Fingerprint,
}

impl ShardHeader {
    /// Checks what one header alone can show: counts, sizes, and a range inside the image.
    pub(super) fn check(&self) -> Result<(), CheckpointError> {
        let what = if self.shards == 0 || self.shards > SHARDS_MAX {
            format!("{} shards, but there are 1 to {SHARDS_MAX}", self.shards)
        } else if self.shard >= self.shards {
            format!("there are only {} shards", self.shards)
        } else if self.total_bytes == 0 || self.total_bytes > TOTAL_BYTES_MAX {
            format!(
                "a state of {} bytes, but it has 1 to {TOTAL_BYTES_MAX}",
                self.total_bytes
            )
        } else if self
            .offset
            .checked_add(self.size_bytes)
            .is_none_or(|end| end > self.total_bytes)
        {
            format!(
                "{} bytes at {} are not inside a state of {} bytes",
                self.size_bytes, self.offset, self.total_bytes
            )
        } else {
            return Ok(());
        };
        Err(CheckpointError::BadHeader {
            step: self.step,
            shard: self.shard,
            what,
        })
    }
}

/// Most shards of a checkpoint: a ring has no more members.
pub const SHARDS_MAX: u32 = 64;

/// Largest state: far above any model that is trained with data parallelism only.
pub const TOTAL_BYTES_MAX: u64 = 64 << 30;
