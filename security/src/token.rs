//! The join token: a secret in a file, a second factor beside the certificate.
//!
//! It travels in the `authorization` entry of every call, which is marked so that neither logs nor header compression
//! keep it. Tokens are compared by their BLAKE3 digests, whose comparison takes the same time for any two values.
//! The file is read again when it changes.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tracing::warn;

use crate::credentials::{Stamp, read_limited};
use crate::error::SecurityError;

/// A token file.
#[derive(Clone)]
pub struct JoinToken {
    path: PathBuf,
    current: Arc<Mutex<Current>>,
}

struct Current {
    stamp: Stamp,
    header: MetadataValue<Ascii>,
    digest: blake3::Hash,
}

impl JoinToken {
    /// Reads a token file.
    ///
    /// # Errors
    /// When it cannot be read, is empty, short, long, or holds more than one line of visible characters.
    pub fn open(path: PathBuf) -> Result<Self, SecurityError> {
        let stamp = Stamp::of(std::slice::from_ref(&path));
        let current = Arc::new(Mutex::new(read(&path, stamp)?));
        Ok(Self { path, current })
    }

    /// Whether a call's `authorization` entry holds this token.
    pub(crate) fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let sent = authorization.and_then(|value| value.strip_prefix(SCHEME.as_bytes()));
        // Digests of both are compared, also when nothing was sent.
        let digest = blake3::hash(sent.unwrap_or_default());
        self.with(|current| current.digest == digest) && sent.is_some()
    }

    fn header(&self) -> MetadataValue<Ascii> {
        self.with(|current| current.header.clone())
    }

    fn with<T>(&self, read_current: impl FnOnce(&Current) -> T) -> T {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(std::slice::from_ref(&self.path));
        if stamp != current.stamp {
            match read(&self.path, stamp.clone()) {
                Ok(new) => *current = new,
                Err(error) => {
                    warn!(%error, "the join token cannot be read again; keeping the old one");
                    current.stamp = stamp;
                }
            }
        }
        read_current(&current)
    }
}

fn read(path: &std::path::Path, stamp: Stamp) -> Result<Current, SecurityError> {
    let bytes = read_limited(path)?;
    let unusable = |reason| SecurityError::Token {
        path: path.to_owned(),
        reason,
    };
    let token = std::str::from_utf8(&bytes)
        .map_err(|_| unusable("it is not text"))?
        .trim();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable(
            "it holds more than one word of visible ASCII characters",
        ));
    }
    if token.len() < TOKEN_BYTES_MIN || token.len() > TOKEN_BYTES_MAX {
        return Err(unusable("it is not 16 to 512 characters long"));
    }
    // Invariant: visible ASCII characters are valid in a header.
    let mut header: MetadataValue<Ascii> = format!("{SCHEME}{token}").parse().expect("a header value");
    header.set_sensitive(true);
    let digest = blake3::hash(token.as_bytes());
    Ok(Current {
        stamp,
        header,
        digest,
    })
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Puts the token, if there is one, into every call.
#[derive(Debug, Clone)]
pub struct AttachToken(pub(crate) Option<JoinToken>);

impl Interceptor for AttachToken {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(ENTRY, token.header());
        }
        Ok(request)
    }
}

/// The metadata entry that holds the token.
pub(crate) const ENTRY: &str = "authorization";

const SCHEME: &str = "Bearer ";

/// 16 random characters cannot be guessed over a network.
const TOKEN_BYTES_MIN: usize = 16;

/// Far below the limit of a call's headers.
const TOKEN_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(folder: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = folder.path().join("token");
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn only_the_whole_token_is_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let token = JoinToken::open(file(&folder, "0123456789abcdef\n")).unwrap();
        assert!(token.admits(Some(b"Bearer 0123456789abcdef")));
        for wrong in [
            None,
            Some(b"".as_slice()),
            Some(b"Bearer "),
            Some(b"Bearer 0123456789abcde"),
            Some(b"Bearer 0123456789abcdeg"),
            Some(b"0123456789abcdef"),
        ] {
            assert!(!token.admits(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_new_token_holds_from_the_next_call_on_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let token = JoinToken::open(file(&folder, "0123456789abcdef")).unwrap();
        file(&folder, "a-token-that-is-newer");
        assert!(token.admits(Some(b"Bearer a-token-that-is-newer")));
        assert!(!token.admits(Some(b"Bearer 0123456789abcdef")));
        file(&folder, "short");
        assert!(token.admits(Some(b"Bearer a-token-that-is-newer")));
    }

    #[test]
    fn unusable_files_are_refused_and_secrets_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        for text in [
            "",
            "short",
            "two words that are long enough",
            "ümläuts-are-not-visible-ascii",
        ] {
            let error = JoinToken::open(file(&folder, text)).unwrap_err();
            assert!(matches!(error, SecurityError::Token { .. }), "{text:?}: {error}");
        }
        let token = JoinToken::open(file(&folder, "0123456789abcdef")).unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("0123456789"));
    }
}
