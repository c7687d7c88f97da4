//! Where connections come from: this machine's TCP and Unix sockets, or a network that a test brings with it.
//!
//! Everything above - TLS, limits, gRPC - is the same for both. The machine's own TCP is an enum's variant instead of one
//! more implementation, so that the ring's bytes pass no dynamic call.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tracing::warn;

use crate::near;

/// A future of a network.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A network other than this machine's.
pub trait Network: fmt::Debug + Send + Sync {
    /// Connects to a host by name or address.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Pending<'a, Socket>;

    /// Listens on an address of this host.
    fn listen(&self, address: SocketAddr) -> Pending<'_, Listener>;
}

/// Accepts the connections of another network.
pub trait Accept: fmt::Debug + Send + Sync {
    /// Waits for the next connection.
    fn accept(&self) -> Pending<'_, Socket>;

    /// Returns the address that is listened on.
    ///
    /// # Errors
    /// What the network says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The bytes of a connection of another network.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection before anything was said on it.
pub enum Socket {
    /// Over this machine's network.
    Tcp(TcpStream),
    /// Within this host.
    Near {
        /// Its bytes.
        stream: UnixStream,
        /// Where the listening end can be reached by TCP.
        address: SocketAddr,
    },
    /// Over another one.
    Other {
        /// Its bytes.
        stream: Box<dyn Stream>,
        /// This end.
        local: SocketAddr,
        /// The other end.
        peer: SocketAddr,
    },
}

/// Where connections arrive.
#[derive(Debug)]
pub enum Listener {
    /// Over this machine's network, and from within the host, unless that door is another process's.
    Tcp(TcpListener, Option<UnixListener>),
    /// Over another one.
    Other(Box<dyn Accept>),
}

impl From<TcpListener> for Listener {
    /// # Panics
    /// Outside a runtime.
    fn from(listener: TcpListener) -> Self {
        let door = listener.local_addr().and_then(near::listen);
        match &door {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                warn!(%error, "no Unix socket for workers of this host; they connect by TCP");
            }
            _ => {}
        }
        Self::Tcp(listener, door.ok())
    }
}

impl Listener {
    /// Returns the address that is listened on.
    ///
    /// # Errors
    /// What the network says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener, _) => listener.local_addr(),
            Self::Other(listener) => listener.local_addr(),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::Tcp(listener, None) => accept_tcp(listener).await,
            Self::Tcp(listener, Some(door)) => tokio::select! {
                accepted = accept_tcp(listener) => accepted,
                accepted = door.accept() => {
                    let address = listener.local_addr()?;
                    let stream = accepted?.0;
                    // Whoever comes in by this door is on this host.
                    let peer = SocketAddr::new(loopback(address), 0);
                    Ok((Socket::Near { stream, address }, peer))
                }
            },
            Self::Other(listener) => {
                let socket = listener.accept().await?;
                let address = socket.peer_addr()?;
                Ok((socket, address))
            }
        }
    }
}

async fn accept_tcp(listener: &TcpListener) -> io::Result<(Socket, SocketAddr)> {
    let (stream, address) = listener.accept().await?;
    Ok((Socket::Tcp(stream), address))
}

fn loopback(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

impl Socket {
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Near { .. } | Self::Other { .. } => Ok(()),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr(),
            Self::Near { address, .. } => Ok(*address),
            Self::Other { local, .. } => Ok(*local),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr(),
            Self::Near { address, .. } => Ok(SocketAddr::new(loopback(*address), 0)),
            Self::Other { peer, .. } => Ok(*peer),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("local", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .finish()
    }
}

/// Calls a method of whichever socket it is.
macro_rules! on_socket {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match $self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Near { stream, .. } => Pin::new(stream).$method($($argument),*),
            Socket::Other { stream, .. } => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_socket!(self, poll_read, context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_socket!(self, poll_write, context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_socket!(self, poll_write_vectored, context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Near { stream, .. } => stream.is_write_vectored(),
            Self::Other { stream, .. } => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, poll_flush, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, poll_shutdown, context)
    }
}
