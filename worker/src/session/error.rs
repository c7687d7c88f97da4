//! Why a worker's session failed, in one sentence each.

use std::net::SocketAddr;

use proto::Address;

use crate::connect::ConnectError;
use crate::training::TrainingError;

/// Why a worker's session failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The ring's port could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The coordinator could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The coordinator refused a call.
    #[error("the coordinator at {coordinator} refused: {reason}")]
    Refused {
        /// Its address.
        coordinator: Address,
        /// Its sentence.
        reason: String,
    },
    /// The coordinator sent something that cannot be used.
    #[error("the coordinator sent an unusable message: {0}")]
    Malformed(#[from] proto::ParseError),
    /// Data or model could not be opened, or the compute thread panicked.
    #[error("{0:#}")]
    Compute(anyhow::Error),
    /// This worker cannot go on; the others do without it.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// The coordinator went away during the run.
    #[error("the coordinator at {coordinator} was away for too long: {reason}")]
    CoordinatorLost {
        /// Its address.
        coordinator: Address,
        /// What the transport said.
        reason: String,
    },
    /// Training hangs: in a driver, say.
    #[error("training did not come back for {seconds} s after the others went on without this worker")]
    Stuck {
        /// How long it was waited for.
        seconds: u64,
    },
    /// Stopped before training began.
    #[error("stopped before training began")]
    StoppedEarly,
}
