//! Uploads over real gRPC: a weights file appears whole, verified and by the right hand, or not at all.

use std::fs;

use crate::support::{Coordinator, Pair, Worker, kind, names};
use proto::transport::{UPLOAD_BYTES_MAX, UPLOAD_CHUNK_BYTES_MAX};
use proto::wire::upload_request::Content;
use proto::{Fingerprint, RefusalKind, UploadHeader};
use tonic::Code;

fn header(worker: &Worker, size_bytes: u64, blake3: Fingerprint) -> Content {
    let header = UploadHeader {
        sender: worker.sender(),
        size_bytes,
        blake3,
        best: true,
    };
    Content::Header(header.into())
}

#[tokio::test]
async fn a_large_upload_is_stored_under_both_names() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let bytes: Vec<u8> = (0..3_000_001_u32).map(|i| (i * 7) as u8).collect();
    let mut messages = vec![header(&pair.zero, bytes.len() as u64, Fingerprint::of(&bytes))];
    messages.extend(
        bytes
            .chunks(UPLOAD_CHUNK_BYTES_MAX)
            .map(|chunk| Content::Chunk(chunk.to_vec().into())),
    );
    pair.zero.send(messages).await.unwrap();
    let folder = coordinator.file("weights");
    assert_eq!(names(&folder), ["best.safetensors", "last.safetensors"]);
    assert_eq!(fs::read(folder.join("last.safetensors")).unwrap(), bytes);
    assert_eq!(fs::read(folder.join("best.safetensors")).unwrap(), bytes);
}

#[tokio::test]
async fn a_damaged_or_cut_upload_leaves_the_old_file_and_nothing_else() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    pair.zero.upload(b"good", b"good", false).await.unwrap();
    for (sent, announced) in [
        (b"evil".as_slice(), b"good".as_slice()),
        (b"go", b"good"),
        (b"good!", b"good"),
    ] {
        let refused = pair.zero.upload(sent, announced, true).await;
        assert_eq!(kind(&refused), Some(RefusalKind::Corrupt));
        assert_eq!(refused.unwrap_err().code(), Code::DataLoss);
    }
    let folder = coordinator.file("weights");
    assert_eq!(names(&folder), ["last.safetensors"]);
    assert_eq!(fs::read(folder.join("last.safetensors")).unwrap(), b"good");
}

#[tokio::test]
async fn only_members_may_upload() {
    let coordinator = Coordinator::start(2).await;
    let _pair = Pair::join(&coordinator).await;
    let mut stranger = Worker::connect(&coordinator, 3, "c").await;
    stranger.generation = proto::Generation(1);
    let refused = stranger.upload(b"weights", b"weights", true).await;
    assert_eq!(kind(&refused), Some(RefusalKind::UnknownWorker));
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    assert!(names(&coordinator.file("weights")).is_empty());
}

#[tokio::test]
async fn what_is_too_large_or_out_of_order_is_refused() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let digest = Fingerprint::of(b"x");
    let chunk = |bytes: usize| Content::Chunk(vec![0; bytes].into());
    let cases = [
        (
            vec![header(&pair.zero, UPLOAD_BYTES_MAX + 1, digest)],
            RefusalKind::TooLarge,
        ),
        (
            vec![
                header(&pair.zero, 9 << 20, digest),
                chunk(UPLOAD_CHUNK_BYTES_MAX + 1),
            ],
            RefusalKind::TooLarge,
        ),
        (vec![chunk(1)], RefusalKind::Malformed),
        (vec![], RefusalKind::Malformed),
        (
            vec![header(&pair.zero, 1, digest), header(&pair.zero, 1, digest)],
            RefusalKind::Malformed,
        ),
    ];
    for (messages, expected) in cases {
        assert_eq!(kind(&pair.zero.send(messages).await), Some(expected));
    }
    let oversized = vec![
        header(&pair.zero, 9 << 20, digest),
        chunk(2 * UPLOAD_CHUNK_BYTES_MAX),
    ];
    let refused = pair.zero.send(oversized).await.unwrap_err();
    assert_eq!(
        refused.code(),
        Code::OutOfRange,
        "over the message limit: {refused}"
    );
    assert!(names(&coordinator.file("weights")).is_empty());
}
