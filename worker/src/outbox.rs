//! What a worker has for the coordinator and the coordinator does not have yet.
//!
//! Nothing here waits: training puts things in and goes on, the courier takes them out when it can. The coordinator may
//! be away for minutes; a worker then keeps what must not be lost - the results of epochs, with the newest and the best
//! weights - and drops what the next one makes up for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::{EpochReport, StepReport};
use tokio::sync::Notify;

use crate::report::ShardRecord;

/// The box between training and courier.
#[derive(Debug, Default)]
pub struct Outbox {
    content: Mutex<Content>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Content {
    /// Whether this rank is the one that reports for all: rank 0.
    is_reporter: bool,
    /// Results that are not known to be durable, oldest first.
    epochs: VecDeque<EpochResult>,
    last_weights: Option<Bytes>,
    shard: Option<ShardRecord>,
    /// Whether the courier is on its way with something that must arrive.
    is_under_way: bool,
    step: Option<StepReport>,
}

/// The result of an epoch, with its weights while nobody has newer or better ones.
#[derive(Clone, Debug)]
pub struct EpochResult {
    /// The report.
    pub report: EpochReport,
    /// The weights file.
    pub weights: Option<Bytes>,
}

/// Something to bring to the coordinator.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// The result of an epoch; stays in the box until [`Outbox::recorded`].
    Epoch(EpochResult),
    /// Weights of a stop within an epoch; stays in the box until [`Outbox::saved`].
    LastWeights(Bytes),
    /// A range of a checkpoint; taken out.
    Shard(ShardRecord),
    /// Progress; taken out.
    Step(StepReport),
}

impl Outbox {
    /// Says whether this rank reports for all from now on.
    pub fn set_reporter(&self, is_reporter: bool) {
        self.lock().is_reporter = is_reporter;
        self.changed.notify_waiters();
    }

    /// Puts in the result of an epoch.
    pub fn epoch(&self, report: EpochReport, weights: Vec<u8>) {
        let mut content = self.lock();
        for older in &mut content.epochs {
            if report.best || !older.report.best {
                older.weights = None;
            }
        }
        content.epochs.push_back(EpochResult {
            report,
            weights: Some(weights.into()),
        });
        drop(content);
        self.changed.notify_waiters();
    }

    /// Puts in the weights of a stop within an epoch.
    pub fn last_weights(&self, weights: Vec<u8>) {
        self.lock().last_weights = Some(weights.into());
        self.changed.notify_waiters();
    }

    /// Puts in a range of a checkpoint; one of an older checkpoint that is still here is dropped.
    pub fn shard(&self, shard: ShardRecord) {
        self.lock().shard = Some(shard);
        self.changed.notify_waiters();
    }

    /// Puts in progress; older progress is dropped.
    pub fn step(&self, report: StepReport) {
        self.lock().step = Some(report);
        self.changed.notify_waiters();
    }

    /// So many epochs are durable: their results need not be kept.
    pub fn recorded(&self, epochs: u32) {
        let mut content = self.lock();
        content.epochs.retain(|result| result.report.epoch > epochs);
        drop(content);
        self.changed.notify_waiters();
    }

    /// The last weights are durable.
    pub fn saved(&self) {
        let mut content = self.lock();
        content.last_weights = None;
        drop(content);
        self.changed.notify_waiters();
    }

    /// A range has arrived, or cannot arrive.
    pub fn put(&self) {
        self.lock().is_under_way = false;
        self.changed.notify_waiters();
    }

    /// Whether a range is here or on its way.
    pub fn is_range_under_way(&self) -> bool {
        let content = self.lock();
        content.shard.is_some() || content.is_under_way
    }

    /// Waits for something to bring; results before ranges, so that no checkpoint is ahead of the results.
    pub async fn next(&self) -> Parcel {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(parcel) = self.lock().take() {
                return parcel;
            }
            changed.await;
        }
    }

    /// Waits until nothing is here that must arrive.
    pub async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.lock().is_emptied() {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn take(&mut self) -> Option<Parcel> {
        if self.is_reporter {
            if let Some(result) = self.epochs.front() {
                return Some(Parcel::Epoch(result.clone()));
            }
            if let Some(weights) = &self.last_weights {
                return Some(Parcel::LastWeights(weights.clone()));
            }
        }
        if let Some(shard) = self.shard.take() {
            self.is_under_way = true;
            return Some(Parcel::Shard(shard));
        }
        let step = self.step.take()?;
        self.is_reporter.then_some(Parcel::Step(step))
    }

    fn is_emptied(&self) -> bool {
        let is_reported = !self.is_reporter || (self.epochs.is_empty() && self.last_weights.is_none());
        is_reported && self.shard.is_none() && !self.is_under_way
    }
}

#[cfg(test)]
mod tests {
    use proto::{Losses, Metrics, StateHash};

    use super::*;

    fn report(epoch: u32, best: bool) -> EpochReport {
        EpochReport {
            epoch,
            step: u64::from(epoch) * 10,
            train: Losses::default(),
            val: Losses::default(),
            metrics: Metrics::default(),
            learning_rates: [0.0; 3],
            images_per_second: 1.0,
            seconds: 1.0,
            best,
            hash: StateHash::of_bytes(b"state"),
            redone_steps: 0,
        }
    }

    #[tokio::test]
    async fn results_stay_until_they_are_durable_and_only_newest_and_best_weights_are_kept() {
        let outbox = Outbox::default();
        for (epoch, best) in [(1, true), (2, true), (3, false), (4, false)] {
            outbox.epoch(report(epoch, best), vec![0; 4]);
        }
        let kept: Vec<bool> = outbox
            .lock()
            .epochs
            .iter()
            .map(|result| result.weights.is_some())
            .collect();
        assert_eq!(kept, [false, true, false, true]);
        outbox.set_reporter(true);
        for epoch in 1..=4 {
            for _again in 0..2 {
                let Parcel::Epoch(result) = outbox.next().await else {
                    panic!("results come first");
                };
                assert_eq!(result.report.epoch, epoch);
            }
            outbox.recorded(epoch);
        }
        outbox.emptied().await;
    }

    #[tokio::test]
    async fn a_rank_that_does_not_report_keeps_results_but_need_not_deliver_them() {
        let outbox = Outbox::default();
        outbox.epoch(report(1, true), vec![0; 4]);
        outbox.emptied().await;
        outbox.recorded(0);
        assert_eq!(outbox.lock().epochs.len(), 1);
        outbox.recorded(1);
        assert!(outbox.lock().epochs.is_empty());
    }
}
