//! Why a received segment was refused.

use crate::all_gather::MAX_BLOB_BYTES;
use crate::id::{Generation, SegmentId};

/// A fault of a ring operation. The operation has not gone on with the segment that caused it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The sender is in a generation that has ended.
    #[error("a segment of generation {got} was refused: generation {current} is current")]
    StaleGeneration {
        /// The segment's generation.
        got: Generation,
        /// The generation of this group.
        current: Generation,
    },
    /// The sender is in a generation that this rank has not heard of.
    #[error("a segment of generation {got} was refused: this rank is still in generation {current}")]
    NewerGeneration {
        /// The segment's generation.
        got: Generation,
        /// The generation of this group.
        current: Generation,
    },
    /// The sender is at another step.
    #[error("a segment of step {got} was refused at step {expected}")]
    WrongStep {
        /// The segment's step.
        got: u64,
        /// The step of this operation.
        expected: u64,
    },
    /// The sender is in another collective call of this step.
    #[error("a segment of operation {got} was refused: step {step} is at operation {expected} on this rank")]
    WrongOperation {
        /// The step of both.
        step: u64,
        /// The number of the segment's operation.
        got: u32,
        /// The number of this operation.
        expected: u32,
    },
    /// A segment came twice, was left out, or came in another order than it was scheduled.
    #[error("expected {expected}, but got {got}")]
    Unexpected {
        /// The segment that the schedule has next.
        expected: SegmentId,
        /// The segment that came.
        got: SegmentId,
    },
    /// A segment came after the last one of the operation.
    #[error("{got} came after the last segment of its operation")]
    Surplus {
        /// The segment that came.
        got: SegmentId,
    },
    /// A payload is not as long as the schedule says: the ranks have different vectors or sizes.
    #[error("{id} has {got} bytes instead of {expected}")]
    BadLength {
        /// The segment.
        id: SegmentId,
        /// The length that the schedule gives.
        expected: usize,
        /// The length of the payload that came.
        got: usize,
    },
    /// Id or payload were damaged on the way.
    #[error("{id} was damaged on the way: its checksum is {got:#018x} instead of {expected:#018x}")]
    BadChecksum {
        /// The segment, as far as its id can be trusted.
        id: SegmentId,
        /// The checksum it carries.
        expected: u64,
        /// The checksum of what came.
        got: u64,
    },
    /// A rank wants to gather a blob over the limit.
    #[error("the blob of rank {rank} has {got} bytes, over the limit of {MAX_BLOB_BYTES}")]
    BlobTooLong {
        /// The rank whose blob it is.
        rank: usize,
        /// The blob's length.
        got: u64,
    },
}
