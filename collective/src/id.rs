//! The names of things that travel: generation, operation, phase, segment.
//!
//! A segment's id says everything about its place in a run, and no two segments on a link ever have equal
//! ids. A segment that was delayed, repeated or sent by a rank with another idea of the world is therefore
//! seen as such, and never taken for the one that is awaited.

use std::fmt;

/// One membership era: a fixed set of members in a fixed ring order. Only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which collective call of a run this is.
///
/// The number tells the calls of one step apart: the first is 0, the next 1. All ranks make the same calls in
/// the same order. It is a field of its own, not a range of bucket numbers, so that a call needs to know
/// nothing about how many buckets the calls before it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId {
    /// The global step in which the call is made.
    pub step: u64,
    /// Its number among the calls of that step.
    pub number: u32,
}

/// The part of an operation in which a segment travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Chunks travel round the ring and grow into sums.
    ReduceScatter,
    /// Summed chunks travel round the ring and are copied.
    AllGather,
    /// Byte blobs of different lengths travel round the ring and are copied.
    Gather,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReduceScatter => "reduce-scatter",
            Self::AllGather => "all-gather",
            Self::Gather => "gather",
        })
    }
}

/// The full name of a segment on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The membership era it belongs to.
    pub generation: Generation,
    /// The global step it belongs to.
    pub step: u64,
    /// Which collective call of the step, see [`OperationId::number`].
    pub operation: u32,
    /// The bucket, counted from the start of the vector. In [`Phase::Gather`]: 0 for lengths, 1 for blobs.
    pub bucket: u32,
    /// The part of the operation.
    pub phase: Phase,
    /// How often the segment's chunk was passed on in this phase before.
    pub hop: u32,
    /// The position within the chunk, counted in segments.
    pub segment: u32,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation,
            step,
            operation,
            bucket,
            phase,
            hop,
            segment,
        } = self;
        write!(
            f,
            "{phase} segment {segment} of bucket {bucket} at hop {hop} \
             (generation {generation}, step {step}, operation {operation})"
        )
    }
}
