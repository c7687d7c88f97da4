//! What a transport offers to the ring, and the blocking drivers over it.

use std::time::Duration;

use bytes::Bytes;

use crate::all_gather::AllGather;
use crate::all_reduce::AllReduce;
use crate::bucket::PieceSizes;
use crate::error::RingError;
use crate::group::Group;
use crate::id::OperationId;
use crate::operation::RingOperation;
use crate::pool::PayloadPool;
use crate::reduction::Reduction;
use crate::segment::Segment;

/// A link to the right neighbour and one from the left, each first in, first out.
///
/// Both calls may block, but never without end: the deadline is the implementation's. A link holds at least
/// [`WINDOW`](crate::WINDOW) segments that its receiver has not taken, better
/// [`LINK_CAPACITY`](crate::LINK_CAPACITY).
pub trait Links {
    /// Hands a segment to the link to the right neighbour; blocks while the link is full.
    ///
    /// # Errors
    ///
    /// The right neighbour is gone, refused the segment, or took none for too long.
    fn send(&mut self, segment: Segment) -> Result<(), LinkError>;

    /// The next segment from the left neighbour; blocks while there is none.
    ///
    /// # Errors
    ///
    /// The left neighbour is gone, or sent nothing for too long.
    fn receive(&mut self) -> Result<Segment, LinkError>;
}

/// Sums `values` over all ranks, in place.
///
/// # Errors
///
/// A link failed or a segment was refused. `values` are then a mixture of own values and sums, and the ring's
/// links hold segments of a broken operation: both must be given up.
pub fn all_reduce<R: Reduction>(
    links: &mut dyn Links,
    group: &Group,
    operation: OperationId,
    values: &mut [R::Element],
    sizes: PieceSizes,
    pool: &mut PayloadPool,
) -> Result<(), CollectiveError> {
    let mut all_reduce = AllReduce::<R>::new(group, operation, values, sizes, pool);
    drive(links, &mut all_reduce)
}

/// Gathers the blobs of all ranks, in rank order.
///
/// # Errors
///
/// A link failed, a segment was refused, or a blob is over [`MAX_BLOB_BYTES`](crate::MAX_BLOB_BYTES). The
/// links must then be given up.
pub fn all_gather(
    links: &mut dyn Links,
    group: &Group,
    operation: OperationId,
    own: Bytes,
    sizes: PieceSizes,
) -> Result<Vec<Bytes>, CollectiveError> {
    let mut all_gather = AllGather::new(group, operation, own, sizes)?;
    drive(links, &mut all_gather)?;
    Ok(all_gather.into_blobs())
}

/// Moves the segments of one operation until it is done.
///
/// # Errors
///
/// The first link that fails, or the first segment that is refused: links keep their order, so no better one
/// can follow.
pub fn drive(links: &mut dyn Links, operation: &mut dyn RingOperation) -> Result<(), CollectiveError> {
    loop {
        while let Some(segment) = operation.next_send() {
            links.send(segment)?;
        }
        if operation.is_done() {
            return Ok(());
        }
        operation.on_segment(links.receive()?)?;
    }
}

/// Which of the two neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// The one that sends to this rank.
    Left,
    /// The one that this rank sends to.
    Right,
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Left => "left",
            Self::Right => "right",
        })
    }
}

/// Why a segment could not be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The neighbour ended the connection, or is gone.
    #[error("the link to the {neighbour} neighbour is closed")]
    Closed {
        /// Which neighbour.
        neighbour: Neighbour,
    },
    /// The neighbour did nothing until the deadline.
    #[error("the {neighbour} neighbour did nothing for {waited:?}")]
    TimedOut {
        /// Which neighbour.
        neighbour: Neighbour,
        /// How long this rank waited.
        waited: Duration,
    },
    /// The neighbour said no.
    #[error("the {neighbour} neighbour refused: {reason}")]
    Refused {
        /// Which neighbour.
        neighbour: Neighbour,
        /// What it said.
        reason: String,
    },
}

impl LinkError {
    /// Returns the neighbour at the other end.
    pub fn neighbour(&self) -> Neighbour {
        match self {
            Self::Closed { neighbour }
            | Self::TimedOut { neighbour, .. }
            | Self::Refused { neighbour, .. } => *neighbour,
        }
    }
}

/// Why a collective call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectiveError {
    /// A link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A segment was refused.
    #[error(transparent)]
    Ring(#[from] RingError),
}
