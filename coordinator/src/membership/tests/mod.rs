//! Table tests: one event, the new state, and the exact effects. Here are the parts that they share.

mod ending;
mod gathering;
mod loss;
mod reports;

use std::time::Duration;

use proto::{
    Activity, Candidate, DatasetCard, Difference, EpochReport, Fingerprint, Finished, Generation, LinkLost,
    Losses, Member, Metrics, ModelCard, Outcome, Refusal, RefusalKind, Report, RunId, Sender, StepReport,
    WorkerId,
};

use super::*;

pub(in crate::membership) const RUN: RunId = RunId::from_u128(99);

pub(in crate::membership) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub(in crate::membership) fn terms(world_size: usize) -> Terms {
    Terms {
        run: RUN,
        world_size,
        version: "1.0".into(),
        timing: Timing::default(),
    }
}

pub(in crate::membership) fn candidate(worker: u128, host: &str) -> Candidate {
    Candidate {
        run: RUN,
        worker: WorkerId::from_u128(worker),
        version: "1.0".into(),
        host: host.into(),
        address: format!("{host}:{}", 50_000 + worker).parse().unwrap(),
        device: "cpu".into(),
        threads: 1,
        dataset: DatasetCard {
            fingerprint: Fingerprint::of(b"data"),
            train_images: 10,
            val_images: 2,
            class_names: vec!["cell".into()],
        },
        model: ModelCard {
            layout_digest: Fingerprint::of(b"model"),
            description: "yolov8n, 1 class".into(),
            arithmetic: "flex".into(),
        },
    }
}

pub(in crate::membership) fn sender(worker: u128, generation: u64) -> Sender {
    Sender {
        run: RUN,
        worker: WorkerId::from_u128(worker),
        generation: Generation(generation),
    }
}

fn present(worker: u128, host: &str) -> Present {
    Present {
        worker: WorkerId::from_u128(worker),
        host: host.into(),
        device: "cpu".into(),
    }
}

fn member(rank: usize, worker: u128, host: &str) -> Member {
    let Candidate {
        worker,
        host,
        address,
        ..
    } = candidate(worker, host);
    Member {
        rank,
        worker,
        host,
        address,
    }
}

fn finished(outcome: Outcome) -> Report {
    Report::Finished(Finished {
        outcome,
        epoch: 3,
        step: 30,
        reason: String::new(),
    })
}

fn step(step: u64) -> Report {
    Report::Step(StepReport {
        epoch: 1,
        step,
        steps: 100,
        losses: Losses::default(),
        images_per_second: 1.0,
    })
}

fn epoch(epoch: u32) -> EpochReport {
    EpochReport {
        epoch,
        step: 10,
        train: Losses::default(),
        val: Losses::default(),
        metrics: Metrics::default(),
        learning_rates: [0.01; 3],
        images_per_second: 1.0,
        seconds: 1.0,
        best: false,
        hash: proto::StateHash::of_bytes(b"state"),
        redone_steps: 0,
    }
}

/// Three workers on two hosts, joined in the order 1 (b), 2 (a), 3 (b); ranks are 2, 1, 3. Generation 1
/// begins at 1 s, and every Watch stream is open with the worker's number as its id.
fn running() -> Membership {
    let mut membership = Membership::new(terms(3), Duration::ZERO);
    for (worker, host) in [(1, "b"), (2, "a"), (3, "b")] {
        membership
            .handle(seconds(1.0), Event::Joined(candidate(worker, host)))
            .unwrap();
        open_watch(&mut membership, worker, worker as u64);
    }
    membership
}

fn open_watch(membership: &mut Membership, worker: u128, watch: u64) {
    let event = Event::WatchOpened {
        run: RUN,
        worker: WorkerId::from_u128(worker),
        watch: WatchId(watch),
    };
    assert_eq!(membership.handle(seconds(1.0), event), Ok(vec![]));
}

fn close_watch(membership: &mut Membership, now: f64, worker: u128, watch: u64) -> Vec<Effect> {
    let event = Event::WatchClosed {
        worker: WorkerId::from_u128(worker),
        watch: WatchId(watch),
    };
    membership.handle(seconds(now), event).unwrap()
}

fn heartbeat(membership: &mut Membership, now: f64, worker: u128) {
    let event = Event::Heartbeat {
        sender: sender(worker, membership.generation().0),
        step: 7,
        activity: Activity::Training,
    };
    assert_eq!(membership.handle(seconds(now), event), Ok(vec![]));
}

fn report(membership: &mut Membership, now: f64, worker: u128, report: Report) -> Vec<Effect> {
    let sender = sender(worker, 1);
    membership
        .handle(seconds(now), Event::Reported { sender, report })
        .unwrap()
}

fn tick(membership: &mut Membership, now: f64) -> Vec<Effect> {
    membership.handle(seconds(now), Event::DeadlineReached).unwrap()
}

fn failed(failure: Failure) -> Vec<Effect> {
    vec![Effect::End(Verdict::Failed(failure))]
}
