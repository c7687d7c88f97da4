//! `ProbeService`: measures the connection from this worker to another process of the run.
//!
//! Whoever asks names a worker, never an address: that comes from the coordinator, so an operator cannot send workers
//! against hosts outside the run. Who is reached has to prove who it is, as a ring neighbour does. One measurement at a
//! time, of bounded size and time.

use std::sync::Arc;
use std::time::Duration;

use probe::measure::reason;
use probe::{TRANSFER_BYTES_MAX, measure};
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::probe_service_server::{ProbeService, ProbeServiceServer};
use proto::wire::{PeersRequest, ProbeRequest, ProbeResponse};
use proto::{Address, Member, ParseError, Refusal, Target, WorkerId, transport};
use security::{Expect, Security};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

/// Serves `ProbeService` for one worker.
#[derive(Clone, Debug)]
pub struct Prober {
    security: Security,
    coordinator: Address,
    turns: Arc<Semaphore>,
}

impl Prober {
    /// Returns the service of a worker of this coordinator.
    pub fn new(security: Security, coordinator: Address) -> Self {
        Self {
            security,
            coordinator,
            turns: Arc::new(Semaphore::new(1)),
        }
    }

    /// Returns the gRPC service, with its message limit set.
    pub fn into_service(self) -> ProbeServiceServer<Self> {
        ProbeServiceServer::new(self).max_decoding_message_size(transport::CONTROL_MESSAGE_BYTES_MAX)
    }

    /// Asks the coordinator where a worker is.
    async fn look_up(&self, worker: WorkerId) -> Result<Option<Member>, String> {
        let channel = self
            .security
            .connect(&self.coordinator, Expect::Coordinator)
            .await;
        let mut client = CoordinatorServiceClient::new(channel.map_err(|error| reason(&error))?);
        let answer = client.peers(PeersRequest {}).await;
        let members = answer.map_err(|status| status.message().to_owned())?;
        let mut members = members.into_inner().members.into_iter();
        let found = members.find(|member| member.worker_id == worker.to_string());
        let found = found.map(Member::try_from).transpose();
        found.map_err(|error| error.to_string())
    }

    /// Returns where a target is and whom to expect there, or why this cannot be known.
    async fn resolve(&self, target: Target) -> Result<Result<(Address, Expect), String>, Refusal> {
        let Target::Worker(worker) = target else {
            return Ok(Ok((self.coordinator.clone(), Expect::Coordinator)));
        };
        let found = match timeout(LOOK_UP_PATIENCE, self.look_up(worker)).await {
            Ok(found) => found,
            Err(_) => Err(format!("no answer within {} s", LOOK_UP_PATIENCE.as_secs())),
        };
        match found {
            Ok(Some(member)) => Ok(Ok((member.address, Expect::Worker(worker)))),
            Ok(None) => Err(Refusal::UnknownWorker { worker }),
            Err(reason) => Ok(Err(format!(
                "cannot ask the coordinator at {}: {reason}",
                self.coordinator
            ))),
        }
    }
}

#[tonic::async_trait]
impl ProbeService for Prober {
    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let ProbeRequest { target, bytes } = request.into_inner();
        let target = target.ok_or(Refusal::Malformed(ParseError::Missing { field: "target" }))?;
        let target = Target::try_from(target).map_err(Refusal::from)?;
        if bytes > TRANSFER_BYTES_MAX {
            let limit = TRANSFER_BYTES_MAX;
            return Err(Refusal::TooLarge { bytes, limit }.into());
        }
        let _turn = self.turns.try_acquire().map_err(|_| Refusal::NotNow {
            action: "measure a connection of this worker",
            reason: "another measurement is under way".to_owned(),
        })?;
        let result = match self.resolve(target).await? {
            Ok((address, expect)) => measure(&self.security, &address, expect, bytes).await,
            Err(reason) => Err(reason),
        };
        Ok(Response::new(result.into()))
    }
}

/// A coordinator answers at once; connecting to one that is not there takes five seconds.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(8);
