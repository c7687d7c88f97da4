//! How long workers usually take to get something done, and from when on nothing is a stall.
//!
//! A slow worker gets things done slowly; a stuck one gets nothing done. The limit between them is learnt from the run
//! itself: a multiple of the median time between two signs of progress, with the spread on top. It is far above what a
//! worker takes that suddenly runs at a twentieth of its speed.

use std::collections::VecDeque;
use std::time::Duration;

/// Times between signs of progress, the newest ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    newest: VecDeque<Duration>,
}

impl Gaps {
    pub(super) fn add(&mut self, gap: Duration) {
        self.newest.push_back(gap);
        if self.newest.len() > KEPT {
            self.newest.pop_front();
        }
    }

    /// Returns the time without progress that counts as a stall, never less than `patience`.
    pub(super) fn limit(&self, patience: Duration) -> Duration {
        let median = median(self.newest.iter().copied());
        let deviation = median_deviation(&self.newest, median);
        patience.max(median * SLOWDOWN + deviation * SPREAD)
    }
}

fn median(values: impl Iterator<Item = Duration>) -> Duration {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn median_deviation(values: &VecDeque<Duration>, center: Duration) -> Duration {
    median(values.iter().map(|value| value.abs_diff(center)))
}

/// A minute of heartbeats from a small cluster.
const KEPT: usize = 256;

/// A worker at a twentieth of its speed must not count as stuck, with half as much again to spare.
const SLOWDOWN: u32 = 30;

/// Weight of the median absolute deviation.
const SPREAD: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_far_above_a_twentieth_of_the_speed_and_never_below_patience() {
        let patience = Duration::from_secs(30);
        let mut gaps = Gaps::default();
        assert_eq!(gaps.limit(patience), patience);
        for _ in 0..10 {
            gaps.add(Duration::from_millis(500));
        }
        assert_eq!(gaps.limit(patience), patience);
        for _ in 0..400 {
            gaps.add(Duration::from_secs(5));
        }
        assert!(gaps.limit(patience) >= Duration::from_secs(5 * 20));
    }
}
