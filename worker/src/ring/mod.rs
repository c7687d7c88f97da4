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
    AllGather, AllReduce, CollectiveError, Group, LinkError, OperationId, PayloadPool, PieceSizes, Reduction,
    RingOperation, Segment,
};
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use self::links::RingLinks;
use crate::pulse::Pulse;

/// The ring of one generation. Clones are the same ring, so that a task of the runtime can have one: on a host with few cores it wakes up
/// on the thread that reads the streams, where another thread would have to be woken for each segment.
///
/// All ranks must begin the same operations in the same order, each after the one before has ended: they are numbered as they begin.
#[derive(Clone)]
pub struct Ring {
    group: Group,
    cancelled: CancellationToken,
    /// Taken by one operation after the other.
    ends: Arc<Mutex<Ends>>,
}

/// What operations move segments by.
struct Ends {
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
            cancelled: links.cancellation(),
            ends: Arc::new(Mutex::new(Ends {
                links,
                sizes,
                pool: PayloadPool::default(),
                next: OperationId { step: 0, number: 0 },
                pulse,
            })),
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
            () = self.cancelled.cancelled() => {}
        }
    }

    /// Replaces `values` by their sum over all ranks; the same bits on every rank.
    ///
    /// # Errors
    /// When a neighbour is lost or breaks the protocol; `values` must then be computed anew.
    pub async fn sum<R: Reduction>(
        &self,
        step: u64,
        values: &mut [R::Element],
    ) -> Result<(), CollectiveError> {
        let ends = &mut *self.ends.lock().await;
        let operation = ends.operation(step);
        let mut all_reduce = AllReduce::<R>::new(&self.group, operation, values, ends.sizes, &mut ends.pool);
        drive(&mut ends.links, &mut all_reduce, &ends.pulse).await
    }

    /// As [`sum`](Self::sum), of the first `travelling` values, which come while it is under way. What `arriving` brings goes to
    /// `take` with all values; it returns how many of the first are final, and changes none of these any more. The sum ends
    /// when all that travel are summed and all values are final.
    ///
    /// When `arriving` ends, or brings `None`, before that, the sum ends unfinished, and `false` is returned: this rank has given
    /// up its part.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    pub async fn sum_arriving<R: Reduction, T>(
        &self,
        step: u64,
        travelling: usize,
        values: &mut [R::Element],
        arriving: &mut UnboundedReceiver<Option<T>>,
        mut take: impl FnMut(T, &mut [R::Element]) -> usize,
    ) -> Result<bool, CollectiveError> {
        let mut ends = self.ends.lock().await;
        let operation = ends.operation(step);
        let Ends {
            links,
            sizes,
            pool,
            pulse,
            ..
        } = &mut *ends;
        let all = values.len();
        let mut all_reduce =
            AllReduce::<R>::of_first(&self.group, operation, values, travelling, *sizes, pool).held();
        let mut is_final = false;
        while !is_final {
            while let Some(segment) = all_reduce.next_send() {
                hand_over(links, segment).await?;
            }
            let can_receive = all_reduce.can_receive();
            tokio::select! {
                // A simulation has one order of everything.
                biased;
                arrived = arriving.recv() => {
                    let Some(Some(arrived)) = arrived else {
                        return Ok(false);
                    };
                    let ready = take(arrived, all_reduce.values());
                    is_final = ready >= all;
                    all_reduce.release(ready);
                }
                segment = links.receive(), if can_receive => {
                    all_reduce.on_segment(segment?)?;
                    pulse.progress();
                }
            }
        }
        drive(links, &mut all_reduce, pulse).await?;
        Ok(true)
    }

    /// Returns the blobs of all ranks in rank order.
    ///
    /// # Errors
    /// When a neighbour is lost or breaks the protocol, or when the blob is over its size limit.
    pub async fn gather(&self, step: u64, own: Bytes) -> Result<Vec<Bytes>, CollectiveError> {
        let ends = &mut *self.ends.lock().await;
        let operation = ends.operation(step);
        let mut all_gather = AllGather::new(&self.group, operation, own, ends.sizes)?;
        drive(&mut ends.links, &mut all_gather, &ends.pulse).await?;
        Ok(all_gather.into_blobs())
    }
}

impl Ends {
    /// Returns the id of the next operation, the same on all ranks.
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

/// Sends a segment, and lets the task that writes it to the stream go first, when it is one of the same thread: the right neighbour may
/// have nothing else to do, while there is more to add up here.
async fn hand_over(links: &mut RingLinks, segment: Segment) -> Result<(), LinkError> {
    links.send(segment).await?;
    yield_now().await;
    Ok(())
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
            hand_over(links, segment).await?;
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
