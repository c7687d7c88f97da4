//! Who speaks: ids of runs and workers, the sender that fences every message, network addresses and digests.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use collective::Generation;
use serde::{Serialize, Serializer};
use tonic::codegen::http::uri::Authority;
use uuid::Uuid;

use crate::parse::ParseError;
use crate::wire;

/// Defines a UUID newtype; runs and workers must not be mixed up.
macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new, random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// Makes the id with these bits, for tests and simulations.
            pub const fn from_u128(bits: u128) -> Self {
                Self(Uuid::from_u128(bits))
            }

            /// The bits of the id.
            pub const fn as_u128(self) -> u128 {
                self.0.as_u128()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                Uuid::try_parse(text).map(Self).map_err(|_| ParseError::Invalid {
                    field: $field,
                    value: format!("{:?}", text.chars().take(40).collect::<String>()),
                    expected: "a UUID",
                })
            }
        }
    };
}

uuid_type! {
    /// Identifies one training job; made by its coordinator.
    RunId, "run_id"
}
uuid_type! {
    /// Identifies one worker process; made by it at start.
    WorkerId, "worker_id"
}

/// Who sends a message, and in which generation: what every receiver checks before it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The run.
    pub run: RunId,
    /// The worker.
    pub worker: WorkerId,
    /// The generation that the sender believes in; 0 before the first roster.
    pub generation: Generation,
}

impl TryFrom<wire::Sender> for Sender {
    type Error = ParseError;

    fn try_from(sender: wire::Sender) -> Result<Self, ParseError> {
        Ok(Self {
            run: sender.run_id.parse()?,
            worker: sender.worker_id.parse()?,
            generation: Generation(sender.generation),
        })
    }
}

impl From<Sender> for wire::Sender {
    fn from(sender: Sender) -> Self {
        Self {
            run_id: sender.run.to_string(),
            worker_id: sender.worker.to_string(),
            generation: sender.generation.0,
        }
    }
}

/// A `host:port` that can be connected to; the host is a name, an IPv4 or a bracketed IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// The text, `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it leads every machine to itself, as far as the text tells.
    pub fn is_loopback(&self) -> bool {
        // Invariant: an address has a port behind its last colon.
        let host = self.0.rsplit_once(':').map_or(self.0.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || host
                .parse()
                .is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let usable = text.len() <= ADDRESS_BYTES_MAX
            && !text.contains('@')
            && Authority::from_str(text).is_ok_and(|authority| {
                !authority.host().is_empty() && authority.port_u16().is_some_and(|port| port != 0)
            });
        if !usable {
            return Err(ParseError::Invalid {
                field: "address",
                value: format!("{:?}", text.chars().take(80).collect::<String>()),
                expected: "host:port, such as 10.0.0.7:50052 or [::1]:50052",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl From<std::net::SocketAddr> for Address {
    fn from(address: std::net::SocketAddr) -> Self {
        Self(address.to_string())
    }
}

/// A digest of 32 bytes, shown as 64 hexadecimal digits: BLAKE3, or SHA-256 where a field says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The BLAKE3 digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The 32 bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses the bytes of a message field.
    pub(crate) fn from_field(field: &'static str, bytes: &[u8]) -> Result<Self, ParseError> {
        bytes.try_into().map(Self).map_err(|_| ParseError::Invalid {
            field,
            value: format!("{} bytes long", bytes.len()),
            expected: "32 bytes",
        })
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| ParseError::Invalid {
                field: "fingerprint",
                value: format!("{:?}", text.chars().take(80).collect::<String>()),
                expected: "64 hexadecimal digits",
            })
    }
}

/// A DNS name has at most 253 characters; brackets, port and some room are added.
const ADDRESS_BYTES_MAX: usize = 270;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_host_and_a_port() {
        for good in ["127.0.0.1:50051", "node-1.cluster.local:7", "[::1]:50051"] {
            assert_eq!(good.parse::<Address>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "node",
            "node:",
            ":50051",
            "node:0",
            "node:99999",
            "me@node:1",
            "a b:1",
            "http://node:1",
            "node:1/x",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn loopback_addresses_are_known_by_their_text() {
        for inside in [
            "127.0.0.1:1",
            "127.9.0.1:1",
            "[::1]:1",
            "localhost:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(inside.parse::<Address>().unwrap().is_loopback(), "{inside}");
        }
        for outside in ["10.0.0.1:1", "[fe80::1]:1", "localhost.example:1", "gpu-1:1"] {
            assert!(!outside.parse::<Address>().unwrap().is_loopback(), "{outside}");
        }
    }

    #[test]
    fn ids_and_fingerprints_survive_their_text() {
        let worker = WorkerId::from_u128(7);
        assert_eq!(worker.to_string().parse(), Ok(worker));
        let digest = Fingerprint::of(b"data");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("7".parse::<RunId>().is_err());
        assert!("abc".parse::<Fingerprint>().is_err());
    }

    #[test]
    fn a_sender_survives_the_wire() {
        let sender = Sender {
            run: RunId::from_u128(1),
            worker: WorkerId::from_u128(2),
            generation: Generation(3),
        };
        assert_eq!(Sender::try_from(wire::Sender::from(sender)), Ok(sender));
    }
}
