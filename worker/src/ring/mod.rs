//! The ring as training sees it: collective operations over the links of one generation.
//!
//! Numbers the operations of a step, so that a segment can never be taken for one of another call. The schedule
//! and the arithmetic are `collective`'s; the links are gRPC streams in [`links`] or memory in tests.

pub mod links;
pub mod service;

use bytes::Bytes;
use collective::{
    CollectiveError, Group, Links, OperationId, PayloadPool, PieceSizes, Reduction, all_gather, all_reduce,
};

/// The ring of one generation.
pub struct Ring {
    group: Group,
    links: Box<dyn Links + Send>,
    sizes: PieceSizes,
    pool: PayloadPool,
    next: OperationId,
}

impl Ring {
    /// Returns the ring of `group` over `links`.
    pub fn new(group: Group, links: Box<dyn Links + Send>, sizes: PieceSizes) -> Self {
        Self {
            group,
            links,
            sizes,
            pool: PayloadPool::default(),
            next: OperationId { step: 0, number: 0 },
        }
    }

    /// Returns the members of the ring and this rank's place.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Replaces `values` by their sum over all ranks; the same bits on every rank.
    ///
    /// # Errors
    /// When a neighbour is lost or breaks the protocol; `values` must then be computed anew.
    pub fn sum<R: Reduction>(&mut self, step: u64, values: &mut [R::Element]) -> Result<(), CollectiveError> {
        let operation = self.operation(step);
        all_reduce::<R>(
            &mut *self.links,
            &self.group,
            operation,
            values,
            self.sizes,
            &mut self.pool,
        )
    }

    /// Returns the blobs of all ranks in rank order.
    ///
    /// # Errors
    /// When a neighbour is lost or breaks the protocol, or when the blob is over its size limit.
    pub fn gather(&mut self, step: u64, own: Bytes) -> Result<Vec<Bytes>, CollectiveError> {
        let operation = self.operation(step);
        all_gather(&mut *self.links, &self.group, operation, own, self.sizes)
    }

    /// Returns the id of the next operation; all ranks call in the same order, so all get the same.
    fn operation(&mut self, step: u64) -> OperationId {
        let number = if self.next.step == step {
            self.next.number
        } else {
            0
        };
        self.next = OperationId {
            step,
            number: number + 1,
        };
        OperationId { step, number }
    }
}
