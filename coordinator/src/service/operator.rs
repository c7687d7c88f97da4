//! `OperatorService`: what a person may ask of a run. Who may is decided before, by `security`.

use std::sync::Arc;

use proto::wire::operator_service_server::OperatorService;
use proto::wire::{StopRequest, StopResponse};
use tonic::{Request, Response, Status};
use tracing::info;

use crate::membership::Event;
use crate::shared::Shared;

/// The service of one run.
#[derive(Debug)]
pub(crate) struct OperatorShell {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl OperatorService for OperatorShell {
    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        info!("an operator asks for a stop");
        self.shared.handle(Event::StopRequested).await?;
        Ok(Response::new(StopResponse {}))
    }
}
