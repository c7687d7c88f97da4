//! How a member is lost, and who is named.

use super::*;

#[test]
fn a_lapsed_lease_ends_the_run_and_names_rank_host_and_silence() {
    let mut membership = running();
    heartbeat(&mut membership, 4.0, 1);
    heartbeat(&mut membership, 4.0, 2);
    assert_eq!(membership.next_deadline(), Some(seconds(6.0)));
    let effects = tick(&mut membership, 6.0);
    let failure = Failure::Lost {
        member: member(2, 3, "b"),
        evidence: Evidence::LeaseLapsed {
            silent_for: seconds(5.0),
        },
    };
    assert_eq!(
        failure.to_string(),
        "rank 2 on host b (b:50003) was lost: no heartbeat for 5.0 s"
    );
    assert_eq!(effects, failed(failure));
}

#[test]
fn a_dead_process_is_named_rather_than_the_neighbour_that_was_reported_first() {
    let mut membership = running();
    let lost = |neighbour| {
        Report::LinkLost(LinkLost {
            neighbour,
            reason: "reset".into(),
        })
    };
    assert_eq!(report(&mut membership, 2.0, 2, lost(2)), []);
    assert_eq!(close_watch(&mut membership, 2.5, 1, 1), []);
    assert_eq!(tick(&mut membership, 2.9), []);
    let failure = Failure::Lost {
        member: member(1, 1, "b"),
        evidence: Evidence::WatchClosed,
    };
    assert_eq!(tick(&mut membership, 3.0), failed(failure));
}

#[test]
fn a_broken_link_between_living_workers_ends_the_run_after_a_moment() {
    let mut membership = running();
    let lost = Report::LinkLost(LinkLost {
        neighbour: 1,
        reason: "reset".into(),
    });
    assert_eq!(report(&mut membership, 2.0, 2, lost), []);
    assert_eq!(membership.next_deadline(), Some(seconds(3.0)));
    let failure = Failure::Lost {
        member: member(1, 1, "b"),
        evidence: Evidence::LinkLost {
            reporter: 0,
            reason: "reset".into(),
        },
    };
    assert_eq!(tick(&mut membership, 3.0), failed(failure));
}

#[test]
fn a_broken_link_to_a_worker_that_has_finished_ends_the_run_too_whichever_report_comes_first() {
    let lost = || {
        Report::LinkLost(LinkLost {
            neighbour: 1,
            reason: "reset".into(),
        })
    };
    let completed = || finished(Outcome::Completed);
    // Worker 1 has rank 1, worker 2 has rank 0.
    for (first, second) in [((2, lost()), (1, completed())), ((1, completed()), (2, lost()))] {
        let mut membership = running();
        assert_eq!(report(&mut membership, 2.0, first.0, first.1), []);
        assert_eq!(report(&mut membership, 2.0, second.0, second.1), []);
        let failure = Failure::Lost {
            member: member(1, 1, "b"),
            evidence: Evidence::LinkLost {
                reporter: 0,
                reason: "reset".into(),
            },
        };
        assert_eq!(tick(&mut membership, 3.0), failed(failure));
    }
}

#[test]
fn a_watch_that_is_opened_again_in_time_clears_the_suspicion() {
    let mut membership = running();
    assert_eq!(close_watch(&mut membership, 2.0, 1, 1), []);
    open_watch(&mut membership, 1, 10);
    assert_eq!(close_watch(&mut membership, 2.5, 1, 1), []);
    assert_eq!(tick(&mut membership, 4.0), []);
    assert_eq!(membership.verdict(), None);
}

#[test]
fn links_are_reported_only_by_neighbours() {
    let mut membership = Membership::new(terms(4), Duration::ZERO);
    for worker in 1..=4 {
        membership
            .handle(seconds(0.0), Event::Joined(candidate(worker, "a")))
            .unwrap();
    }
    for neighbour in [0, 2, 4] {
        let reason = String::new();
        let event = Event::Reported {
            sender: sender(1, 1),
            report: Report::LinkLost(LinkLost { neighbour, reason }),
        };
        let refused = membership.handle(seconds(1.0), event).unwrap_err();
        assert_eq!(refused.kind(), RefusalKind::Malformed, "neighbour {neighbour}");
    }
}

#[test]
fn a_worker_that_leaves_or_fails_ends_the_run_at_once() {
    let mut membership = running();
    let left = Event::Left {
        sender: sender(1, 1),
        reason: "maintenance".into(),
    };
    let failure = Failure::Lost {
        member: member(1, 1, "b"),
        evidence: Evidence::Left {
            reason: "maintenance".into(),
        },
    };
    assert_eq!(membership.handle(seconds(2.0), left), Ok(failed(failure)));

    let mut membership = running();
    let report_failed = Report::Finished(Finished {
        outcome: Outcome::Failed,
        epoch: 0,
        step: 3,
        reason: "out of memory".into(),
    });
    let failure = Failure::WorkerFailed {
        member: member(2, 3, "b"),
        reason: "out of memory".into(),
    };
    assert_eq!(failure.to_string(), "rank 2 on host b failed: out of memory");
    assert_eq!(report(&mut membership, 2.0, 3, report_failed), failed(failure));
}
