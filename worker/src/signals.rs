//! What the session asks of training: a few atomics, read once a step.
//!
//! Training passes them on in the control word of its next step, so that all ranks obey after the same step.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

/// Requests to training.
#[derive(Debug, Default)]
pub struct Signals {
    stop: AtomicBool,
    checkpoints: AtomicU64,
    checkpoints_served: AtomicU64,
    is_checkpoint_overdue: AtomicBool,
    next_generation: AtomicU64,
    is_paused: watch::Sender<bool>,
}

impl Signals {
    /// Asks to stop at a step boundary.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks for a checkpoint; requests are numbered from 1, and one that was made before changes nothing.
    pub fn checkpoint(&self, number: u64) {
        self.checkpoints.fetch_max(number, Ordering::Relaxed);
    }

    /// Notes that a checkpoint that was due had to wait; it is kept over the end of a generation.
    pub fn put_checkpoint_off(&self) {
        self.is_checkpoint_overdue.store(true, Ordering::Relaxed);
    }

    /// Whether a checkpoint was put off, or a request for one was not served yet.
    pub fn is_checkpoint_wanted(&self) -> bool {
        self.is_checkpoint_overdue.load(Ordering::Relaxed)
            || self.checkpoints.load(Ordering::Relaxed) > self.checkpoints_served.load(Ordering::Relaxed)
    }

    /// Counts all requests made so far as served, and what was put off as made.
    pub fn serve_checkpoints(&self) {
        self.is_checkpoint_overdue.store(false, Ordering::Relaxed);
        let made = self.checkpoints.load(Ordering::Relaxed);
        self.checkpoints_served.fetch_max(made, Ordering::Relaxed);
    }

    /// Asks to give nothing to a step before [`Signals::resume`]; returns whether that is new.
    pub fn pause(&self) -> bool {
        !self.is_paused.send_replace(true)
    }

    /// Ends a pause; returns whether there was one.
    pub fn resume(&self) -> bool {
        self.is_paused.send_replace(false)
    }

    /// Waits for the end of a pause, if there is one.
    pub async fn resumed(&self) {
        // The sending half lives in `self`.
        let _ = self.is_paused.subscribe().wait_for(|is_paused| !is_paused).await;
    }

    /// Says that the roster of this generation is here, and that it takes effect at a step boundary.
    pub fn prepare_generation(&self, generation: u64) {
        self.next_generation.store(generation, Ordering::Relaxed);
    }

    /// Returns the generation whose roster is here.
    pub fn next_generation(&self) -> u64 {
        self.next_generation.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_wanted_until_it_is_made() {
        let signals = Signals::default();
        assert!(!signals.is_checkpoint_wanted());
        for ask in [Signals::put_checkpoint_off, |signals: &Signals| {
            signals.checkpoint(1)
        }] {
            ask(&signals);
            assert!(signals.is_checkpoint_wanted());
            signals.serve_checkpoints();
            assert!(!signals.is_checkpoint_wanted());
        }
        // The first request, heard of once more.
        signals.checkpoint(1);
        assert!(!signals.is_checkpoint_wanted());
    }
}
