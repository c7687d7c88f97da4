//! Random orders, sizes, headers and damage.

#![allow(clippy::unwrap_used, reason = "a failed test may panic, also in its helpers")]

mod support;

use bytes::{Bytes, BytesMut};
use collective::{
    AllGather, AllReduce, F32Sum, Generation, HEADER_BYTES, I32Sum, MAX_SEGMENT_BYTES, OperationId,
    PayloadPool, Phase, PieceSizes, Segment, SegmentHeader, SegmentId, WINDOW,
};
use proptest::prelude::*;
use support::{Simulation, blob, cancelling, groups, integer_sum, integers};

const OPERATION: OperationId = OperationId { step: 1, number: 0 };

fn any_sizes() -> impl Strategy<Value = PieceSizes> {
    (8usize..600, 8usize..100).prop_map(|(bucket, segment)| PieceSizes::new(bucket, segment).unwrap())
}

fn any_id() -> impl Strategy<Value = SegmentId> {
    let phase = prop_oneof![
        Just(Phase::ReduceScatter),
        Just(Phase::AllGather),
        Just(Phase::Gather)
    ];
    (any::<[u64; 2]>(), any::<[u32; 4]>(), phase).prop_map(
        |([generation, step], [operation, bucket, hop, segment], phase)| SegmentId {
            generation: Generation(generation),
            step,
            operation,
            bucket,
            phase,
            hop,
            segment,
        },
    )
}

/// Turns random numbers into choices of who moves next, round and round.
fn chooser(choices: Vec<usize>) -> impl FnMut(usize) -> usize {
    let mut choices = choices.into_iter().cycle();
    move |_| choices.next().unwrap_or(0)
}

fn any_choices() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..64, 1..200)
}

proptest! {
    #[test]
    fn sums_do_not_depend_on_the_order_in_which_ranks_move(
        world_size in 1usize..=64,
        len in 0usize..300,
        capacity in WINDOW as usize..20,
        sizes in any_sizes(),
        choices in any_choices(),
    ) {
        let mut vectors: Vec<_> = (0..world_size).map(|rank| integers(rank, len)).collect();
        let mut pools: Vec<_> = (0..world_size).map(|_| PayloadPool::new()).collect();
        let mut ranks: Vec<_> = groups(world_size)
            .iter()
            .zip(vectors.iter_mut().zip(&mut pools))
            .map(|(group, (values, pool))| AllReduce::<I32Sum>::new(group, OPERATION, values, sizes, pool))
            .collect();
        prop_assert!(Simulation::new(&mut ranks, capacity).run(chooser(choices)));
        let expected = integer_sum(world_size, len);
        prop_assert!(vectors.iter().all(|values| *values == expected));
    }

    #[test]
    fn float_sums_have_one_set_of_bits_for_any_order_and_segment_size(
        world_size in 2usize..=12,
        len in 0usize..200,
        segments in [8usize..100, 8usize..100],
        choices in any_choices(),
    ) {
        let results: Vec<Vec<u32>> = segments
            .into_iter()
            .flat_map(|segment_bytes| {
                let sizes = PieceSizes::new(160, segment_bytes).unwrap();
                let mut vectors: Vec<_> = (0..world_size).map(|rank| cancelling(rank, len)).collect();
                let mut pools: Vec<_> = (0..world_size).map(|_| PayloadPool::new()).collect();
                let mut ranks: Vec<_> = groups(world_size)
                    .iter()
                    .zip(vectors.iter_mut().zip(&mut pools))
                    .map(|(group, (values, pool))| {
                        AllReduce::<F32Sum>::new(group, OPERATION, values, sizes, pool)
                    })
                    .collect();
                assert!(Simulation::new(&mut ranks, WINDOW as usize).run(chooser(choices.clone())));
                vectors
            })
            .map(|values| values.iter().map(|value| value.to_bits()).collect())
            .collect();
        prop_assert!(results.iter().all(|bits| *bits == results[0]));
    }

    #[test]
    fn blobs_arrive_whatever_the_order_in_which_ranks_move(
        lens in prop::collection::vec(0usize..400, 1..20),
        capacity in WINDOW as usize..20,
        sizes in any_sizes(),
        choices in any_choices(),
    ) {
        let blobs: Vec<_> = lens.iter().enumerate().map(|(rank, len)| blob(rank, *len)).collect();
        let mut ranks: Vec<_> = groups(lens.len())
            .iter()
            .map(|group| AllGather::new(group, OPERATION, blobs[group.rank()].clone(), sizes).unwrap())
            .collect();
        prop_assert!(Simulation::new(&mut ranks, capacity).run(chooser(choices)));
        for rank in ranks {
            prop_assert_eq!(rank.into_blobs(), blobs.clone());
        }
    }

    #[test]
    fn headers_survive_the_wire(
        id in any_id(),
        payload_len in 0..=MAX_SEGMENT_BYTES as u32,
        checksum in any::<u64>(),
    ) {
        let header = SegmentHeader { id, payload_len, checksum };
        prop_assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn any_bytes_decode_to_a_header_of_those_bytes_or_to_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        if let Ok(header) = SegmentHeader::decode(&bytes) {
            prop_assert_eq!(header.encode().to_vec(), bytes);
        }
    }

    #[test]
    fn bytes_with_a_good_start_decode_to_a_header_of_those_bytes_or_to_an_error(
        phase in 0u8..5,
        len in 0u8..18,
        rest in any::<[u8; 32]>(),
        tail in any::<[u8; 8]>(),
    ) {
        let bytes = [&[2, phase, 0, 0, 0, 0, len, 0][..], &rest, &tail].concat();
        match SegmentHeader::decode(&bytes) {
            Ok(header) => prop_assert_eq!(header.encode().to_vec(), bytes),
            Err(_) => prop_assert!(!(1..=3).contains(&phase) || len > 16),
        }
    }

    #[test]
    fn a_header_cut_lengthened_or_with_another_length_is_refused_or_fits_what_follows(
        id in any_id(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        other_len in prop_oneof![Just(u32::MAX), Just(MAX_SEGMENT_BYTES as u32 + 1), Just(0), any::<u32>()],
        kept in 0..=HEADER_BYTES,
        more in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let whole = Segment::new(id, Bytes::from(payload));
        let mut header = SegmentHeader::decode(&whole.header()).unwrap();
        header.payload_len = other_len;
        let lied = header.encode();
        let cut = [&whole.header()[..kept], &more].concat();
        let extended = [&lied[..], &more].concat();
        for bytes in [&lied[..], &cut, &extended] {
            if let Ok(segment) = Segment::from_wire(bytes, whole.payload().clone()) {
                prop_assert_eq!(&segment.header()[..], bytes);
                prop_assert_eq!(segment.payload(), whole.payload());
            }
        }
        // Nothing is set aside for a length before it is known to be true.
        prop_assert_eq!(Segment::from_wire(&lied, whole.payload().clone()).is_ok(), other_len as usize == whole.payload().len());
    }

    #[test]
    fn damage_to_any_byte_is_detected(
        id in any_id(),
        payload in prop::collection::vec(any::<u8>(), 0..600),
        damage in 1u8..,
    ) {
        let whole = Segment::new(id, Bytes::from(payload));
        prop_assert_eq!(Segment::from_wire(&whole.header(), whole.payload().clone()), Ok(whole.clone()));
        for at in 0..HEADER_BYTES + whole.payload().len() {
            let mut bytes = BytesMut::from(&whole.header()[..]);
            bytes.extend_from_slice(whole.payload());
            bytes[at] ^= damage;
            let payload = bytes.split_off(HEADER_BYTES).freeze();
            let is_detected = match Segment::from_wire(&bytes, payload) {
                Ok(segment) => segment.verify().is_err(),
                Err(_) => true,
            };
            prop_assert!(is_detected, "byte {at}");
        }
    }
}
