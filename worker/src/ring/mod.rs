//! The ring as training sees it: collective operations over the links of one generation.
//!
//! Numbers the operations of a step, so that a segment can never be taken for one of another call. The schedule
//! and the arithmetic are `collective`'s, as state machines that are driven here; the links are queues, with gRPC streams
//! behind them ([`links`]) or another rank in the same process.

mod frames;
pub mod links;
pub mod peers;
pub mod service;
pub mod state_service;

use std::sync::Arc;

use bytes::Bytes;
use collective::{
    AllGather, AllReduce, CollectiveError, Group, OperationId, PayloadPool, PieceSizes, Reduction,
    RingOperation,
};
use tokio::sync::mpsc::UnboundedReceiver;

use self::links::RingLinks;
use crate::pulse::Pulse;

/// The ring of one generation.
pub struct Ring {
    group: Group,
    links: RingLinks,
    sizes: PieceSizes,
    pool: PayloadPool,
    next: OperationId,
    pulse: Arc<Pulse>,
}

impl Ring {
    /// Returns the ring of `group` over `links`; every segment that arrives counts as progress in `pulse`.
    pub fn new(group: Group, links: RingLinks, sizes: PieceSizes, pulse: Arc<Pulse>) -> Self {
        Self {
            group,
            links,
            sizes,
            pool: PayloadPool::default(),
            next: OperationId { step: 0, number: 0 },
            pulse,
        }
    }

    /// Returns the members of the ring and this rank's place.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Waits for something else, at most until the generation ends.
    pub async fn wait_for(&self, other: impl Future<Output = ()>) {
        tokio::select! {
            () = other => {}
            () = self.links.cancelled() => {}
        }
    }

    /// Replaces `values` by their sum over all ranks; the same bits on every rank.
    ///
    /// # Errors
    /// When a neighbour is lost or breaks the protocol; `values` must then be computed anew.
    pub async fn sum<R: Reduction>(
        &mut self,
        step: u64,
        values: &mut [R::Element],
    ) -> Result<(), CollectiveError> {
        let operation = self.operation(step);
        let mut all_reduce = AllReduce::<R>::new(&self.group, operation, values, self.sizes, &mut self.pool);
        drive(&mut self.links, &mut all_reduce, &self.pulse).await
    }

    /// As [`sum`](Self::sum), of values that come while it is under way. What `arriving` brings goes to `take` with all
    /// values; it returns how many of the first are final, and changes none of these any more.
    ///
    /// When `arriving` ends, or brings `None`, before all are final, the sum ends unfinished: this rank has given up its part.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    pub async fn sum_arriving<R: Reduction, T>(
        &mut self,
        step: u64,
        values: &mut [R::Element],
        arriving: &mut UnboundedReceiver<Option<T>>,
        mut take: impl FnMut(T, &mut [R::Element]) -> usize,
    ) -> Result<(), CollectiveError> {
        let operation = self.operation(step);
        let all = values.len();
        let mut all_reduce =
            AllReduce::<R>::new(&self.group, operation, values, self.sizes, &mut self.pool).held();
        let mut is_final = false;
        while !is_final {
            while let Some(segment) = all_reduce.next_send() {
                self.links.send(segment).await?;
            }
            let can_receive = all_reduce.can_receive();
            tokio::select! {
                // A simulation has one order of everything.
                biased;
                arrived = arriving.recv() => {
                    let Some(Some(arrived)) = arrived else {
                        return Ok(());
                    };
                    let ready = take(arrived, all_reduce.values());
                    is_final = ready >= all;
                    all_reduce.release(ready);
                }
                segment = self.links.receive(), if can_receive => {
                    all_reduce.on_segment(segment?)?;
                    self.pulse.progress();
                }
            }
        }
        drive(&mut self.links, &mut all_reduce, &self.pulse).await
    }

    /// Returns the blobs of all ranks in rank order.
    ///
    /// # Errors
    /// When a neighbour is lost or breaks the protocol, or when the blob is over its size limit.
    pub async fn gather(&mut self, step: u64, own: Bytes) -> Result<Vec<Bytes>, CollectiveError> {
        let operation = self.operation(step);
        let mut all_gather = AllGather::new(&self.group, operation, own, self.sizes)?;
        drive(&mut self.links, &mut all_gather, &self.pulse).await?;
        Ok(all_gather.into_blobs())
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

/// Moves the segments of one operation until it is done.
async fn drive(
    links: &mut RingLinks,
    operation: &mut (dyn RingOperation + Send),
    pulse: &Pulse,
) -> Result<(), CollectiveError> {
    links.check()?;
    loop {
        while let Some(segment) = operation.next_send() {
            links.send(segment).await?;
        }
        if operation.is_done() {
            return Ok(());
        }
        pulse.wait_for_left(true);
        let segment = links.receive().await;
        pulse.wait_for_left(false);
        operation.on_segment(segment?)?;
        pulse.progress();
    }
}
