//! Sums up one flat vector per rank, so that every rank ends with the same bits.
//!
//! The vector is reduced bucket after bucket, as segments: what comes is added to this rank's values on its way into a buffer that
//! is sent on, while the rest of the chunk is still arriving. Only whole sums are written into the vector, and these are
//! passed on as they were received, without a copy.

use std::collections::VecDeque;

use crate::bucket::{BucketChunks, Buckets, PieceSizes};
use crate::error::RingError;
use crate::fence::Fence;
use crate::group::Group;
use crate::id::{OperationId, Phase};
use crate::operation::RingOperation;
use crate::payload::{Payload, values_per_block};
use crate::pool::PayloadPool;
use crate::progress::Progress;
use crate::reduction::Reduction;
use crate::schedule::{Schedule, Transfer};
use crate::segment::Segment;

/// One rank's side of a ring all-reduce.
///
/// Until the operation is done, the values are a mixture of own values and sums. If it is given up, they are of no use and must be
/// computed again.
#[derive(Debug)]
pub struct AllReduce<'a, R: Reduction> {
    fence: Fence,
    values: &'a mut [R::Element],
    pool: &'a mut PayloadPool,
    progress: Progress<BucketChunks>,
    /// Sums that are to be passed on, in link order. Never more than the segments of one chunk when ready sends go first.
    passing: VecDeque<Payload>,
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
            passing: VecDeque::new(),
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

    fn payload(&mut self, transfer: &Transfer) -> Payload {
        if transfer.phase == Phase::ReduceScatter && transfer.hop == 0 {
            return self.pool.encode::<R>(&self.values[transfer.values.clone()]);
        }
        // Invariant: a transfer is ready only after the receive that it passes on, and both come in one order.
        self.passing
            .pop_front()
            .expect("a ready segment was received before")
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
        let is_last_hop = transfer.hop == self.last_hop;
        if transfer.phase == Phase::ReduceScatter {
            let sums = self.pool.encode_sums::<R>(values, &segment)?;
            if is_last_hop {
                // Decoded, as all others will have it: the same bits.
                R::assign(values, &sums);
            }
            self.passing.push_back(sums);
        } else {
            let mut blocks = segment.blocks();
            let parts = values.chunks_mut(values_per_block::<R>());
            // Whatever this rank had is of no more use; what is damaged is overwritten should the right ones come.
            for (values, block) in parts.zip(&mut blocks) {
                R::assign(values, block);
            }
            let whole = segment.verified(blocks)?;
            if !is_last_hop {
                self.passing.push_back(whole);
            }
        }
        self.progress.receive();
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.progress.is_done()
    }
}
