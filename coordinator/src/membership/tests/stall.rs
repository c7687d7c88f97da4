//! Slow is not stuck.

use super::*;

/// Lets a second pass after another: each second each worker is heard with what `vitals` says it has done.
fn live(
    membership: &mut Membership,
    seconds_of_run: std::ops::Range<u64>,
    vitals: impl Fn(u64, u128) -> Vitals,
) -> Vec<(u64, Effect)> {
    let mut effects = Vec::new();
    for second in seconds_of_run {
        for worker in 1..=3 {
            let generation = membership.generation().0;
            if membership.seat_of(WorkerId::from_u128(worker)).is_ok() {
                let vitals = vitals(second, worker);
                effects.extend(beat(
                    membership,
                    second as f64,
                    sender(worker, generation),
                    vitals,
                ));
            }
        }
        while membership
            .next_deadline()
            .is_some_and(|due| due <= Duration::from_secs(second))
        {
            effects.extend(tick(membership, second as f64));
        }
        if !effects.is_empty() {
            return effects.into_iter().map(|effect| (second, effect)).collect();
        }
    }
    vec![]
}

/// A worker that gets something done every `every` seconds; all but worker 3 wait for it.
fn at_pace(second: u64, every: u64, worker: u128) -> Vitals {
    Vitals {
        progress: 100 + second / every,
        waits_for_left: worker != 3,
        ..TRAINING
    }
}

#[test]
fn a_worker_at_a_twentieth_of_its_speed_is_never_lost() {
    // The usual time between two signs of progress, in seconds.
    for usual in [1, 5, 20] {
        let mut membership = running();
        let change = usual * 100;
        let effects = live(&mut membership, 2..change, |second, worker| {
            at_pace(second, usual, worker)
        });
        assert_eq!(effects, []);
        let effects = live(
            &mut membership,
            change..change + usual * 20 * 20,
            |second, worker| {
                let progress = 10_000 + (second - change) / (usual * 20);
                Vitals {
                    progress,
                    ..at_pace(second, usual, worker)
                }
            },
        );
        assert_eq!(effects, [], "{usual} s, then {} s", usual * 20);
    }
}

#[test]
fn a_stuck_worker_is_lost_and_named_with_what_it_did() {
    let mut membership = running();
    let effects = live(&mut membership, 2..200, |second, worker| {
        at_pace(second.min(100), 1, worker)
    });
    let evidence = Evidence::Stalled {
        activity: Activity::Training,
        still_for: seconds(30.0),
    };
    assert_eq!(evidence.to_string(), "no progress for 30.0 s while training");
    assert_eq!(
        effects,
        [
            (130, lost(1, 3, "b", 7, evidence)),
            (130, announced(2, &[(1, "b"), (2, "a")]))
        ]
    );
}

#[test]
fn when_all_wait_for_their_neighbour_the_ring_is_made_anew() {
    let mut membership = running();
    let effects = live(&mut membership, 2..200, |second, worker| Vitals {
        waits_for_left: true,
        ..at_pace(second.min(100), 1, worker)
    });
    assert_eq!(effects, [(130, announced(2, &THREE))]);
}

#[test]
fn when_nobody_does_anything_the_ring_is_made_anew() {
    let mut membership = running();
    let effects = live(&mut membership, 2..200, |_, _| Vitals {
        activity: Activity::Waiting,
        ..TRAINING
    });
    let at = effects.first().map_or(0, |(second, _)| *second);
    assert_eq!(effects, [(at, announced(2, &THREE))]);
    assert!(at >= 30, "{at}");
}

#[test]
fn who_has_finished_is_not_stuck() {
    let mut membership = running();
    for worker in [1, 2, 3] {
        if worker != 1 {
            report(&mut membership, 1.5, worker, finished(Outcome::Completed));
        }
    }
    let effects = live(&mut membership, 2..200, |second, worker| Vitals {
        progress: if worker == 1 { second } else { 70 },
        activity: Activity::Validating,
        ..TRAINING
    });
    assert_eq!(effects, []);
}

#[test]
fn while_somebody_copies_the_state_the_run_is_not_stuck() {
    let mut membership = running();
    let effects = live(&mut membership, 2..200, |second, worker| match worker {
        3 => Vitals {
            activity: Activity::Waiting,
            progress: second,
            ..TRAINING
        },
        _ => Vitals {
            waits_for_left: true,
            ..TRAINING
        },
    });
    assert_eq!(effects, []);
}

#[test]
fn a_worker_that_is_stuck_before_it_takes_part_in_the_ring_is_lost() {
    let mut membership = running();
    let effects = live(&mut membership, 2..200, |_, worker| match worker {
        3 => Vitals {
            activity: Activity::Waiting,
            ..TRAINING
        },
        _ => Vitals {
            waits_for_left: true,
            ..TRAINING
        },
    });
    let evidence = Evidence::Stalled {
        activity: Activity::Waiting,
        still_for: seconds(30.0),
    };
    let at = effects.first().map_or(0, |(second, _)| *second);
    assert_eq!(
        effects,
        [
            (at, lost_while(Activity::Waiting, 1, 3, "b", 7, evidence)),
            (at, announced(2, &[(1, "b"), (2, "a")]))
        ]
    );
}
