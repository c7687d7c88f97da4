//! Tests of the plan: an exact partition in a small box, and values counted by hand.

use super::*;

fn config(dataset_len: usize, batch: usize) -> PlanConfig {
    PlanConfig {
        dataset_len,
        batch,
        micro_batch: 4,
        nominal_batch: 64,
        epochs: 3,
        warmup_epochs: 0.0,
        seed: 0,
        close_mosaic: 1,
        image_size: 320,
        multi_scale: 0.0,
    }
}

/// Walks the whole plan and checks everything that must hold for any configuration.
fn check_partition(config: &PlanConfig) {
    let plan = Plan::new(config.clone()).unwrap();
    let batches = config.dataset_len.div_ceil(config.batch) as u64;
    let mut seen = vec![0u32; config.dataset_len];
    let mut next_batch = 0;
    let mut epoch = 0;
    for number in 0..plan.steps() {
        let step = plan.step(number).unwrap();
        assert_eq!(
            (step.step, step.epoch, step.first_batch),
            (number, epoch, next_batch),
            "{config:?}"
        );
        assert!(plan.steps_of_epoch(epoch).contains(&number), "{config:?}");
        assert!(
            step.last_batch < (u64::from(epoch) + 1) * batches,
            "a step crosses an epoch: {config:?}"
        );

        let mut left_in_step = step.samples();
        let mut slots = step.slots.iter();
        for batch in step.first_batch..=step.last_batch {
            let start = (batch % batches) as usize * config.batch;
            let mut left = config.batch.min(config.dataset_len - start);
            while left > 0 {
                let slot = slots.next().expect("a slot for each micro-batch");
                assert_eq!(slot.samples.len(), left.min(config.micro_batch), "{config:?}");
                left -= slot.samples.len();
                left_in_step -= slot.samples.len();
                slot.samples
                    .iter()
                    .for_each(|sample| seen[sample.0 as usize] += 1);
            }
            let (held, accumulate) = (batch + 1 - step.first_batch, plan.accumulate(batch));
            let left = batches - 1 - batch % batches;
            let closes = left == 0 || (held >= accumulate && 2 * left >= accumulate);
            assert_eq!(closes, batch == step.last_batch, "{config:?}");
        }
        assert!(step.slots.len() <= plan.slots_max(), "{config:?}");
        assert_eq!((slots.next(), left_in_step), (None, 0));
        assert!(
            step.slots
                .iter()
                .enumerate()
                .all(|(index, slot)| slot.index == index as u32)
        );
        next_batch = step.last_batch + 1;
        assert_eq!(step.is_last_of_epoch, next_batch % batches == 0);
        assert_eq!(step.mosaic, epoch + config.close_mosaic < config.epochs);
        if step.is_last_of_epoch {
            assert!(
                seen.iter().all(|&times| times == 1),
                "every sample once per epoch: {config:?} {seen:?}"
            );
            assert_eq!(plan.steps_of_epoch(epoch).end, number + 1);
            seen.fill(0);
            epoch += 1;
        }
    }
    assert_eq!(epoch, config.epochs);
    assert_eq!(next_batch, plan.batches());
    assert!(plan.step(plan.steps()).is_none());
    assert!(plan.steps_of_epoch(config.epochs).is_empty());
}

#[test]
fn every_epoch_is_an_exact_partition_in_a_small_box() {
    for dataset_len in 1..=14 {
        for batch in 1..=6 {
            for micro_batch in 1..=4 {
                for (nominal_batch, warmup_epochs) in [(1, 0.0), (7, 0.0), (8, 3.0), (64, 3.0), (6, 20.0)] {
                    check_partition(&PlanConfig {
                        micro_batch,
                        nominal_batch,
                        warmup_epochs,
                        ..config(dataset_len, batch)
                    });
                }
            }
        }
    }
}

#[test]
fn a_warm_up_that_ends_inside_a_later_epoch_keeps_the_partition() {
    check_partition(&PlanConfig {
        epochs: 9,
        warmup_epochs: 2.5,
        ..config(1000, 16)
    });
    check_partition(&PlanConfig {
        epochs: 9,
        warmup_epochs: 0.1,
        ..config(205, 16)
    });
}

#[test]
fn random_access_gives_what_walking_gives() {
    let plan = Plan::new(PlanConfig {
        epochs: 9,
        warmup_epochs: 2.5,
        ..config(1000, 16)
    })
    .unwrap();
    let walked: Vec<_> = (0..plan.steps()).map(|step| plan.step(step).unwrap()).collect();
    for step in (0..plan.steps()).rev().step_by(7) {
        assert_eq!(plan.clone().step(step).unwrap(), walked[step as usize]);
    }
}

#[test]
fn accumulation_grows_from_one_to_the_nominal_batch_over_the_warm_up() {
    // 205 samples in batches of 16: 13 batches per epoch, 39 in three epochs.
    let plan = Plan::new(PlanConfig {
        warmup_epochs: 3.0,
        epochs: 20,
        ..config(205, 16)
    })
    .unwrap();
    assert_eq!(plan.batches_per_epoch(), 13);
    assert_eq!(plan.warmup_batches(), 39);
    // 1 + 3 * batch / 39, rounded half to even: 1.46 1.54 2.46 2.54 3.46 3.54 4.
    for (batch, expected) in [
        (0, 1),
        (6, 1),
        (7, 2),
        (19, 2),
        (20, 3),
        (32, 3),
        (33, 4),
        (39, 4),
        (900, 4),
    ] {
        assert_eq!(plan.accumulate(batch), expected, "batch {batch}");
    }
    let first_epochs = [0, 1, 2, 3].map(|epoch| plan.steps_per_epoch(epoch));
    assert_eq!(
        first_epochs,
        [10, 5, 4, 3],
        "more batches a step as the warm-up goes on"
    );
    assert_eq!(plan.steps_per_epoch(19), 3, "13 batches: four, four and five");
}

#[test]
fn the_warm_up_ends_at_what_is_accumulated_after_it() {
    // 64 images are 2.67 batches of 24, so three; ten batches per epoch, thirty in the warm-up: 1 + 2 * batch / 30.
    let plan = Plan::new(PlanConfig {
        warmup_epochs: 3.0,
        epochs: 20,
        ..config(240, 24)
    })
    .unwrap();
    assert_eq!((plan.warmup_batches(), plan.plain_accumulate()), (30, 3));
    for (batch, expected) in [(0, 1), (7, 1), (8, 2), (22, 2), (23, 3), (30, 3), (199, 3)] {
        assert_eq!(plan.accumulate(batch), expected, "batch {batch}");
    }
}

#[test]
fn every_epoch_is_an_update_however_few_batches_it_has() {
    for (batches, updates) in [(1, 100), (2, 101), (3, 103), (5, 105), (13, 310)] {
        let plan = Plan::new(PlanConfig {
            warmup_epochs: 3.0,
            epochs: 100,
            ..config(batches * 16, 16)
        });
        assert_eq!(plan.unwrap().steps(), updates, "{batches} batches in an epoch");
    }
}

#[test]
fn the_last_epoch_is_never_warm_up() {
    let warmup = |epochs: u32, warmup_epochs: f64| {
        let config = PlanConfig {
            epochs,
            warmup_epochs,
            ..config(205, 16)
        };
        Plan::new(config).unwrap().warmup_batches()
    };
    assert_eq!(warmup(20, 0.5), 6, "6.5 batches, rounded half to even");
    assert_eq!(warmup(4, 3.0), 39);
    assert_eq!(warmup(3, 3.0), 26);
    assert_eq!(warmup(1, 3.0), 0);
}

#[test]
fn what_is_left_of_an_epoch_joins_its_last_step_or_is_one_from_half_a_step_on() {
    let batches = |dataset_len: usize| -> Vec<u64> {
        let plan = Plan::new(config(dataset_len, 16)).unwrap();
        let steps = plan.steps_of_epoch(1).map(|step| plan.step(step).unwrap());
        steps.map(|step| step.batches()).collect()
    };
    // Four batches of 16 are a step.
    assert_eq!(batches(12 * 16), [4, 4, 4]);
    assert_eq!(batches(13 * 16), [4, 4, 5]);
    assert_eq!(batches(14 * 16), [4, 4, 4, 2]);
    assert_eq!(batches(15 * 16), [4, 4, 4, 3]);
    assert_eq!(batches(16), [1]);
    let plan = Plan::new(config(13 * 16, 16)).unwrap();
    assert_eq!(plan.slots_max(), 5 * 4);
}

#[test]
fn a_batch_above_the_nominal_batch_is_one_step() {
    let plan = Plan::new(PlanConfig {
        warmup_epochs: 3.0,
        ..config(1000, 128)
    })
    .unwrap();
    assert!((0..200).all(|batch| plan.accumulate(batch) == 1));
}

#[test]
fn a_long_run_over_a_large_dataset_has_a_small_plan() {
    let plan = Plan::new(PlanConfig {
        epochs: 300,
        warmup_epochs: 3.0,
        ..config(118_287, 16)
    })
    .unwrap();
    assert!(plan.warmup_steps.len() < 4 * 7393);
    let last = plan.step(plan.steps() - 1).unwrap();
    assert_eq!(
        (last.epoch, last.is_last_of_epoch, last.mosaic),
        (299, true, false)
    );
    assert_eq!(last.last_batch, 300 * 7393 - 1);
}

#[test]
fn the_order_depends_on_seed_and_epoch_and_is_pinned() {
    let order = |seed, epoch| {
        shuffled(10, seed, epoch)
            .iter()
            .map(|sample| sample.0)
            .collect::<Vec<_>>()
    };
    assert_ne!(order(0, 0), order(0, 1));
    assert_ne!(order(0, 0), order(1, 0));
    // A change of these numbers would silently re-shuffle runs that are resumed.
    assert_eq!(order(0, 0), ORDER_OF_SEED_0_EPOCH_0);
}

#[test]
fn shards_cover_the_slots_in_order_and_differ_by_at_most_one() {
    for slots in 0..40 {
        for world_size in 1..=9 {
            let mut next = 0;
            for rank in 0..world_size {
                let range = shard(slots, world_size, rank);
                assert_eq!(range.start, next);
                assert!((slots / world_size..=slots.div_ceil(world_size)).contains(&range.len()));
                next = range.end;
            }
            assert_eq!(next, slots);
        }
    }
}

#[test]
fn impossible_configurations_are_refused_by_name() {
    for (broken, field) in [
        (
            PlanConfig {
                dataset_len: 0,
                ..config(8, 2)
            },
            "dataset_len",
        ),
        (
            PlanConfig {
                batch: 0,
                ..config(8, 2)
            },
            "batch",
        ),
        (
            PlanConfig {
                micro_batch: 0,
                ..config(8, 2)
            },
            "micro_batch",
        ),
        (
            PlanConfig {
                epochs: 0,
                ..config(8, 2)
            },
            "epochs",
        ),
    ] {
        assert_eq!(Plan::new(broken).unwrap_err(), PlanError::Zero { field });
    }
    let error = Plan::new(PlanConfig {
        warmup_epochs: -1.0,
        ..config(8, 2)
    })
    .unwrap_err();
    assert_eq!(error, PlanError::Warmup { value: -1.0 });
}

const ORDER_OF_SEED_0_EPOCH_0: [u32; 10] = [1, 4, 9, 8, 0, 5, 7, 6, 2, 3];

#[test]
fn sizes_change_with_the_step_within_the_range_and_in_multiples_of_the_stride() {
    let sizes = |image_size: u32, multi_scale: f64| {
        let plan = Plan::new(PlanConfig {
            image_size,
            multi_scale,
            epochs: 200,
            ..config(1000, 64)
        });
        let plan = plan.unwrap();
        let sizes: Vec<u32> = (0..plan.steps())
            .map(|step| plan.step(step).unwrap().image_size)
            .collect();
        sizes
    };
    // What Ultralytics 8.4.190 gives in 3000 draws each.
    let distinct = |image_size, multi_scale| {
        let mut sizes = sizes(image_size, multi_scale);
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    };
    assert_eq!(distinct(640, 0.1), [576, 608, 640, 672, 704]);
    assert_eq!(distinct(320, 0.25), [224, 256, 288, 320, 352, 384, 416]);
    assert_eq!(distinct(96, 0.9), [32, 64, 96, 128, 160, 192]);
    assert_eq!(distinct(320, 0.33), (6..=14).map(|n| n * 32).collect::<Vec<_>>());
    assert_eq!(distinct(320, 0.0), [320]);
    // The same for whoever asks, in whatever order.
    let mut backwards = sizes(320, 0.5);
    assert_ne!(backwards[0], backwards[1]);
    backwards.reverse();
    let plan = Plan::new(PlanConfig {
        multi_scale: 0.5,
        epochs: 200,
        ..config(1000, 64)
    });
    let plan = plan.unwrap();
    let again: Vec<u32> = (0..plan.steps())
        .rev()
        .map(|step| plan.step(step).unwrap().image_size)
        .collect();
    assert_eq!(backwards, again);
    let refused = Plan::new(PlanConfig {
        multi_scale: 1.0,
        ..config(10, 4)
    });
    assert!(matches!(refused, Err(PlanError::MultiScale { .. })));
}
