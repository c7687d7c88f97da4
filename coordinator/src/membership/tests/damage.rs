//! States that differ.

use super::*;

fn digest(membership: &mut Membership, now: f64, worker: u128, step: u64, bytes: &[u8]) -> Vec<Effect> {
    let digest = StateDigest {
        step,
        blake3: Fingerprint::of(bytes),
    };
    let vitals = Vitals {
        digest: Some(digest),
        ..TRAINING
    };
    let generation = membership.generation().0;
    beat(membership, now, sender(worker, generation), vitals)
}

fn damaged(step: u64, times: u32) -> Effect {
    Effect::RecordDamaged {
        present: present(3, "b"),
        rank: 1,
        step,
        times,
    }
}

fn told_to_copy(generation: u64) -> Effect {
    let mut roster = roster(generation, &THREE);
    roster.damaged = vec![WorkerId::from_u128(3)];
    Effect::Announce(roster)
}

#[test]
fn equal_states_are_no_news() {
    let mut membership = running();
    for step in [10, 20, 30] {
        for worker in 1..=3 {
            assert_eq!(digest(&mut membership, 2.0, worker, step, b"good"), []);
        }
    }
}

#[test]
fn a_minority_is_told_to_copy_and_refused_after_three_times() {
    let mut membership = running();
    for (times, step) in [(1, 10), (2, 20)] {
        assert_eq!(digest(&mut membership, 2.0, 3, step, b"bad"), []);
        assert_eq!(digest(&mut membership, 2.0, 1, step, b"good"), []);
        assert_eq!(
            digest(&mut membership, 2.0, 2, step, b"good"),
            [damaged(step, times), told_to_copy(u64::from(times) + 1)]
        );
    }
    digest(&mut membership, 2.0, 1, 30, b"good");
    digest(&mut membership, 2.0, 2, 30, b"good");
    assert_eq!(
        digest(&mut membership, 2.0, 3, 30, b"bad"),
        [
            damaged(30, 3),
            lost(1, 3, "b", 30, Evidence::Damaged { times: 3 }),
            announced(4, &[(1, "b"), (2, "a")])
        ]
    );
    let refused = membership.handle(seconds(3.0), Event::Joined(candidate(3, "b")));
    assert_eq!(refused, Err(Refusal::DamagedTooOften { times: 3 }));
}

#[test]
fn nothing_is_compared_while_somebody_has_not_told() {
    let mut membership = running();
    digest(&mut membership, 2.0, 1, 10, b"good");
    digest(&mut membership, 2.0, 3, 10, b"bad");
    assert_eq!(digest(&mut membership, 2.0, 2, 20, b"good"), []);
    assert_eq!(membership.generation(), Generation(1));
}

#[test]
fn without_a_majority_the_run_fails_and_can_be_resumed() {
    let mut membership = running();
    leave(&mut membership, 2.0, 2, "");
    let committed = Event::CheckpointCommitted { step: 5 };
    membership.handle(seconds(2.0), committed).unwrap();
    digest(&mut membership, 2.0, 1, 10, b"this");
    let failure = Failure::Diverged { step: 10 };
    assert_eq!(
        digest(&mut membership, 2.0, 3, 10, b"that"),
        failed(failure.clone())
    );
    let ending = membership.ending(&Verdict::Failed(failure));
    assert!(ending.resumable);
    assert_eq!(ending.outcome, Outcome::Failed);
}

#[test]
fn a_digest_that_heartbeats_repeat_counts_once() {
    let mut membership = running();
    digest(&mut membership, 2.0, 1, 10, b"good");
    digest(&mut membership, 2.0, 2, 10, b"good");
    assert_eq!(
        digest(&mut membership, 2.0, 3, 10, b"bad"),
        [damaged(10, 1), told_to_copy(2)]
    );
    // Until there is a newer one, a worker tells the digest that it told before.
    for _ in 0..3 {
        assert_eq!(digest(&mut membership, 2.5, 1, 10, b"good"), []);
        assert_eq!(digest(&mut membership, 2.5, 2, 10, b"good"), []);
        assert_eq!(digest(&mut membership, 2.5, 3, 10, b"bad"), []);
    }
    for worker in 1..=3 {
        assert_eq!(digest(&mut membership, 3.0, worker, 20, b"good"), []);
    }
    assert_eq!(membership.generation(), Generation(2));
}

#[test]
fn steps_that_are_done_again_from_a_checkpoint_are_compared_again() {
    let mut membership = running_with(Terms {
        min_world_size: 3,
        ..terms(3)
    });
    for worker in 1..=3 {
        digest(&mut membership, 2.0, worker, 30, b"good");
    }
    for worker in 1..=3 {
        leave(&mut membership, 2.1, worker, "");
    }
    for worker in 1..=3 {
        join(&mut membership, 3.0, worker, if worker == 2 { "a" } else { "b" });
    }
    let began = membership.generation();
    digest(&mut membership, 4.0, 1, 20, b"good");
    digest(&mut membership, 4.0, 2, 20, b"good");
    digest(&mut membership, 4.0, 3, 20, b"bad");
    assert_eq!(membership.generation(), Generation(began.0 + 1));
}

#[test]
fn who_was_told_to_copy_is_told_again_when_the_ring_breaks_before_all_are_equal() {
    let mut membership = running();
    digest(&mut membership, 2.0, 3, 10, b"bad");
    digest(&mut membership, 2.0, 1, 10, b"good");
    let told = digest(&mut membership, 2.0, 2, 10, b"good");
    assert_eq!(told, [damaged(10, 1), told_to_copy(2)]);
    let effects = leave(&mut membership, 2.1, 2, "");
    let mut smaller = roster(3, &[(1, "b"), (3, "b")]);
    smaller.damaged = vec![WorkerId::from_u128(3)];
    assert_eq!(effects.last(), Some(&Effect::Announce(smaller)));

    join(&mut membership, 3.0, 4, "b");
    hear_from(&mut membership, 3.0, &[1, 3, 4]);
    for worker in [1, 3, 4] {
        assert_eq!(digest(&mut membership, 4.0, worker, 20, b"good"), []);
    }
    let effects = leave(&mut membership, 5.0, 4, "");
    assert_eq!(effects.last(), Some(&announced(5, &[(1, "b"), (3, "b")])));
}

#[test]
fn a_digest_of_a_generation_before_is_not_compared() {
    let mut membership = running();
    for (worker, bytes) in [(3, &b"bad"[..]), (1, b"good"), (2, b"good")] {
        digest(&mut membership, 2.0, worker, 10, bytes);
    }
    assert_eq!(membership.generation(), Generation(2));
    let late = |worker, bytes| {
        let blake3 = Fingerprint::of(bytes);
        let digest = Some(StateDigest { step: 11, blake3 });
        (sender(worker, 1), Vitals { digest, ..TRAINING })
    };
    for (sender, vitals) in [late(3, b"bad"), late(1, b"good"), late(2, b"good")] {
        assert_eq!(beat(&mut membership, 2.1, sender, vitals), []);
    }
    assert_eq!(membership.generation(), Generation(2));
}
