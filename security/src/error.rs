//! Why there is no secure connection, in one sentence each.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::identity::{IdentityError, Role};

/// What is wrong with certificates, tokens or addresses.
#[derive(Debug, Error)]
pub enum SecurityError {
    /// Neither certificates nor a word that none are wanted.
    #[error(
        "no certificates: give --certs DIR (make them with `ringmaster certs init` and `ringmaster certs issue`), \
         or --insecure to stay on this machine without encryption"
    )]
    Unspecified,
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file is there and must not be replaced.
    #[error("{} is there already; a second authority would lock out everybody that trusts the first", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no certificate or key.
    #[error("{} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate names nobody.
    #[error("{}: {cause}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: IdentityError,
    },
    /// A name for a new certificate cannot be used.
    #[error(transparent)]
    Name(#[from] IdentityError),
    /// The certificate is for another role.
    #[error("the certificate is for a {found}, and this is a {needed}")]
    Role {
        /// Its role.
        found: Role,
        /// The role that is needed.
        needed: Role,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// A token file cannot be used. The token itself is never shown.
    #[error("the join token in {} cannot be used: {reason}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Plain text may not leave this machine.
    #[error(
        "{address} is reachable from other machines, and --insecure stays on this one; \
         give --certs DIR, a loopback address, or --insecure-network to go without encryption"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
}
