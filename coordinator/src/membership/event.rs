//! What can happen to a run.

use proto::{Activity, Candidate, Report, RunId, Sender, StateDigest, WorkerId};

/// A fact that the shell has observed.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker asks to take part.
    Joined(Candidate),
    /// A worker opened a Watch stream; the newest one counts.
    WatchOpened {
        /// The run that it wants to watch.
        run: RunId,
        /// The worker.
        worker: WorkerId,
        /// The stream.
        watch: WatchId,
    },
    /// A Watch stream closed from the worker's side.
    WatchClosed {
        /// The worker.
        worker: WorkerId,
        /// The stream.
        watch: WatchId,
    },
    /// A sign of life.
    Heartbeat {
        /// Who, and in which generation.
        sender: Sender,
        /// Its vital signs.
        vitals: Vitals,
    },
    /// Progress, a result, the end of a worker's part, or trouble.
    Reported {
        /// Who, and in which generation.
        sender: Sender,
        /// What.
        report: Report,
    },
    /// A goodbye.
    Left {
        /// Who, and in which generation.
        sender: Sender,
        /// Why, when its work was not done.
        reason: String,
    },
    /// A checkpoint of this step is committed.
    CheckpointCommitted {
        /// Steps applied in it.
        step: u64,
    },
    /// A person asked for a checkpoint.
    CheckpointRequested,
    /// A person or the system asked for a clean stop.
    StopRequested,
    /// This process did not run for a while: the silence was its own.
    WasAsleep,
    /// Asked again: end at once.
    AbortRequested,
    /// The run directory cannot be written.
    StorageFailed {
        /// What the system said.
        reason: String,
    },
    /// Nobody listens any more at the address of a worker that was lost: its process has ended.
    FoundDead {
        /// The worker.
        worker: WorkerId,
    },
    /// The time of [`next_deadline`](super::Membership::next_deadline) has come.
    DeadlineReached,
}

/// What a heartbeat tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// Steps that the worker has applied.
    pub step: u64,
    /// What it does.
    pub activity: Activity,
    /// How much it got done; the same number again means nothing.
    pub progress: u64,
    /// Whether it waits for its left neighbour.
    pub waits_for_left: bool,
    /// Digest of its state after some step.
    pub digest: Option<StateDigest>,
}

/// Tells Watch streams apart, so that the end of an old one says nothing about a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchId(pub u64);
