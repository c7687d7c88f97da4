//! The calls of a session to its coordinator, and what their failures mean.

use std::time::Duration;

use proto::wire::watch_response::Decision;
use proto::{Address, Candidate, Sender, wire};
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::info;

use super::{Session, SessionError};
use crate::compute::Cards;
use crate::heartbeat::Lease;

impl Session {
    pub(super) async fn join(&mut self, address: Address, cards: Cards) -> Result<Lease, SessionError> {
        let candidate = Candidate {
            run: self.run,
            worker: self.worker,
            version: proto::VERSION.to_owned(),
            host: crate::address::host_name(),
            address,
            device: self.config.host.device.clone(),
            threads: self.config.host.thread_count() as u32,
            dataset: cards.dataset,
            model: cards.model,
        };
        let response = self
            .coordinator
            .join(wire::JoinRequest::from(candidate))
            .await
            .map_err(|status| refused(&self.config.coordinator, &status))?
            .into_inner();
        info!("joined the run; waiting for all workers");
        Ok(Lease {
            interval: Duration::from_millis(response.heartbeat_interval_milliseconds.into()),
            silence: Duration::from_millis(response.lease_milliseconds.into()),
        })
    }

    pub(super) async fn watch(&mut self) -> Result<Streaming<wire::WatchResponse>, SessionError> {
        let request = wire::WatchRequest {
            run_id: self.run.to_string(),
            worker_id: self.worker.to_string(),
        };
        let stream = self
            .coordinator
            .watch(request)
            .await
            .map_err(|status| refused(&self.config.coordinator, &status))?;
        Ok(stream.into_inner())
    }

    /// Says goodbye, so that the coordinator need not wait for this worker; nobody minds if it is not heard.
    pub(super) async fn leave(&mut self, sender: Sender) {
        let request = wire::LeaveRequest {
            sender: Some(sender.into()),
            reason: String::new(),
        };
        let _ = timeout(LEAVE_PATIENCE, self.coordinator.leave(request)).await;
    }

    pub(super) fn decision(
        &self,
        message: Result<Option<wire::WatchResponse>, Status>,
    ) -> Result<Decision, SessionError> {
        match message {
            Ok(Some(response)) => Ok(response
                .decision
                .ok_or(proto::ParseError::Missing { field: "decision" })?),
            Ok(None) => Err(self.lost("it closed the watch stream before the run ended")),
            Err(status) => Err(self.lost(status.message())),
        }
    }

    pub(super) fn lost(&self, reason: &str) -> SessionError {
        SessionError::CoordinatorLost {
            coordinator: self.config.coordinator.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// Returns the error of a call that the coordinator did not accept.
pub(super) fn refused(coordinator: &Address, status: &Status) -> SessionError {
    SessionError::Refused {
        coordinator: coordinator.clone(),
        reason: status.message().to_owned(),
    }
}

/// The coordinator waits for goodbyes about as long.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);
