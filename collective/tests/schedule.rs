//! The schedule as data: who sends which chunk, in which order, and how many bytes that makes.

use collective::{BucketChunks, Buckets, Phase, Schedule, WINDOW, chunk_range, sent_chunk};

fn schedule(len: usize, bucket_len: usize, world_size: usize, segment_len: usize) -> Schedule<BucketChunks> {
    let buckets = Buckets::new(len, bucket_len);
    Schedule::new(BucketChunks { buckets, world_size }, world_size, segment_len)
}

/// The chunk that a rank receives: the one that its left neighbour sends.
fn received_chunk(phase: Phase, hop: usize, rank: usize, world_size: usize) -> usize {
    sent_chunk(phase, hop, (rank + world_size - 1) % world_size, world_size)
}

#[test]
fn a_rank_passes_on_the_chunk_it_received_one_hop_earlier() {
    for world_size in 2..=64 {
        for rank in 0..world_size {
            for phase in [Phase::ReduceScatter, Phase::AllGather, Phase::Gather] {
                for hop in 1..world_size - 1 {
                    assert_eq!(
                        sent_chunk(phase, hop, rank, world_size),
                        received_chunk(phase, hop - 1, rank, world_size)
                    );
                }
            }
            assert_eq!(
                sent_chunk(Phase::AllGather, 0, rank, world_size),
                received_chunk(Phase::ReduceScatter, world_size - 2, rank, world_size)
            );
        }
    }
}

#[test]
fn the_schedule_of_two_ranks_reads_as_expected() {
    let sends: Vec<_> = schedule(5, 100, 2, 2)
        .sends(0)
        .map(|t| (t.phase, t.hop, t.segment, t.chunk, t.values, t.tick, t.after))
        .collect();
    assert_eq!(
        sends,
        [
            (Phase::ReduceScatter, 0, 0, 0, 0..2, 0, 0),
            (Phase::ReduceScatter, 0, 1, 0, 2..3, 1, 0),
            (Phase::AllGather, 0, 0, 1, 3..5, 2, 1),
        ]
    );
}

#[test]
fn ticks_grow_along_every_link_and_no_transfer_waits_for_itself() {
    for world_size in 1..=9 {
        for len in 0..=40 {
            for (bucket_len, segment_len) in [(100, 1), (100, 3), (7, 2), (1, 1)] {
                let schedule = schedule(len, bucket_len, world_size, segment_len);
                for rank in 0..world_size {
                    let sends: Vec<_> = schedule.sends(rank).collect();
                    assert!(sends.windows(2).all(|pair| pair[0].tick < pair[1].tick));
                    assert!(sends.iter().all(|transfer| transfer.after <= transfer.tick));
                    assert!(
                        sends
                            .iter()
                            .all(|transfer| transfer.tick < transfer.after + WINDOW)
                    );
                    assert!(sends.iter().all(|transfer| !transfer.values.is_empty()));
                }
            }
        }
    }
}

#[test]
fn each_rank_sends_every_bucket_twice_but_for_two_chunks() {
    for world_size in 1..=64 {
        for multiple in [0, 1, 5] {
            let len = world_size * multiple;
            let schedule = schedule(len, world_size * 3, world_size, 2);
            let buckets = Buckets::new(len, world_size * 3);
            for rank in 0..world_size {
                let sent: usize = schedule.sends(rank).map(|transfer| transfer.values.len()).sum();
                // What it sums up last, and what it receives last.
                let kept: usize = (buckets.iter())
                    .flat_map(|bucket| [1, 2].map(|after| (bucket.len(), (rank + after) % world_size)))
                    .map(|(bucket_len, chunk)| chunk_range(bucket_len, world_size, chunk).len())
                    .sum();
                assert_eq!(sent, 2 * len - kept);
            }
        }
    }
}

#[test]
fn all_ranks_together_send_two_times_n_minus_one_vectors_of_any_length() {
    for world_size in 1..=9 {
        for len in 0..=40 {
            let schedule = schedule(len, 7, world_size, 2);
            let sent: usize = (0..world_size)
                .flat_map(|rank| schedule.sends(rank))
                .map(|transfer| transfer.values.len())
                .sum();
            assert_eq!(sent, 2 * (world_size - 1) * len);
        }
    }
}
