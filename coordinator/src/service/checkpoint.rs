//! `CheckpointService`: takes in the ranks' ranges of a checkpoint, commits it when all are there, and gives the newest
//! one to workers that begin from it.
//!
//! Files are written by threads that may block, so that a slow disk delays no heartbeat.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::transport::UPLOAD_CHUNK_BYTES_MAX;
use proto::wire::checkpoint_service_server::CheckpointService;
use proto::wire::{self, image_response, put_request};
use proto::{Fingerprint, GetRequest, ImageHeader, ParseError, Refusal, ShardHeader};
use security::Caller;
use tokio::task::spawn_blocking;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use crate::membership::Event;
use crate::run_directory::checkpoints::{self, Checkpoint, CheckpointError, Checkpoints, IncomingShard};
use crate::shared::Shared;

/// The service of one run.
#[derive(Debug, Clone)]
pub(crate) struct CheckpointShell {
    pub(crate) shared: Arc<Shared>,
    pub(crate) checkpoints: Checkpoints,
    /// The newest whole checkpoint.
    pub(crate) newest: Arc<Mutex<Option<Checkpoint>>>,
}

#[tonic::async_trait]
impl CheckpointService for CheckpointShell {
    async fn put(
        &self,
        request: Request<Streaming<wire::PutRequest>>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        use put_request::Content;
        let caller = Caller::of(&request)?;
        let mut stream = request.into_inner();
        let Some(Content::Header(header)) = next(&mut stream).await? else {
            return Err(unexpected("a header first").into());
        };
        let header = ShardHeader::try_from(header).map_err(Refusal::from)?;
        caller.speaks_for(header.sender.worker)?;
        self.shared
            .read(|membership| membership.may_upload_range(&header.sender))?;
        let stored = stored(&header);
        let checkpoints = self.checkpoints.clone();
        let mut incoming = blocking(move || checkpoints.receive(&stored)).await?;
        while let Some(content) = next(&mut stream).await? {
            let Content::Chunk(chunk) = content else {
                return Err(unexpected("one header only").into());
            };
            if chunk.len() > UPLOAD_CHUNK_BYTES_MAX {
                return Err(Refusal::TooLarge {
                    bytes: chunk.len() as u64,
                    limit: UPLOAD_CHUNK_BYTES_MAX as u64,
                }
                .into());
            }
            incoming = blocking(move || -> Result<IncomingShard, CheckpointError> {
                incoming.write(&chunk)?;
                Ok(incoming)
            })
            .await?;
        }
        blocking(move || incoming.seal()).await?;
        self.commit(header.step, header.sender.generation.0).await?;
        Ok(Response::new(wire::PutResponse {}))
    }

    type GetStream = Pin<Box<dyn Stream<Item = Result<wire::ImageResponse, Status>> + Send>>;

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        use image_response::Content;
        let caller = Caller::of(&request)?;
        let request = GetRequest::try_from(request.into_inner()).map_err(Refusal::from)?;
        caller.speaks_for(request.sender.worker)?;
        self.shared
            .read(|membership| membership.is_known(&request.sender))?;
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let checkpoint = newest.ok_or_else(|| Refusal::NoState {
            reason: "the run has no checkpoint".to_owned(),
        })?;
        let total_bytes = checkpoint.total_bytes();
        let begin = request.offset.min(total_bytes);
        let length = request.length.min(total_bytes - begin).min(GET_BYTES_MAX);
        let (step, state_digest) = (checkpoint.step(), checkpoint.state_digest());
        let bytes = blocking(move || {
            checkpoint
                .read_range(begin, length)
                .map_err(|error| Refusal::Storage {
                    reason: error.to_string(),
                })
        })
        .await?;
        let header = ImageHeader {
            step,
            total_bytes,
            state_digest,
            range_blake3: Fingerprint::of(&bytes),
        };
        let mut rest = tonic::codegen::Bytes::from(bytes);
        let mut contents = vec![Content::Header(header.into())];
        while !rest.is_empty() {
            contents.push(Content::Chunk(
                rest.split_to(rest.len().min(UPLOAD_CHUNK_BYTES_MAX)),
            ));
        }
        let responses = contents.into_iter().map(|content| {
            Ok(wire::ImageResponse {
                content: Some(content),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(responses))))
    }
}

impl CheckpointShell {
    /// Commits the checkpoint if all ranges are there.
    async fn commit(&self, step: u64, generation: u64) -> Result<(), Status> {
        let checkpoints = self.checkpoints.clone();
        let commit = move || {
            let committed = checkpoints.commit(step, generation);
            committed.inspect_err(|error| warn!(step, %error, "no checkpoint"))
        };
        let Some(committed) = blocking(commit).await? else {
            return Ok(());
        };
        let step = committed.checkpoint.step();
        info!(
            step,
            bytes = committed.checkpoint.total_bytes(),
            "checkpoint committed"
        );
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(committed.checkpoint);
        // A commit is a fact, so it is never refused.
        let _ = self.shared.handle(Event::CheckpointCommitted { step }).await;
        Ok(())
    }
}

/// Returns the header as the store knows it.
fn stored(header: &ShardHeader) -> checkpoints::ShardHeader {
    checkpoints::ShardHeader {
        step: header.step,
        generation: header.sender.generation.0,
        shard: header.shard,
        shards: header.shards,
        offset: header.offset,
        size_bytes: header.size_bytes,
        total_bytes: header.total_bytes,
        blake3: header.blake3,
        state_digest: header.state_digest,
    }
}

/// Runs `work` on a thread that may block.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    E: Into<Refusal> + Send + 'static,
{
    let done = spawn_blocking(work).await;
    let done = done.map_err(|error| Status::internal(error.to_string()))?;
    done.map_err(|error| error.into().into())
}

/// The next message, or `None` at the end of the stream.
async fn next(stream: &mut Streaming<wire::PutRequest>) -> Result<Option<put_request::Content>, Status> {
    let message = tokio::time::timeout(CHUNK_PATIENCE, stream.message())
        .await
        .map_err(|_| Refusal::TooSlow {
            seconds: CHUNK_PATIENCE.as_secs(),
        })??;
    match message.map(|message| message.content) {
        None => Ok(None),
        Some(Some(content)) => Ok(Some(content)),
        Some(None) => Err(unexpected("content in every message").into()),
    }
}

fn unexpected(expected: &'static str) -> Refusal {
    Refusal::Malformed(ParseError::Invalid {
        field: "content",
        value: "something else".into(),
        expected,
    })
}

/// A chunk of 1 MiB takes this long at 300 kbit/s; slower than that an upload would not end anyway.
const CHUNK_PATIENCE: Duration = Duration::from_secs(30);

/// Most bytes of one answer, which is held in memory.
const GET_BYTES_MAX: u64 = 16 << 20;
