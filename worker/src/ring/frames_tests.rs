//! Tests of the ring's messages on a stream.

use collective::{Generation, Phase, SegmentId};
use proptest::prelude::*;
use proto::wire::exchange_request::Content;

use super::*;

fn segment(number: u32, payload: Vec<u8>) -> Segment {
    let id = SegmentId {
        generation: Generation(u64::from(number) << 40),
        step: 7,
        operation: number % 2,
        bucket: 0,
        phase: Phase::AllGather,
        hop: number,
        segment: u32::MAX,
    };
    Segment::new(id, Bytes::from(payload))
}

fn opening() -> wire::ExchangeOpening {
    let sender = wire::Sender {
        worker_id: "w".to_owned(),
        ..wire::Sender::default()
    };
    wire::ExchangeOpening { sender: Some(sender) }
}

fn messages(segments: &[Segment]) -> Vec<wire::ExchangeRequest> {
    let contents = segments
        .iter()
        .map(|segment| Content::Segment(segment.clone().into()));
    std::iter::once(Content::Opening(opening()))
        .chain(contents)
        .map(|content| wire::ExchangeRequest {
            content: Some(content),
        })
        .collect()
}

/// What gRPC says that a stream of messages looks like.
fn plain(messages: &[wire::ExchangeRequest]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.push(0);
        bytes.extend((message.encoded_len() as u32).to_be_bytes());
        message.encode(&mut bytes).unwrap();
    }
    bytes
}

/// The frames of a body.
async fn frames(mut body: Outgoing) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        frames.push(frame.unwrap().into_data().unwrap());
    }
    frames
}

/// A body that ends after these frames.
struct Frames(std::vec::IntoIter<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|data| Ok(Frame::data(data))))
    }
}

fn incoming(frames: Vec<Bytes>) -> Incoming {
    Incoming {
        body: Body::new(Frames(frames.into_iter())),
        arrived: BufList::new(),
        behind: BytesMut::new(),
        length: 0,
    }
}

async fn received(frames: Vec<Bytes>) -> Result<Vec<wire::ExchangeRequest>, Status> {
    let mut incoming = incoming(frames);
    let mut messages = Vec::new();
    while let Some(message) = incoming.message(1 << 20).await? {
        messages.push(message);
    }
    Ok(messages)
}

async fn sent(segments: &[Segment]) -> Vec<Bytes> {
    let (queue, outbound) = mpsc::channel(segments.len().max(1));
    for segment in segments {
        queue.send(segment.clone()).await.unwrap();
    }
    drop(queue);
    frames(Outgoing::new(opening(), outbound)).await
}

#[tokio::test]
async fn a_payload_is_neither_copied_when_sent_nor_when_it_came_in_one_frame() {
    let segment = segment(1, vec![5; 1000]);
    let frames = sent(std::slice::from_ref(&segment)).await;
    assert_eq!(frames.last().unwrap().as_ptr(), segment.payload().as_ptr());
    let messages = received(frames).await.unwrap();
    let Some(Content::Segment(segment_again)) = &messages[1].content else {
        panic!("{messages:?}");
    };
    assert_eq!(segment_again.payload.as_ptr(), segment.payload().as_ptr());
}

proptest! {
    #[test]
    fn a_stream_is_what_grpc_says_and_is_read_however_it_is_cut(
        lengths in prop::collection::vec(prop_oneof![Just(0usize), 1usize..300], 0..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let segments: Vec<_> = (0..).zip(&lengths).map(|(number, &length)| segment(number, vec![number as u8; length])).collect();
        let expected = messages(&segments);
        let bytes = runtime.block_on(sent(&segments)).concat();
        prop_assert_eq!(&bytes, &plain(&expected));

        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).collect();
        prop_assert_eq!(runtime.block_on(received(pieces)).unwrap(), expected);
    }
}

#[tokio::test]
async fn a_message_in_a_hundred_thousand_frames_is_read_in_no_time_and_held_in_few_parts() {
    let segment = segment(1, vec![5; 100_000]);
    let bytes = sent(std::slice::from_ref(&segment)).await.concat();
    let frames = bytes.chunks(1).map(Bytes::copy_from_slice);
    let mut incoming = incoming(frames.collect());
    let mut received = Vec::new();
    while let Some(message) = incoming.message(1 << 20).await.unwrap() {
        received.push(message);
        assert!(incoming.arrived.num_chunks() <= CHUNKS_MAX + 1);
    }
    assert_eq!(received, messages(&[segment]));
}

#[tokio::test]
async fn bytes_that_are_no_messages_are_refused() {
    let whole = sent(&[segment(1, vec![5; 100])]).await.concat();
    for (bytes, reason) in [
        (whole[..whole.len() - 1].to_vec(), "within a message"),
        (whole[..3].to_vec(), "within a message"),
        (vec![0, 0, 0, 0, 1], "within a message"),
        // As long as a prefix.
        (vec![0, 0, 0, 0, 5], "within a message"),
        (vec![1, 0, 0, 0, 0], "not compressed"),
        (vec![0, 0xFF, 0xFF, 0xFF, 0xFF], "over the limit"),
        (vec![0, 0, 0, 0, 2, 0x12, 0x7F], "does not decode"),
    ] {
        let status = received(vec![bytes.into()]).await.unwrap_err();
        assert!(status.message().contains(reason), "{status}");
    }
}
