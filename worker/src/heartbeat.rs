//! Signs of life, on a connection of their own, so that a busy data or report stream never delays them.

use std::sync::Arc;
use std::time::Duration;

use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::{Address, Sender, transport, wire};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::delivery::Pulse;

/// Sends a heartbeat every `every` until the returned handle is dropped.
///
/// A heartbeat that fails is not an error here: the watch stream tells whether the coordinator is lost.
pub fn start(
    coordinator: &Address,
    sender: Sender,
    every: Duration,
    pulse: &Arc<Pulse>,
) -> AbortOnDropHandle<()> {
    let channel = transport::endpoint(coordinator).timeout(every * 2).connect_lazy();
    let pulse = Arc::clone(pulse);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut client = CoordinatorServiceClient::new(channel);
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let beat = wire::HeartbeatRequest {
                sender: Some(sender.into()),
                step: pulse.step(),
                activity: wire::Activity::from(pulse.activity()).into(),
            };
            if let Err(status) = client.heartbeat(beat).await {
                debug!(reason = status.message(), "heartbeat not taken");
            }
        }
    }))
}
