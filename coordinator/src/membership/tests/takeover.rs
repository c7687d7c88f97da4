//! A coordinator that goes on where an earlier one was.

use super::*;

fn past(is_at_work: bool) -> Past {
    Past {
        generation: 5,
        members: THREE
            .iter()
            .map(|&(worker, host)| candidate(worker, host))
            .collect(),
        is_at_work,
        checkpoint_step: Some(20),
        recorded_epochs: 2,
        elapsed: seconds(100.0),
        takeovers: 1,
    }
}

fn taken_over() -> Membership {
    Membership::resume(terms(3), past(true), Duration::ZERO)
}

fn come_back(membership: &mut Membership, now: f64, worker: u128, host: &str) {
    assert_eq!(join(membership, now, worker, host), []);
}

#[test]
fn members_come_back_and_nothing_is_announced() {
    let mut membership = taken_over();
    let generation = membership.roster().unwrap();
    assert_eq!(generation.generation(), Generation(5));
    assert_eq!(generation.checkpoint_step, Some(20));
    for (worker, host) in THREE {
        come_back(&mut membership, 2.0, worker, host);
    }
    assert_eq!(pass(&mut membership, 3.0, 30.0, &[1, 2, 3]), []);
    assert_eq!((membership.generation(), membership.losses), (Generation(5), 0));
    // They report what may be known already.
    assert_eq!(report(&mut membership, 30.0, 1, Report::Epoch(epoch(2))), []);
    let recorded = Effect::RecordEpoch {
        report: epoch(3),
        elapsed: seconds(130.0),
    };
    assert_eq!(
        report(&mut membership, 30.0, 1, Report::Epoch(epoch(3))),
        [recorded]
    );
}

#[test]
fn who_does_not_come_back_is_lost_after_lease_and_grace() {
    let mut membership = taken_over();
    // Lease and grace are for those who were not heard yet: the others are held to the lease again.
    hear_from(&mut membership, 1.0, &[1, 2]);
    assert_eq!(membership.next_deadline(), Some(seconds(5.5)));
    hear_from(&mut membership, 5.4, &[1, 2]);
    assert_eq!(membership.next_deadline(), Some(seconds(9.5)));
    hear_from(&mut membership, 9.0, &[1, 2]);
    assert_eq!(tick(&mut membership, 9.4), []);
    let effects = tick(&mut membership, 9.5);
    let silent_for = seconds(4.5);
    let evidence = Evidence::LeaseLapsed { silent_for };
    assert_eq!(effects[0], lost_unheard(1, 3, "b", evidence));
    let Effect::Announce(next) = &effects[1] else {
        panic!("no generation follows: {effects:?}");
    };
    assert_eq!(next.generation(), Generation(6));
    assert_eq!(next.members(), roster(6, &[(1, "b"), (2, "a")]).members());
    assert_eq!(next.checkpoint_step, Some(20));
}

#[test]
fn when_all_are_gone_workers_gather_and_generation_numbers_go_on() {
    let mut membership = taken_over();
    let mut announced = Vec::new();
    for _ in 0..3 {
        for effect in tick(&mut membership, 9.5) {
            if let Effect::Announce(roster) = effect {
                announced.push(roster.generation().0);
            }
        }
    }
    assert_eq!(announced, [6, 7]);
    assert_eq!(membership.roster(), None);
    // They may be at work out of sight, for a while after they were expected back.
    let effects = join(&mut membership, 20.0, 4, "c");
    assert!(
        matches!(effects[1], Effect::Remind { out_of_sight: 3, .. }),
        "{effects:?}"
    );
    let effects = pass(&mut membership, 21.0, 65.0, &[4]);
    let Some(Effect::Announce(next)) = effects.last() else {
        panic!("no generation begins: {effects:?}");
    };
    assert_eq!(next.generation(), Generation(8));
    assert_eq!(next.checkpoint_step, Some(20));
}

#[test]
fn a_stopped_run_gathers_anew_and_measures_workers_by_the_ones_it_had() {
    let mut membership = Membership::resume(terms(2), past(false), Duration::ZERO);
    assert_eq!(
        (membership.roster(), membership.generation()),
        (None, Generation(5))
    );
    let other = Candidate {
        dataset: DatasetCard {
            fingerprint: Fingerprint::of(b"other"),
            train_images: 9,
            ..candidate(7, "a").dataset
        },
        ..candidate(7, "a")
    };
    let refused = membership.handle(seconds(0.0), Event::Joined(other));
    assert!(matches!(
        refused,
        Err(Refusal::DatasetDiffers(Difference::Images { .. }))
    ));
    assert_eq!(join(&mut membership, 0.0, 8, "a"), [joined(8, "a", 1)]);
    let effects = join(&mut membership, 0.0, 9, "a");
    let mut next = roster(6, &[(8, "a"), (9, "a")]);
    next.checkpoint_step = Some(20);
    assert_eq!(effects, [joined(9, "a", 2), Effect::Announce(next)]);
}

#[test]
fn a_worker_that_is_back_from_an_unknown_generation_is_a_newcomer() {
    let mut membership = taken_over();
    hear_from(&mut membership, 1.0, &[1, 2, 3]);
    let effects = join(&mut membership, 1.0, 4, "c");
    assert_eq!(effects[0], joined(4, "c", 4));
    assert!(matches!(&effects[1], Effect::Announce(next) if next.switch == Switch::AtStepBoundary));
}

#[test]
fn nobody_is_blamed_for_the_time_that_the_coordinator_slept() {
    let mut membership = running();
    assert_eq!(membership.handle(seconds(100.0), Event::WasAsleep), Ok(vec![]));
    assert_eq!(tick(&mut membership, 100.0), []);
    assert_eq!(membership.next_deadline(), Some(seconds(104.5)));
    hear_from(&mut membership, 101.0, &[1, 2]);
    let silent_for = seconds(4.5);
    assert_eq!(
        tick(&mut membership, 104.5)[0],
        lost(1, 3, "b", 7, Evidence::LeaseLapsed { silent_for })
    );
}

#[test]
fn what_was_suspected_or_waited_for_before_the_sleep_is_waited_for_anew() {
    let mut membership = running();
    membership.handle(seconds(2.0), Event::StopRequested).unwrap();
    report(&mut membership, 2.0, 1, finished(Outcome::Stopped));
    assert_eq!(close_watch(&mut membership, 2.0, 3), []);
    assert_eq!(report(&mut membership, 2.0, 3, broken(0)), []);
    membership.handle(seconds(1000.0), Event::WasAsleep).unwrap();
    assert_eq!(tick(&mut membership, 1000.0), []);
    assert_eq!(membership.next_deadline(), Some(seconds(1004.5)));
    open_watch(&mut membership, 3, 30);
    report(&mut membership, 1001.0, 2, finished(Outcome::Stopped));
    assert!(matches!(
        report(&mut membership, 1001.0, 3, finished(Outcome::Stopped))[..],
        [Effect::End(Verdict::Stopped { .. })]
    ));
}

#[test]
fn requests_for_checkpoints_are_numbered_on_so_that_workers_do_not_take_them_for_served() {
    let mut membership = running();
    let number_of = |membership: &mut Membership| {
        let effects = membership.handle(seconds(2.0), Event::CheckpointRequested);
        match effects.unwrap()[..] {
            [Effect::RequestCheckpoint { number }] => number,
            ref other => panic!("expected a request, got {other:?}"),
        }
    };
    let (first, second) = (number_of(&mut membership), number_of(&mut membership));
    let third = number_of(&mut taken_over());
    assert!(first < second && second < third, "{first} {second} {third}");
}

#[test]
fn a_checkpoint_that_is_committed_after_the_end_is_no_news() {
    let mut membership = running();
    membership.handle(seconds(2.0), Event::AbortRequested).unwrap();
    let before = membership.clone();
    let committed = Event::CheckpointCommitted { step: 9 };
    assert_eq!(membership.handle(seconds(2.1), committed), Ok(vec![]));
    assert_eq!(membership, before);
}

#[test]
fn members_of_a_generation_that_the_journal_has_lost_are_given_a_newer_one() {
    let mut membership = taken_over();
    come_back(&mut membership, 2.0, 1, "b");
    let effects = beat(&mut membership, 2.1, sender(1, 6), TRAINING);
    let Some(Effect::Announce(next)) = effects.first() else {
        panic!("no generation follows: {effects:?}");
    };
    assert_eq!((next.generation(), next.switch), (Generation(7), Switch::Now));
    assert_eq!(beat(&mut membership, 2.2, sender(2, 6), TRAINING), []);

    let absurd = Event::Heartbeat {
        sender: sender(1, u64::MAX),
        vitals: TRAINING,
    };
    let refused = membership.handle(seconds(2.3), absurd).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::StaleGeneration);
    assert_eq!(membership.generation(), Generation(7));
}
