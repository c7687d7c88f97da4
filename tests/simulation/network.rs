//! The simulated network, as `security` asks for one.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use security::network::{Accept, Listener, Network, Pending, Socket};
use turmoil::net::{TcpListener, TcpStream};

/// The network of the simulation that the current thread is in.
#[derive(Debug)]
pub(crate) struct Simulated;

struct Door(TcpListener);

impl Network for Simulated {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Pending<'a, Socket> {
        Box::pin(async move {
            let connected = TcpStream::connect((host, port)).await;
            // A cut link refuses here, where a real one is silent: what nobody has said must not count.
            socket(connected.map_err(|error| io::Error::new(io::ErrorKind::HostUnreachable, error))?)
        })
    }

    fn listen(&self, address: SocketAddr) -> Pending<'_, Listener> {
        Box::pin(async move { Ok(Listener::Other(Box::new(Door(TcpListener::bind(address).await?)))) })
    }
}

impl Accept for Door {
    fn accept(&self) -> Pending<'_, Socket> {
        Box::pin(async move { socket(self.0.accept().await?.0) })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door({:?})", self.0.local_addr())
    }
}

fn socket(stream: TcpStream) -> io::Result<Socket> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(Socket::Other {
        stream: Box::new(stream),
        local,
        peer,
    })
}
