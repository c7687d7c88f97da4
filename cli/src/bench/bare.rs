//! The training loop and nothing else: no coordinator, no heartbeats, no digests.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Instant;

use proto::{Activity, StateDigest};
use worker::replica::{Fetch, Offers, Peers, Replica};
use worker::report::{EpochRecord, Reporter, ShardRecord, StepRecord};
use worker::ring::Ring;
use worker::signals::Signals;
use worker::training::{Parts, Training};

use super::made_up::MadeUp;
use super::step::{Args, Equipment, Report, report, warm_up};

/// Runs one rank's loop.
pub(super) async fn train(args: &Args, ring: Ring) -> anyhow::Result<Report> {
    let mut equipment = Equipment::open(args)?;
    let signals = Signals::default();
    let mut clock = Clock {
        signals: &signals,
        counted: warm_up(args)..=warm_up(args) + args.steps,
        ends: Vec::new(),
    };
    let group = *ring.group();
    let parts = Parts {
        recipe: &equipment.recipe,
        plan: &equipment.plan,
        schedule: &equipment.schedule,
        source: &MadeUp,
        learner: &mut equipment.learner,
        threads: args.threads,
        ring,
        replica: Replica {
            generation: group.generation(),
            members: Vec::new(),
            damaged: vec![false; group.world_size()],
            checkpoint_step: None,
            peers: Arc::new(Nobody),
            offers: Offers::default(),
        },
        reporter: &mut clock,
        signals: &signals,
    };
    let mut progressed = 0;
    Training::new(parts, &mut equipment.state, &mut progressed)
        .run()
        .await?;
    report(args, &clock.ends)
}

/// Notes when steps end, and asks to stop after the last that counts.
struct Clock<'a> {
    signals: &'a Signals,
    /// The last step of the warm-up, and those that count.
    counted: RangeInclusive<u64>,
    ends: Vec<Instant>,
}

impl Reporter for Clock<'_> {
    fn activity(&mut self, _activity: Activity) {}

    fn worked(&mut self) {}

    fn advanced(&mut self, step: u64) {
        if self.counted.contains(&step) {
            self.ends.push(Instant::now());
        }
        if step == *self.counted.end() {
            self.signals.stop();
        }
    }

    fn digest(&mut self, _digest: StateDigest) {}

    fn step(&mut self, _record: StepRecord) {}

    fn epoch(&mut self, _record: EpochRecord, _weights: Vec<u8>) {}

    fn last_weights(&mut self, _weights: Vec<u8>) {}

    fn checkpoint(&mut self, _shard: ShardRecord) {}

    fn is_range_under_way(&self) -> bool {
        false
    }
}

/// All ranks begin alike, so nobody copies a state.
struct Nobody;

impl Peers for Nobody {
    fn fetch(&self, _rank: usize, _range: Range<u64>) -> Fetch<'_> {
        Box::pin(async { Err("a benchmark has no states to copy".to_owned()) })
    }

    fn checkpoint(&self, _range: Range<u64>) -> Fetch<'_> {
        Box::pin(async { Err("a benchmark has no checkpoints".to_owned()) })
    }
}
