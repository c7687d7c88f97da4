//! Accepts connections, a limited number in all and from one address, and completes TLS within a deadline.
//!
//! Handshakes run beside each other, so a slow one holds up nobody. Who finds no place is closed at once: a queue would
//! only hide that there is none.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tower::layer::util::{Identity as NoLayer, Stack};
use tracing::{debug, warn};

use crate::authorise::Authorise;
use crate::connection::Connection;
use crate::mode::{Mode, Security};
use crate::network::{Listener, Socket};

/// How many connections a listener holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// From one address.
    pub per_address: usize,
}

impl ConnectionLimits {
    /// Of a coordinator: two for each of 64 workers, that may all be on one host, and as many again while broken ones
    /// are noticed.
    pub const COORDINATOR: Self = Self {
        total: 256,
        per_address: 192,
    };

    /// Of a worker: its left neighbour, peers that copy its state, and health checks.
    pub const WORKER: Self = Self {
        total: 96,
        per_address: 72,
    };
}

/// Connections as tonic takes them.
pub type Incoming = ReceiverStream<io::Result<Connection>>;

impl Security {
    /// Listens on an address of this host.
    ///
    /// # Errors
    /// What the network says.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        match &self.network {
            Some(network) => network.listen(address).await,
            None => Ok(TcpListener::bind(address).await?.into()),
        }
    }

    /// A server with the protocol's settings and the check before each call.
    pub fn server(&self) -> Server<Stack<Authorise, NoLayer>> {
        proto::transport::server().layer(Authorise::new(self.clone()))
    }

    /// Accepts the connections of a listener until the stream is dropped.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn incoming(&self, listener: impl Into<Listener>, limits: ConnectionLimits) -> Incoming {
        let (accepted, incoming) = mpsc::channel(ACCEPTED_CAPACITY);
        let places = Arc::new(Places {
            limits,
            taken: Mutex::default(),
        });
        tokio::spawn(accept(self.clone(), listener.into(), places, accepted));
        ReceiverStream::new(incoming)
    }
}

async fn accept(
    security: Security,
    listener: Listener,
    places: Arc<Places>,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = accepted.closed() => return,
        };
        let (stream, address) = match connection {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, say: wait until some are free.
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = security.check_address(address) {
            warn!(%error, "connection refused");
            continue;
        }
        let Some(place) = places.take(address) else {
            debug!(%address, "connection refused: there are as many as there may be");
            continue;
        };
        tokio::spawn(admit(security.clone(), stream, place, accepted.clone()));
    }
}

async fn admit(
    security: Security,
    stream: Socket,
    place: Place,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    // Without it segments wait for each other; who cannot set it has lost the connection already.
    let _ = stream.set_nodelay();
    let connection = match &security.mode {
        Mode::Loopback | Mode::OpenNetwork => Connection::plain_server(stream, place, PATIENCE),
        Mode::Tls(credentials) => {
            let acceptor = TlsAcceptor::from(Arc::clone(&credentials.current().server));
            match timeout(PATIENCE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Connection::tls_server(stream, place, PATIENCE),
                // Somebody who only looked whether the port is open.
                Ok(Err(error))
                    if matches!(
                        error.kind(),
                        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                    ) =>
                {
                    debug!(address = %place.address, "closed before a TLS handshake");
                    return;
                }
                Ok(Err(error)) => {
                    warn!(address = %place.address, %error, "no TLS connection");
                    return;
                }
                Err(_) => {
                    debug!(address = %place.address, "no TLS handshake in time");
                    return;
                }
            }
        }
    };
    // The server has ended if nobody takes it.
    let _ = accepted.send(Ok(connection)).await;
}

#[derive(Debug)]
struct Places {
    limits: ConnectionLimits,
    taken: Mutex<BTreeMap<IpAddr, usize>>,
}

/// A connection's place among the limited number.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn take(self: &Arc<Self>, address: SocketAddr) -> Option<Place> {
        let address = address.ip().to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = taken.values().sum();
        let own = taken.entry(address).or_default();
        if total >= self.limits.total || *own >= self.limits.per_address {
            if *own == 0 {
                taken.remove(&address);
            }
            return None;
        }
        *own += 1;
        Some(Place {
            places: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// How long a handshake may take, and the first bytes of HTTP/2 after it. A busy machine takes a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server takes connections at once.
const ACCEPTED_CAPACITY: usize = 16;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_for_one_address_and_come_back() {
        let limits = ConnectionLimits {
            total: 3,
            per_address: 2,
        };
        let places = Arc::new(Places {
            limits,
            taken: Mutex::default(),
        });
        let (one, two, three) = (
            "10.0.0.1:1".parse().unwrap(),
            "10.0.0.2:1".parse().unwrap(),
            "10.0.0.3:1".parse().unwrap(),
        );
        let first = places.take(one).unwrap();
        let _second = places.take("[::ffff:10.0.0.1]:9".parse().unwrap()).unwrap();
        assert!(places.take(one).is_none(), "a third of one address");
        let _third = places.take(two).unwrap();
        assert!(places.take(three).is_none(), "a fourth in all");
        drop(first);
        let _fourth = places.take(three).unwrap();
        assert_eq!(places.taken.lock().unwrap().len(), 3);
    }
}
