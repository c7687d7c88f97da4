//! Fencing, and what members report.

use super::*;

#[test]
fn messages_of_another_run_or_worker_are_refused_and_change_nothing() {
    let cases = [
        (sender(9, 1), RefusalKind::UnknownWorker),
        (
            Sender {
                run: RunId::from_u128(1),
                ..sender(1, 1)
            },
            RefusalKind::OtherRun,
        ),
    ];
    for (sender, kind) in cases {
        let mut membership = running();
        let before = membership.clone();
        let vitals = TRAINING;
        let mut events = vec![
            Event::Heartbeat { sender, vitals },
            Event::Left {
                sender,
                reason: String::new(),
            },
        ];
        let reports = [
            step(1),
            Report::Epoch(epoch(1)),
            finished(Outcome::Failed),
            broken(1),
            Report::DrainRequested,
        ];
        events.extend(reports.map(|report| Event::Reported { sender, report }));
        for event in events {
            let refused = membership.handle(seconds(2.0), event).unwrap_err();
            assert_eq!(refused.kind(), kind);
        }
        assert_eq!(membership.may_upload(&sender).unwrap_err().kind(), kind);
        assert_eq!(membership.is_known(&sender).unwrap_err().kind(), kind);
        assert_eq!(membership, before);
    }
}

#[test]
fn what_is_about_a_generation_is_refused_from_another_one() {
    for generation in [0, 2] {
        let mut membership = running();
        let before = membership.clone();
        let sender = sender(1, generation);
        for report in [finished(Outcome::Completed), finished(Outcome::Failed), broken(1)] {
            let event = Event::Reported { sender, report };
            let refused = membership.handle(seconds(2.0), event).unwrap_err();
            assert_eq!(refused.kind(), RefusalKind::StaleGeneration);
        }
        let refused = membership.may_upload(&sender).unwrap_err();
        assert_eq!(refused.kind(), RefusalKind::StaleGeneration);
        assert_eq!(membership, before);
    }
}

#[test]
fn a_sign_of_life_counts_whatever_the_generation() {
    let mut membership = running();
    for generation in [0, 1] {
        beat(&mut membership, 5.0, sender(3, generation), TRAINING);
    }
    hear_from(&mut membership, 5.0, &[1, 2]);
    assert_eq!(membership.next_deadline(), Some(seconds(9.5)));
}

#[test]
fn an_epoch_is_recorded_once_with_the_time_since_the_run_began_whoever_reports_it() {
    let mut membership = running();
    let recorded = Effect::RecordEpoch {
        report: epoch(1),
        elapsed: seconds(2.0),
    };
    assert_eq!(
        report(&mut membership, 3.0, 1, Report::Epoch(epoch(1))),
        [recorded]
    );
    assert_eq!(report(&mut membership, 3.1, 1, Report::Epoch(epoch(1))), []);
    leave(&mut membership, 3.2, 1, "");
    assert_eq!(report(&mut membership, 3.3, 3, Report::Epoch(epoch(1))), []);
    let recorded = Effect::RecordEpoch {
        report: epoch(2),
        elapsed: seconds(4.0),
    };
    assert_eq!(
        report(&mut membership, 5.0, 3, Report::Epoch(epoch(2))),
        [recorded]
    );
    assert!(matches!(
        report(&mut membership, 5.0, 3, step(1))[..],
        [Effect::ShowStep(_)]
    ));
}

#[test]
fn a_range_of_a_checkpoint_may_be_late_by_step_boundaries_but_not_by_losses() {
    let mut membership = running();
    let may = |membership: &Membership, worker, generation| {
        membership.may_upload_range(&sender(worker, generation)).is_ok()
    };
    report(&mut membership, 2.0, 1, Report::DrainRequested);
    hear_from(&mut membership, 2.1, &[2, 3]);
    assert_eq!(membership.generation(), Generation(2));
    for worker in [1, 2, 3] {
        assert!(may(&membership, worker, 1), "{worker}");
    }
    assert!(!may(&membership, 2, 3), "a generation that was not announced");
    assert_eq!(
        membership.may_upload(&sender(2, 1)).unwrap_err().kind(),
        RefusalKind::StaleGeneration,
        "weights come from the newest generation"
    );
    leave(&mut membership, 2.2, 3, "");
    assert!(!may(&membership, 2, 2));
    assert!(may(&membership, 2, 3));
    membership.handle(seconds(2.3), Event::AbortRequested).unwrap();
    assert!(!may(&membership, 2, 3), "after the end");
}
