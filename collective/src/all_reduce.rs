//! Sums up one flat vector per rank, so that every rank ends with the same bits.
//!
//! The vector is reduced in place, bucket after bucket, as segments: as soon as one was added up, it is ready
//! to be sent on, while the rest of its chunk is still arriving. A finished segment is passed on as it was
//! received, without a copy.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::bucket::{BucketChunks, Buckets, PieceSizes};
use crate::error::RingError;
use crate::fence::Fence;
use crate::group::Group;
use crate::id::{OperationId, Phase};
use crate::operation::RingOperation;
use crate::pool::PayloadPool;
use crate::progress::Progress;
use crate::reduction::Reduction;
use crate::schedule::{Schedule, Transfer};
use crate::segment::Segment;

/// One rank's side of a ring all-reduce.
///
/// Until the operation is done, the values are a mixture of own values, partial and whole sums. If it is
/// given up, they are of no use and must be computed again.
#[derive(Debug)]
pub struct AllReduce<'a, R: Reduction> {
    fence: Fence,
    values: &'a mut [R::Element],
    pool: &'a mut PayloadPool,
    progress: Progress<BucketChunks>,
    /// Whole sums that are to be passed on, in link order. Never more than the segments of one chunk when
    /// ready sends go first.
    finished: VecDeque<Bytes>,
    last_hop: u32,
    buckets: Buckets,
}

impl<'a, R: Reduction> AllReduce<'a, R> {
    /// Starts the all-reduce of `values`. All ranks bring vectors of one length, and the same sizes.
    ///
    /// # Panics
    ///
    /// When the sizes are so small that the vector has more buckets than 32 bits can count.
    pub fn new(
        group: &Group,
        operation: OperationId,
        values: &'a mut [R::Element],
        sizes: PieceSizes,
        pool: &'a mut PayloadPool,
    ) -> Self {
        let travelling = values.len();
        Self::of_first(group, operation, values, travelling, sizes, pool)
    }

    /// The same of the first `travelling` values; the others never travel.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new), or when fewer values are there than travel.
    pub fn of_first(
        group: &Group,
        operation: OperationId,
        values: &'a mut [R::Element],
        travelling: usize,
        sizes: PieceSizes,
        pool: &'a mut PayloadPool,
    ) -> Self {
        assert!(travelling <= values.len(), "more values travel than there are");
        let world_size = group.world_size();
        let buckets = Buckets::new(travelling, sizes.bucket_bytes() / R::WIRE_BYTES);
        let chunks = BucketChunks { buckets, world_size };
        let schedule = Schedule::new(chunks, world_size, sizes.segment_bytes() / R::WIRE_BYTES);
        Self {
            fence: Fence::new(group, operation),
            values,
            pool,
            progress: Progress::start(&schedule, group.rank()),
            finished: VecDeque::new(),
            last_hop: world_size.saturating_sub(2) as u32,
            buckets,
        }
    }

    /// The same, for values that are not all there yet: no bucket travels before it is [released](Self::release).
    #[must_use]
    pub fn held(mut self) -> Self {
        self.progress.hold();
        self
    }

    /// Lets the first values travel, as many whole buckets as there are among `ready` of them; all that travel when these are.
    /// They must not be changed any more.
    pub fn release(&mut self, ready: usize) {
        let within = self.buckets.within(ready);
        let whole = if within == self.buckets.count() {
            u32::MAX
        } else {
            // Invariant: `Buckets::new` keeps bucket numbers within 32 bits.
            within as u32
        };
        self.progress.release(whole);
    }

    /// All values. Those of buckets that were released are a mixture of own values and sums until the end.
    pub fn values(&mut self) -> &mut [R::Element] {
        self.values
    }

    /// Whether the next segment from the left neighbour can be taken: its bucket was released.
    pub fn can_receive(&self) -> bool {
        self.progress.can_receive()
    }

    fn payload(&mut self, transfer: &Transfer) -> Bytes {
        let starts_all_gather = transfer.phase == Phase::AllGather && transfer.hop == 0;
        if transfer.phase == Phase::AllGather && !starts_all_gather {
            // Invariant: a transfer is ready only after the receive that it passes on, and both come in one
            // order.
            return self
                .finished
                .pop_front()
                .expect("a ready segment was received before");
        }
        let values = &mut self.values[transfer.values.clone()];
        let payload = self.pool.encode::<R>(values);
        if starts_all_gather && R::ROUNDS_ON_WIRE {
            R::assign(values, &payload);
        }
        payload
    }
}

impl<R: Reduction> RingOperation for AllReduce<'_, R> {
    fn next_send(&mut self) -> Option<Segment> {
        let transfer = self.progress.take_ready()?;
        let payload = self.payload(&transfer);
        Some(Segment::new(self.fence.id(&transfer), payload))
    }

    fn on_segment(&mut self, segment: Segment) -> Result<(), RingError> {
        let transfer = self
            .fence
            .admit(&segment, self.progress.awaited(), R::WIRE_BYTES)?;
        let values = &mut self.values[transfer.values.clone()];
        if transfer.phase == Phase::ReduceScatter {
            R::accumulate(values, segment.payload());
        } else {
            R::assign(values, segment.payload());
            if transfer.hop < self.last_hop {
                self.finished.push_back(segment.into_payload());
            }
        }
        self.progress.receive();
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.progress.is_done()
    }
}
