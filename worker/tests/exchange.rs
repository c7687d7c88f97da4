//! Who may send segments, and which: the exchange service over real gRPC on loopback.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use bytes::Bytes;
use collective::{Generation, MAX_SEGMENT_BYTES, Phase, Segment, SegmentId};
use proto::wire::exchange_request::Content;
use proto::wire::exchange_service_client::ExchangeServiceClient;
use proto::{Member, RefusalKind, RunId, Sender, WorkerId, wire};
use security::{ConnectionLimits, Expect, Security};
use tokio::net::TcpListener;
use tonic::{Code, Status};
use worker::ring::links::{Broken, Inbound};
use worker::ring::service::Exchange;

const RUN: RunId = RunId::from_u128(1);
const LEFT: WorkerId = WorkerId::from_u128(2);
const NOW: Generation = Generation(5);

/// Serves the exchange of a worker in generation 5 and returns its address and what arrives.
async fn serve() -> (proto::Address, Inbound) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proto::Address::from(listener.local_addr().unwrap());
    let exchange = Exchange::default();
    let left = Member {
        rank: 0,
        worker: LEFT,
        host: "left".into(),
        address: address.clone(),
    };
    let inbound = exchange.expect(RUN, NOW, left, Broken::default());
    let security = Security::loopback();
    let incoming = security.incoming(listener, ConnectionLimits::WORKER);
    tokio::spawn(
        security
            .server()
            .add_service(exchange.into_service())
            .serve_with_incoming(incoming),
    );
    (address, inbound)
}

async fn send(address: &proto::Address, contents: Vec<Content>) -> Result<wire::ExchangeSummary, Status> {
    let channel = Security::loopback()
        .connect(address, Expect::Worker(LEFT))
        .await
        .unwrap();
    let requests = contents.into_iter().map(|content| wire::ExchangeRequest {
        content: Some(content),
    });
    let mut client = ExchangeServiceClient::new(channel);
    client
        .exchange(tokio_stream::iter(requests))
        .await
        .map(tonic::Response::into_inner)
}

fn opening(run: RunId, worker: WorkerId, generation: Generation) -> Content {
    let sender = Sender {
        run,
        worker,
        generation,
    };
    Content::Opening(wire::ExchangeOpening {
        sender: Some(sender.into()),
    })
}

fn segment(generation: Generation, bytes: usize) -> Segment {
    let id = SegmentId {
        generation,
        step: 9,
        operation: 0,
        bucket: 0,
        phase: Phase::ReduceScatter,
        hop: 0,
        segment: 0,
    };
    Segment::new(id, Bytes::from(vec![7; bytes]))
}

#[tokio::test]
async fn the_left_neighbour_s_segments_arrive_whole_and_are_counted() {
    let (address, mut inbound) = serve().await;
    let sent = segment(NOW, MAX_SEGMENT_BYTES);
    let contents = vec![opening(RUN, LEFT, NOW), Content::Segment(sent.clone().into())];
    let summary = send(&address, contents).await.unwrap();
    assert_eq!(
        (summary.segments, summary.payload_bytes),
        (1, MAX_SEGMENT_BYTES as u64)
    );
    let received = inbound.recv().await.unwrap().unwrap();
    assert_eq!(received, sent);
    received.verify().unwrap();
}

#[tokio::test]
async fn strangers_and_old_generations_are_refused() {
    let stranger = WorkerId::from_u128(77);
    let cases = [
        (
            opening(RUN, LEFT, Generation(4)),
            RefusalKind::StaleGeneration,
            Code::Aborted,
        ),
        (
            opening(RunId::from_u128(8), LEFT, NOW),
            RefusalKind::OtherRun,
            Code::FailedPrecondition,
        ),
        (
            opening(RUN, stranger, NOW),
            RefusalKind::UnknownWorker,
            Code::NotFound,
        ),
        (
            Content::Segment(segment(NOW, 8).into()),
            RefusalKind::Malformed,
            Code::InvalidArgument,
        ),
    ];
    for (first, kind, code) in cases {
        let (address, _inbound) = serve().await;
        let refused = send(&address, vec![first]).await.unwrap_err();
        assert_eq!((RefusalKind::of(&refused), refused.code()), (Some(kind), code));
    }
}

#[tokio::test]
async fn a_segment_of_an_old_generation_ends_the_stream_and_is_not_delivered() {
    let (address, mut inbound) = serve().await;
    let old = Content::Segment(segment(Generation(4), 8).into());
    let refused = send(&address, vec![opening(RUN, LEFT, NOW), old])
        .await
        .unwrap_err();
    assert_eq!(RefusalKind::of(&refused), Some(RefusalKind::StaleGeneration));
    assert!(inbound.recv().await.is_none());
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let (address, mut inbound) = serve().await;
    let mut large = wire::Segment::from(segment(NOW, 8));
    large.payload = vec![0; 2 * MAX_SEGMENT_BYTES].into();
    let refused = send(&address, vec![opening(RUN, LEFT, NOW), Content::Segment(large)])
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(!matches!(inbound.recv().await, Some(Ok(_))));
}

#[tokio::test]
async fn a_generation_has_one_stream() {
    let (address, _inbound) = serve().await;
    send(&address, vec![opening(RUN, LEFT, NOW)]).await.unwrap();
    let refused = send(&address, vec![opening(RUN, LEFT, NOW)]).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
}
