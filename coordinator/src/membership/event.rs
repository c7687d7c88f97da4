//! What can happen to a run.

use proto::{Activity, Candidate, Report, RunId, Sender, WorkerId};

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
        /// Steps that it has applied.
        step: u64,
        /// What it does.
        activity: Activity,
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
    /// A person or the system asked for a clean stop.
    StopRequested,
    /// Asked again: end at once.
    AbortRequested,
    /// The run directory cannot be written.
    StorageFailed {
        /// What the system said.
        reason: String,
    },
    /// The time of [`next_deadline`](super::Membership::next_deadline) has come.
    DeadlineReached,
}

/// Tells Watch streams apart, so that the end of an old one says nothing about a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchId(pub u64);
