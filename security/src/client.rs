//! Opens connections: over TLS to whom is expected, or in plain text to this machine.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use proto::{Address, WorkerId, transport};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Endpoint, Uri};

use crate::connection::Connection;
use crate::mode::{Mode, Security};
use crate::near;
use crate::network::Socket;
use crate::token::AttachToken;

/// A connection that puts the join token, if there is one, into every call.
pub type Channel = InterceptedService<tonic::transport::Channel, AttachToken>;

/// Whom a connection has to reach. Without certificates nobody can be told from another, and this is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The coordinator whose certificate lists the host name or address that is connected to.
    Coordinator,
    /// The host of this worker, at whatever address.
    Worker(WorkerId),
    /// Anybody with a certificate of this authority: for health checks.
    Anyone,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("a coordinator"),
            Self::Worker(worker) => write!(f, "the host of worker {worker}"),
            Self::Anyone => f.write_str("anybody"),
        }
    }
}

impl Security {
    /// Connects now.
    ///
    /// # Errors
    /// When nobody answers, the server is not who is expected, or plain text would leave this machine.
    pub async fn connect(
        &self,
        address: &Address,
        expect: Expect,
    ) -> Result<Channel, tonic::transport::Error> {
        self.connect_with(address, expect, |endpoint| endpoint).await
    }

    /// Connects now, with settings beyond the common ones.
    ///
    /// # Errors
    /// When nobody answers, the server is not who is expected, or plain text would leave this machine.
    pub async fn connect_with(
        &self,
        address: &Address,
        expect: Expect,
        settings: impl FnOnce(Endpoint) -> Endpoint,
    ) -> Result<Channel, tonic::transport::Error> {
        let channel = settings(transport::endpoint(address))
            .connect_with_connector(self.connector(expect))
            .await?;
        Ok(self.with_token(channel))
    }

    /// Connects with the first call, and again whenever the connection broke.
    pub fn connect_lazy(
        &self,
        address: &Address,
        expect: Expect,
        settings: impl FnOnce(Endpoint) -> Endpoint,
    ) -> Channel {
        let channel =
            settings(transport::endpoint(address)).connect_with_connector_lazy(self.connector(expect));
        self.with_token(channel)
    }

    fn with_token(&self, channel: tonic::transport::Channel) -> Channel {
        InterceptedService::new(channel, AttachToken(self.token.clone()))
    }

    fn connector(
        &self,
        expect: Expect,
    ) -> impl tower::Service<Uri, Response = TokioIo<Connection>, Error = io::Error, Future: Send> + Send + 'static
    {
        let security = self.clone();
        tower::service_fn(move |uri: Uri| {
            let security = security.clone();
            async move { security.open(&uri, expect).await.map(TokioIo::new) }
        })
    }

    async fn open(&self, uri: &Uri, expect: Expect) -> io::Result<Connection> {
        let (host, port) = host_and_port(uri)?;
        let stream = match self.dial_near(host, port).await {
            Some(stream) => stream,
            None => self.dial(host, port).await?,
        };
        stream.set_nodelay()?;
        let Mode::Tls(credentials) = &self.mode else {
            return Ok(Connection::plain_client(stream));
        };
        let config = credentials.current().client(expect).map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Connection::tls_client(stream))
    }

    /// Connects within this host, if whoever listens at the address is there. Names are not looked up for it: members of a
    /// ring know each other by address.
    async fn dial_near(&self, host: &str, port: u16) -> Option<Socket> {
        if self.network.is_some() || self.only_tcp {
            return None;
        }
        let address = SocketAddr::new(host.parse().ok()?, port);
        let stream = near::connect(address).await?;
        Some(Socket::Near { stream, address })
    }

    async fn dial(&self, host: &str, port: u16) -> io::Result<Socket> {
        if let Some(network) = &self.network {
            return network.connect(host, port).await;
        }
        let stream = match &self.mode {
            Mode::Loopback => TcpStream::connect(&*self.loopback_only(host, port).await?).await?,
            Mode::OpenNetwork | Mode::Tls(_) => TcpStream::connect((host, port)).await?,
        };
        Ok(Socket::Tcp(stream))
    }

    /// Connects without saying anything, and returns the own address of that connection.
    ///
    /// # Errors
    /// When nobody answers, or plain text would leave this machine.
    pub async fn own_address_towards(&self, address: &Address) -> io::Result<IpAddr> {
        let endpoint = transport::endpoint(address);
        let (host, port) = host_and_port(endpoint.uri())?;
        Ok(self.dial(host, port).await?.local_addr()?.ip())
    }

    /// Whether the host at an address says that nobody listens there. Silence, or no way to it, says nothing.
    pub async fn is_deserted(&self, address: &Address) -> bool {
        let endpoint = transport::endpoint(address);
        let Ok((host, port)) = host_and_port(endpoint.uri()) else {
            return false;
        };
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        self.dial(host, port).await.is_err_and(|error| refused(&error))
    }

    async fn loopback_only(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
        for &address in &addresses {
            self.check_address(address).map_err(io::Error::other)?;
        }
        Ok(addresses)
    }
}

fn host_and_port(uri: &Uri) -> io::Result<(&str, u16)> {
    let host = uri
        .host()
        .ok_or_else(|| io::Error::other("the address has no host"))?;
    let port = uri
        .port_u16()
        .ok_or_else(|| io::Error::other("the address has no port"))?;
    // IPv6 addresses are bracketed in URIs only.
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn processes_of_this_host_meet_at_the_door_unless_told_otherwise() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = port.local_addr().unwrap();
        let door = near::listen(address).unwrap();
        let uri: Uri = format!("http://{address}").parse().unwrap();
        let soon = Duration::from_secs(10);

        let _near = Security::loopback().open(&uri, Expect::Anyone).await.unwrap();
        timeout(soon, door.accept()).await.unwrap().unwrap();
        let _far = Security::loopback()
            .by_tcp()
            .open(&uri, Expect::Anyone)
            .await
            .unwrap();
        timeout(soon, port.accept()).await.unwrap().unwrap();
        let more = timeout(Duration::from_millis(100), port.accept()).await;
        assert!(more.is_err(), "one connection came by TCP");
    }
}
