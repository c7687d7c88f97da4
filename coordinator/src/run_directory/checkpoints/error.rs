//! Why a checkpoint is not saved, and what the sender of a shard is told.

use std::io;
use std::path::PathBuf;

use proto::{ParseError, Refusal};
use thiserror::Error;

/// Why a shard is not taken in, or a checkpoint not saved. The checkpoints before it stay as they are.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A header whose numbers cannot be.
    #[error("bad header of shard {shard} at step {step}: {what}")]
    BadHeader {
        /// The step.
        step: u64,
        /// The shard.
        shard: u32,
        /// What does not fit.
        what: String,
    },
    /// More checkpoints are coming in than may at once.
    #[error(
        "the checkpoint of step {step} is not taken in: {} earlier ones are not complete yet; checkpoint less often",
        super::PENDING_MAX
    )]
    TooManyPending {
        /// The step.
        step: u64,
    },
    /// Other bytes came than were announced.
    #[error("shard {shard} at step {step} is damaged in transit: {what}")]
    Corrupt {
        /// The step.
        step: u64,
        /// The shard.
        shard: u32,
        /// What does not fit.
        what: String,
    },
    /// The same shard came before, with other content.
    #[error("shard {shard} at step {step} came twice with different content; the first one counts")]
    Conflict {
        /// The step.
        step: u64,
        /// The shard.
        shard: u32,
    },
    /// The checkpoint was given up while the shard came in.
    #[error("the checkpoint of step {step} was given up, its shard {shard} is not needed any more")]
    Aborted {
        /// The step.
        step: u64,
        /// The shard.
        shard: u32,
    },
    /// Not all ranks have the same state.
    #[error(
        "the checkpoint of step {step} is given up: the state of rank {} differs from that of rank {}",
        list(odd),
        list(agreeing)
    )]
    Disagree {
        /// The step.
        step: u64,
        /// Ranks that differ from the largest group of equal ones (of two as large, that with the lowest rank).
        odd: Vec<u32>,
        /// The ranks of that group.
        agreeing: Vec<u32>,
    },
    /// The shards do not make up the state.
    #[error(
        "the checkpoint of step {step} is given up: shard {shard} begins at byte {offset}, but byte {expected} is next"
    )]
    Gap {
        /// The step.
        step: u64,
        /// The first shard that does not fit; the number of shards when bytes are missing at the end.
        shard: u32,
        /// Where it begins.
        offset: u64,
        /// Where it should begin.
        expected: u64,
    },
    /// The system refused.
    #[error("the checkpoint of step {step} is not saved, those before it stay: cannot write {}: {cause}", path.display())]
    Storage {
        /// The step.
        step: u64,
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl From<CheckpointError> for Refusal {
    fn from(error: CheckpointError) -> Self {
        let text = error.to_string();
        match error {
            CheckpointError::Corrupt { .. } => Self::Corrupt { what: text },
            CheckpointError::BadHeader { .. } | CheckpointError::Conflict { .. } => {
                Self::Malformed(ParseError::Invalid {
                    field: "shard header",
                    value: text,
                    expected: "one that fits the checkpoint",
                })
            }
            CheckpointError::Aborted { .. }
            | CheckpointError::TooManyPending { .. }
            | CheckpointError::Disagree { .. }
            | CheckpointError::Gap { .. }
            | CheckpointError::Storage { .. } => Self::Storage { reason: text },
        }
    }
}

/// `0, 1 and 5`.
fn list(ranks: &[u32]) -> String {
    let texts: Vec<_> = ranks.iter().map(u32::to_string).collect();
    match texts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => texts.concat(),
    }
}
