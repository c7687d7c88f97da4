//! The window bound: links that hold [`WINDOW`] segments never dead-lock, and the harness that says so can
//! fail.

#![allow(clippy::unwrap_used, reason = "a failed test may panic, also in its helpers")]

mod support;

use std::time::Duration;

use collective::{
    AllGather, AllReduce, I32Sum, OperationId, PayloadPool, PieceSizes, WINDOW, all_gather, all_reduce,
    memory_ring_with,
};
use support::{Simulation, blob, groups, integer_sum, integers, interleavings};

const OPERATION: OperationId = OperationId { step: 0, number: 0 };
const SMALLEST_CAPACITY: usize = WINDOW as usize;

fn sizes() -> PieceSizes {
    PieceSizes::new(4000, 8).unwrap()
}

/// Whether an all-reduce comes to its end over links of `capacity`.
fn all_reduce_ends(
    world_size: usize,
    len: usize,
    capacity: usize,
    choose: impl FnMut(usize) -> usize,
) -> bool {
    let mut vectors: Vec<_> = (0..world_size).map(|rank| integers(rank, len)).collect();
    let mut pools: Vec<_> = (0..world_size).map(|_| PayloadPool::new()).collect();
    let mut ranks: Vec<_> = groups(world_size)
        .iter()
        .zip(vectors.iter_mut().zip(&mut pools))
        .map(|(group, (values, pool))| AllReduce::<I32Sum>::new(group, OPERATION, values, sizes(), pool))
        .collect();
    Simulation::new(&mut ranks, capacity).run(choose)
}

/// Whether an all-gather of blobs of `lens` comes to its end over links of `capacity`.
fn all_gather_ends(lens: &[usize], capacity: usize, choose: impl FnMut(usize) -> usize) -> bool {
    let mut ranks: Vec<_> = groups(lens.len())
        .iter()
        .map(|group| {
            let own = blob(group.rank(), lens[group.rank()]);
            AllGather::new(group, OPERATION, own, sizes()).unwrap()
        })
        .collect();
    Simulation::new(&mut ranks, capacity).run(choose)
}

#[test]
fn links_of_the_smallest_capacity_do_not_dead_lock() {
    for world_size in [2, 3, 5, 9, 64] {
        for len in [1, world_size * 3 + 1, 500, 2500] {
            for (name, choose) in interleavings() {
                assert!(
                    all_reduce_ends(world_size, len, SMALLEST_CAPACITY, choose),
                    "world {world_size}, length {len}, {name}"
                );
            }
        }
    }
}

#[test]
fn links_one_segment_smaller_than_the_window_can_dead_lock() {
    let (_, round_robin) = interleavings().into_iter().next().unwrap();
    assert!(!all_reduce_ends(3, 500, SMALLEST_CAPACITY - 1, round_robin));
}

#[test]
fn blobs_of_very_different_lengths_do_not_dead_lock() {
    for lens in [
        &[3000, 0][..],
        &[0, 3000, 1],
        &[900, 1800, 10, 0, 2700],
        &[500; 9],
    ] {
        for (name, choose) in interleavings() {
            assert!(
                all_gather_ends(lens, SMALLEST_CAPACITY, choose),
                "lengths {lens:?}, {name}"
            );
        }
    }
}

#[test]
fn vectors_that_give_one_rank_more_segments_per_bucket_than_another_do_not_dead_lock() {
    let sizes = PieceSizes::new(8, 8).unwrap();
    let (world_size, len) = (5, 400);
    for (name, choose) in interleavings() {
        let mut vectors: Vec<_> = (0..world_size).map(|rank| integers(rank, len)).collect();
        let mut pools: Vec<_> = (0..world_size).map(|_| PayloadPool::new()).collect();
        let mut ranks: Vec<_> = groups(world_size)
            .iter()
            .zip(vectors.iter_mut().zip(&mut pools))
            .map(|(group, (values, pool))| AllReduce::<I32Sum>::new(group, OPERATION, values, sizes, pool))
            .collect();
        assert!(
            Simulation::new(&mut ranks, SMALLEST_CAPACITY).run(choose),
            "{name}"
        );
    }
}

#[test]
fn threads_that_run_operation_after_operation_over_the_smallest_links_do_not_dead_lock() {
    let world_size = 4;
    let links = memory_ring_with(world_size, SMALLEST_CAPACITY, Duration::from_secs(20));
    std::thread::scope(|scope| {
        for (group, mut links) in groups(world_size).into_iter().zip(links) {
            scope.spawn(move || {
                let mut pool = PayloadPool::new();
                for step in 0..50 {
                    let sum = OperationId { step, number: 0 };
                    let mut values = integers(group.rank(), 700);
                    all_reduce::<I32Sum>(&mut links, &group, sum, &mut values, sizes(), &mut pool).unwrap();
                    assert_eq!(values, integer_sum(world_size, 700));

                    let gather = OperationId { step, number: 1 };
                    let own = blob(group.rank(), 300 * group.rank());
                    let blobs = all_gather(&mut links, &group, gather, own, sizes()).unwrap();
                    assert_eq!(
                        blobs[world_size - 1],
                        blob(world_size - 1, 300 * (world_size - 1))
                    );
                }
            });
        }
    });
}
