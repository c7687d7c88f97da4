//! Ring segments to and from `collective`.
//!
//! The payload is a slice of the received frame and is not copied. The checksum is carried, not checked: the
//! operation that takes the segment checks it, once.

use collective::{Generation, MAX_SEGMENT_BYTES, Phase, Segment, SegmentHeader, SegmentId};

use crate::parse::{ParseError, known};
use crate::wire;

impl TryFrom<wire::Segment> for Segment {
    type Error = ParseError;

    fn try_from(segment: wire::Segment) -> Result<Self, ParseError> {
        let invalid = |value: String| ParseError::Invalid {
            field: "payload",
            value,
            expected: "at most 1 MiB",
        };
        if segment.payload.len() > MAX_SEGMENT_BYTES {
            return Err(invalid(format!("{} bytes long", segment.payload.len())));
        }
        let header = SegmentHeader {
            id: SegmentId {
                generation: Generation(segment.generation),
                step: segment.step,
                operation: segment.operation,
                bucket: segment.bucket,
                phase: known("phase", segment.phase, phase)?,
                hop: segment.hop,
                segment: segment.segment,
            },
            payload_len: segment.payload.len() as u32,
            checksum: segment.checksum,
        };
        Self::from_wire(&header.encode(), segment.payload).map_err(|error| invalid(error.to_string()))
    }
}

impl From<Segment> for wire::Segment {
    fn from(segment: Segment) -> Self {
        let SegmentId {
            generation,
            step,
            operation,
            bucket,
            phase,
            hop,
            segment: position,
        } = segment.id();
        let phase = match phase {
            Phase::ReduceScatter => wire::ExchangePhase::ReduceScatter,
            Phase::AllGather => wire::ExchangePhase::AllGather,
            Phase::Gather => wire::ExchangePhase::Gather,
        };
        Self {
            generation: generation.0,
            step,
            operation,
            bucket,
            phase: phase.into(),
            hop,
            segment: position,
            checksum: segment.checksum(),
            payload: segment.into_payload(),
        }
    }
}

fn phase(phase: wire::ExchangePhase) -> Option<Phase> {
    match phase {
        wire::ExchangePhase::Unspecified => None,
        wire::ExchangePhase::ReduceScatter => Some(Phase::ReduceScatter),
        wire::ExchangePhase::AllGather => Some(Phase::AllGather),
        wire::ExchangePhase::Gather => Some(Phase::Gather),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::transport::SEGMENT_MESSAGE_BYTES_MAX;

    fn segment(payload: Vec<u8>) -> Segment {
        let id = SegmentId {
            generation: Generation(u64::MAX),
            step: u64::MAX,
            operation: u32::MAX,
            bucket: u32::MAX,
            phase: Phase::Gather,
            hop: u32::MAX,
            segment: u32::MAX,
        };
        Segment::new(id, Bytes::from(payload))
    }

    proptest! {
        #[test]
        fn a_segment_survives_the_wire(payload in prop::collection::vec(any::<u8>(), 0..2000)) {
            let sent = segment(payload);
            let encoded = wire::Segment::from(sent.clone()).encode_to_vec();
            let received = Segment::try_from(wire::Segment::decode(encoded.as_slice()).unwrap()).unwrap();
            prop_assert_eq!(&received, &sent);
            prop_assert!(received.verify().is_ok());
        }
    }

    #[test]
    fn the_largest_segment_fits_the_message_limit() {
        let request = wire::ExchangeRequest {
            content: Some(wire::exchange_request::Content::Segment(
                segment(vec![7; MAX_SEGMENT_BYTES]).into(),
            )),
        };
        assert!(request.encoded_len() <= SEGMENT_MESSAGE_BYTES_MAX);
    }

    #[test]
    fn damage_is_seen_and_bad_fields_are_refused() {
        let good = wire::Segment::from(segment(vec![1, 2, 3]));
        let moved = wire::Segment {
            step: 1,
            ..good.clone()
        };
        assert!(Segment::try_from(moved).unwrap().verify().is_err());
        let no_phase = wire::Segment {
            phase: 0,
            ..good.clone()
        };
        assert!(matches!(
            Segment::try_from(no_phase),
            Err(ParseError::Invalid { field: "phase", .. })
        ));
        let long = wire::Segment {
            payload: vec![0; MAX_SEGMENT_BYTES + 1].into(),
            ..good
        };
        assert!(matches!(
            Segment::try_from(long),
            Err(ParseError::Invalid { field: "payload", .. })
        ));
    }
}
