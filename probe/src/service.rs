//! `DoctorService`: tells about the host, and swallows what neighbours send to measure.
//!
//! What a caller can make it do is bounded: one stream at a time, so many bytes, so much time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::wire::doctor_service_server::{DoctorService, DoctorServiceServer};
use proto::wire::{ExamineRequest, ExamineResponse, SwallowRequest, SwallowResponse};
use proto::{Refusal, RefusalKind};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::host;
use crate::measure::{CHUNK_BYTES, TRANSFER_BYTES_MAX};

/// Serves `DoctorService` for one process.
#[derive(Clone, Debug)]
pub struct Doctor {
    folder: PathBuf,
    mouth: Arc<Semaphore>,
}

impl Doctor {
    /// Returns the service of a process that keeps what it keeps in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        let mouth = Arc::new(Semaphore::new(1));
        Self { folder, mouth }
    }

    /// Returns the gRPC service, with its message limit set.
    pub fn into_service(self) -> DoctorServiceServer<Self> {
        DoctorServiceServer::new(self).max_decoding_message_size(CHUNK_BYTES + TAG_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl DoctorService for Doctor {
    async fn examine(&self, _: Request<ExamineRequest>) -> Result<Response<ExamineResponse>, Status> {
        let folder = self.folder.clone();
        // A file system of another host may take its time.
        let report = tokio::task::spawn_blocking(move || host::report(&folder)).await;
        let report = report.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(report.into()))
    }

    type SwallowStream = ReceiverStream<Result<SwallowResponse, Status>>;

    async fn swallow(
        &self,
        request: Request<Streaming<SwallowRequest>>,
    ) -> Result<Response<Self::SwallowStream>, Status> {
        let turn = Arc::clone(&self.mouth).try_acquire_owned();
        let turn = turn.map_err(|_| Refusal::NotNow {
            action: "measure a connection to this process",
            reason: "another measurement is under way".to_owned(),
        })?;
        let (answers, stream) = mpsc::channel(ANSWERS_CAPACITY);
        let incoming = request.into_inner();
        tokio::spawn(async move {
            let swallowed = timeout(PATIENCE, swallow(incoming, &answers)).await;
            let refused = match swallowed {
                Ok(result) => result,
                Err(_) => Err(Refusal::TooSlow {
                    seconds: PATIENCE.as_secs(),
                }
                .into()),
            };
            if let Err(status) = refused {
                // Who does not read any more needs no reason.
                let _ = answers.try_send(Err(status));
            }
            drop(turn);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Counts until the sender ends, stops reading, or has sent too much.
async fn swallow(
    mut incoming: Streaming<SwallowRequest>,
    answers: &mpsc::Sender<Result<SwallowResponse, Status>>,
) -> Result<(), Status> {
    let mut bytes = 0;
    while let Some(message) = incoming.message().await? {
        bytes += message.chunk.len() as u64;
        if bytes > TRANSFER_BYTES_MAX {
            let limit = TRANSFER_BYTES_MAX;
            return Err(Refusal::TooLarge { bytes, limit }.into());
        }
        if answers.send(Ok(SwallowResponse { bytes })).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a process could not be measured only because somebody else was doing so.
pub(crate) fn is_busy(status: &Status) -> bool {
    RefusalKind::of(status) == Some(RefusalKind::NotNow)
}

/// Tag and length of the one field.
const TAG_BYTES_MAX: usize = 64;

/// A few answers under way; who does not read them is not read from either.
const ANSWERS_CAPACITY: usize = 16;

/// More than a measurement takes: whoever holds on longer makes way for others.
const PATIENCE: Duration = Duration::from_secs(30);
