//! Why training could not go on, in one sentence each.

use collective::CollectiveError;

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The ring broke.
    #[error("the ring broke at step {step}: {source}")]
    Ring {
        /// The step that was not applied.
        step: u64,
        /// What the ring reported.
        source: CollectiveError,
    },
    /// Gradients stayed infinite or not a number.
    #[error(
        "the gradient was not finite for {steps} steps in a row, at last in {tensor} at step {step}, from {samples}; \
         lower --lr0 or look at the labels"
    )]
    NotFinite {
        /// The last step.
        step: u64,
        /// How many in a row.
        steps: u32,
        /// The first tensor with such a value.
        tensor: String,
        /// The samples of the slots that it came from.
        samples: String,
    },
    /// A step was computed again and again without a usable sum.
    #[error("the sums of step {step} were not usable in {attempts} attempts, at last: {reason}")]
    Unsettled {
        /// The step that was not applied.
        step: u64,
        /// How often it was computed.
        attempts: u32,
        /// What was wrong with the last sum.
        reason: String,
    },
    /// A state could not be copied from a peer or from the coordinator.
    #[error("cannot copy the state of step {step}: {reason}")]
    Heal {
        /// The step of the state.
        step: u64,
        /// Why not.
        reason: String,
    },
    /// A batch could not be loaded.
    #[error("cannot load a batch: {0}")]
    Loader(#[from] data::LoaderError),
    /// A peer sent validation records that cannot be read.
    #[error("rank {rank} sent validation records that cannot be read: {reason}")]
    Records {
        /// The sender.
        rank: usize,
        /// What was wrong.
        reason: String,
    },
}
