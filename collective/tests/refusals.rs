//! What is not the awaited segment is refused with the reason, and the operation can go on with that.

#![allow(clippy::unwrap_used, reason = "a failed test may panic, also in its helpers")]

mod support;

use bytes::{Bytes, BytesMut};
use collective::{
    AllGather, AllReduce, CollectiveError, Generation, I32Sum, LinkError, Links, MAX_BLOB_BYTES, Neighbour,
    OperationId, PayloadPool, PieceSizes, RingError, RingOperation, Segment, SegmentId, all_reduce,
    memory_ring,
};
use support::{blob, groups};

const OPERATION: OperationId = OperationId { step: 5, number: 2 };

fn sizes() -> PieceSizes {
    PieceSizes::new(1 << 20, 8).unwrap()
}

/// All segments that rank 0 of 2 sends in an all-reduce of `[1, 2, 3, 4, 5, 6]`, when rank 1 has only zeros.
fn sent_by_left() -> Vec<Segment> {
    let groups = groups(2);
    let (mut left, mut right) = ([1, 2, 3, 4, 5, 6], [0; 6]);
    let (mut left_pool, mut right_pool) = (PayloadPool::new(), PayloadPool::new());
    let mut left = AllReduce::<I32Sum>::new(&groups[0], OPERATION, &mut left, sizes(), &mut left_pool);
    let mut right = AllReduce::<I32Sum>::new(&groups[1], OPERATION, &mut right, sizes(), &mut right_pool);
    let mut sent = Vec::new();
    while !left.is_done() {
        while let Some(segment) = left.next_send() {
            right.on_segment(segment.clone()).unwrap();
            sent.push(segment);
        }
        while let Some(segment) = right.next_send() {
            left.on_segment(segment).unwrap();
        }
    }
    sent
}

/// Offers `wrong` to rank 1 after `taken` good segments; then the rest must still lead to the right sums.
fn refusal_after(taken: usize, wrong: Segment) -> RingError {
    let mut values = [0; 6];
    let mut pool = PayloadPool::new();
    let group = groups(2)[1];
    let mut right = AllReduce::<I32Sum>::new(&group, OPERATION, &mut values, sizes(), &mut pool);
    let mut error = None;
    for (i, segment) in sent_by_left().into_iter().enumerate() {
        while right.next_send().is_some() {}
        if i == taken {
            error = right.on_segment(wrong.clone()).err();
        }
        right.on_segment(segment).unwrap();
    }
    while right.next_send().is_some() {}
    assert!(right.is_done());
    assert_eq!(values, [1, 2, 3, 4, 5, 6]);
    error.expect("the segment should have been refused")
}

fn renamed(segment: &Segment, rename: impl FnOnce(&mut SegmentId)) -> Segment {
    let mut id = segment.id();
    rename(&mut id);
    Segment::new(id, segment.payload().clone())
}

#[test]
fn a_segment_of_an_old_generation_is_stale() {
    let stale = renamed(&sent_by_left()[0], |id| id.generation = Generation(6));
    assert_eq!(
        refusal_after(0, stale),
        RingError::StaleGeneration {
            got: Generation(6),
            current: Generation(7)
        }
    );
}

#[test]
fn a_segment_of_a_later_generation_says_that_this_rank_is_behind() {
    let newer = renamed(&sent_by_left()[0], |id| id.generation = Generation(8));
    let error = refusal_after(0, newer);
    assert_eq!(
        error.to_string(),
        "a segment of generation 8 was refused: this rank is still in generation 7"
    );
}

#[test]
fn a_segment_of_another_step_or_operation_is_refused() {
    let other_step = renamed(&sent_by_left()[0], |id| id.step = 4);
    assert_eq!(
        refusal_after(0, other_step),
        RingError::WrongStep { got: 4, expected: 5 }
    );
    let other_operation = renamed(&sent_by_left()[0], |id| id.operation = 3);
    assert_eq!(
        refusal_after(0, other_operation),
        RingError::WrongOperation {
            step: 5,
            got: 3,
            expected: 2
        }
    );
}

#[test]
fn repeated_skipped_and_swapped_segments_are_unexpected() {
    let sent = sent_by_left();
    for taken in 0..sent.len() {
        for (i, wrong) in sent.iter().enumerate().filter(|(i, _)| *i != taken) {
            assert_eq!(
                refusal_after(taken, wrong.clone()),
                RingError::Unexpected {
                    expected: sent[taken].id(),
                    got: sent[i].id()
                }
            );
        }
    }
}

#[test]
fn a_segment_after_the_last_one_is_surplus() {
    let sent = sent_by_left();
    let mut values = [0; 6];
    let mut pool = PayloadPool::new();
    let group = groups(2)[1];
    let mut right = AllReduce::<I32Sum>::new(&group, OPERATION, &mut values, sizes(), &mut pool);
    for segment in &sent {
        while right.next_send().is_some() {}
        right.on_segment(segment.clone()).unwrap();
    }
    while right.next_send().is_some() {}
    let last = sent[sent.len() - 1].clone();
    let got = last.id();
    assert_eq!(right.on_segment(last), Err(RingError::Surplus { got }));
    assert!(right.is_done());
}

#[test]
fn a_payload_of_another_length_is_refused() {
    let id = sent_by_left()[0].id();
    for got in [0, 4, 12] {
        assert_eq!(
            refusal_after(0, Segment::new(id, Bytes::from(vec![0; got]))),
            RingError::BadLength { id, expected: 8, got }
        );
    }
}

#[test]
fn a_damaged_payload_is_refused() {
    let segment = sent_by_left()[1].clone();
    let mut payload = BytesMut::from(&segment.payload()[..]);
    payload[3] ^= 0x10;
    let damaged = Segment::from_wire(&segment.header(), payload.freeze()).unwrap();
    assert!(matches!(refusal_after(1, damaged), RingError::BadChecksum { id, .. } if id == segment.id()));
}

#[test]
fn damage_to_any_part_of_a_long_payload_is_refused_and_the_sums_are_right_after_it() {
    let groups = groups(2);
    // Segments of two and a half blocks that are hashed at a time.
    let sizes = PieceSizes::new(1 << 20, 20 << 10).unwrap();
    let own: Vec<i32> = (0..20_000).collect();
    let (mut left_values, mut right_values) = (own.clone(), own.clone());
    let (mut left_pool, mut right_pool) = (PayloadPool::new(), PayloadPool::new());
    let mut left = AllReduce::<I32Sum>::new(&groups[0], OPERATION, &mut left_values, sizes, &mut left_pool);
    let mut right =
        AllReduce::<I32Sum>::new(&groups[1], OPERATION, &mut right_values, sizes, &mut right_pool);
    while !left.is_done() || !right.is_done() {
        while let Some(segment) = left.next_send() {
            for at in [0, 9 << 10, segment.payload().len() - 1] {
                let mut payload = BytesMut::from(&segment.payload()[..]);
                payload[at] ^= 0x10;
                let damaged = Segment::from_wire(&segment.header(), payload.freeze()).unwrap();
                let id = segment.id();
                assert!(
                    matches!(right.on_segment(damaged), Err(RingError::BadChecksum { id: named, .. }) if named == id)
                );
            }
            right.on_segment(segment).unwrap();
        }
        while let Some(segment) = right.next_send() {
            left.on_segment(segment).unwrap();
        }
    }
    let doubled: Vec<i32> = own.iter().map(|value| 2 * value).collect();
    assert_eq!(left_values, doubled);
    assert_eq!(right_values, doubled);
}

#[test]
fn a_blob_over_the_limit_is_refused_when_it_is_announced() {
    let groups = groups(2);
    let mut left = AllGather::new(&groups[0], OPERATION, blob(0, 5), sizes()).unwrap();
    let mut right = AllGather::new(&groups[1], OPERATION, blob(1, 5), sizes()).unwrap();
    let id = left.next_send().unwrap().id();
    let too_long = MAX_BLOB_BYTES as u64 + 1;
    let announced = Segment::new(id, Bytes::copy_from_slice(&too_long.to_le_bytes()));
    assert_eq!(
        right.on_segment(announced),
        Err(RingError::BlobTooLong {
            rank: 0,
            got: too_long
        })
    );
    let own = Bytes::from(vec![0; MAX_BLOB_BYTES + 1]);
    let refused = AllGather::new(&groups[1], OPERATION, own, sizes()).err();
    assert_eq!(
        refused,
        Some(RingError::BlobTooLong {
            rank: 1,
            got: too_long
        })
    );
}

#[test]
fn the_blocking_driver_stops_at_a_refused_segment() {
    let mut ranks = memory_ring(2);
    let stale = renamed(&sent_by_left()[0], |id| id.generation = Generation(1));
    ranks[0].send(stale).unwrap();
    let result = all_reduce::<I32Sum>(
        &mut ranks[1],
        &groups(2)[1],
        OPERATION,
        &mut [0; 6],
        sizes(),
        &mut PayloadPool::new(),
    );
    assert!(matches!(
        result,
        Err(CollectiveError::Ring(RingError::StaleGeneration { .. }))
    ));
}

#[test]
fn the_blocking_driver_names_the_neighbour_that_is_gone() {
    let mut ranks = memory_ring(3);
    drop(ranks.remove(0));
    let result = all_reduce::<I32Sum>(
        &mut ranks[0],
        &groups(3)[1],
        OPERATION,
        &mut [0; 6],
        sizes(),
        &mut PayloadPool::new(),
    );
    let neighbour = Neighbour::Left;
    assert_eq!(
        result,
        Err(CollectiveError::Link(LinkError::Closed { neighbour }))
    );
}
