//! Every world of 1 to 9 ranks with every length of 0 to 40, and the largest worlds at some lengths.

#![allow(clippy::unwrap_used, reason = "a failed test may panic, also in its helpers")]

mod support;

use std::ops::RangeInclusive;

use collective::{
    AllGather, AllReduce, Bf16Sum, BucketChunks, Buckets, F32Sum, I32Sum, OperationId, PayloadPool,
    PieceSizes, Reduction, RingOperation, Schedule, WINDOW, all_gather, all_reduce, memory_ring,
    memory_ring_with,
};
use support::{Simulation, blob, cancelling, groups, integer_sum, integers, interleavings};

const OPERATION: OperationId = OperationId { step: 3, number: 1 };

/// One bucket and one segment; many segments; buckets that end within a chunk; buckets that halve; one or two values per bucket.
fn sizes() -> [PieceSizes; 5] {
    [(1 << 20, 1 << 20), (1 << 20, 8), (28, 12), (64, 12), (8, 8)]
        .map(|(bucket, segment)| PieceSizes::new(bucket, segment).unwrap())
}

/// Runs an all-reduce in the simulation; gives what each rank holds, and how many bytes it sent.
fn simulate<R: Reduction>(
    mut vectors: Vec<Vec<R::Element>>,
    sizes: PieceSizes,
    choose: impl FnMut(usize) -> usize,
) -> (Vec<Vec<R::Element>>, Vec<usize>) {
    let groups = groups(vectors.len());
    let mut pools: Vec<PayloadPool> = vectors.iter().map(|_| PayloadPool::new()).collect();
    let mut ranks: Vec<_> = groups
        .iter()
        .zip(vectors.iter_mut().zip(&mut pools))
        .map(|(group, (values, pool))| AllReduce::<R>::new(group, OPERATION, values, sizes, pool))
        .collect();
    let mut simulation = Simulation::new(&mut ranks, WINDOW as usize);
    assert!(simulation.run(choose), "the ring came to a stop");
    let sent_bytes = simulation.sent_bytes;
    (vectors, sent_bytes)
}

/// What the schedule says that each rank sends.
fn scheduled_bytes(world_size: usize, len: usize, sizes: PieceSizes) -> Vec<usize> {
    let buckets = Buckets::new(len, sizes.bucket_bytes() / 4);
    let schedule = Schedule::new(
        BucketChunks { buckets, world_size },
        world_size,
        sizes.segment_bytes() / 4,
    );
    (0..world_size)
        .map(|rank| {
            schedule
                .sends(rank)
                .map(|transfer| transfer.values.len() * 4)
                .sum()
        })
        .collect()
}

fn check_integers(worlds: RangeInclusive<usize>, lens: &[usize]) {
    for world_size in worlds {
        for &len in lens {
            for sizes in sizes() {
                for (name, choose) in interleavings() {
                    let vectors = (0..world_size).map(|rank| integers(rank, len)).collect();
                    let (vectors, sent) = simulate::<I32Sum>(vectors, sizes, choose);
                    let expected = integer_sum(world_size, len);
                    for (rank, values) in vectors.iter().enumerate() {
                        assert_eq!(
                            values, &expected,
                            "rank {rank} of {world_size}, length {len}, {sizes:?}, {name}"
                        );
                    }
                    assert_eq!(sent, scheduled_bytes(world_size, len, sizes));
                    let buckets = Buckets::new(len, sizes.bucket_bytes() / 4);
                    if buckets.iter().all(|bucket| bucket.len() % world_size == 0) {
                        assert!(
                            sent.iter()
                                .all(|bytes| *bytes == 2 * (world_size - 1) * len * 4 / world_size)
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn integer_sums_are_exact_on_every_rank_for_every_world_and_length() {
    let lens: Vec<usize> = (0..=40).collect();
    check_integers(1..=9, &lens);
}

#[test]
fn the_largest_worlds_sum_too() {
    check_integers(63..=64, &[0, 1, 63, 64, 65, 200]);
}

#[test]
fn float_sums_have_the_same_bits_on_every_rank_in_every_interleaving() {
    for world_size in 1..=9 {
        for len in 0..=40 {
            for sizes in sizes() {
                let mut first: Option<Vec<u32>> = None;
                for (name, choose) in interleavings() {
                    let vectors = (0..world_size).map(|rank| cancelling(rank, len)).collect();
                    let (vectors, _) = simulate::<F32Sum>(vectors, sizes, choose);
                    for values in vectors {
                        let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
                        let first = first.get_or_insert_with(|| bits.clone());
                        assert_eq!(
                            &bits, first,
                            "world {world_size}, length {len}, {sizes:?}, {name}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_float_values_of_these_tests_would_show_another_order_of_additions() {
    let vectors: Vec<_> = (0..5).map(|rank| cancelling(rank, 40)).collect();
    let sum = |order: [usize; 5]| -> Vec<f32> {
        (0..40)
            .map(|i| order.iter().map(|rank| vectors[*rank][i]).sum())
            .collect()
    };
    assert_ne!(sum([0, 1, 2, 3, 4]), sum([4, 3, 2, 1, 0]));
}

#[test]
fn blobs_of_all_lengths_reach_every_rank_in_rank_order() {
    for world_size in 1..=9 {
        for len in 0..=40 {
            for (name, choose) in interleavings() {
                let blobs: Vec<_> = (0..world_size)
                    .map(|rank| blob(rank, if rank % 3 == 1 { 0 } else { len * (rank + 1) % 41 }))
                    .collect();
                let sizes = PieceSizes::new(8, 9).unwrap();
                let mut ranks: Vec<_> = groups(world_size)
                    .iter()
                    .map(|group| {
                        AllGather::new(group, OPERATION, blobs[group.rank()].clone(), sizes).unwrap()
                    })
                    .collect();
                assert!(Simulation::new(&mut ranks, WINDOW as usize).run(choose), "{name}");
                for rank in ranks {
                    assert_eq!(
                        rank.into_blobs(),
                        blobs,
                        "world {world_size}, length {len}, {name}"
                    );
                }
            }
        }
    }
}

#[test]
fn threads_over_memory_links_sum_and_gather() {
    for world_size in 1..=5 {
        for len in [0, 1, 4, 17, 40] {
            for (sizes, capacity) in sizes()
                .into_iter()
                .zip([WINDOW as usize, WINDOW as usize, 16, 64])
            {
                let links = memory_ring_with(world_size, capacity, std::time::Duration::from_secs(20));
                std::thread::scope(|scope| {
                    for (group, mut links) in groups(world_size).into_iter().zip(links) {
                        scope.spawn(move || {
                            let mut pool = PayloadPool::new();
                            for number in 0..4 {
                                let operation = OperationId {
                                    step: 3,
                                    number: 2 * number,
                                };
                                let mut values = integers(group.rank(), len);
                                all_reduce::<I32Sum>(
                                    &mut links,
                                    &group,
                                    operation,
                                    &mut values,
                                    sizes,
                                    &mut pool,
                                )
                                .unwrap();
                                assert_eq!(values, integer_sum(world_size, len));

                                let operation = OperationId {
                                    step: 3,
                                    number: 2 * number + 1,
                                };
                                let own = blob(group.rank(), len * group.rank());
                                let blobs = all_gather(&mut links, &group, operation, own, sizes).unwrap();
                                let expected: Vec<_> =
                                    (0..world_size).map(|rank| blob(rank, len * rank)).collect();
                                assert_eq!(blobs, expected);
                            }
                        });
                    }
                });
            }
        }
    }
}

#[test]
fn a_vector_of_three_million_values_is_summed_with_the_default_sizes() {
    let (world_size, len) = (3, 3_000_001);
    std::thread::scope(|scope| {
        for (group, mut links) in groups(world_size).into_iter().zip(memory_ring(world_size)) {
            scope.spawn(move || {
                let mut values = integers(group.rank(), len);
                let mut pool = PayloadPool::new();
                let sizes = PieceSizes::default();
                all_reduce::<I32Sum>(&mut links, &group, OPERATION, &mut values, sizes, &mut pool).unwrap();
                assert!(values == integer_sum(world_size, len));
            });
        }
    });
}

#[test]
fn a_world_of_one_is_done_at_once_and_sends_nothing() {
    let [group] = groups(1)[..] else { unreachable!() };
    let mut values = [1.0, 2.0];
    let mut pool = PayloadPool::new();
    let mut all_reduce =
        AllReduce::<F32Sum>::new(&group, OPERATION, &mut values, PieceSizes::default(), &mut pool);
    assert!(all_reduce.is_done());
    assert_eq!(all_reduce.next_send(), None);

    let gather = AllGather::new(&group, OPERATION, blob(0, 5), PieceSizes::default()).unwrap();
    assert!(gather.is_done());
    assert_eq!(gather.into_blobs(), [blob(0, 5)]);
}

#[test]
fn sums_of_bfloat16_over_many_blocks_are_the_same_on_every_rank() {
    for world_size in 2..=4 {
        for len in [4095, 4096, 4097, 30_001] {
            // Small integers: no sum is rounded.
            let vectors = (0..world_size)
                .map(|rank| (0..len).map(|at| ((at + rank) % 32) as f32).collect())
                .collect();
            let (vectors, _) = simulate::<Bf16Sum>(vectors, PieceSizes::default(), |_| 0);
            let expected: Vec<f32> = (0..len)
                .map(|at| (0..world_size).map(|rank| ((at + rank) % 32) as f32).sum())
                .collect();
            assert!(
                vectors.iter().all(|values| *values == expected),
                "{world_size} ranks, {len} values"
            );
        }
    }
}

/// `f32` as the upper half of its bits: a wire that loses precision.
#[derive(Debug)]
struct TruncatedSum;

impl Reduction for TruncatedSum {
    type Element = f32;
    const WIRE_BYTES: usize = 2;

    fn assign(into: &mut [f32], bytes: &[u8]) {
        for (value, decoded) in into.iter_mut().zip(decode_truncated(bytes)) {
            *value = decoded;
        }
    }

    fn encode(values: &[f32], into: &mut [u8]) {
        for (half, value) in into.chunks_exact_mut(2).zip(values) {
            half.copy_from_slice(&value.to_le_bytes()[2..]);
        }
    }

    fn encode_sums(values: &[f32], received: &[u8], into: &mut [u8]) {
        let sums = values
            .iter()
            .zip(decode_truncated(received))
            .map(|(value, other)| value + other);
        Self::encode(&sums.collect::<Vec<_>>(), into);
    }
}

fn decode_truncated(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes
        .chunks_exact(2)
        .map(|half| f32::from_bits(u32::from(u16::from_le_bytes([half[0], half[1]])) << 16))
}

#[test]
fn a_wire_that_rounds_leaves_the_same_bits_on_every_rank_also_on_the_owner_of_a_chunk() {
    for world_size in 2..=5 {
        for len in 1..=40 {
            let vectors = (0..world_size).map(|rank| cancelling(rank, len)).collect();
            let sizes = PieceSizes::new(28, 8).unwrap();
            let (vectors, sent) = simulate::<TruncatedSum>(vectors, sizes, |_| 0);
            assert!(vectors.iter().all(|values| values == &vectors[0]));
            assert_eq!(sent.iter().sum::<usize>(), 2 * (world_size - 1) * len * 2);
        }
    }
}
