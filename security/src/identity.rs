//! Who a certificate names: a role and a name, in one subject alternative name of type URI.
//!
//! A worker's id begins with a digest of the name in its certificate. So every receiver can tell, from the message
//! and the certificate alone, whether the caller is the worker that it says it is; nobody keeps a list.

use std::fmt;
use std::str::FromStr;

use proto::WorkerId;
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate's holder may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Serves a run.
    Coordinator,
    /// Takes part in runs.
    Worker,
    /// A person or a controller: looks at runs and stops them.
    Operator,
}

impl Role {
    const ALL: [Self; 3] = [Self::Coordinator, Self::Worker, Self::Operator];

    /// The word in the certificate.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The holder of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    role: Role,
    name: String,
}

/// Why a certificate or a text names nobody.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The text is no identity.
    #[error("{text:?} is not ringmaster://ROLE/NAME with a role of coordinator, worker or operator")]
    Malformed {
        /// The text.
        text: String,
    },
    /// The name cannot be used.
    #[error("the name {name:?} is not 1 to {NAME_BYTES_MAX} letters, digits, dots, dashes or underscores")]
    Name {
        /// The name.
        name: String,
    },
    /// The certificate cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// The certificate has no such URI, or several.
    #[error("the certificate holds {count} names of the form ringmaster://ROLE/NAME, not one")]
    NotOne {
        /// How many.
        count: usize,
    },
}

impl Identity {
    /// Makes an identity.
    ///
    /// # Errors
    /// When the name has characters that do not belong into a host name.
    pub fn new(role: Role, name: &str) -> Result<Self, IdentityError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_plain) {
            let name = name.chars().take(NAME_BYTES_MAX).collect();
            return Err(IdentityError::Name { name });
        }
        let name = name.to_owned();
        Ok(Self { role, name })
    }

    /// Reads the identity out of a certificate.
    ///
    /// # Errors
    /// When it is no certificate or does not hold exactly one identity.
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| IdentityError::Unreadable)?;
        let uris: Vec<_> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris[..] {
            [uri] => uri.parse(),
            _ => Err(IdentityError::NotOne { count: uris.len() }),
        }
    }

    /// The role.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The name: of a host, usually.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the id of a new worker process of this name.
    pub fn new_worker(&self) -> WorkerId {
        let random = WorkerId::random().as_u128() & u128::from(u64::MAX);
        WorkerId::from_u128(self.worker_prefix() | random)
    }

    /// Whether `worker` is a process of this name, and so may be spoken for with this certificate.
    pub fn speaks_for(&self, worker: WorkerId) -> bool {
        self.role == Role::Worker && worker.as_u128() >> 64 == self.worker_prefix() >> 64
    }

    /// The upper half of the ids of this name's workers, with the version of a custom UUID in its place.
    fn worker_prefix(&self) -> u128 {
        let digest = blake3::derive_key(WORKER_CONTEXT, self.name.as_bytes());
        let prefix = digest[..8]
            .iter()
            .fold(0, |bits: u64, &byte| bits << 8 | u64::from(byte));
        u128::from(prefix & !VERSION_MASK | VERSION_CUSTOM) << 64
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Malformed {
            text: text.chars().take(NAME_BYTES_MAX).collect(),
        };
        let path = text.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let (role, name) = path.split_once('/').ok_or_else(malformed)?;
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role);
        Self::new(role.ok_or_else(malformed)?, name)
    }
}

const SCHEME: &str = "ringmaster://";

/// A host name has at most 253 characters; those of machines are shorter.
const NAME_BYTES_MAX: usize = 128;

/// Separates these digests from all others, as BLAKE3 asks for.
const WORKER_CONTEXT: &str = "ringmaster 2026 worker id of a certificate's name";

/// The version's four bits in the upper half of a UUID, and their value for custom contents.
const VERSION_MASK: u64 = 0xf000;
const VERSION_CUSTOM: u64 = 0x8000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_text() {
        for role in Role::ALL {
            let identity = Identity::new(role, "gpu-1.lab_2").unwrap();
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
        for bad in [
            "",
            "gpu-1",
            "ringmaster://worker",
            "ringmaster://worker/",
            "ringmaster://worker/a/b",
            "ringmaster://root/a",
            "ringmaster://worker/a b",
            "https://worker/a",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad:?} was accepted");
        }
        assert!(Identity::new(Role::Worker, &"a".repeat(NAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_worker_speaks_for_its_own_processes_only() {
        let one = Identity::new(Role::Worker, "one").unwrap();
        let two = Identity::new(Role::Worker, "two").unwrap();
        let (first, second) = (one.new_worker(), one.new_worker());
        assert_ne!(first, second);
        assert!(one.speaks_for(first) && one.speaks_for(second));
        assert!(!two.speaks_for(first));
        assert!(!one.speaks_for(WorkerId::random()));
        let coordinator = Identity::new(Role::Coordinator, "one").unwrap();
        assert!(!coordinator.speaks_for(first));
        // A UUID, as every reader of ids expects.
        assert_eq!(first.to_string().parse(), Ok(first));
        assert_eq!(first.to_string().as_bytes()[14], b'8');
    }

    #[test]
    fn bytes_that_are_no_certificate_name_nobody() {
        assert_eq!(Identity::of_certificate(b"junk"), Err(IdentityError::Unreadable));
    }
}
