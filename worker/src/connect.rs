//! Finds the coordinator: tries again, a little later each time, until it answers or the time is up.

use std::net::IpAddr;
use std::time::Duration;

pub(crate) use probe::measure::reason;
use proto::Address;
use security::{Channel, Expect, Security};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered in time.
    #[error(
        "no coordinator at {address} within {} s (--join-timeout): {reason}",
        waited.as_secs()
    )]
    NotThere {
        /// The address that was tried.
        address: Address,
        /// How long.
        waited: Duration,
        /// The last failure.
        reason: String,
    },
    /// Asked to stop meanwhile.
    #[error("stopped while looking for the coordinator at {address}")]
    Stopped {
        /// The address that was tried.
        address: Address,
    },
    /// The own address is unknown.
    #[error("cannot tell how neighbours reach this worker: {reason}; give --advertise HOST")]
    OwnAddress {
        /// What failed.
        reason: String,
    },
}

/// Connects to the coordinator, and returns the local address that it is reached from.
///
/// # Errors
/// When nobody answers within `patience`, or `shutdown` is cancelled.
pub async fn coordinator(
    security: &Security,
    address: &Address,
    patience: Duration,
    shutdown: &CancellationToken,
) -> Result<(Channel, IpAddr), ConnectError> {
    tokio::select! {
        connected = retry(security, address, patience) => connected,
        () = shutdown.cancelled() => Err(ConnectError::Stopped { address: address.clone() }),
    }
}

async fn retry(
    security: &Security,
    address: &Address,
    patience: Duration,
) -> Result<(Channel, IpAddr), ConnectError> {
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    let mut reason = String::from("no answer");
    loop {
        match timeout_at(deadline, attempt(security, address)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(failure)) => reason = failure,
            Err(_) => {}
        }
        if Instant::now() + pause >= deadline {
            return Err(ConnectError::NotThere {
                address: address.clone(),
                waited: patience,
                reason,
            });
        }
        if pause == FIRST_PAUSE {
            info!(%address, reason, "no coordinator yet; trying again");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(security: &Security, address: &Address) -> Result<(Channel, IpAddr), String> {
    // A plain connection first: it tells the own address, and the system's reason when it fails.
    let own = security
        .own_address_towards(address)
        .await
        .map_err(|error| error.to_string())?;
    let channel = security
        .connect(address, Expect::Coordinator)
        .await
        .map_err(|error| reason(&error))?;
    Ok((channel, own))
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
