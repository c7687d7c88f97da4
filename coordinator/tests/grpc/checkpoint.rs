//! Checkpoints over real gRPC: a request, the ranks' ranges, the commit, and the way back.

use std::time::Duration;

use crate::run::status;
use crate::support::{Coordinator, Decisions, Pair, Worker, kind, soon};
use proto::wire::put_request::Content;
use proto::wire::watch_response::Decision;
use proto::wire::{self, image_response};
use proto::{Fingerprint, GetRequest, ImageHeader, RefusalKind, ShardHeader};
use tonic::Status;

/// Puts a rank's half of the image.
pub(crate) async fn put(worker: &mut Worker, rank: u32, step: u64, image: &[u8]) -> Result<(), Status> {
    let middle = image.len() / 2;
    let (offset, part) = match rank {
        0 => (0, &image[..middle]),
        _ => (middle, &image[middle..]),
    };
    let header = ShardHeader {
        sender: worker.sender(),
        step,
        shard: rank,
        shards: 2,
        offset: offset as u64,
        size_bytes: part.len() as u64,
        total_bytes: image.len() as u64,
        blake3: Fingerprint::of(part),
        state_digest: Fingerprint::of(image),
    };
    let mut contents = vec![Content::Header(header.into())];
    contents.extend(
        part.chunks(1000)
            .map(|chunk| Content::Chunk(chunk.to_vec().into())),
    );
    let requests = contents.into_iter().map(|content| wire::PutRequest {
        content: Some(content),
    });
    let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
    worker.checkpoints.put(stream).await.map(drop)
}

/// Gets a range of the newest checkpoint.
pub(crate) async fn get(
    worker: &mut Worker,
    offset: u64,
    length: u64,
) -> Result<(ImageHeader, Vec<u8>), Status> {
    let request = GetRequest {
        sender: worker.sender(),
        offset,
        length,
    };
    let mut stream = worker
        .checkpoints
        .get(wire::GetRequest::from(request))
        .await?
        .into_inner();
    let mut header = None;
    let mut bytes = Vec::new();
    while let Some(response) = stream.message().await? {
        match response.content.unwrap() {
            image_response::Content::Header(sent) => header = Some(sent.try_into().unwrap()),
            image_response::Content::Chunk(chunk) => bytes.extend_from_slice(&chunk),
        }
    }
    Ok((header.unwrap(), bytes))
}

pub(crate) fn image(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * 7 + 3) as u8).collect()
}

async fn asked(decisions: &mut Decisions) -> u64 {
    match decisions.next().await {
        Some(Decision::CheckpointRequested(request)) => request.number,
        other => panic!("expected a request for a checkpoint, got {other:?}"),
    }
}

#[tokio::test]
async fn a_checkpoint_is_there_when_the_last_range_is_and_not_before() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let image = image(10_001);
    put(&mut pair.zero, 0, 7, &image).await.unwrap();
    let early = get(&mut pair.zero, 0, u64::MAX).await;
    assert_eq!(kind(&early), Some(RefusalKind::NoState));
    put(&mut pair.one, 1, 7, &image).await.unwrap();
    let (header, bytes) = get(&mut pair.zero, 0, u64::MAX).await.unwrap();
    assert_eq!((header.step, header.total_bytes), (7, 10_001));
    assert_eq!(header.state_digest, Fingerprint::of(&image));
    assert_eq!(bytes, image);
    let (header, bytes) = get(&mut pair.one, 4000, 3000).await.unwrap();
    assert_eq!(bytes, image[4000..7000]);
    assert_eq!(header.range_blake3, Fingerprint::of(&bytes));
    let (_, nothing) = get(&mut pair.one, u64::MAX, u64::MAX).await.unwrap();
    assert!(nothing.is_empty());
    assert_eq!(status(&mut pair.zero).await.checkpoint_step, Some(7));
}

#[tokio::test]
async fn a_request_reaches_every_worker_and_is_answered_by_the_commit() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let mut operator = pair.zero.operator.clone();
    let request = tokio::spawn(async move { operator.checkpoint(wire::CheckpointRequest {}).await });
    assert_eq!(asked(&mut pair.zero_decisions).await, 1);
    assert_eq!(asked(&mut pair.one_decisions).await, 1);
    let image = image(100);
    put(&mut pair.one, 1, 9, &image).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!request.is_finished(), "answered before the commit");
    put(&mut pair.zero, 0, 9, &image).await.unwrap();
    let answer = soon(request).await.unwrap().unwrap();
    assert_eq!(answer.into_inner().step, 9);
}

#[tokio::test]
async fn ranges_of_a_generation_that_was_left_make_no_checkpoint() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let image = image(100);
    put(&mut pair.zero, 0, 3, &image).await.unwrap();
    let stranger = put(&mut pair.one, 1, 3, &image[..50]).await;
    assert!(stranger.is_err(), "a range of another image was taken");
    pair.one.leave().await.unwrap();
    let next = pair.zero_decisions.roster().await;
    let refused = put(&mut pair.zero, 1, 3, &image).await;
    assert_eq!(kind(&refused), Some(RefusalKind::StaleGeneration));
    pair.zero.generation = next.generation();
    put(&mut pair.zero, 1, 3, &image).await.unwrap();
    let none = get(&mut pair.zero, 0, 1).await;
    assert_eq!(kind(&none), Some(RefusalKind::NoState));
}
