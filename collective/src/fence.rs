//! The check that every received segment passes before it is read.

use crate::error::RingError;
use crate::group::Group;
use crate::id::{Generation, OperationId, SegmentId};
use crate::schedule::Transfer;
use crate::segment::Segment;

/// What all segments of one operation have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fence {
    generation: Generation,
    operation: OperationId,
}

impl Fence {
    pub(crate) fn new(group: &Group, operation: OperationId) -> Self {
        Self {
            generation: group.generation(),
            operation,
        }
    }

    /// The full name of a transfer's segment.
    pub(crate) fn id(&self, transfer: &Transfer) -> SegmentId {
        SegmentId {
            generation: self.generation,
            step: self.operation.step,
            operation: self.operation.number,
            bucket: transfer.bucket,
            phase: transfer.phase,
            hop: transfer.hop,
            segment: transfer.segment,
        }
    }

    /// Gives the transfer that `segment` belongs to, if it is the awaited one and as long as it must be. What it carries is not
    /// verified yet, but for one that is refused: what the id of a damaged segment says is not worth a thought.
    pub(crate) fn admit<'a>(
        &self,
        segment: &Segment,
        awaited: Option<&'a Transfer>,
        wire_bytes: usize,
    ) -> Result<&'a Transfer, RingError> {
        self.place(segment, awaited, wire_bytes)
            .or_else(|refusal| segment.verify().and(Err(refusal)))
    }

    fn place<'a>(
        &self,
        segment: &Segment,
        awaited: Option<&'a Transfer>,
        wire_bytes: usize,
    ) -> Result<&'a Transfer, RingError> {
        let id = segment.id();
        self.check_operation(&id)?;
        let Some(transfer) = awaited else {
            return Err(RingError::Surplus { got: id });
        };
        let expected = self.id(transfer);
        if id != expected {
            return Err(RingError::Unexpected { expected, got: id });
        }
        let expected = transfer.values.len() * wire_bytes;
        let got = segment.payload().len();
        if got != expected {
            return Err(RingError::BadLength { id, expected, got });
        }
        Ok(transfer)
    }

    fn check_operation(&self, id: &SegmentId) -> Result<(), RingError> {
        let current = self.generation;
        if id.generation < current {
            return Err(RingError::StaleGeneration {
                got: id.generation,
                current,
            });
        }
        if id.generation > current {
            return Err(RingError::NewerGeneration {
                got: id.generation,
                current,
            });
        }
        let OperationId { step, number } = self.operation;
        if id.step != step {
            return Err(RingError::WrongStep {
                got: id.step,
                expected: step,
            });
        }
        if id.operation != number {
            return Err(RingError::WrongOperation {
                step,
                got: id.operation,
                expected: number,
            });
        }
        Ok(())
    }
}
