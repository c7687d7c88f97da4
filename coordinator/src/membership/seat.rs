//! What is known about one worker.

use std::collections::VecDeque;
use std::time::Duration;

use proto::{Activity, Candidate, Finished, Generation, StateDigest, WorkerId};

use super::event::{Vitals, WatchId};
use super::gathering::Present;

/// A worker that has joined.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seat {
    /// What it said about itself.
    pub(super) candidate: Candidate,
    /// When it last gave a sign of life.
    pub(super) heard_at: Duration,
    /// The generation that it was in then.
    pub(super) generation: Generation,
    /// Steps applied, as of then.
    pub(super) step: u64,
    /// What it did then.
    pub(super) activity: Activity,
    /// Whether it has done anything but wait in a generation: then it has the state, which newcomers copy first.
    pub(super) has_state: bool,
    /// How much it had got done then.
    pub(super) progress: u64,
    /// When that number last changed.
    pub(super) progress_at: Duration,
    /// Whether it waited for its left neighbour.
    pub(super) waits_for_left: bool,
    /// Its newest digests, by step.
    pub(super) digests: VecDeque<StateDigest>,
    /// Its newest Watch stream, while open.
    pub(super) watch: Option<WatchId>,
    /// The end of its part in the current generation.
    pub(super) finished: Option<Finished>,
    /// Whether it asked to be let go.
    pub(super) is_draining: bool,
    /// Whether it has said goodbye.
    pub(super) left: bool,
}

impl Seat {
    pub(super) const fn new(candidate: Candidate, now: Duration) -> Self {
        Self {
            candidate,
            heard_at: now,
            generation: Generation(0),
            step: 0,
            activity: Activity::Waiting,
            has_state: false,
            progress: 0,
            progress_at: now,
            waits_for_left: false,
            digests: VecDeque::new(),
            watch: None,
            finished: None,
            is_draining: false,
            left: false,
        }
    }

    pub(super) const fn worker(&self) -> WorkerId {
        self.candidate.worker
    }

    pub(super) fn present(&self) -> Present {
        Present {
            worker: self.candidate.worker,
            host: self.candidate.host.clone(),
            device: self.candidate.device.clone(),
        }
    }

    /// Takes in a heartbeat; returns how long nothing had got done when something had.
    pub(super) fn hear(
        &mut self,
        now: Duration,
        generation: Generation,
        vitals: &Vitals,
    ) -> Option<Duration> {
        self.heard_at = now;
        self.generation = generation;
        self.step = vitals.step;
        self.activity = vitals.activity;
        self.has_state |= generation > Generation(0) && vitals.activity != Activity::Waiting;
        self.waits_for_left = vitals.waits_for_left;
        if let Some(digest) = vitals.digest
            && !self.digests.contains(&digest)
        {
            self.digests.push_back(digest);
            if self.digests.len() > DIGESTS_KEPT {
                self.digests.pop_front();
            }
        }
        if vitals.progress == self.progress {
            return None;
        }
        let gap = now.saturating_sub(self.progress_at);
        self.progress = vitals.progress;
        self.progress_at = now;
        Some(gap)
    }

    pub(super) fn digest_at(&self, step: u64) -> Option<StateDigest> {
        self.digests.iter().find(|digest| digest.step == step).copied()
    }
}

/// Heartbeats of different workers tell of different steps; a few of each are enough to find one in common.
const DIGESTS_KEPT: usize = 8;
