//! The command line of every program that listens or connects.

use std::path::PathBuf;

use crate::credentials::Credentials;
use crate::error::SecurityError;
use crate::mode::Security;

/// How to prove who this is, and to check who others are.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Security")]
pub struct SecurityArgs {
    /// Folder with this host's certificate: tls.crt, tls.key, ca.crt
    #[arg(long, value_name = "DIR", env = "RINGMASTER_CERTS", conflicts_with_all = ["insecure", "insecure_network"])]
    pub certs: Option<PathBuf>,

    /// Go without certificates and encryption, on this machine only
    #[arg(long)]
    pub insecure: bool,

    /// Go without certificates and encryption to other machines too: anybody who reaches the port can take part
    #[arg(long)]
    pub insecure_network: bool,

    /// File with a secret that every member of the run has to know
    #[arg(long, value_name = "FILE", env = "RINGMASTER_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
}

impl SecurityArgs {
    /// Reads what the arguments name.
    ///
    /// # Errors
    /// When nothing is said, or a file cannot be used.
    pub fn resolve(&self) -> Result<Security, SecurityError> {
        let security = match &self.certs {
            Some(folder) => Security::tls(Credentials::open(folder)?),
            None if self.insecure_network => Security::open_network(),
            None if self.insecure => Security::loopback(),
            None => return Err(SecurityError::Unspecified),
        };
        match &self.join_token_file {
            Some(path) => security.with_token_file(path.clone()),
            None => Ok(security),
        }
    }
}
