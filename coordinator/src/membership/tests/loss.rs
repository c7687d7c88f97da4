//! How a member is lost, who is named, and that the others go on.

use super::*;

const WITHOUT_3: [(u128, &str); 2] = [(1, "b"), (2, "a")];

#[test]
fn a_lapsed_lease_names_rank_host_and_silence_and_the_others_go_on() {
    let mut membership = running();
    hear_from(&mut membership, 4.0, &[1, 2]);
    assert_eq!(membership.next_deadline(), Some(seconds(5.5)));
    let silent_for = seconds(4.5);
    let evidence = Evidence::LeaseLapsed { silent_for };
    assert_eq!(evidence.to_string(), "no heartbeat for 4.5 s");
    assert_eq!(
        tick(&mut membership, 5.5),
        [lost(1, 3, "b", 7, evidence), announced(2, &WITHOUT_3)]
    );
    assert_eq!(membership.generation(), Generation(2));
    assert_eq!(membership.losses, 1);
}

#[test]
fn a_dead_process_is_lost_at_once_whichever_of_its_connections_is_seen_to_close_first() {
    // Worker 1 has rank 0, worker 3 rank 1.
    let expected = [lost(1, 3, "b", 7, reset(0)), announced(2, &WITHOUT_3)];
    let mut membership = running();
    assert_eq!(report(&mut membership, 2.0, 1, broken(1)), []);
    assert_eq!(close_watch(&mut membership, 2.1, 3), expected);

    let mut membership = running();
    assert_eq!(close_watch(&mut membership, 2.0, 3), []);
    assert_eq!(report(&mut membership, 2.1, 1, broken(1)), expected);
}

#[test]
fn a_broken_link_between_living_workers_makes_the_ring_anew_and_costs_a_place_the_third_time() {
    let mut membership = running();
    for generation in 2..=3 {
        let now = f64::from(generation);
        assert_eq!(report(&mut membership, now, 1, broken(1)), []);
        assert_eq!(membership.next_deadline(), Some(seconds(now + 0.3)));
        assert_eq!(tick(&mut membership, now + 0.2), []);
        assert_eq!(
            tick(&mut membership, now + 0.3),
            [announced(generation as u64, &THREE)]
        );
        hear_from(&mut membership, now + 0.4, &[1, 2, 3]);
    }
    assert_eq!(report(&mut membership, 4.0, 1, broken(1)), []);
    assert_eq!(
        tick(&mut membership, 4.3),
        [lost(1, 3, "b", 7, reset(0)), announced(4, &WITHOUT_3)]
    );
}

#[test]
fn a_step_between_two_broken_links_forgives_the_first() {
    let mut membership = running();
    for generation in 2..=6 {
        let now = f64::from(generation);
        assert_eq!(report(&mut membership, now, 1, broken(1)), []);
        assert_eq!(
            tick(&mut membership, now + 0.3),
            [announced(generation as u64, &THREE)]
        );
        for worker in 1..=3 {
            let step = TRAINING.step + generation as u64;
            let vitals = Vitals { step, ..TRAINING };
            beat(
                &mut membership,
                now + 0.4,
                sender(worker, generation as u64),
                vitals,
            );
        }
    }
    assert_eq!(membership.losses, 0);
}

#[test]
fn a_watch_that_closes_while_the_links_hold_may_come_back() {
    let mut membership = running();
    assert_eq!(close_watch(&mut membership, 2.0, 3), []);
    assert_eq!(membership.next_deadline(), Some(seconds(4.0)));
    open_watch(&mut membership, 3, 10);
    assert_eq!(pass(&mut membership, 2.0, 20.0, &[1, 2, 3]), []);
    // That the first stream ends says nothing about the second.
    assert_eq!(close_watch_number(&mut membership, 20.0, 3, 3), []);
    assert_eq!(membership.generation(), Generation(1));

    assert_eq!(close_watch_number(&mut membership, 20.0, 3, 10), []);
    hear_from(&mut membership, 21.0, &[1, 2, 3]);
    assert_eq!(tick(&mut membership, 21.9), []);
    assert_eq!(
        tick(&mut membership, 22.0),
        [
            lost(1, 3, "b", 7, Evidence::WatchClosed),
            announced(2, &WITHOUT_3)
        ]
    );
}

#[test]
fn a_goodbye_before_the_end_is_a_loss_at_once() {
    let mut membership = running();
    let evidence = goodbye("maintenance");
    assert_eq!(evidence.to_string(), "it left: maintenance");
    assert_eq!(
        leave(&mut membership, 2.0, 3, "maintenance"),
        [lost(1, 3, "b", 7, evidence), announced(2, &WITHOUT_3)]
    );
}

#[test]
fn two_members_lost_at_once_are_followed_by_two_generations() {
    let mut membership = running();
    hear_from(&mut membership, 4.0, &[2]);
    let silent_for = seconds(4.5);
    let evidence = || Evidence::LeaseLapsed { silent_for };
    let first = [
        lost(0, 1, "b", 7, evidence()),
        announced(2, &[(3, "b"), (2, "a")]),
    ];
    assert_eq!(tick(&mut membership, 5.5), first);
    assert_eq!(membership.next_deadline(), Some(seconds(5.5)));
    let second = [lost(0, 3, "b", 7, evidence()), announced(3, &[(2, "a")])];
    assert_eq!(tick(&mut membership, 5.5), second);

    let mut membership = running();
    assert_eq!(close_watch(&mut membership, 2.0, 1), []);
    assert_eq!(close_watch(&mut membership, 2.0, 3), []);
    let first = [lost(0, 1, "b", 7, reset(2)), announced(2, &[(3, "b"), (2, "a")])];
    assert_eq!(report(&mut membership, 2.1, 2, broken(0)), first);
    let stale = Event::Reported {
        sender: sender(2, 1),
        report: broken(1),
    };
    let refused = membership.handle(seconds(2.1), stale).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::StaleGeneration);
    let second = [lost(0, 3, "b", 7, reset(1)), announced(3, &[(2, "a")])];
    assert_eq!(report(&mut membership, 2.2, 2, broken(0)), second);
}

#[test]
fn too_few_workers_wait_and_go_on_when_there_are_enough() {
    let min_world_size = 3;
    let mut membership = running_with(Terms {
        min_world_size,
        ..terms(3)
    });
    let remind = Effect::Remind {
        present: vec![present(1, "b"), present(2, "a")],
        missing: 1,
        out_of_sight: 0,
    };
    assert_eq!(
        leave(&mut membership, 2.0, 3, ""),
        [lost(1, 3, "b", 7, goodbye("")), remind.clone()]
    );
    assert_eq!(membership.roster(), None);
    assert!(membership.may_upload(&sender(1, 1)).is_err());
    assert_eq!(pass(&mut membership, 2.0, 13.0, &[1, 2]), [remind]);
    let effects = join(&mut membership, 13.0, 4, "c");
    let ring = [(1, "b"), (2, "a"), (4, "c")];
    assert_eq!(effects, [joined(4, "c", 3), announced(2, &ring)]);
}

#[test]
fn links_are_reported_only_by_neighbours() {
    let mut membership = Membership::new(terms(4), Duration::ZERO);
    for worker in 1..=4 {
        join(&mut membership, 0.0, worker, "a");
    }
    let before = membership.clone();
    for neighbour in [0, 2, 4, usize::MAX] {
        let event = Event::Reported {
            sender: sender(1, 1),
            report: broken(neighbour),
        };
        let refused = membership.handle(seconds(1.0), event).unwrap_err();
        assert_eq!(refused.kind(), RefusalKind::Malformed, "neighbour {neighbour}");
    }
    assert_eq!(membership, before);
}

#[test]
fn a_failure_that_every_rank_has_ends_the_run_and_is_quoted() {
    let mut membership = running();
    let report_failed = Report::Finished(Finished {
        outcome: Outcome::Failed,
        epoch: 0,
        step: 3,
        reason: "the loss is not finite".into(),
    });
    let failure = Failure::WorkerFailed {
        rank: 1,
        host: "b".into(),
        reason: "the loss is not finite".into(),
    };
    assert_eq!(
        failure.to_string(),
        "rank 1 on host b failed: the loss is not finite"
    );
    assert_eq!(report(&mut membership, 2.0, 3, report_failed), failed(failure));
}
