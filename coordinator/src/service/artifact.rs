//! `ArtifactService`: takes in the weights that rank 0 uploads.
//!
//! The right to upload is checked before the first byte and again before the file gets its name: a generation
//! that ended in between must not overwrite what a newer one saved.

use std::sync::Arc;
use std::time::Duration;

use proto::transport::UPLOAD_CHUNK_BYTES_MAX;
use proto::wire::artifact_service_server::ArtifactService;
use proto::wire::upload_request::Content;
use proto::wire::{UploadRequest, UploadResponse};
use proto::{ParseError, Refusal, UploadHeader};
use security::Caller;
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use crate::run_directory::Weights;
use crate::shared::Shared;

/// The service of one run.
#[derive(Debug)]
pub(crate) struct ArtifactShell {
    pub(crate) shared: Arc<Shared>,
    pub(crate) weights: Weights,
}

#[tonic::async_trait]
impl ArtifactService for ArtifactShell {
    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let caller = Caller::of(&request)?;
        let mut stream = request.into_inner();
        let Some(Content::Header(header)) = next(&mut stream).await? else {
            return Err(unexpected("a header first").into());
        };
        let header = UploadHeader::try_from(header).map_err(Refusal::from)?;
        caller.speaks_for(header.sender.worker)?;
        self.shared.may_upload(&header.sender)?;
        let mut incoming = self.weights.receive(header.size_bytes, header.blake3).await?;
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
            incoming.write(&chunk).await?;
        }
        incoming.seal().await?;
        self.shared.may_upload(&header.sender)?;
        incoming.publish(header.best).await?;
        info!(bytes = header.size_bytes, best = header.best, "weights saved");
        Ok(Response::new(UploadResponse {}))
    }
}

/// The next message, or `None` at the end of the stream.
async fn next(stream: &mut Streaming<UploadRequest>) -> Result<Option<Content>, Status> {
    let message = tokio::time::timeout(CHUNK_PATIENCE, stream.message())
        .await
        .map_err(|_| Refusal::TooSlow {
            seconds: CHUNK_PATIENCE.as_secs(),
        })??;
    match message {
        None => Ok(None),
        Some(UploadRequest {
            content: Some(content),
        }) => Ok(Some(content)),
        Some(UploadRequest { content: None }) => Err(unexpected("content in every message").into()),
    }
}

fn unexpected(expected: &'static str) -> Refusal {
    Refusal::Malformed(ParseError::Invalid {
        field: "content",
        value: "something else".into(),
        expected,
    })
}

/// A chunk of 256 KiB takes this long at 70 kbit/s; slower than that an upload would not end anyway.
const CHUNK_PATIENCE: Duration = Duration::from_secs(30);
