//! Workers that ask to be let go.

use super::*;

fn drain(membership: &mut Membership, now: f64, worker: u128) -> Vec<Effect> {
    report_in(membership, now, worker, 1, Report::DrainRequested)
}

#[test]
fn a_worker_is_let_go_at_a_step_boundary_and_its_goodbye_is_no_loss() {
    let mut membership = running();
    let ring = [(3, "b"), (2, "a")];
    assert_eq!(drain(&mut membership, 2.0, 1), [planned(2, &ring)]);
    assert_eq!(drain(&mut membership, 2.1, 1), []);
    assert_eq!(membership.may_upload(&sender(1, 1)), Ok(()));
    // It may be the first to have gone over.
    assert_eq!(hear_from(&mut membership, 2.2, &[3]), []);
    assert_eq!(
        leave(&mut membership, 2.3, 1, "asked to end"),
        [departed(1, "b", goodbye("asked to end"))]
    );
    assert_eq!(hear_from(&mut membership, 2.4, &[2]), []);
    assert_eq!(pass(&mut membership, 3.0, 20.0, &[2, 3]), []);
    assert_eq!((membership.generation(), membership.losses), (Generation(2), 0));
}

#[test]
fn a_drain_is_granted_below_the_least_world_size() {
    let min_world_size = 3;
    let mut membership = running_with(Terms {
        min_world_size,
        ..terms(3)
    });
    let ring = [(1, "b"), (2, "a")];
    assert_eq!(drain(&mut membership, 2.0, 3), [planned(2, &ring)]);
}

#[test]
fn when_all_ask_at_the_same_time_one_stays_to_the_end() {
    let mut membership = running();
    assert_eq!(
        drain(&mut membership, 2.0, 1),
        [planned(2, &[(3, "b"), (2, "a")])]
    );
    assert_eq!(drain(&mut membership, 2.0, 3), []);
    assert_eq!(drain(&mut membership, 2.0, 2), []);
    assert_eq!(
        hear_from(&mut membership, 2.5, &[3, 2]),
        [planned(3, &[(3, "b")])]
    );
    let asked = || goodbye("asked to end");
    assert_eq!(
        leave(&mut membership, 2.6, 1, "asked to end"),
        [departed(1, "b", asked())]
    );
    assert_eq!(hear_from(&mut membership, 2.7, &[3]), []);
    assert_eq!(
        leave(&mut membership, 2.8, 2, "asked to end"),
        [departed(2, "a", asked())]
    );
    // The last one has stopped and handed its state over to a checkpoint.
    let remind = Effect::Remind {
        present: vec![],
        missing: 1,
        out_of_sight: 0,
    };
    assert_eq!(
        leave(&mut membership, 3.0, 3, "asked to end"),
        [lost(0, 3, "b", 7, asked()), remind]
    );
}

#[test]
fn a_worker_that_asks_while_another_change_is_under_way_is_let_go_after_it() {
    let mut membership = running();
    join(&mut membership, 2.0, 4, "c");
    assert_eq!(drain(&mut membership, 2.1, 3), []);
    let ring = [(1, "b"), (2, "a"), (4, "c")];
    assert_eq!(
        hear_from(&mut membership, 2.5, &[1, 2, 3, 4]),
        [planned(3, &ring)]
    );
}

#[test]
fn a_worker_that_dies_before_it_was_let_go_is_lost_like_any_other() {
    let ring = [(3, "b"), (2, "a")];
    let mut membership = running();
    assert_eq!(drain(&mut membership, 2.0, 1), [planned(2, &ring)]);
    // Worker 1 is rank 0 of generation 1, worker 2 its left neighbour, rank 2.
    assert_eq!(close_watch(&mut membership, 2.1, 1), []);
    assert_eq!(
        report_in(&mut membership, 2.1, 2, 1, broken(0)),
        [lost(0, 1, "b", 7, reset(2)), announced(3, &ring)]
    );

    let mut membership = running();
    assert_eq!(drain(&mut membership, 2.0, 1), [planned(2, &ring)]);
    hear_from(&mut membership, 3.0, &[2]);
    beat(&mut membership, 3.0, sender(3, 1), TRAINING);
    let silent_for = seconds(4.5);
    let evidence = Evidence::LeaseLapsed { silent_for };
    assert_eq!(
        tick(&mut membership, 5.5),
        [lost(0, 1, "b", 7, evidence), announced(3, &ring)]
    );
}

#[test]
fn who_was_left_behind_by_a_worker_that_was_let_go_is_not_left_waiting() {
    let ring = [(3, "b"), (2, "a")];
    let mut membership = running();
    assert_eq!(drain(&mut membership, 2.0, 1), [planned(2, &ring)]);
    leave(&mut membership, 2.3, 1, "asked to end");
    // The last bytes of worker 1 did not reach worker 3, which is in generation 1 still.
    assert_eq!(
        report_in(&mut membership, 2.4, 3, 1, broken(0)),
        [announced(3, &ring)]
    );
}

#[test]
fn a_worker_that_asked_to_be_let_go_stays_while_nobody_else_has_the_state() {
    let mut membership = Membership::new(terms(2), Duration::ZERO);
    join(&mut membership, 0.0, 1, "a");
    join(&mut membership, 0.0, 2, "b");
    hear_from(&mut membership, 1.0, &[1, 2]);
    join(&mut membership, 2.0, 3, "c");
    assert_eq!(drain(&mut membership, 2.0, 1), []);
    // Worker 3 has copied nothing yet.
    let ring = [(1, "a"), (3, "c")];
    assert_eq!(
        leave(&mut membership, 2.1, 2, ""),
        [lost(1, 2, "b", 7, goodbye("")), announced(3, &ring)]
    );
    assert_eq!(
        hear_from(&mut membership, 3.0, &[1, 3]),
        [planned(4, &[(3, "c")])]
    );
}

#[test]
fn a_worker_that_asked_to_be_let_go_stays_while_there_would_be_too_few() {
    let min_world_size = 2;
    let mut membership = running_with(Terms {
        min_world_size,
        ..terms(3)
    });
    assert_eq!(
        drain(&mut membership, 2.0, 1),
        [planned(2, &[(3, "b"), (2, "a")])]
    );
    assert_eq!(
        leave(&mut membership, 2.1, 2, ""),
        [
            lost(1, 2, "a", 7, goodbye("")),
            announced(3, &[(3, "b"), (1, "b")])
        ]
    );
}

#[test]
fn a_run_that_waits_for_workers_keeps_nobody_who_wants_to_go() {
    let min_world_size = 3;
    let mut membership = running_with(Terms {
        min_world_size,
        ..terms(3)
    });
    leave(&mut membership, 2.0, 3, "");
    assert_eq!(membership.roster(), None);
    let before = membership.clone();
    let event = Event::Reported {
        sender: sender(1, 1),
        report: Report::DrainRequested,
    };
    let refused = membership.handle(seconds(2.1), event).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::NotNow);
    assert_eq!(membership, before);
    let asked = || goodbye("asked to end");
    assert_eq!(
        leave(&mut membership, 2.2, 1, "asked to end"),
        [departed(1, "b", asked())]
    );
}

#[test]
fn a_worker_that_asks_stays_while_the_only_other_one_still_copies_its_state() {
    let mut membership = Membership::new(terms(2), Duration::ZERO);
    for (worker, host) in [(1, "a"), (2, "b")] {
        join(&mut membership, 1.0, worker, host);
    }
    hear_from(&mut membership, 1.0, &[1, 2]);
    let ring = [(1, "a"), (2, "b"), (3, "c")];
    assert_eq!(
        join(&mut membership, 2.0, 3, "c"),
        [joined(3, "c", 3), planned(2, &ring)]
    );
    hear_from(&mut membership, 2.1, &[1, 2]);
    let copies = Vitals {
        activity: Activity::Waiting,
        ..TRAINING
    };
    beat(&mut membership, 2.2, sender(3, 2), copies);
    assert_eq!(
        report_in(&mut membership, 2.3, 1, 2, Report::DrainRequested),
        [planned(3, &[(2, "b"), (3, "c")])]
    );
    let effects = leave(&mut membership, 2.4, 2, "");
    assert_eq!(effects.last(), Some(&announced(4, &[(1, "a"), (3, "c")])));
    // It is let go once the state is there twice.
    hear_from(&mut membership, 2.5, &[1]);
    assert_eq!(hear_from(&mut membership, 2.6, &[3]), [planned(5, &[(3, "c")])]);
}
