//! Fencing, and what members report.

use super::*;

#[test]
fn messages_of_another_generation_run_or_worker_are_refused_and_change_nothing() {
    let cases = [
        (sender(1, 0), RefusalKind::StaleGeneration),
        (sender(1, 2), RefusalKind::StaleGeneration),
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
        let activity = Activity::Training;
        let events = [
            Event::Heartbeat {
                sender,
                step: 1,
                activity,
            },
            Event::Reported {
                sender,
                report: step(1),
            },
            Event::Left {
                sender,
                reason: String::new(),
            },
        ];
        for event in events {
            let refused = membership.handle(seconds(2.0), event).unwrap_err();
            assert_eq!(refused.kind(), kind);
        }
        assert_eq!(membership.may_upload(&sender).unwrap_err().kind(), kind);
        assert_eq!(membership, before);
    }
}

#[test]
fn only_rank_zero_reports_progress_and_uploads() {
    let mut membership = running();
    assert_eq!(membership.may_upload(&sender(2, 1)), Ok(()));
    let refused = membership.may_upload(&sender(1, 1)).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::NotRankZero);
    for report in [step(1), Report::Epoch(epoch(1))] {
        let event = Event::Reported {
            sender: sender(3, 1),
            report,
        };
        let refused = membership.handle(seconds(2.0), event).unwrap_err();
        assert_eq!(refused.kind(), RefusalKind::NotRankZero);
    }
    assert!(matches!(
        report(&mut membership, 2.0, 2, step(1))[..],
        [Effect::ShowStep(_)]
    ));
}

#[test]
fn an_epoch_is_recorded_once_with_the_time_since_the_generation_began() {
    let mut membership = running();
    let recorded = Effect::RecordEpoch {
        report: epoch(1),
        elapsed: seconds(2.0),
    };
    assert_eq!(
        report(&mut membership, 3.0, 2, Report::Epoch(epoch(1))),
        [recorded]
    );
    assert_eq!(report(&mut membership, 3.1, 2, Report::Epoch(epoch(1))), []);
    assert!(matches!(
        report(&mut membership, 5.0, 2, Report::Epoch(epoch(2)))[..],
        [Effect::RecordEpoch { .. }]
    ));
}
