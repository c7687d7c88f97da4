//! Workers that come while the others are at work.

use super::*;

const FOUR: [(u128, &str); 4] = [(1, "b"), (3, "b"), (2, "a"), (4, "c")];

#[test]
fn a_worker_that_comes_is_planned_in_at_a_step_boundary_and_both_generations_are_heard_until_then() {
    let mut membership = running();
    let effects = join(&mut membership, 2.0, 4, "c");
    assert_eq!(effects, [joined(4, "c", 4), planned(2, &FOUR)]);
    assert_eq!(membership.may_upload(&sender(1, 1)), Ok(()));
    assert_eq!(membership.may_upload(&sender(4, 2)), Ok(()));
    assert!(membership.may_upload(&sender(4, 1)).is_err());
    assert_eq!(hear_from(&mut membership, 2.5, &[1, 2, 3, 4]), []);
    let refused = membership.may_upload(&sender(1, 1)).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::StaleGeneration);
}

#[test]
fn one_change_is_under_way_at_a_time() {
    let mut membership = running();
    join(&mut membership, 2.0, 4, "c");
    assert_eq!(join(&mut membership, 2.1, 5, "c"), [joined(5, "c", 5)]);
    assert_eq!(hear_from(&mut membership, 2.5, &[1, 2, 3, 5]), []);
    let ring = [(1, "b"), (3, "b"), (2, "a"), (4, "c"), (5, "c")];
    assert_eq!(hear_from(&mut membership, 2.6, &[4]), [planned(3, &ring)]);
}

#[test]
fn a_loss_overtakes_a_planned_change_and_takes_everybody_in_who_is_there() {
    let mut membership = running();
    join(&mut membership, 2.0, 4, "c");
    join(&mut membership, 2.0, 5, "c");
    let evidence = goodbye("");
    let ring = [(1, "b"), (2, "a"), (4, "c"), (5, "c")];
    assert_eq!(
        leave(&mut membership, 2.1, 3, ""),
        [lost(1, 3, "b", 7, evidence), announced(3, &ring)]
    );
    for generation in [1, 2] {
        let refused = membership.may_upload(&sender(1, generation)).unwrap_err();
        assert_eq!(refused.kind(), RefusalKind::StaleGeneration);
    }
    assert_eq!(hear_from(&mut membership, 3.0, &[1, 2, 4, 5]), []);
}

#[test]
fn a_newcomer_that_is_lost_before_its_generation_begins_is_taken_out_again() {
    let mut membership = running();
    join(&mut membership, 2.0, 4, "c");
    assert_eq!(
        leave(&mut membership, 2.1, 4, "disk full"),
        [
            lost_unheard(3, 4, "c", goodbye("disk full")),
            announced(3, &THREE)
        ]
    );
}

#[test]
fn a_newcomer_that_is_lost_while_it_waits_disturbs_nobody() {
    let mut membership = running();
    join(&mut membership, 2.0, 4, "c");
    join(&mut membership, 2.0, 5, "c");
    assert_eq!(
        close_watch(&mut membership, 2.1, 5),
        [departed(5, "c", Evidence::WatchClosed)]
    );
    assert_eq!(hear_from(&mut membership, 2.5, &[1, 2, 3, 4]), []);
    assert_eq!(membership.generation(), Generation(2));
    assert_eq!(membership.losses, 0);
}

#[test]
fn a_worker_that_was_taken_off_the_list_joins_anew_under_its_id() {
    let mut membership = running();
    let effects = pass(&mut membership, 2.0, 6.0, &[1, 2]);
    let silent_for = seconds(5.0);
    assert_eq!(
        effects,
        [
            lost(1, 3, "b", 7, Evidence::LeaseLapsed { silent_for }),
            announced(2, &[(1, "b"), (2, "a")])
        ]
    );
    let event = Event::Heartbeat {
        sender: sender(3, 1),
        vitals: TRAINING,
    };
    let refused = membership.handle(seconds(6.1), event).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::UnknownWorker);
    hear_from(&mut membership, 6.1, &[1, 2]);
    // The end of its old stream comes late, and is not that of the new one.
    let effects = membership.handle(seconds(6.2), Event::Joined(candidate(3, "b")));
    assert_eq!(effects, Ok(vec![joined(3, "b", 3), planned(3, &THREE)]));
    open_watch(&mut membership, 3, 30);
    assert_eq!(close_watch(&mut membership, 6.3, 3), []);
    assert_eq!(pass(&mut membership, 6.5, 20.0, &[1, 2, 3]), []);
}

#[test]
fn nobody_is_planned_in_while_the_run_stops() {
    let mut membership = running();
    membership.handle(seconds(2.0), Event::StopRequested).unwrap();
    assert_eq!(join(&mut membership, 2.1, 4, "c"), [joined(4, "c", 4)]);
    assert_eq!(hear_from(&mut membership, 2.5, &[1, 2, 3, 4]), []);
}

#[test]
fn nobody_is_planned_in_once_somebody_has_finished() {
    let mut membership = running();
    report(&mut membership, 2.0, 3, finished(Outcome::Completed));
    let finish_by = 2.0 + Timing::default().finish_grace.as_secs_f64();
    assert_eq!(join(&mut membership, 2.1, 4, "c"), [joined(4, "c", 4)]);
    assert_eq!(hear_from(&mut membership, 2.5, &[1, 2, 3, 4]), []);
    let Phase::Running(running) = &membership.phase else {
        panic!("nobody is at work");
    };
    assert_eq!(running.finish_by, Some(seconds(finish_by)));
}

#[test]
fn a_worker_that_was_restarted_takes_the_place_of_the_one_before_at_its_address() {
    let mut membership = running();
    let successor = Candidate {
        worker: WorkerId::from_u128(4),
        ..candidate(3, "b")
    };
    let joins = || Event::Joined(successor.clone());
    let taken = membership.handle(seconds(2.0), joins()).unwrap_err();
    assert_eq!(taken.kind(), RefusalKind::AddressTaken);
    assert_eq!(close_watch(&mut membership, 2.1, 3), []);
    let effects = membership.handle(seconds(2.2), joins()).unwrap();
    assert_eq!(
        effects[..2],
        [joined(4, "b", 4), lost(1, 3, "b", 7, Evidence::WatchClosed)]
    );
    let Some(Effect::Announce(next)) = effects.last() else {
        panic!("no generation follows: {effects:?}");
    };
    let members: Vec<_> = next.members().iter().map(|member| member.worker).collect();
    assert_eq!(members, [1, 4, 2].map(WorkerId::from_u128));
    assert_eq!(next.switch, Switch::Now);
}
