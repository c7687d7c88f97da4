//! A second door for processes of the same host: a Unix socket beside each TCP port, with a third of its cost a byte.
//!
//! The socket's name is the port's address, in Linux' abstract namespace: no file is left behind, it goes with its process,
//! and containers do not see each other's unless they share a network. Everything above - TLS, tokens, limits - is the same
//! on both. Whoever finds no such door, or one of another user, connects by TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt;
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// Opens the door beside a TCP listener's address.
///
/// # Errors
/// When another process has it, or the system has none.
pub(crate) fn listen(address: SocketAddr) -> io::Result<UnixListener> {
    UnixListener::bind(name(address)?)
}

/// Connects to the process that listens at this TCP address, when it is one of this host and of this process's user;
/// `None` when that is not so, or cannot be told.
pub(crate) async fn connect(address: SocketAddr) -> Option<UnixStream> {
    connect_as(address, geteuid().as_raw()).await
}

async fn connect_as(address: SocketAddr, user: u32) -> Option<UnixStream> {
    if !is_own(address).unwrap_or(false) {
        return None;
    }
    for door in doors(address) {
        // It does not wait: a full queue is an error, too.
        let Ok(stream) = UnixStream::connect(name(door).ok()?).await else {
            continue;
        };
        if stream.peer_cred().is_ok_and(|peer| peer.uid() == user) {
            // With less it works too.
            let _ = sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
            return Some(stream);
        }
    }
    None
}

/// What goes out before the sender waits for the receiver: with Linux' usual buffer a segment of the ring goes in three parts. Linux
/// doubles it, and allows as much as `net.core.wmem_max`: a segment goes at once from 256 KiB on.
const SEND_BUFFER_BYTES: usize = 640 << 10;

/// The addresses that a listener which is reached at this one may have: itself, or all of the host's. One of version 6
/// may take both versions.
fn doors(address: SocketAddr) -> Vec<SocketAddr> {
    let everywhere: &[IpAddr] = match address {
        SocketAddr::V4(_) => &[
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ],
        SocketAddr::V6(_) => &[IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
    };
    let all = everywhere.iter().map(|&ip| SocketAddr::new(ip, address.port()));
    std::iter::once(address).chain(all).collect()
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

/// The name of the door beside a port; its leading zero makes it an abstract one.
fn name(address: SocketAddr) -> io::Result<String> {
    if cfg!(target_os = "linux") {
        Ok(format!("\0ringmaster/{address}"))
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
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
            assert!(connect(reached_at).await.is_none(), "no door yet");
            let listener = listen(address).unwrap();
            assert!(listen(address).is_err(), "one door each");
            greet(&listener, connect(reached_at).await.unwrap()).await;
            let other = geteuid().as_raw() + 1;
            assert!(connect_as(reached_at, other).await.is_none(), "another user's");
            drop(listener);
            assert!(connect(reached_at).await.is_none(), "no door any more");
        }
    }

    #[tokio::test]
    async fn a_door_whose_queue_is_full_is_not_waited_for() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = port.local_addr().unwrap();
        let _nobody_accepts = listen(address).unwrap();
        let mut waiting = Vec::new();
        // Queues hold some thousands at most.
        while let Some(stream) = connect(address).await {
            waiting.push(stream);
            assert!(waiting.len() < 20_000, "the queue has no end");
        }
        assert!(!waiting.is_empty());
    }

    #[test]
    fn an_address_of_version_6_is_never_looked_for_beside_a_port_of_version_4() {
        let of = |address: &str| doors(address.parse().unwrap());
        assert!(of("[::1]:5").iter().all(SocketAddr::is_ipv6));
        assert_eq!(of("127.0.0.1:5").len(), 3);
    }

    #[test]
    fn an_address_of_another_host_is_not_own() {
        assert!(is_own("127.0.0.1:1".parse().unwrap()).unwrap());
        // For documentation only (RFC 5737). Without a route nothing can be told.
        assert!(!is_own("192.0.2.1:1".parse().unwrap()).unwrap_or(false));
    }
}
