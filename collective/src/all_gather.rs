//! Brings every rank's byte blob to every rank.
//!
//! Blobs may have different lengths, which no rank knows at first. So lengths travel round the ring before
//! blobs do: from then on, every rank has the whole schedule, and the window and its argument against
//! dead-locks hold as they do for an all-reduce.

use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::PieceSizes;
use crate::error::RingError;
use crate::fence::Fence;
use crate::gather_round::GatherRound;
use crate::group::Group;
use crate::id::OperationId;
use crate::operation::RingOperation;
use crate::segment::Segment;

/// One rank's side of a ring all-gather.
#[derive(Debug)]
pub struct AllGather {
    group: Group,
    fence: Fence,
    own: Bytes,
    segment_bytes: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Lengths(GatherRound),
    Blobs(GatherRound),
}

impl AllGather {
    /// Starts to gather `own` and the blobs of the other ranks. A blob may be empty.
    ///
    /// # Errors
    ///
    /// [`RingError::BlobTooLong`] when `own` is over [`MAX_BLOB_BYTES`].
    pub fn new(
        group: &Group,
        operation: OperationId,
        own: Bytes,
        sizes: PieceSizes,
    ) -> Result<Self, RingError> {
        let own_len = own.len() as u64;
        check_len(group.rank(), own_len)?;
        let fence = Fence::new(group, operation);
        let segment_bytes = sizes.segment_bytes();
        let lens_of_lengths = vec![LENGTH_BYTES; group.world_size()].into();
        let own_length = Bytes::copy_from_slice(&own_len.to_le_bytes());
        let lengths = GatherRound::start(
            group,
            fence,
            LENGTHS_BUCKET,
            lens_of_lengths,
            own_length,
            segment_bytes,
        );
        let mut gather = Self {
            group: *group,
            fence,
            own,
            segment_bytes,
            stage: Stage::Lengths(lengths),
        };
        gather.go_on_to_blobs();
        Ok(gather)
    }

    /// All ranks' blobs, in rank order.
    ///
    /// # Panics
    ///
    /// When the operation is not done.
    pub fn into_blobs(self) -> Vec<Bytes> {
        assert!(
            self.is_done(),
            "the blobs are complete only once the operation is done"
        );
        self.round().blobs().to_vec()
    }

    fn round(&self) -> &GatherRound {
        match &self.stage {
            Stage::Lengths(round) | Stage::Blobs(round) => round,
        }
    }

    fn round_mut(&mut self) -> &mut GatherRound {
        match &mut self.stage {
            Stage::Lengths(round) | Stage::Blobs(round) => round,
        }
    }

    /// Starts with the blobs once all lengths were received and passed on.
    fn go_on_to_blobs(&mut self) {
        let Stage::Lengths(lengths) = &self.stage else {
            return;
        };
        if !lengths.is_done() {
            return;
        }
        // Invariant: each length was checked against MAX_BLOB_BYTES when it came, so it fits a usize.
        let lens: Arc<[usize]> = lengths
            .blobs()
            .iter()
            .map(|blob| length_of(blob) as usize)
            .collect();
        let round = GatherRound::start(
            &self.group,
            self.fence,
            BLOBS_BUCKET,
            lens,
            std::mem::take(&mut self.own),
            self.segment_bytes,
        );
        self.stage = Stage::Blobs(round);
    }
}

impl RingOperation for AllGather {
    fn next_send(&mut self) -> Option<Segment> {
        let segment = self.round_mut().next_send();
        self.go_on_to_blobs();
        segment
    }

    /// # Errors
    ///
    /// Also [`RingError::BlobTooLong`], when another rank announces a blob over [`MAX_BLOB_BYTES`].
    fn on_segment(&mut self, segment: Segment) -> Result<(), RingError> {
        match &mut self.stage {
            Stage::Lengths(round) => {
                round.on_segment(segment, |rank, length| check_len(rank, length_of(length)))
            }
            Stage::Blobs(round) => round.on_segment(segment, |_, _| Ok(())),
        }?;
        self.go_on_to_blobs();
        Ok(())
    }

    fn is_done(&self) -> bool {
        matches!(&self.stage, Stage::Blobs(round) if round.is_done())
    }
}

fn check_len(rank: usize, got: u64) -> Result<(), RingError> {
    if got > MAX_BLOB_BYTES as u64 {
        return Err(RingError::BlobTooLong { rank, got });
    }
    Ok(())
}

fn length_of(blob: &[u8]) -> u64 {
    // Invariant: the lengths' round admits only blobs of LENGTH_BYTES.
    u64::from_le_bytes(std::array::from_fn(|i| blob[i]))
}

/// The longest blob that can be gathered: ample for the detections of a rank's share of a large validation
/// set, and with 64 ranks still within a host's memory.
pub const MAX_BLOB_BYTES: usize = 256 << 20;

const LENGTH_BYTES: usize = 8;
const LENGTHS_BUCKET: u32 = 0;
const BLOBS_BUCKET: u32 = 1;
