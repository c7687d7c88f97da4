//! Sums whose values come while they are under way.

#![allow(clippy::unwrap_used, reason = "a failed test may panic, also in its helpers")]

use std::ops::Range;
use std::sync::Arc;

use collective::{Generation, Group, I32Sum, PieceSizes};
use futures_util::future::join_all;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::yield_now;
use worker::ring::Ring;
use worker::ring::links::RingLinks;

/// Values of a vector, and of a bucket, of which the last ones are shorter.
const LENGTH: usize = 90;
const BUCKET: usize = 16;

fn ring(links: RingLinks, rank: usize, world_size: usize) -> Ring {
    let group = Group::new(Generation(1), rank, world_size).unwrap();
    let sizes = PieceSizes::new(4 * BUCKET, 12).unwrap();
    Ring::new(group, links, sizes, Arc::default())
}

fn value(rank: usize, place: usize) -> i32 {
    (rank * 1000 + place * 7) as i32 - 300
}

fn expected(world_size: usize, places: Range<usize>) -> Vec<i32> {
    places
        .map(|place| (0..world_size).map(|rank| value(rank, place)).sum())
        .collect()
}

/// Sends the vector in pieces that end anywhere, some of them late.
async fn send_pieces(rank: usize, pieces: UnboundedSender<Option<Range<usize>>>) {
    let ends = (1..)
        .map(|piece| piece * (5 + rank))
        .take_while(|&end| end < LENGTH);
    let mut start = 0;
    for end in ends.chain([LENGTH]) {
        for _ in 0..(rank * 11 + start) % 23 {
            yield_now().await;
        }
        pieces.send(Some(start..end)).unwrap();
        start = end;
    }
}

fn write(rank: usize, places: Range<usize>, values: &mut [i32]) -> usize {
    let end = places.end;
    for place in places {
        values[place] = value(rank, place);
    }
    end
}

#[tokio::test]
async fn values_that_come_late_are_summed_like_those_that_were_there() {
    for world_size in 1..=5 {
        let links = RingLinks::in_memory(world_size).into_iter().enumerate();
        let ranks = links.map(|(rank, links)| async move {
            let ring = ring(links, rank, world_size);
            let (sender, mut arriving) = unbounded_channel();
            let mut values = vec![0; LENGTH];
            let take = |places, values: &mut [i32]| write(rank, places, values);
            let sum = ring.sum_arriving::<I32Sum, _>(7, LENGTH, &mut values, &mut arriving, take);
            let (summed, ()) = tokio::join!(sum, send_pieces(rank, sender));
            assert!(summed.unwrap());
            values
        });
        for values in join_all(ranks).await {
            assert_eq!(values, expected(world_size, 0..LENGTH), "{world_size} ranks");
        }
    }
}

#[tokio::test]
async fn first_buckets_are_summed_before_the_last_values_are_there() {
    let links = RingLinks::in_memory(3).into_iter().enumerate();
    let ranks = links.map(|(rank, links)| async move {
        let ring = ring(links, rank, 3);
        let (sender, mut arriving) = unbounded_channel();
        let mut values = vec![0; LENGTH];
        let mut seen_at_the_end = Vec::new();
        let take = |places: Range<usize>, values: &mut [i32]| {
            if places.end == LENGTH {
                seen_at_the_end = values[..2 * BUCKET].to_vec();
            }
            write(rank, places, values)
        };
        let sum = ring.sum_arriving::<I32Sum, _>(7, LENGTH, &mut values, &mut arriving, take);
        let send = async {
            sender.send(Some(0..2 * BUCKET + 1)).unwrap();
            for _ in 0..1000 {
                yield_now().await;
            }
            sender.send(Some(2 * BUCKET + 1..LENGTH)).unwrap();
        };
        let (summed, ()) = tokio::join!(sum, send);
        assert!(summed.unwrap());
        (seen_at_the_end, values)
    });
    for (seen, values) in join_all(ranks).await {
        assert_eq!(seen, expected(3, 0..2 * BUCKET));
        assert_eq!(values, expected(3, 0..LENGTH));
    }
}

#[tokio::test]
async fn values_that_do_not_travel_are_waited_for_and_summed_after() {
    const TRAVELLING: usize = 50;
    let links = RingLinks::in_memory(3).into_iter().enumerate();
    let ranks = links.map(|(rank, links)| async move {
        let ring = ring(links, rank, 3);
        let (sender, mut arriving) = unbounded_channel();
        let mut values = vec![0; LENGTH];
        let take = |places, values: &mut [i32]| write(rank, places, values);
        let sum = ring.sum_arriving::<I32Sum, _>(7, TRAVELLING, &mut values, &mut arriving, take);
        let send = async {
            sender.send(Some(0..TRAVELLING + rank)).unwrap();
            // One rank is late: its neighbours are in the next operation by then.
            for _ in 0..1000 * (rank % 2) {
                yield_now().await;
            }
            sender.send(Some(TRAVELLING + rank..LENGTH)).unwrap();
        };
        let (summed, ()) = tokio::join!(sum, send);
        assert!(summed.unwrap());
        assert_eq!(
            values[TRAVELLING],
            value(rank, TRAVELLING),
            "the rest is as it was"
        );
        ring.sum::<I32Sum>(7, &mut values[TRAVELLING..]).await.unwrap();
        values
    });
    for values in join_all(ranks).await {
        assert_eq!(values, expected(3, 0..LENGTH));
    }
}

#[tokio::test]
async fn a_sum_whose_values_never_come_ends() {
    let ring = ring(RingLinks::in_memory(2).remove(0), 0, 2);
    let mut values = vec![0; LENGTH];
    for gives_up in [true, false] {
        // One that gives up says so, whoever else still holds the channel.
        let (sender, mut arriving) = unbounded_channel();
        sender.send(Some(0..3)).unwrap();
        if gives_up {
            sender.send(None).unwrap();
        }
        let held = gives_up.then_some(sender);
        let take = |places, values: &mut [i32]| write(0, places, values);
        let summed = ring.sum_arriving::<I32Sum, _>(7, LENGTH, &mut values, &mut arriving, take);
        assert!(!summed.await.unwrap());
        drop(held);
    }
}
