//! How a process talks: with certificates, or in plain text within a stated reach.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use proto::WorkerId;

use crate::credentials::Credentials;
use crate::error::SecurityError;
use crate::identity::Role;
use crate::network::Network;
use crate::token::JoinToken;

/// Everything that a process needs to listen and to connect. Clones share what was read.
#[derive(Debug, Clone)]
pub struct Security {
    pub(crate) mode: Mode,
    pub(crate) token: Option<JoinToken>,
    /// Instead of this machine's.
    pub(crate) network: Option<Arc<dyn Network>>,
    /// Whether processes of this host are reached by TCP, too.
    pub(crate) only_tcp: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Mode {
    /// Plain text that stays on this machine.
    Loopback,
    /// Plain text to everywhere.
    OpenNetwork,
    /// Certificates on both ends.
    Tls(Credentials),
}

impl Security {
    /// Plain text on this machine only.
    pub const fn loopback() -> Self {
        Self::with(Mode::Loopback)
    }

    /// Plain text to and from every machine, without any proof of who calls. For networks that are closed otherwise.
    pub const fn open_network() -> Self {
        Self::with(Mode::OpenNetwork)
    }

    /// Plain text over a network of its own, that nobody else is on: for simulations.
    pub fn over(network: Arc<dyn Network>) -> Self {
        Self {
            network: Some(network),
            ..Self::open_network()
        }
    }

    /// Connects by TCP also within this host: to measure what hosts with a network between them would see.
    #[must_use]
    pub fn by_tcp(self) -> Self {
        Self {
            only_tcp: true,
            ..self
        }
    }

    /// Certificates on both ends.
    pub const fn tls(credentials: Credentials) -> Self {
        Self::with(Mode::Tls(credentials))
    }

    const fn with(mode: Mode) -> Self {
        Self {
            mode,
            token: None,
            network: None,
            only_tcp: false,
        }
    }

    /// Asks every caller for a token, and shows it to everybody who is called.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn with_token_file(mut self, path: PathBuf) -> Result<Self, SecurityError> {
        self.token = Some(JoinToken::open(path)?);
        Ok(self)
    }

    /// Checks that this host's certificate, if there is one, is for this role.
    ///
    /// # Errors
    /// When it is for another one.
    pub fn check_role(&self, needed: Role) -> Result<(), SecurityError> {
        match &self.mode {
            Mode::Tls(credentials) if credentials.identity().role() != needed => Err(SecurityError::Role {
                found: credentials.identity().role(),
                needed,
            }),
            _ => Ok(()),
        }
    }

    /// Checks that plain text to or from this address would stay on this machine, where that is asked for.
    ///
    /// # Errors
    /// When it would not.
    pub fn check_address(&self, address: SocketAddr) -> Result<(), SecurityError> {
        match self.mode {
            Mode::Loopback if !address.ip().to_canonical().is_loopback() => {
                Err(SecurityError::NotLoopback { address })
            }
            _ => Ok(()),
        }
    }

    /// Where to listen when nobody says: on all addresses of both IP versions, as far as the host has them, or on loopback
    /// when no other is allowed.
    pub fn default_listen(&self, port: u16) -> SocketAddr {
        let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        match self.mode {
            Mode::Loopback => (Ipv4Addr::LOCALHOST, port).into(),
            Mode::OpenNetwork | Mode::Tls(_) if TcpListener::bind((all.ip(), 0)).is_ok() => all,
            Mode::OpenNetwork | Mode::Tls(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        }
    }

    /// Makes the id of a new worker process: one that this host's certificate may speak for.
    pub fn new_worker(&self) -> WorkerId {
        match &self.mode {
            Mode::Tls(credentials) => credentials.identity().new_worker(),
            Mode::Loopback | Mode::OpenNetwork => WorkerId::random(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_on_this_machine_unless_the_network_is_named() {
        let loopback = Security::loopback();
        for inside in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            loopback.check_address(inside.parse().unwrap()).unwrap();
        }
        for outside in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "[::ffff:10.0.0.1]:1",
            "192.168.1.1:1",
        ] {
            let address = outside.parse().unwrap();
            let error = loopback.check_address(address).unwrap_err();
            assert!(error.to_string().contains("--insecure-network"), "{error}");
            Security::open_network().check_address(address).unwrap();
        }
        loopback.check_address(loopback.default_listen(0)).unwrap();
    }
}
