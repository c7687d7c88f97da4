//! Who may join, in which order, and who is missing.

use proto::MAX_WORLD_SIZE;

use super::*;

#[test]
fn the_last_worker_to_join_begins_the_generation_with_hosts_kept_together() {
    let mut membership = Membership::new(terms(3), Duration::ZERO);
    for (members, (worker, host)) in [(1, "b"), (2, "a")].into_iter().enumerate() {
        let effects = membership.handle(seconds(0.5), Event::Joined(candidate(worker, host)));
        assert_eq!(effects, Ok(vec![joined(worker, host, members + 1)]));
    }
    let effects = membership
        .handle(seconds(1.0), Event::Joined(candidate(3, "b")))
        .unwrap();
    let ring = [(1, "b"), (3, "b"), (2, "a")];
    assert_eq!(effects, [joined(3, "b", 3), announced(1, &ring)]);
    assert_eq!(membership.generation(), Generation(1));
}

#[test]
fn a_join_that_is_repeated_counts_once() {
    let mut membership = Membership::new(terms(2), Duration::ZERO);
    let joined = Event::Joined(candidate(1, "a"));
    assert_eq!(membership.handle(seconds(0.0), joined.clone()).unwrap().len(), 1);
    assert_eq!(membership.handle(seconds(1.0), joined), Ok(vec![]));
    assert_eq!(membership.roster(), None);
    let other = Candidate {
        threads: 9,
        ..candidate(1, "a")
    };
    let refused = membership.handle(seconds(1.0), Event::Joined(other)).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::Malformed);
}

#[test]
fn who_does_not_fit_is_refused_with_the_difference() {
    let first = candidate(1, "a");
    let second = candidate(2, "b");
    let other_data = DatasetCard {
        fingerprint: Fingerprint::of(b"other"),
        train_images: 9,
        ..first.dataset.clone()
    };
    let other_model = ModelCard {
        layout_digest: Fingerprint::of(b"other"),
        description: "yolov8s, 1 class".into(),
        arithmetic: "flex".into(),
    };
    let cases = [
        (
            Candidate {
                run: RunId::from_u128(1),
                ..second.clone()
            },
            Refusal::OtherRun {
                asked: RunId::from_u128(1),
                serving: RUN,
            },
        ),
        (
            Candidate {
                version: "2.0".into(),
                ..second.clone()
            },
            Refusal::VersionDiffers {
                worker: "2.0".into(),
                coordinator: "1.0".into(),
            },
        ),
        (
            Candidate {
                address: first.address.clone(),
                ..second.clone()
            },
            Refusal::AddressTaken {
                address: first.address.clone(),
                host: "a".into(),
            },
        ),
        (
            Candidate {
                dataset: other_data,
                ..second.clone()
            },
            Refusal::DatasetDiffers(Difference::Images {
                split: "training",
                expected: 10,
                found: 9,
            }),
        ),
        (
            Candidate {
                model: other_model,
                ..second
            },
            Refusal::ModelDiffers(Difference::Model {
                expected: "yolov8n, 1 class".into(),
                found: "yolov8s, 1 class".into(),
            }),
        ),
    ];
    for (candidate, refusal) in cases {
        let mut membership = Membership::new(terms(2), Duration::ZERO);
        membership
            .handle(seconds(0.0), Event::Joined(first.clone()))
            .unwrap();
        let before = membership.clone();
        assert_eq!(
            membership.handle(seconds(0.0), Event::Joined(candidate)),
            Err(refusal)
        );
        assert_eq!(membership, before);
    }
}

#[test]
fn while_gathering_it_is_said_who_is_missing_and_a_lost_worker_frees_its_place() {
    let mut membership = Membership::new(terms(3), Duration::ZERO);
    membership
        .handle(seconds(0.0), Event::Joined(candidate(1, "a")))
        .unwrap();
    membership
        .handle(seconds(6.0), Event::Joined(candidate(2, "b")))
        .unwrap();
    assert_eq!(membership.next_deadline(), Some(seconds(4.5)));
    let silent_for = seconds(6.0);
    assert_eq!(
        tick(&mut membership, 6.0),
        [departed(1, "a", Evidence::LeaseLapsed { silent_for })]
    );
    assert_eq!(membership.next_deadline(), Some(seconds(10.0)));
    let remind = Effect::Remind {
        present: vec![present(2, "b")],
        missing: 2,
        out_of_sight: 0,
    };
    assert_eq!(tick(&mut membership, 10.0), [remind]);
    open_watch(&mut membership, 2, 8);
    assert_eq!(close_watch_number(&mut membership, 10.4, 2, 7), []);
    assert_eq!(
        close_watch_number(&mut membership, 10.4, 2, 8),
        [departed(2, "b", Evidence::WatchClosed)]
    );
    assert_eq!(membership.next_deadline(), Some(seconds(20.0)));
}

#[test]
fn a_rendezvous_that_takes_too_long_fails() {
    let mut terms = terms(2);
    terms.timing.join_timeout = Some(seconds(3.0));
    let mut membership = Membership::new(terms, Duration::ZERO);
    membership
        .handle(seconds(1.0), Event::Joined(candidate(1, "a")))
        .unwrap();
    assert_eq!(membership.next_deadline(), Some(seconds(3.0)));
    assert_eq!(tick(&mut membership, 2.0), []);
    let failure = Failure::NotEnoughWorkers {
        present: 1,
        needed: 2,
        waited: seconds(3.0),
    };
    assert_eq!(tick(&mut membership, 3.0), failed(failure));
    assert_eq!(membership.next_deadline(), None);
}

#[test]
fn a_run_has_at_most_as_many_workers_as_a_ring() {
    let mut membership = Membership::new(terms(MAX_WORLD_SIZE), Duration::ZERO);
    for worker in 1..=MAX_WORLD_SIZE as u128 {
        join(&mut membership, 0.0, worker, "a");
    }
    assert_eq!(membership.roster().unwrap().world_size(), MAX_WORLD_SIZE);
    let world_size = MAX_WORLD_SIZE;
    let full = membership.handle(seconds(1.0), Event::Joined(candidate(99, "a")));
    assert_eq!(full, Err(Refusal::RunFull { world_size }));
}
