//! Table tests: one event, the new state, and the exact effects. Here are the parts that they share.

mod damage;
mod draining;
mod ending;
mod gathering;
mod joining;
mod loss;
mod out_of_sight;
mod reports;
mod stall;
mod suspicion;
mod takeover;

use std::time::Duration;

use proto::{
    Activity, Candidate, DatasetCard, Difference, EpochReport, Fingerprint, Finished, Generation, LinkLost,
    Losses, Member, Metrics, ModelCard, Outcome, Refusal, RefusalKind, Report, Roster, RunId, Sender,
    StateDigest, StepReport, Switch, WorkerId,
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
        min_world_size: 1,
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

/// The roster of these workers in ring order, to be gone over to at once.
fn roster(generation: u64, members: &[(u128, &str)]) -> Roster {
    let members = members.iter().enumerate().map(|(rank, &(worker, host))| {
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
    });
    Roster::new(Generation(generation), members.collect()).unwrap()
}

fn announced(generation: u64, members: &[(u128, &str)]) -> Effect {
    Effect::Announce(roster(generation, members))
}

fn planned(generation: u64, members: &[(u128, &str)]) -> Effect {
    let mut roster = roster(generation, members);
    roster.switch = Switch::AtStepBoundary;
    Effect::Announce(roster)
}

fn joined(worker: u128, host: &str, members: usize) -> Effect {
    Effect::RecordJoined {
        present: present(worker, host),
        members,
    }
}

/// The loss of a worker that was training when it was last heard.
fn lost(rank: usize, worker: u128, host: &str, step: u64, evidence: Evidence) -> Effect {
    lost_while(Activity::Training, rank, worker, host, step, evidence)
}

/// The loss of a worker that was never heard.
fn lost_unheard(rank: usize, worker: u128, host: &str, evidence: Evidence) -> Effect {
    lost_while(Activity::Waiting, rank, worker, host, 0, evidence)
}

fn lost_while(
    activity: Activity,
    rank: usize,
    worker: u128,
    host: &str,
    step: u64,
    evidence: Evidence,
) -> Effect {
    Effect::RecordLost {
        present: present(worker, host),
        rank,
        step,
        activity,
        evidence,
    }
}

fn departed(worker: u128, host: &str, evidence: Evidence) -> Effect {
    Effect::RecordDeparted {
        present: present(worker, host),
        evidence,
    }
}

fn reset(reporter: usize) -> Evidence {
    Evidence::LinkLost {
        reporter,
        reason: "reset".into(),
    }
}

fn goodbye(reason: &str) -> Evidence {
    Evidence::Left {
        reason: reason.into(),
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

const THREE: [(u128, &str); 3] = [(1, "b"), (3, "b"), (2, "a")];

/// Three workers on two hosts, joined in the order 1 (b), 2 (a), 3 (b): ranks 0, 1 and 2 are workers 1, 3 and 2.
/// Generation 1 begins at 1 s, every Watch stream is open with the worker's number as its id, and all have been heard
/// in the generation.
fn running() -> Membership {
    running_with(terms(3))
}

fn running_with(terms: Terms) -> Membership {
    let mut membership = Membership::new(terms, Duration::ZERO);
    for (worker, host) in [(1, "b"), (2, "a"), (3, "b")] {
        join(&mut membership, 1.0, worker, host);
    }
    assert_eq!(membership.roster(), Some(&roster(1, &THREE)));
    hear_from(&mut membership, 1.0, &[1, 2, 3]);
    membership
}

/// Joins and opens a Watch stream with the worker's number as its id.
fn join(membership: &mut Membership, now: f64, worker: u128, host: &str) -> Vec<Effect> {
    let joined = Event::Joined(candidate(worker, host));
    let effects = membership.handle(seconds(now), joined).unwrap();
    open_watch(membership, worker, worker as u64);
    effects
}

fn open_watch(membership: &mut Membership, worker: u128, watch: u64) {
    let event = Event::WatchOpened {
        run: RUN,
        worker: WorkerId::from_u128(worker),
        watch: WatchId(watch),
    };
    assert_eq!(membership.handle(seconds(1.0), event), Ok(vec![]));
}

fn close_watch(membership: &mut Membership, now: f64, worker: u128) -> Vec<Effect> {
    close_watch_number(membership, now, worker, worker as u64)
}

fn close_watch_number(membership: &mut Membership, now: f64, worker: u128, watch: u64) -> Vec<Effect> {
    let event = Event::WatchClosed {
        worker: WorkerId::from_u128(worker),
        watch: WatchId(watch),
    };
    membership.handle(seconds(now), event).unwrap()
}

/// A worker in the midst of step 7.
const TRAINING: Vitals = Vitals {
    step: 7,
    activity: Activity::Training,
    progress: 70,
    waits_for_left: false,
    digest: None,
};

fn beat(membership: &mut Membership, now: f64, sender: Sender, vitals: Vitals) -> Vec<Effect> {
    let event = Event::Heartbeat { sender, vitals };
    membership.handle(seconds(now), event).unwrap()
}

/// Hears from these workers in the newest generation; returns what follows.
fn hear_from(membership: &mut Membership, now: f64, workers: &[u128]) -> Vec<Effect> {
    let generation = membership.generation().0;
    let beats = workers.iter();
    beats
        .flat_map(|&worker| beat(membership, now, sender(worker, generation), TRAINING))
        .collect()
}

fn report_in(
    membership: &mut Membership,
    now: f64,
    worker: u128,
    generation: u64,
    report: Report,
) -> Vec<Effect> {
    let sender = sender(worker, generation);
    membership
        .handle(seconds(now), Event::Reported { sender, report })
        .unwrap()
}

/// Reports in the newest generation.
fn report(membership: &mut Membership, now: f64, worker: u128, report: Report) -> Vec<Effect> {
    let generation = membership.generation().0;
    report_in(membership, now, worker, generation, report)
}

fn broken(neighbour: usize) -> Report {
    Report::LinkLost(LinkLost {
        neighbour,
        reason: "reset".into(),
    })
}

fn leave(membership: &mut Membership, now: f64, worker: u128, reason: &str) -> Vec<Effect> {
    let event = Event::Left {
        sender: sender(worker, membership.generation().0),
        reason: reason.into(),
    };
    membership.handle(seconds(now), event).unwrap()
}

fn tick(membership: &mut Membership, now: f64) -> Vec<Effect> {
    membership.handle(seconds(now), Event::DeadlineReached).unwrap()
}

/// Deals with every deadline up to `now`, with these workers heard from once a second until then.
fn pass(membership: &mut Membership, from: f64, now: f64, alive: &[u128]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for second in 0..=(now - from).floor() as u64 {
        let at = from + second as f64;
        effects.extend(hear_from(membership, at, alive));
        while membership.next_deadline().is_some_and(|due| due <= seconds(at)) {
            effects.extend(tick(membership, at));
        }
    }
    effects
}

fn failed(failure: Failure) -> Vec<Effect> {
    vec![Effect::End(Verdict::Failed(failure))]
}
