//! How a run ends, and what is kept of it.

use super::*;

#[test]
fn the_run_is_complete_when_every_rank_has_finished() {
    let mut membership = running();
    assert_eq!(report(&mut membership, 2.0, 1, finished(Outcome::Completed)), []);
    assert_eq!(report(&mut membership, 2.0, 2, finished(Outcome::Completed)), []);
    hear_from(&mut membership, 5.0, &[1, 2, 3]);
    assert_eq!(tick(&mut membership, 7.0), []);
    let verdict = Verdict::Completed {
        epoch: 3,
        step: 30,
        reason: String::new(),
    };
    let effects = report(&mut membership, 7.0, 3, finished(Outcome::Completed));
    assert_eq!(effects, [Effect::End(verdict)]);
    assert!(!membership.is_deserted());
    for worker in 1..=3 {
        assert_eq!(leave(&mut membership, 7.1, worker, ""), []);
    }
    assert!(membership.is_deserted());
}

#[test]
fn a_rank_that_dies_after_it_has_finished_is_lost_and_the_others_finish_again() {
    let mut membership = running();
    report(&mut membership, 2.0, 3, finished(Outcome::Completed));
    assert_eq!(close_watch(&mut membership, 2.1, 3), []);
    assert_eq!(
        tick(&mut membership, 4.1),
        [
            lost(1, 3, "b", 30, Evidence::WatchClosed),
            announced(2, &[(1, "b"), (2, "a")])
        ]
    );
    assert_eq!(report(&mut membership, 5.0, 1, finished(Outcome::Completed)), []);
    assert!(matches!(
        report(&mut membership, 5.0, 2, finished(Outcome::Completed))[..],
        [Effect::End(Verdict::Completed { .. })]
    ));
}

#[test]
fn a_rank_that_does_not_finish_is_lost_after_its_grace() {
    let mut membership = running();
    report(&mut membership, 2.0, 3, finished(Outcome::Completed));
    let grace = Timing::default().finish_grace;
    let end = 2.0 + grace.as_secs_f64();
    for worker in 1..=3 {
        let progress = 71;
        let vitals = Vitals { progress, ..TRAINING };
        beat(&mut membership, end - 1.0, sender(worker, 1), vitals);
    }
    assert_eq!(membership.next_deadline(), Some(seconds(end)));
    let evidence = Evidence::Stalled {
        activity: Activity::Training,
        still_for: grace,
    };
    assert_eq!(
        tick(&mut membership, end),
        [lost(0, 1, "b", 7, evidence), announced(2, &[(3, "b"), (2, "a")])]
    );
}

#[test]
fn a_stop_is_asked_for_once_and_ends_when_the_workers_have_stopped() {
    for checkpoint in [None, Some(30)] {
        let mut membership = running();
        assert_eq!(
            membership.handle(seconds(2.0), Event::StopRequested),
            Ok(vec![Effect::RequestStop(StopCause::Asked)])
        );
        assert_eq!(membership.handle(seconds(2.1), Event::StopRequested), Ok(vec![]));
        if let Some(step) = checkpoint {
            let committed = Event::CheckpointCommitted { step };
            membership.handle(seconds(2.5), committed).unwrap();
        }
        report(&mut membership, 3.0, 1, finished(Outcome::Stopped));
        report(&mut membership, 3.0, 3, finished(Outcome::Stopped));
        let effects = report(&mut membership, 3.0, 2, finished(Outcome::Stopped));
        let verdict = Verdict::Stopped {
            epoch: 3,
            step: 30,
            is_resumable: checkpoint.is_some(),
        };
        assert_eq!(membership.ending(&verdict).resumable, checkpoint.is_some());
        assert_eq!(effects, [Effect::End(verdict)]);
    }
}

#[test]
fn a_run_whose_time_is_up_completes() {
    let mut membership = running_with(Terms {
        timing: Timing {
            time_limit: Some(seconds(3.0)),
            ..Timing::default()
        },
        ..terms(3)
    });
    let due = membership.time_is_up_at().unwrap();
    assert!(membership.next_deadline() <= Some(due));
    let at = due.as_secs_f64();
    hear_from(&mut membership, at - 0.1, &[1, 2, 3]);
    assert_eq!(
        tick(&mut membership, at),
        [Effect::RequestStop(StopCause::TimeIsUp)]
    );
    for worker in [1, 3] {
        assert_eq!(
            report(&mut membership, at + 1.0, worker, finished(Outcome::Stopped)),
            []
        );
    }
    let effects = report(&mut membership, at + 1.0, 2, finished(Outcome::Stopped));
    let [Effect::End(verdict)] = &effects[..] else {
        panic!("{effects:?}");
    };
    let ending = membership.ending(verdict);
    assert_eq!((ending.outcome, ending.resumable), (Outcome::Completed, false));
    assert!(
        ending.reason.ends_with("the time that it was given is up"),
        "{}",
        ending.reason
    );
}

#[test]
fn a_stop_survives_the_loss_of_a_worker() {
    let mut membership = running();
    membership.handle(seconds(2.0), Event::StopRequested).unwrap();
    report(&mut membership, 3.0, 1, finished(Outcome::Stopped));
    assert_eq!(leave(&mut membership, 3.1, 3, "").len(), 2);
    report(&mut membership, 3.5, 1, finished(Outcome::Stopped));
    assert!(matches!(
        report(&mut membership, 3.5, 2, finished(Outcome::Stopped))[..],
        [Effect::End(Verdict::Stopped { .. })]
    ));
}

#[test]
fn a_stop_that_takes_too_long_or_is_asked_for_again_ends_at_once() {
    let mut membership = running();
    membership.handle(seconds(2.0), Event::StopRequested).unwrap();
    let grace = Timing::default().stop_grace;
    let end = 2.0 + grace.as_secs_f64();
    for worker in 1..=3 {
        let progress = 71;
        let vitals = Vitals { progress, ..TRAINING };
        beat(&mut membership, end - 1.0, sender(worker, 1), vitals);
    }
    let failure = Failure::StopTookTooLong {
        grace,
        unfinished: vec![0, 1, 2],
    };
    assert_eq!(tick(&mut membership, end), failed(failure));

    let mut membership = running();
    membership.handle(seconds(2.0), Event::StopRequested).unwrap();
    let effects = membership.handle(seconds(2.5), Event::AbortRequested);
    assert_eq!(effects, Ok(failed(Failure::Aborted)));
    assert_eq!(membership.handle(seconds(2.6), Event::AbortRequested), Ok(vec![]));
}

#[test]
fn a_stop_while_nobody_is_at_work_ends_the_run() {
    let mut membership = Membership::new(terms(2), Duration::ZERO);
    let effects = membership.handle(seconds(0.0), Event::StopRequested);
    assert_eq!(effects, Ok(vec![Effect::End(Verdict::StoppedBeforeStart)]));
    let refused = membership.handle(seconds(0.0), Event::Joined(candidate(1, "a")));
    assert_eq!(refused.unwrap_err().kind(), RefusalKind::RunEnded);

    let mut membership = running();
    let committed = Event::CheckpointCommitted { step: 5 };
    membership.handle(seconds(2.0), committed).unwrap();
    for worker in 1..=3 {
        leave(&mut membership, 2.0, worker, "");
    }
    let verdict = Verdict::StoppedWhileWaiting {
        checkpoint_step: Some(5),
    };
    assert!(membership.ending(&verdict).resumable);
    assert_eq!(
        membership.handle(seconds(3.0), Event::StopRequested),
        Ok(vec![Effect::End(verdict)])
    );
}

#[test]
fn a_run_directory_that_cannot_be_written_ends_the_run() {
    let mut membership = running();
    let reason = "no space left".to_owned();
    let effects = membership.handle(
        seconds(2.0),
        Event::StorageFailed {
            reason: reason.clone(),
        },
    );
    assert_eq!(effects, Ok(failed(Failure::Storage { reason })));
    assert_eq!(membership.handle(seconds(2.0), Event::StopRequested), Ok(vec![]));
    assert_eq!(membership.next_deadline(), None);
}

#[test]
fn checkpoints_are_asked_for_by_number_recorded_once_and_told_to_the_next_generation() {
    let mut membership = Membership::new(terms(3), Duration::ZERO);
    let refused = membership.handle(seconds(0.0), Event::CheckpointRequested);
    assert_eq!(refused.unwrap_err().kind(), RefusalKind::NotNow);

    let mut membership = running();
    for number in [1, 2] {
        assert_eq!(
            membership.handle(seconds(2.0), Event::CheckpointRequested),
            Ok(vec![Effect::RequestCheckpoint { number }])
        );
    }
    for (step, expected) in [
        (9, vec![Effect::RecordCheckpoint { step: 9 }]),
        (9, vec![]),
        (8, vec![]),
    ] {
        let committed = Event::CheckpointCommitted { step };
        assert_eq!(membership.handle(seconds(2.0), committed), Ok(expected));
    }
    let effects = leave(&mut membership, 3.0, 3, "");
    let Effect::Announce(roster) = &effects[1] else {
        panic!("no generation follows: {effects:?}");
    };
    assert_eq!(roster.checkpoint_step, Some(9));
}

#[test]
fn who_is_left_when_a_worker_is_lost_during_a_stop_stops_and_waits_for_nobody() {
    let min_world_size = 3;
    let mut membership = running_with(Terms {
        min_world_size,
        ..terms(3)
    });
    membership.handle(seconds(2.0), Event::StopRequested).unwrap();
    let ring = [(1, "b"), (2, "a")];
    assert_eq!(
        leave(&mut membership, 2.1, 3, ""),
        [lost(1, 3, "b", 7, goodbye("")), announced(2, &ring)]
    );
    assert_eq!(leave(&mut membership, 2.2, 2, "").len(), 2);
    let verdict = Verdict::StoppedWhileWaiting {
        checkpoint_step: None,
    };
    assert_eq!(
        leave(&mut membership, 2.3, 1, ""),
        [lost(0, 1, "b", 7, goodbye("")), Effect::End(verdict)]
    );
}
