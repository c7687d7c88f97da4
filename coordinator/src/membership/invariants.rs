//! Property tests: whatever happens, in whatever order and at whatever time, these hold.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proto::{
    Activity, EpochReport, Fingerprint, Finished, LinkLost, Losses, Metrics, Outcome, Report, StateDigest,
    StepReport, Switch, WorkerId,
};

use super::tests::{RUN, candidate, sender, terms};
use super::*;

const WORLD_SIZE: usize = 3;
const WORKERS: u128 = 6;

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Completed),
        1 => Just(Outcome::Stopped),
    ]
}

fn reports() -> impl Strategy<Value = Report> {
    let step = (0..50u64).prop_map(|step| {
        Report::Step(StepReport {
            epoch: 1,
            step,
            steps: 50,
            losses: Losses::default(),
            images_per_second: 1.0,
        })
    });
    let epoch = (1..5u32).prop_map(|epoch| {
        Report::Epoch(EpochReport {
            epoch,
            step: 1,
            train: Losses::default(),
            val: Losses::default(),
            metrics: Metrics::default(),
            learning_rates: [0.1; 3],
            images_per_second: 1.0,
            seconds: 1.0,
            best: false,
            hash: proto::StateHash::of_bytes(b"state"),
            redone_steps: 0,
        })
    });
    let finished = outcomes().prop_map(|outcome| {
        Report::Finished(Finished {
            outcome,
            epoch: 1,
            step: 1,
            reason: String::new(),
        })
    });
    let lost = (0..5usize).prop_map(|neighbour| {
        Report::LinkLost(LinkLost {
            neighbour,
            reason: "reset".into(),
        })
    });
    prop_oneof![1 => step, 1 => epoch, 2 => finished, 4 => lost, 4 => Just(Report::DrainRequested)]
}

fn vitals() -> impl Strategy<Value = Vitals> {
    let activity = prop_oneof![
        1 => Just(Activity::Waiting),
        4 => Just(Activity::Training),
        1 => Just(Activity::Validating),
    ];
    let digest = prop::option::weighted(0.3, (0..4u64, prop_oneof![6 => Just("good"), 1 => Just("bad")]));
    (0..20u64, activity, 0..4u64, any::<bool>(), digest).prop_map(
        |(step, activity, progress, waits_for_left, digest)| Vitals {
            step,
            activity,
            progress,
            waits_for_left,
            digest: digest.map(|(step, bytes)| StateDigest {
                step,
                blake3: Fingerprint::of(bytes.as_bytes()),
            }),
        },
    )
}

/// An event whose sender is in the generation that is this far from the newest one.
#[derive(Debug, Clone)]
enum Step {
    Event(Event),
    Heartbeat {
        worker: u128,
        behind: u64,
        vitals: Vitals,
    },
    Reported {
        worker: u128,
        behind: u64,
        report: Report,
    },
    /// Everybody who is there is heard in the newest generation.
    AllHeard,
    /// The time of the next deadline has come.
    Deadline,
}

impl Step {
    fn event(self, membership: &Membership) -> Vec<Event> {
        let newest = membership.generation().0;
        let from = |worker, behind| sender(worker, newest.saturating_sub(behind));
        match self {
            Self::Event(event) => vec![event],
            Self::Heartbeat {
                worker,
                behind,
                vitals,
            } => vec![Event::Heartbeat {
                sender: from(worker, behind),
                vitals,
            }],
            Self::Reported {
                worker,
                behind,
                report,
            } => vec![Event::Reported {
                sender: from(worker, behind),
                report,
            }],
            Self::AllHeard => (1..=WORKERS)
                .map(|worker| Event::Heartbeat {
                    sender: from(worker, 0),
                    vitals: Vitals {
                        step: 5,
                        activity: Activity::Training,
                        progress: newest,
                        waits_for_left: true,
                        digest: None,
                    },
                })
                .collect(),
            Self::Deadline => vec![Event::DeadlineReached],
        }
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let worker = || 1..=WORKERS;
    let behind = || prop_oneof![6 => Just(0u64), 2 => Just(1), 1 => Just(2)];
    let event = prop_oneof![
        8 => (worker(), "[ab]").prop_map(|(worker, host)| Event::Joined(candidate(worker, &host))),
        4 => (worker(), 0..4u64).prop_map(|(worker, watch)| Event::WatchOpened {
            run: RUN,
            worker: WorkerId::from_u128(worker),
            watch: WatchId(watch),
        }),
        3 => (worker(), 0..4u64).prop_map(|(worker, watch)| Event::WatchClosed {
            worker: WorkerId::from_u128(worker),
            watch: WatchId(watch),
        }),
        3 => worker().prop_map(|worker| Event::Left { sender: sender(worker, 1), reason: String::new() }),
        1 => (0..20u64).prop_map(|step| Event::CheckpointCommitted { step }),
        1 => Just(Event::CheckpointRequested),
        1 => Just(Event::WasAsleep),
    ];
    let ends = prop_oneof![
        4 => Just(Event::StopRequested),
        1 => Just(Event::AbortRequested),
        1 => Just(Event::StorageFailed { reason: "full".into() }),
    ];
    prop_oneof![
        20 => event.prop_map(Step::Event),
        1 => ends.prop_map(Step::Event),
        12 => (worker(), behind(), vitals())
            .prop_map(|(worker, behind, vitals)| Step::Heartbeat { worker, behind, vitals }),
        10 => (worker(), behind(), reports())
            .prop_map(|(worker, behind, report)| Step::Reported { worker, behind, report }),
        6 => Just(Step::AllHeard),
        6 => Just(Step::Deadline),
    ]
}

/// Where a run begins: anew, or with two members of an earlier coordinator's generation.
fn beginnings() -> impl Strategy<Value = Membership> {
    (1..=WORLD_SIZE, any::<bool>()).prop_map(|(min_world_size, is_taken_over)| {
        let terms = Terms {
            min_world_size,
            ..terms(WORLD_SIZE)
        };
        let past = Past {
            generation: 4,
            members: vec![candidate(1, "a"), candidate(2, "b")],
            is_at_work: true,
            recorded_epochs: 1,
            ..Past::default()
        };
        let past = if is_taken_over { past } else { Past::default() };
        Membership::resume(terms, past, Duration::ZERO)
    })
}

/// What has been seen so far, against which each effect is checked.
#[derive(Default)]
struct Seen {
    generation: u64,
    epochs: u32,
    checkpoint: Option<u64>,
    has_stopped: bool,
    has_ended: bool,
}

impl Seen {
    fn check(&mut self, effects: &[Effect], before: &Membership, after: &Membership) {
        assert!(effects.len() <= MAX_EFFECTS, "{effects:?}");
        for effect in effects {
            assert!(!self.has_ended, "something follows the end: {effect:?}");
            match effect {
                Effect::Announce(roster) => {
                    assert_eq!(self.generation + 1, roster.generation().0);
                    self.generation = roster.generation().0;
                    check_roster(roster, before, after);
                }
                Effect::RecordEpoch { report, .. } => {
                    assert!(report.epoch > self.epochs, "epoch {} comes again", report.epoch);
                    self.epochs = report.epoch;
                }
                Effect::RecordCheckpoint { step } => {
                    assert!(self.checkpoint < Some(*step), "checkpoint {step} comes again");
                    self.checkpoint = Some(*step);
                }
                Effect::RequestStop(_) => {
                    assert!(!self.has_stopped, "a stop is asked for twice");
                    self.has_stopped = true;
                }
                Effect::End(_) => self.has_ended = true,
                _ => {}
            }
        }
    }
}

/// Everybody in it is there, hosts are side by side, and rank 0 has the state if anybody has.
fn check_roster(roster: &Roster, before: &Membership, after: &Membership) {
    let members = roster.members();
    for member in members {
        assert!(
            after.seats.iter().any(|seat| seat.worker() == member.worker),
            "{member:?} is not there"
        );
    }
    let mut hosts: Vec<_> = members.iter().map(|member| &member.host).collect();
    hosts.dedup();
    let distinct: BTreeSet<_> = hosts.iter().collect();
    assert_eq!(
        hosts.len(),
        distinct.len(),
        "hosts are not kept together: {hosts:?}"
    );
    let Phase::Running(running) = &before.phase else {
        return;
    };
    let newest = &running.roster;
    let are_all_over = newest.members().iter().all(|member| {
        let mut seats = after.seats.iter();
        seats.any(|seat| seat.worker() == member.worker && seat.generation == newest.generation())
    });
    let at_work = if are_all_over { newest } else { running.at_work() };
    let has_state = |worker: WorkerId| at_work.find(worker).is_some();
    let survives = after.seats.iter().any(|seat| has_state(seat.worker()));
    assert!(
        !survives || has_state(members[0].worker),
        "rank 0 has no state, but others have: {roster:?}"
    );
    if roster.switch == Switch::AtStepBoundary {
        assert!(
            running.previous.is_none() || are_all_over,
            "two changes are under way"
        );
    }
}

fn check_state(membership: &Membership, before: &Membership) {
    let workers: BTreeSet<_> = membership.seats.iter().map(Seat::worker).collect();
    assert_eq!(workers.len(), membership.seats.len(), "a worker is counted twice");
    assert!(membership.generation() >= before.generation());
    if before.verdict().is_some() {
        assert_eq!(membership.verdict(), before.verdict(), "the verdict changed");
    }
    assert_eq!(
        membership.next_deadline().is_none(),
        membership.verdict().is_some()
    );
    if let Phase::Running(running) = &membership.phase {
        for member in running.roster.members() {
            assert!(
                workers.contains(&member.worker),
                "the newest generation waits for {member:?}, who is not there"
            );
        }
        assert!(
            running.suspicions.len() <= 2 * (membership.seats.len() + before.seats.len()),
            "suspicions pile up"
        );
    }
}

/// Deals with every deadline up to `now`.
fn settle(membership: &mut Membership, now: Duration) {
    // One matter at a time: for each seat a lease, two suspicions, a stall; the ends of waiting, stopping, finishing.
    let limit = 4 * WORKERS as usize + 6;
    for _ in 0..limit {
        if membership.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let before = membership.clone();
        membership.handle(now, Event::DeadlineReached).unwrap();
        assert_ne!(*membership, before, "a deadline passed without effect");
    }
    panic!("deadlines do not end: {membership:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_sequence_of_events_breaks_an_invariant(
        mut membership in beginnings(),
        steps in prop::collection::vec((steps(), 0..3000u64), 0..80),
    ) {
        let mut seen = Seen {
            generation: membership.generation().0,
            epochs: membership.recorded_epochs,
            ..Seen::default()
        };
        let mut now = Duration::ZERO;
        for (step, milliseconds) in steps {
            now += Duration::from_millis(milliseconds);
            if matches!(step, Step::Deadline) {
                now = membership.next_deadline().map_or(now, |deadline| now.max(deadline));
            }
            for event in step.event(&membership) {
                let before = membership.clone();
                match membership.handle(now, event) {
                    Ok(effects) => seen.check(&effects, &before, &membership),
                    Err(_) => assert_eq!(membership, before, "a refused event changed something"),
                }
                check_state(&membership, &before);
            }
        }
    }

    #[test]
    fn deadlines_that_have_passed_are_dealt_with_and_do_not_return(
        mut membership in beginnings(),
        steps in prop::collection::vec((steps(), 0..3000u64), 0..60),
        pause in 0..400u64,
    ) {
        let mut now = Duration::ZERO;
        for (step, milliseconds) in steps {
            now += Duration::from_millis(milliseconds);
            for event in step.event(&membership) {
                let _ = membership.handle(now, event);
            }
            if milliseconds % 5 == 0 {
                settle(&mut membership, now);
            }
        }
        settle(&mut membership, now + Duration::from_secs(pause));
    }
}
