//! `OperatorService`: what a person may ask of a run. Who may is decided before, by `security`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::Refusal;
use proto::wire::operator_service_server::OperatorService;
use proto::wire::{
    CheckpointRequest, CheckpointResponse, StopRequest, StopResponse, SurveyRequest, SurveyResponse,
};
use tokio::time::timeout;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::arrivals::Arrivals;
use crate::membership::Event;
use crate::shared::Shared;

/// The service of one run.
#[derive(Debug)]
pub(crate) struct OperatorShell {
    pub(crate) shared: Arc<Shared>,
    pub(crate) arrivals: Arc<Arrivals>,
}

#[tonic::async_trait]
impl OperatorService for OperatorShell {
    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        info!("an operator asks for a stop");
        self.shared.handle(Event::StopRequested).await?;
        Ok(Response::new(StopResponse {}))
    }

    async fn checkpoint(
        &self,
        _: Request<CheckpointRequest>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        let mut committed = self.shared.checkpoint_step();
        let before = *committed.borrow_and_update();
        self.shared.handle(Event::CheckpointRequested).await?;
        let newer = committed.wait_for(|step| *step > before);
        match timeout(CHECKPOINT_PATIENCE, newer).await {
            Ok(Ok(step)) => Ok(Response::new(CheckpointResponse {
                step: step.unwrap_or_default(),
            })),
            _ => Err(Refusal::TooSlow {
                seconds: CHECKPOINT_PATIENCE.as_secs(),
            }
            .into()),
        }
    }

    async fn survey(&self, _: Request<SurveyRequest>) -> Result<Response<SurveyResponse>, Status> {
        let all = self
            .shared
            .attendance()
            .into_iter()
            .chain(self.arrivals.list(Instant::now()));
        let workers = all.map(Into::into).collect();
        Ok(Response::new(SurveyResponse { workers }))
    }
}

/// A step, and the upload of a large state.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(300);
