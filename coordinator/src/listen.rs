//! Opens the port, with a sentence for the usual mistake.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::TcpListener;

/// Why the port cannot be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another program has it.
    #[error(
        "cannot listen on {address}: the port is in use; end the other program or choose another with --listen"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {cause}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
}

/// Opens a TCP port; port 0 takes any free one.
///
/// # Errors
/// When the port is in use or may not be opened.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|cause| {
        if cause.kind() == io::ErrorKind::AddrInUse {
            ListenError::InUse { address }
        } else {
            ListenError::Other { address, cause }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_said_so() {
        let first = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let error = listen(first.local_addr().unwrap()).await.unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }));
        assert!(error.to_string().contains("--listen"));
    }
}
