//! What every ring operation offers to the shell that moves its segments.

use crate::error::RingError;
use crate::segment::Segment;

/// A collective operation as a state machine without input or output.
///
/// Call [`next_send`](Self::next_send) until it gives `None`, then hand in what the left neighbour sent, and
/// so on until [`is_done`](Self::is_done). Sends that are ready go before receives: the argument against
/// dead-locks and the bound on memory rest on that order.
pub trait RingOperation {
    /// The next segment for the right neighbour, if there is one that is ready and within the window.
    fn next_send(&mut self) -> Option<Segment>;

    /// Takes a segment from the left neighbour.
    ///
    /// Only the one segment that the schedule has next is taken. Any other is refused, and changes at most values that the
    /// awaited segment overwrites: the operation can go on when that comes. A link that keeps its order cannot bring it
    /// any more, so a shell over such links gives the operation up.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong: checksum, generation, step, operation, position, length.
    fn on_segment(&mut self, segment: Segment) -> Result<(), RingError>;

    /// Whether everything was sent and received.
    fn is_done(&self) -> bool;
}
