//! How a session begins: its services, the run that it is to be, and what is opened for it.

use probe::Doctor;
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::exchange_service_server::ExchangeServiceServer;
use proto::{Member, Recipe, RunId, wire};
use security::network::Listener;
use security::{Channel, ConnectionLimits};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{SessionError, WorkerConfig};
use crate::compute::{Cards, Notice, Ports};
use crate::prober::Prober;
use crate::replica::Offers;
use crate::ring::service::Exchange;
use crate::ring::state_service::States;

/// Serves the ring neighbours and those who copy the state, until the returned task is aborted.
pub(super) fn serve(
    config: &WorkerConfig,
    listener: Listener,
    exchange: Exchange,
    offers: Offers,
) -> JoinHandle<()> {
    let mut server = config.security.server();
    let incoming = config.security.incoming(listener, ConnectionLimits::WORKER);
    let doctor = Doctor::new(".".into());
    let prober = Prober::new(config.security.clone(), config.coordinator.clone());
    tokio::spawn(async move {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<ExchangeServiceServer<Exchange>>().await;
        let served = server
            .add_service(health_service)
            .add_service(exchange.into_service())
            .add_service(States::new(offers).into_service())
            .add_service(doctor.into_service())
            .add_service(prober.into_service())
            .serve_with_incoming(incoming)
            .await;
        if let Err(error) = served {
            warn!(%error, "the worker's services ended");
        }
    })
}

/// Asks which run it is.
pub(super) async fn get_run(
    config: &WorkerConfig,
    member: Member,
    channel: Channel,
) -> Result<(RunId, Recipe), SessionError> {
    let request = wire::GetRunRequest {
        version: proto::VERSION.to_owned(),
        member: Some(member.into()),
    };
    let mut client = CoordinatorServiceClient::new(channel);
    let answer = client.get_run(request).await;
    let response = answer
        .map_err(|status| SessionError::Refused {
            coordinator: config.coordinator.clone(),
            reason: status.message().to_owned(),
        })?
        .into_inner();
    let recipe = response
        .recipe
        .ok_or(proto::ParseError::Missing { field: "recipe" })?;
    let run = response.run_id.parse()?;
    info!(%run, world_size = response.world_size, "found the run");
    Ok((run, recipe.try_into()?))
}

/// Waits until data and model are open.
pub(super) async fn opened(ports: &mut Ports, shutdown: &CancellationToken) -> Result<Cards, SessionError> {
    let notice = tokio::select! {
        notice = ports.notices.recv() => notice,
        () = shutdown.cancelled() => return Err(SessionError::StoppedEarly),
    };
    match notice {
        Some(Notice::Opened(cards)) => Ok(cards),
        Some(Notice::Failed(error)) => Err(SessionError::Compute(error)),
        Some(Notice::Left(_)) | None => Err(SessionError::Compute(anyhow::anyhow!("nothing was opened"))),
    }
}
