//! Signs of life, on a connection of their own, so that a busy data or report stream never delays them.
//!
//! They tell both ways: a coordinator that does not answer for as long as its own lease is as good as gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::{Address, RefusalKind, Sender, wire};
use security::{Channel, Expect, Security};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::delivery::Pulse;

/// How often to send a sign of life, and how long silence is borne; both as the coordinator says.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Time between two heartbeats.
    pub interval: Duration,
    /// Longest silence.
    pub silence: Duration,
}

/// Heartbeats that go on as long as this lives.
#[derive(Debug)]
pub struct Heartbeats {
    /// Cancelled when the coordinator has not answered for as long as the lease.
    pub lapsed: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Heartbeats {
    /// Starts them.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn start(
        security: &Security,
        coordinator: &Address,
        sender: Sender,
        lease: Lease,
        pulse: &Arc<Pulse>,
    ) -> Self {
        let channel = security.connect_lazy(coordinator, Expect::Coordinator, |endpoint| {
            endpoint.timeout(lease.interval * 2)
        });
        let lapsed = CancellationToken::new();
        let task = tokio::spawn(beat(channel, sender, lease, Arc::clone(pulse), lapsed.clone()));
        Self {
            lapsed,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

async fn beat(channel: Channel, sender: Sender, lease: Lease, pulse: Arc<Pulse>, lapsed: CancellationToken) {
    let mut client = CoordinatorServiceClient::new(channel);
    let mut ticks = interval(lease.interval.max(SHORTEST_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        ticks.tick().await;
        let beat = wire::HeartbeatRequest {
            sender: Some(sender.into()),
            step: pulse.step(),
            activity: wire::Activity::from(pulse.activity()).into(),
        };
        match client.heartbeat(beat).await {
            // A refusal is an answer too: a stale generation, say, of which the watch stream tells more.
            Err(status) if RefusalKind::of(&status).is_none() => {
                debug!(reason = status.message(), "heartbeat not answered");
                if heard.elapsed() > lease.silence {
                    lapsed.cancel();
                }
            }
            _ => heard = Instant::now(),
        }
    }
}

/// A coordinator cannot ask for more.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
