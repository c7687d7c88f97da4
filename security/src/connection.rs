//! One connection, encrypted or not, with what is known about its other end.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_rustls::{client, server};
use tonic::transport::server::Connected;

use crate::identity::{Identity, IdentityError};
use crate::listener::Place;
use crate::network::Socket;

/// A connection.
pub struct Connection {
    stream: Stream,
    peer: Peer,
    /// Until something arrives: who connects and says nothing does not stay.
    silence: Option<Pin<Box<Sleep>>>,
    /// Given back when the connection ends.
    _place: Option<Place>,
}

enum Stream {
    Plain(Socket),
    Client(Box<client::TlsStream<Socket>>),
    Server(Box<server::TlsStream<Socket>>),
}

/// What is known about the other end of an accepted connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// Who it is: `None` without certificates.
    pub(crate) identity: Option<Result<Identity, IdentityError>>,
}

impl Connection {
    pub(crate) fn plain_client(stream: Socket) -> Self {
        Self::client(Stream::Plain(stream))
    }

    pub(crate) fn tls_client(stream: client::TlsStream<Socket>) -> Self {
        Self::client(Stream::Client(Box::new(stream)))
    }

    fn client(stream: Stream) -> Self {
        let peer = Peer {
            address: None,
            identity: None,
        };
        Self {
            stream,
            peer,
            silence: None,
            _place: None,
        }
    }

    pub(crate) fn plain_server(stream: Socket, place: Place, patience: Duration) -> Self {
        let peer = Peer {
            address: stream.peer_addr().ok(),
            identity: None,
        };
        Self::server(Stream::Plain(stream), peer, place, patience)
    }

    pub(crate) fn tls_server(stream: server::TlsStream<Socket>, place: Place, patience: Duration) -> Self {
        let (socket, session) = stream.get_ref();
        let identity = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map_or(Err(IdentityError::NotOne { count: 0 }), |certificate| {
                Identity::of_certificate(certificate)
            });
        let peer = Peer {
            address: socket.peer_addr().ok(),
            identity: Some(identity),
        };
        Self::server(Stream::Server(Box::new(stream)), peer, place, patience)
    }

    fn server(stream: Stream, peer: Peer, place: Place, patience: Duration) -> Self {
        Self {
            stream,
            peer,
            silence: Some(Box::pin(sleep(patience))),
            _place: Some(place),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Calls a method of whichever stream it is.
macro_rules! on_stream {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match &mut $self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Client(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Server(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = self.as_mut();
        let read = on_stream!(this, poll_read, context, buffer);
        let Some(silence) = self.silence.as_mut() else {
            return read;
        };
        if read.is_ready() {
            // The preface of HTTP/2 has 24 bytes; fewer at a time is somebody who stalls.
            if buffer.filled().len() - before >= PREFACE_BYTES {
                self.silence = None;
            }
            return read;
        }
        ready!(silence.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write, context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write_vectored, context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Client(stream) => stream.is_write_vectored(),
            Stream::Server(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown, context)
    }
}

const PREFACE_BYTES: usize = 24;
