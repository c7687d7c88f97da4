//! What is known about one worker.

use std::time::Duration;

use proto::{Activity, Candidate, Finished};

use super::event::WatchId;

/// A worker that has joined.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seat {
    /// What it said about itself.
    pub(super) candidate: Candidate,
    /// When it last gave a sign of life.
    pub(super) heard_at: Duration,
    /// Steps applied, as of then.
    pub(super) step: u64,
    /// What it did then.
    pub(super) activity: Activity,
    /// Its newest Watch stream, while open.
    pub(super) watch: Option<WatchId>,
    /// The end of its part.
    pub(super) finished: Option<Finished>,
    /// Whether it has said goodbye.
    pub(super) left: bool,
}

impl Seat {
    pub(super) const fn new(candidate: Candidate, now: Duration) -> Self {
        Self {
            candidate,
            heard_at: now,
            step: 0,
            activity: Activity::Waiting,
            watch: None,
            finished: None,
            left: false,
        }
    }
}
