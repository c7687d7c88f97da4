//! Which rank sends which piece to its right neighbour, in which order, and how far it may run ahead.
//!
//! The schedule is data, not control flow: [`Schedule::sends`] lists what a rank sends, and what it receives
//! is what its left neighbour sends, in that order, because a link is first in, first out. So a receiver
//! always knows the one segment that may come next, and empty chunks need no messages at all.
//!
//! # Ticks
//!
//! All ranks number the transfers alike. A bucket takes one *tick* per phase, hop and segment of its longest
//! chunk; a shorter chunk leaves its last tick unused. Ticks of later buckets, hops and segments are larger,
//! and each rank both sends and receives in tick order.
//!
//! A rank sends the transfer of tick `t` only when every receive before [`Transfer::after`] is done, which
//! means two things:
//! - *Dependency*: after the first hop, a rank passes on what it received one hop, `S` ticks, earlier: all
//!   receives of ticks up to `t - S` are done.
//! - *Window*: all receives of ticks up to `t - `[`WINDOW`] are done.
//!
//! # Why a ring cannot dead-lock
//!
//! Let each link hold at least [`WINDOW`] segments. A rank that neither computes nor is finished waits for
//! one of two things: space in the link to its right, or a segment from its left. Suppose that every rank
//! waits.
//! 1. *Some wait for space.* A full link holds a segment, so its receiver does not wait for one, but for
//!    space itself. Following the ring, all ranks wait for space and all links are full. Take the rank whose
//!    next tick `t` is the largest. By the window, its next receive has a tick above `t - WINDOW`. Its left
//!    neighbour has sent only ticks below its own next tick, so not above `t`. At most `WINDOW - 1` segments
//!    fit between, so the link between them is not full: a contradiction.
//! 2. *All wait for a segment.* All links are empty: whatever was sent is received. Take a rank whose next
//!    tick `t` is the smallest. Its left neighbour has sent everything before `t`, so this rank has received
//!    it, and neither dependency nor window holds it back: a contradiction.
//!
//! Operations follow each other in the same order on all ranks, so with ticks counted on from one operation
//! to the next the argument covers a whole run. It holds for any segment count per chunk, also 0.

use std::ops::Range;

use crate::group::left_of;
use crate::id::Phase;

/// The transfers of one operation, for all ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule<C> {
    chunks: C,
    world_size: usize,
    segment_len: usize,
    first_bucket: u32,
}

impl<C: Chunks> Schedule<C> {
    /// Plans the transfers of `chunks` between `world_size` ranks in segments of at most `segment_len`
    /// values.
    ///
    /// # Panics
    ///
    /// When `segment_len` is 0, or so small that the segments of a chunk cannot be numbered with 32 bits.
    pub fn new(chunks: C, world_size: usize, segment_len: usize) -> Self {
        assert!(segment_len > 0, "a segment holds at least one value");
        for bucket in 0..chunks.bucket_count().min(1) {
            assert!(
                chunks.longest(bucket).div_ceil(segment_len) <= u32::MAX as usize,
                "segments of {segment_len} values are too many for a chunk"
            );
        }
        Self {
            chunks,
            world_size,
            segment_len,
            first_bucket: 0,
        }
    }

    /// Gives the first bucket the number `first_bucket` instead of 0.
    pub(crate) fn numbered_from(self, first_bucket: u32) -> Self {
        Self { first_bucket, ..self }
    }

    /// What `rank` sends to its right neighbour, in link order.
    pub fn sends(&self, rank: usize) -> Transfers<C> {
        Transfers {
            schedule: self.clone(),
            sender: rank,
            bucket: 0,
            bucket_tick: 0,
            leg: 0,
            segment: 0,
        }
    }

    /// What `rank` receives from its left neighbour, in link order.
    pub fn receives(&self, rank: usize) -> Transfers<C> {
        self.sends(left_of(rank, self.world_size))
    }

    /// The hops of all phases of a bucket.
    fn legs(&self) -> usize {
        C::PHASES.len() * (self.world_size - 1)
    }

    /// The segments of a bucket's longest chunk.
    fn ticks_per_leg(&self, bucket: usize) -> u64 {
        self.chunks.longest(bucket).div_ceil(self.segment_len) as u64
    }
}

/// One segment on its way from a rank to its right neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The bucket it belongs to.
    pub bucket: u32,
    /// The phase in which it travels.
    pub phase: Phase,
    /// How often its chunk was passed on in this phase before.
    pub hop: u32,
    /// Its position within the chunk.
    pub segment: u32,
    /// The chunk it belongs to.
    pub chunk: usize,
    /// The values it carries: positions in the vector, or in the chunk's blob.
    pub values: Range<usize>,
    /// Its place in the order that all ranks share.
    pub tick: u64,
    /// The sender must first have received all transfers of smaller ticks than this.
    pub after: u64,
}

/// The transfers from one rank to its right neighbour, in the order in which they are on the link.
#[derive(Clone, Debug)]
pub struct Transfers<C> {
    schedule: Schedule<C>,
    sender: usize,
    bucket: usize,
    /// The first tick of the bucket.
    bucket_tick: u64,
    /// The hop, counted through all phases of the bucket.
    leg: usize,
    segment: usize,
}

impl<C: Chunks> Iterator for Transfers<C> {
    type Item = Transfer;

    fn next(&mut self) -> Option<Transfer> {
        let hops = self.schedule.world_size - 1;
        while hops > 0 && self.bucket < self.schedule.chunks.bucket_count() {
            let (phase, hop) = (C::PHASES[self.leg / hops], self.leg % hops);
            let chunk = sent_chunk(phase, hop, self.sender, self.schedule.world_size);
            let range = self.schedule.chunks.range(self.bucket, chunk);
            let start = range.start + self.segment * self.schedule.segment_len;
            if start < range.end {
                let end = range.end.min(start.saturating_add(self.schedule.segment_len));
                let transfer = self.transfer(phase, hop, chunk, start..end);
                self.segment += 1;
                return Some(transfer);
            }
            self.start_next_leg();
        }
        None
    }
}

impl<C: Chunks> Transfers<C> {
    fn transfer(&self, phase: Phase, hop: usize, chunk: usize, values: Range<usize>) -> Transfer {
        let ticks_per_leg = self.schedule.ticks_per_leg(self.bucket);
        let tick = self.bucket_tick + self.leg as u64 * ticks_per_leg + self.segment as u64;
        let after_dependency = if self.leg == 0 {
            0
        } else {
            tick - ticks_per_leg + 1
        };
        let after_window = (tick + 1).saturating_sub(WINDOW);
        // Invariant: Buckets::new and Schedule::new keep bucket and segment numbers within 32 bits.
        Transfer {
            bucket: self.schedule.first_bucket + self.bucket as u32,
            phase,
            hop: hop as u32,
            segment: self.segment as u32,
            chunk,
            values,
            tick,
            after: after_dependency.max(after_window),
        }
    }

    fn start_next_leg(&mut self) {
        self.segment = 0;
        self.leg += 1;
        if self.leg == self.schedule.legs() {
            self.bucket_tick += self.leg as u64 * self.schedule.ticks_per_leg(self.bucket);
            self.bucket += 1;
            self.leg = 0;
        }
    }
}

/// What a schedule moves: buckets, each of one chunk per rank.
pub trait Chunks: Clone {
    /// The phases through which each bucket goes.
    const PHASES: &'static [Phase];

    /// The number of buckets.
    fn bucket_count(&self) -> usize;

    /// The values of a chunk.
    fn range(&self, bucket: usize, chunk: usize) -> Range<usize>;

    /// The length of a bucket's longest chunk.
    fn longest(&self, bucket: usize) -> usize;
}

/// The chunk that `rank` sends at a hop.
///
/// In the reduce-scatter and the gather a rank starts with the chunk of its own number, and passes on what it
/// received at the hop before. The reduce-scatter leaves rank `r` with the whole sum of chunk `r + 1`, with
/// which it starts the all-gather.
///
/// # Source
///
/// The bandwidth-optimal ring of Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
/// workstations", J. Parallel Distrib. Comput. 69 (2009), section 3.
pub fn sent_chunk(phase: Phase, hop: usize, rank: usize, world_size: usize) -> usize {
    let first = match phase {
        Phase::ReduceScatter | Phase::Gather => rank,
        Phase::AllGather => rank + 1,
    };
    (first + world_size - hop) % world_size
}

/// How many ticks a rank may send ahead of what it received.
///
/// Eight segments of the default size are 4 MiB in flight on each link: 10 Gbit/s at a round trip of 3 ms.
pub const WINDOW: u64 = 8;

/// How many segments a link's queue should hold. At least [`WINDOW`] are needed; twice as many let a slow
/// receiver catch up without stopping its left neighbour.
pub const LINK_CAPACITY: usize = 2 * WINDOW as usize;
