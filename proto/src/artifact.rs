//! The header of an uploaded weights file.

use crate::identity::{Fingerprint, Sender};
use crate::parse::{ParseError, required};
use crate::wire;

/// Describes the weights that rank 0 is about to send. They become the run's last weights, and also its
/// best ones when `best` is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadHeader {
    /// Who uploads.
    pub sender: Sender,
    /// Size of the whole file.
    pub size_bytes: u64,
    /// Digest of the whole file.
    pub blake3: Fingerprint,
    /// Whether they are the best weights so far.
    pub best: bool,
}

impl TryFrom<wire::UploadHeader> for UploadHeader {
    type Error = ParseError;

    fn try_from(header: wire::UploadHeader) -> Result<Self, ParseError> {
        Ok(Self {
            sender: required("sender", header.sender)?.try_into()?,
            size_bytes: header.size_bytes,
            blake3: Fingerprint::from_field("blake3", &header.blake3)?,
            best: header.best,
        })
    }
}

impl From<UploadHeader> for wire::UploadHeader {
    fn from(header: UploadHeader) -> Self {
        Self {
            sender: Some(header.sender.into()),
            size_bytes: header.size_bytes,
            blake3: header.blake3.as_bytes().to_vec().into(),
            best: header.best,
        }
    }
}
