//! Property tests: whatever happens, in whatever order and at whatever time, these hold.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proto::{
    Activity, EpochReport, Finished, LinkLost, Losses, Metrics, Outcome, Report, StepReport, WorkerId,
};

use super::tests::{RUN, candidate, sender, terms};
use super::*;

const WORLD_SIZE: usize = 3;

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Completed),
        2 => Just(Outcome::Stopped),
        1 => Just(Outcome::Failed),
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
    prop_oneof![1 => step, 1 => epoch, 3 => finished, 1 => lost]
}

fn events() -> impl Strategy<Value = Event> {
    let worker = 1..6u128;
    let senders = || (1..6u128, 0..3u64).prop_map(|(worker, generation)| sender(worker, generation));
    prop_oneof![
        6 => (worker.clone(), "[ab]").prop_map(|(worker, host)| Event::Joined(candidate(worker, &host))),
        3 => (worker.clone(), 0..4u64).prop_map(|(worker, watch)| Event::WatchOpened {
            run: RUN,
            worker: WorkerId::from_u128(worker),
            watch: WatchId(watch),
        }),
        1 => (worker, 0..4u64).prop_map(|(worker, watch)| Event::WatchClosed {
            worker: WorkerId::from_u128(worker),
            watch: WatchId(watch),
        }),
        8 => senders().prop_map(|sender| Event::Heartbeat { sender, step: 1, activity: Activity::Training }),
        6 => (senders(), reports()).prop_map(|(sender, report)| Event::Reported { sender, report }),
        1 => senders().prop_map(|sender| Event::Left { sender, reason: String::new() }),
        1 => Just(Event::StopRequested),
        1 => Just(Event::AbortRequested),
        3 => Just(Event::DeadlineReached),
    ]
}

/// What has been seen so far, against which each effect is checked.
#[derive(Default)]
struct Seen {
    rosters: usize,
    epochs: u32,
    stops: usize,
    ends: usize,
}

impl Seen {
    fn check(&mut self, effects: &[Effect]) {
        assert!(effects.len() <= MAX_EFFECTS, "{effects:?}");
        for effect in effects {
            assert_eq!(self.ends, 0, "something follows the end: {effect:?}");
            match effect {
                Effect::Announce(roster) => {
                    self.rosters += 1;
                    assert_eq!(self.rosters as u64, roster.generation().0);
                    assert_eq!(roster.world_size(), WORLD_SIZE);
                    let hosts: Vec<_> = roster.members().iter().map(|member| &member.host).collect();
                    assert!(hosts.is_sorted(), "hosts are not kept together: {hosts:?}");
                }
                Effect::RecordEpoch { report, .. } => {
                    assert!(
                        report.epoch > self.epochs,
                        "epoch {} is recorded again",
                        report.epoch
                    );
                    self.epochs = report.epoch;
                }
                Effect::RequestStop => self.stops += 1,
                Effect::End(_) => self.ends += 1,
                Effect::RecordJoined { .. }
                | Effect::RecordDeparted { .. }
                | Effect::Remind { .. }
                | Effect::ShowStep(_) => {}
            }
        }
        assert!(self.rosters <= 1 && self.stops <= 1 && self.ends <= 1);
    }
}

fn check_state(membership: &Membership, before: &Membership) {
    let workers: BTreeSet<_> = membership
        .seats
        .iter()
        .map(|seat| seat.candidate.worker)
        .collect();
    assert_eq!(workers.len(), membership.seats.len(), "a worker is counted twice");
    assert!(membership.seats.len() <= WORLD_SIZE);
    assert!(membership.generation() >= before.generation());
    if before.verdict().is_some() {
        assert_eq!(membership.verdict(), before.verdict(), "the verdict changed");
    }
    assert_eq!(
        membership.next_deadline().is_none(),
        membership.verdict().is_some()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_sequence_of_events_breaks_an_invariant(
        events in prop::collection::vec((events(), 0..3000u64), 0..60),
    ) {
        let mut membership = Membership::new(terms(WORLD_SIZE), Duration::ZERO);
        let mut seen = Seen::default();
        let mut now = Duration::ZERO;
        for (event, milliseconds) in events {
            now += Duration::from_millis(milliseconds);
            let before = membership.clone();
            match membership.handle(now, event) {
                Ok(effects) => seen.check(&effects),
                Err(_) => assert_eq!(membership, before, "a refused event changed something"),
            }
            check_state(&membership, &before);
        }
    }

    #[test]
    fn deadlines_that_have_passed_are_dealt_with_and_do_not_return(
        events in prop::collection::vec((events(), 0..3000u64), 0..40),
        pause in 0..400u64,
    ) {
        let mut membership = Membership::new(terms(WORLD_SIZE), Duration::ZERO);
        let mut now = Duration::ZERO;
        for (event, milliseconds) in events {
            now += Duration::from_millis(milliseconds);
            let _ = membership.handle(now, event);
        }
        now += Duration::from_secs(pause);
        // One matter at a time: a lease per seat, the end of the gathering, a reminder.
        let limit = WORLD_SIZE + 2;
        let mut handled = 0;
        while membership.next_deadline().is_some_and(|deadline| deadline <= now) {
            let before = membership.clone();
            membership.handle(now, Event::DeadlineReached).unwrap();
            assert_ne!(membership, before, "a deadline passed without effect");
            handled += 1;
            assert!(handled <= limit);
        }
    }
}
