//! A second door for processes of the same host: a Unix socket beside each TCP port, with a third of its cost a byte.
//!
//! The socket's name is the port's address, in Linux' abstract namespace: no file is left behind, it goes with its process,
//! and containers do not see each other's unless they share a network. Everything above - TLS, tokens, limits - is the same
//! on both. Whoever finds no such door, or one of another user, connects by TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// Opens the door beside a TCP listener's address.
///
/// # Errors
/// When another process has it, or the system has none.
pub(crate) fn listen(address: SocketAddr) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::bind_addr(&name(address)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Connects to the process that listens at this TCP address, when it is one of this host and user; `None` when that
/// is not so, or cannot be told.
pub(crate) fn connect(address: SocketAddr) -> Option<UnixStream> {
    if !is_own(address).unwrap_or(false) {
        return None;
    }
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    [address, anywhere]
        .into_iter()
        .find_map(|address| connect_to(address).ok())
}

fn connect_to(address: SocketAddr) -> io::Result<UnixStream> {
    // At once, for no process has to answer: a full queue is an error, too.
    let stream = std::os::unix::net::UnixStream::connect_addr(&name(address)?)?;
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    if stream.peer_cred()?.uid() != geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(stream)
}

/// Whether an address is one of this host: then it is also the one that a packet to it would come from. None is sent.
fn is_own(address: SocketAddr) -> io::Result<bool> {
    let from: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from)?;
    socket.connect(address)?;
    Ok(socket.local_addr()?.ip() == address.ip())
}

#[cfg(target_os = "linux")]
fn name(address: SocketAddr) -> io::Result<std::os::unix::net::SocketAddr> {
    use std::os::linux::net::SocketAddrExt;

    let ip = address.ip().to_canonical();
    let host = if ip.is_unspecified() {
        "*".to_owned()
    } else {
        ip.to_string()
    };
    let name = format!("ringmaster/{host}:{}", address.port());
    std::os::unix::net::SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn name(_address: SocketAddr) -> io::Result<std::os::unix::net::SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn greet(listener: &UnixListener, mut client: UnixStream) {
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut greeting = [0; 5];
        server.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hello");
    }

    #[tokio::test]
    async fn the_door_beside_a_port_is_found_and_goes_with_its_process() {
        for ip in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            // The port is taken, so nobody else has its door.
            let port = TcpListener::bind((ip, 0)).await.unwrap();
            let address = port.local_addr().unwrap();
            let reached_at = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
            assert!(connect(reached_at).is_none(), "no door yet");
            let listener = listen(address).unwrap();
            assert!(listen(address).is_err(), "one door each");
            greet(&listener, connect(reached_at).unwrap()).await;
            drop(listener);
            assert!(connect(reached_at).is_none(), "no door any more");
        }
    }

    #[test]
    fn an_address_of_another_host_is_not_own() {
        assert!(is_own("127.0.0.1:1".parse().unwrap()).unwrap());
        // For documentation only (RFC 5737). Without a route nothing can be told.
        assert!(!is_own("192.0.2.1:1".parse().unwrap()).unwrap_or(false));
    }
}
