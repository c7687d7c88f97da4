//! Which fault comes when: a function of the seed.

use std::time::Duration;

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9, and a new worker.
    KillWorker,
    /// SIGTERM, and a new worker.
    DrainWorker,
    /// SIGSTOP until it is taken off the list, then SIGCONT.
    FreezeWorker,
    /// kill -9, and a restart after a while.
    KillCoordinator,
}

/// Random numbers by SplitMix64.
pub(crate) struct Schedule {
    state: u64,
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> Fault {
        match self.pick(20) {
            0 => Fault::FreezeWorker,
            1..=3 => Fault::KillCoordinator,
            4..=6 => Fault::DrainWorker,
            _ => Fault::KillWorker,
        }
    }

    /// Returns a number below `count`.
    pub(crate) fn pick(&mut self, count: usize) -> usize {
        (self.number() % count as u64) as usize
    }

    pub(crate) fn pause(&mut self) -> Duration {
        Duration::from_millis(500 + self.number() % 2000)
    }

    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
