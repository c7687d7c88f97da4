//! How a run ends.

use super::*;

#[test]
fn the_run_is_complete_when_every_rank_has_finished_and_nobody_is_missed_after_that() {
    let mut membership = running();
    assert_eq!(report(&mut membership, 2.0, 1, finished(Outcome::Completed)), []);
    assert_eq!(report(&mut membership, 2.0, 2, finished(Outcome::Completed)), []);
    assert_eq!(close_watch(&mut membership, 2.0, 1, 1), []);
    heartbeat(&mut membership, 6.5, 3);
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
        let left = Event::Left {
            sender: sender(worker, 1),
            reason: String::new(),
        };
        assert_eq!(membership.handle(seconds(7.1), left), Ok(vec![]));
    }
    assert!(membership.is_deserted());
}

#[test]
fn a_rank_that_does_not_finish_ends_the_run_after_its_grace() {
    let mut membership = running();
    report(&mut membership, 2.0, 2, finished(Outcome::Completed));
    let grace = Timing::default().finish_grace;
    let end = 2.0 + grace.as_secs_f64();
    for worker in [1, 3] {
        heartbeat(&mut membership, end - 1.0, worker);
    }
    assert_eq!(membership.next_deadline(), Some(seconds(end)));
    let failure = Failure::FinishTookTooLong {
        grace,
        unfinished: vec![1, 2],
    };
    assert_eq!(tick(&mut membership, end), failed(failure));
}

#[test]
fn a_stop_is_asked_for_once_and_ends_when_the_workers_have_stopped() {
    let mut membership = running();
    assert_eq!(
        membership.handle(seconds(2.0), Event::StopRequested),
        Ok(vec![Effect::RequestStop])
    );
    assert_eq!(membership.handle(seconds(2.1), Event::StopRequested), Ok(vec![]));
    report(&mut membership, 3.0, 1, finished(Outcome::Stopped));
    report(&mut membership, 3.0, 3, finished(Outcome::Stopped));
    let effects = report(&mut membership, 3.0, 2, finished(Outcome::Stopped));
    assert_eq!(effects, [Effect::End(Verdict::Stopped { epoch: 3, step: 30 })]);
}

#[test]
fn a_stop_that_takes_too_long_or_is_asked_for_again_ends_at_once() {
    let mut membership = running();
    membership.handle(seconds(2.0), Event::StopRequested).unwrap();
    let grace = Timing::default().stop_grace;
    let end = 2.0 + grace.as_secs_f64();
    for worker in [1, 2, 3] {
        heartbeat(&mut membership, end - 1.0, worker);
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
fn a_stop_before_the_start_ends_the_run() {
    let mut membership = Membership::new(terms(2), Duration::ZERO);
    let effects = membership.handle(seconds(0.0), Event::StopRequested);
    assert_eq!(effects, Ok(vec![Effect::End(Verdict::StoppedBeforeStart)]));
    let refused = membership.handle(seconds(0.0), Event::Joined(candidate(1, "a")));
    assert_eq!(refused.unwrap_err().kind(), RefusalKind::RunEnded);
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
}
