//! Under which name and address a worker is known to the others.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use proto::{Address, ParseError};

use crate::connect::ConnectError;

/// `--advertise HOST` or `HOST:PORT`; without a port, that of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    host: String,
    port: Option<u16>,
}

impl FromStr for Advertise {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(address) = text.parse::<Address>() {
            // Invariant: an address has a port behind its last colon.
            let (host, port) = address.as_str().rsplit_once(':').expect("an address has a port");
            return Ok(Self {
                host: host.to_owned(),
                port: port.parse().ok(),
            });
        }
        let host = match text.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => text.to_owned(),
        };
        // Any port shows whether the host is one.
        format!("{host}:1").parse::<Address>()?;
        Ok(Self { host, port: None })
    }
}

/// Returns the address that neighbours are given.
///
/// # Errors
/// When the address is none.
pub fn advertised(
    advertise: Option<&Advertise>,
    bound: SocketAddr,
    reached_from: IpAddr,
) -> Result<Address, ConnectError> {
    let failed = |reason: String| ConnectError::OwnAddress { reason };
    match advertise {
        Some(Advertise { host, port }) => {
            let port = port.unwrap_or(bound.port());
            format!("{host}:{port}")
                .parse()
                .map_err(|error: ParseError| failed(error.to_string()))
        }
        // Bound to every interface: neighbours take the one that the coordinator is reached through.
        None if bound.ip().is_unspecified() => Ok(SocketAddr::new(reached_from, bound.port()).into()),
        None => Ok(bound.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertise_takes_hosts_with_and_without_a_port() {
        let parsed = |text: &str| text.parse::<Advertise>();
        assert_eq!(
            parsed("node-1").unwrap(),
            Advertise {
                host: "node-1".into(),
                port: None
            }
        );
        assert_eq!(
            parsed("node-1:70").unwrap(),
            Advertise {
                host: "node-1".into(),
                port: Some(70)
            }
        );
        assert_eq!(
            parsed("fe80::1").unwrap(),
            Advertise {
                host: "[fe80::1]".into(),
                port: None
            }
        );
        assert!(parsed("a b").is_err());
        assert!(parsed("").is_err());
    }
}
