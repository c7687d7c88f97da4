//! What workers report: progress within an epoch, the result of an epoch, trouble, and the end of their part.

mod convert;

use std::fmt;

use serde::Serialize;

use crate::ending::Outcome;
use crate::identity::Fingerprint;

/// One report of a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Progress; from rank 0 about once a second.
    Step(StepReport),
    /// Result; from rank 0 once per epoch.
    Epoch(EpochReport),
    /// The sender's work is done; from every rank.
    Finished(Finished),
    /// A ring link broke; from the ranks that see it.
    LinkLost(LinkLost),
    /// The sender was asked to end and wants to leave at a step boundary.
    DrainRequested,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waiting for a roster or connecting the ring.
    Waiting,
    /// Computing and exchanging steps.
    Training,
    /// Computing validation metrics.
    Validating,
    /// Writing or uploading weights.
    Saving,
}

/// The parts of the detection loss, gains applied, normalised.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Losses {
    /// Box regression.
    pub box_loss: f64,
    /// Classification.
    pub cls_loss: f64,
    /// Distribution focal loss.
    pub dfl_loss: f64,
}

/// Progress within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepReport {
    /// Epoch in progress; the first is 1.
    pub epoch: u32,
    /// Steps applied so far in the run.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Mean training losses of the epoch so far.
    pub losses: Losses,
    /// Training images per second, all ranks together.
    pub images_per_second: f64,
}

/// Detection quality on the validation set, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Metrics {
    /// Mean precision at the confidence of the best F1.
    pub precision: f64,
    /// Mean recall there.
    pub recall: f64,
    /// Mean average precision at IoU 0.5.
    pub map50: f64,
    /// Mean average precision over IoU 0.5 to 0.95.
    pub map50_95: f64,
}

/// The result of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EpochReport {
    /// The epoch; the first is 1.
    pub epoch: u32,
    /// Steps applied at its end.
    pub step: u64,
    /// Mean losses over the training images.
    pub train: Losses,
    /// Mean losses over the validation images.
    pub val: Losses,
    /// Validation metrics.
    pub metrics: Metrics,
    /// Learning rates at its end: weights with decay, norm weights, biases.
    pub learning_rates: [f64; 3],
    /// Training images per second, all ranks together.
    pub images_per_second: f64,
    /// Time that training and validation took.
    pub seconds: f64,
    /// Whether no earlier epoch was better.
    pub best: bool,
    /// Hash of the state at its end.
    pub hash: StateHash,
    /// Steps of the epoch that were computed again.
    pub redone_steps: u32,
}

/// SHA-256 of a training state. Equal hashes are equal bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StateHash {
    /// Of the parameters.
    pub parameters: Fingerprint,
    /// Of the BatchNorm running statistics.
    pub buffers: Fingerprint,
    /// Of the optimizer's moments and the exponents of exact sums.
    pub optimizer: Fingerprint,
    /// Of the moving average, parameters and buffers: also the hash of the weights file.
    pub ema: Fingerprint,
    /// Of all of it and of the step number.
    pub state: Fingerprint,
}

impl StateHash {
    /// Makes up a hash from some bytes, for tests and simulations.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let part = |name: &[u8]| Fingerprint::of(&[name, bytes].concat());
        Self {
            parameters: part(b"parameters"),
            buffers: part(b"buffers"),
            optimizer: part(b"optimizer"),
            ema: part(b"ema"),
            state: part(b"state"),
        }
    }
}

/// The end of a worker's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// Epochs completed.
    pub epoch: u32,
    /// Steps applied.
    pub step: u64,
    /// What failed, or why the run completed early; may be empty otherwise.
    pub reason: String,
}

/// A broken ring link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkLost {
    /// Rank at the other end.
    pub neighbour: usize,
    /// What the transport said.
    pub reason: String,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Training => "training",
            Self::Validating => "validating",
            Self::Saving => "saving",
        })
    }
}
