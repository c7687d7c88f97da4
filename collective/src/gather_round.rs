//! Gathers blobs whose lengths all ranks know already.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::error::RingError;
use crate::fence::Fence;
use crate::group::Group;
use crate::id::Phase;
use crate::payload::Payload;
use crate::progress::Progress;
use crate::schedule::{Chunks, Schedule};
use crate::segment::Segment;

/// One rank's side of a round: every rank's blob once round the ring.
#[derive(Debug)]
pub(crate) struct GatherRound {
    fence: Fence,
    lens: Arc<[usize]>,
    progress: Progress<Blobs>,
    /// Rank order; empty until the blob is complete.
    blobs: Vec<Bytes>,
    /// The part of the awaited blob that is here already.
    arriving: BytesMut,
    /// Segments that are to be passed on, in link order. Never more than those of one blob when ready sends
    /// go first.
    passing: VecDeque<Payload>,
    last_hop: u32,
}

impl GatherRound {
    /// Starts a round in which rank `r` brings `lens[r]` bytes, and this rank `own`. The bucket number tells
    /// the rounds of an operation apart.
    pub(crate) fn start(
        group: &Group,
        fence: Fence,
        bucket: u32,
        lens: Arc<[usize]>,
        own: Bytes,
        segment_bytes: usize,
    ) -> Self {
        let chunks = Blobs {
            lens: Arc::clone(&lens),
        };
        let schedule = Schedule::new(chunks, group.world_size(), segment_bytes).numbered_from(bucket);
        let mut blobs = vec![Bytes::new(); group.world_size()];
        blobs[group.rank()] = own;
        Self {
            fence,
            lens,
            progress: Progress::start(&schedule, group.rank()),
            blobs,
            arriving: BytesMut::new(),
            passing: VecDeque::new(),
            last_hop: group.world_size().saturating_sub(2) as u32,
        }
    }

    pub(crate) fn next_send(&mut self) -> Option<Segment> {
        let transfer = self.progress.take_ready()?;
        let payload = if transfer.hop == 0 {
            self.blobs[transfer.chunk].slice(transfer.values.clone()).into()
        } else {
            // Invariant: a transfer is ready only after the receive that it passes on, and both come in one
            // order.
            self.passing
                .pop_front()
                .expect("a ready segment was received before")
        };
        Some(Segment::new(self.fence.id(&transfer), payload))
    }

    /// Takes a segment, unless `check` refuses what it carries of the blob of a rank.
    pub(crate) fn on_segment(
        &mut self,
        segment: Segment,
        check: impl FnOnce(usize, &[u8]) -> Result<(), RingError>,
    ) -> Result<(), RingError> {
        let transfer = self.fence.admit(&segment, self.progress.awaited(), 1)?;
        let payload = segment.verify()?;
        let chunk = transfer.chunk;
        check(chunk, &payload)?;
        let len = self.lens[chunk];
        if transfer.values.len() == len {
            self.blobs[chunk] = Bytes::clone(&payload);
        } else {
            self.arriving.extend_from_slice(&payload);
            if transfer.values.end == len {
                self.blobs[chunk] = self.arriving.split().freeze();
            }
        }
        if transfer.hop < self.last_hop {
            self.passing.push_back(payload);
        }
        self.progress.receive();
        Ok(())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.progress.is_done()
    }

    /// All ranks' blobs in rank order, once the round is done.
    pub(crate) fn blobs(&self) -> &[Bytes] {
        &self.blobs
    }
}

/// One bucket whose chunk `r` is the blob of rank `r`.
#[derive(Clone, Debug)]
struct Blobs {
    lens: Arc<[usize]>,
}

impl Chunks for Blobs {
    const PHASES: &'static [Phase] = &[Phase::Gather];

    fn bucket_count(&self) -> usize {
        1
    }

    fn range(&self, _bucket: usize, chunk: usize) -> Range<usize> {
        0..self.lens[chunk]
    }

    fn longest(&self, _bucket: usize) -> usize {
        self.lens.iter().copied().max().unwrap_or(0)
    }
}
