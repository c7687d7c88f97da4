//! A host's certificate, key and authority, read again when their files change.
//!
//! The folder holds `tls.crt`, `tls.key` and `ca.crt`, the names that cert-manager uses too. Files are looked at when a
//! connection is opened or accepted, so a certificate is replaced by writing new files: connections that are open go
//! on, the next one uses the new certificate. Files that cannot be used, a key whose certificate is not there yet, say,
//! are warned about and the old ones kept.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tracing::{info, warn};

use crate::client::Expect;
use crate::error::SecurityError;
use crate::identity::Identity;
use crate::verify::ServerVerifier;

/// A folder with a certificate.
#[derive(Debug, Clone)]
pub struct Credentials {
    files: Files,
    current: Arc<Mutex<(Stamp, Arc<Loaded>)>>,
}

/// The three files of a host.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) authority: PathBuf,
}

/// What was read.
pub(crate) struct Loaded {
    identity: Identity,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pub(crate) server: Arc<ServerConfig>,
}

impl Credentials {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// When one cannot be read, they do not belong together, or the certificate names nobody.
    pub fn open(folder: &Path) -> Result<Self, SecurityError> {
        let files = Files::of(folder);
        let stamp = files.stamp();
        let loaded = Arc::new(Loaded::read(&files)?);
        Ok(Self {
            files,
            current: Arc::new(Mutex::new((stamp, loaded))),
        })
    }

    /// Who this host is.
    pub fn identity(&self) -> Identity {
        self.current().identity.clone()
    }

    /// What the files hold now.
    pub(crate) fn current(&self) -> Arc<Loaded> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.files.stamp();
        if stamp != current.0 {
            // A stamp that has been dealt with is remembered, so that a bad file is warned about once.
            current.0 = stamp;
            match Loaded::read(&self.files) {
                Ok(new) if new.identity == current.1.identity => {
                    info!(identity = %new.identity, "the certificate was read again");
                    current.1 = Arc::new(new);
                }
                Ok(new) => warn!(
                    identity = %current.1.identity, found = %new.identity,
                    "the new certificate names somebody else; keeping the old one"
                ),
                Err(error) => warn!(%error, "the new certificate cannot be used; keeping the old one"),
            }
        }
        Arc::clone(&current.1)
    }
}

impl Files {
    pub(crate) fn of(folder: &Path) -> Self {
        Self {
            certificate: folder.join(CERTIFICATE),
            key: folder.join(KEY),
            authority: folder.join(AUTHORITY),
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp::of(&[self.certificate.clone(), self.key.clone(), self.authority.clone()])
    }
}

impl Loaded {
    fn read(files: &Files) -> Result<Self, SecurityError> {
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read_limited(&files.key)?)
            .map_err(|error| unusable(&files.key, error))?;
        let mut roots = RootCertStore::empty();
        for root in certificates(&files.authority)? {
            roots
                .add(root)
                .map_err(|error| unusable(&files.authority, error))?;
        }
        let identity = Identity::of_certificate(&chain[0]).map_err(|cause| SecurityError::Identity {
            path: files.certificate.clone(),
            cause,
        })?;
        let roots = Arc::new(roots);
        let server = server_config(&roots, &chain, &key).map_err(|reason| SecurityError::Unusable {
            path: files.certificate.clone(),
            reason,
        })?;
        Ok(Self {
            identity,
            roots,
            chain,
            key,
            server: Arc::new(server),
        })
    }

    /// How to connect to somebody who has to be as expected.
    pub(crate) fn client(&self, expect: Expect) -> Result<ClientConfig, tokio_rustls::rustls::Error> {
        let verifier = ServerVerifier::new(Arc::clone(&self.roots), expect, provider());
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(config)
    }
}

fn server_config(
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<ServerConfig, String> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(|error| error.to_string())?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.to_vec(), key.clone_key())
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // Every connection shows its certificate: a resumed one would go on with one that was replaced.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let pem = read_limited(path)?;
    let all = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(path, error))?;
    if all.is_empty() {
        return Err(unusable(path, "it holds no certificate"));
    }
    Ok(all)
}

fn unusable(path: &Path, reason: impl fmt::Display) -> SecurityError {
    SecurityError::Unusable {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Reads a small file; one over the limit is cut off, and then no certificate.
pub(crate) fn read_limited(path: &Path) -> Result<Vec<u8>, SecurityError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|cause| SecurityError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
    Ok(bytes)
}

/// What tells one state of files from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<(SystemTime, u64)>>);

impl Stamp {
    pub(crate) fn of(paths: &[PathBuf]) -> Self {
        let stamp = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Self(paths.iter().map(stamp).collect())
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

pub(crate) const CERTIFICATE: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";
pub(crate) const AUTHORITY: &str = "ca.crt";

const HTTP2: &[u8] = b"h2";

/// A bundle of authorities has some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
