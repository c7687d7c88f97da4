//! What training tells the outside: plain records, and a trait for whoever takes them.
//!
//! Records carry no rates of time: the receiver has the clock.

use model::metric::Metrics;
use proto::{Activity, Fingerprint, Generation, StateDigest, StateHash};

use crate::training::schedule::Rates;

/// Progress within an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// The epoch in progress, counted from zero.
    pub epoch: u32,
    /// Steps done in the run, this one included.
    pub step: u64,
    /// Mean box, class and distribution loss of the epoch so far.
    pub losses: [f64; 3],
    /// Images of this step, over all ranks.
    pub images: u64,
}

/// The result of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochRecord {
    /// The epoch, counted from zero.
    pub epoch: u32,
    /// Steps done in the run.
    pub step: u64,
    /// Mean box, class and distribution loss over the epoch's steps.
    pub training_losses: [f64; 3],
    /// Mean box, class and distribution loss over the validation batches.
    pub validation_losses: [f64; 3],
    /// Training images used, over all ranks.
    pub images: u64,
    /// Steps of the epoch that were computed again.
    pub redone_steps: u32,
    /// Hash of the state at the epoch's end.
    pub hash: StateHash,
    /// Metrics of the averaged weights.
    pub metrics: Metrics,
    /// Whether no earlier epoch was better.
    pub is_best: bool,
    /// The rates of the epoch's last step.
    pub rates: Rates,
}

/// One rank's range of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardRecord {
    /// The generation whose ranks make the checkpoint.
    pub generation: Generation,
    /// Steps done in the state.
    pub step: u64,
    /// Which range: the rank.
    pub shard: u32,
    /// Number of ranges: the world size.
    pub shards: u32,
    /// Where the range begins in the image, in bytes.
    pub offset: u64,
    /// The range.
    pub bytes: Vec<u8>,
    /// Length of the image in bytes.
    pub total_bytes: u64,
    /// Digest of the image.
    pub state_digest: Fingerprint,
}

/// Takes what training reports.
pub trait Reporter {
    /// The rank turned to something else.
    fn activity(&mut self, activity: Activity);
    /// The rank got the slots or validation batches done that it computes at once.
    fn worked(&mut self);
    /// So many steps are done.
    fn advanced(&mut self, step: u64);
    /// The digest of the whole state after a step.
    fn digest(&mut self, digest: StateDigest);
    /// A step was done; from rank 0 only.
    fn step(&mut self, record: StepRecord);
    /// An epoch was validated; `weights` is its weights file. From every rank, for rank 0 may be lost before it has
    /// passed it on.
    fn epoch(&mut self, record: EpochRecord, weights: Vec<u8>);
    /// Training stops within an epoch; `weights` is the weights file of its last step. From rank 0 only.
    fn last_weights(&mut self, weights: Vec<u8>);
    /// This rank's range of a checkpoint.
    fn checkpoint(&mut self, shard: ShardRecord);
    /// Whether a range is still on its way.
    fn is_range_under_way(&self) -> bool;
}
