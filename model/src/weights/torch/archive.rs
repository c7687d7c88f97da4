//! The zip archive around a checkpoint: one pickle, and one entry for each tensor's storage.

use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::TorchError;

/// An archive in memory.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Folder of all entries, with its slash.
    prefix: String,
}

impl<'a> Archive<'a> {
    /// Opens an archive and finds its pickle.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, TorchError> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(TorchError::Archive)?;
        let pickle = zip.file_names().flatten().find_map(|name| {
            let prefix = name.strip_suffix(PICKLE)?;
            Some(prefix.to_owned())
        });
        let prefix = pickle.ok_or(TorchError::NoPickle)?;
        let mut archive = Self { zip, prefix };
        let order = archive.read("byteorder").unwrap_or_else(|_| b"little".to_vec());
        if order != b"little" {
            return Err(TorchError::ByteOrder);
        }
        Ok(archive)
    }

    /// Returns the pickle.
    pub(super) fn pickle(&mut self) -> Result<Vec<u8>, TorchError> {
        self.read(PICKLE)
    }

    /// Returns the bytes of a storage.
    pub(super) fn storage(&mut self, key: &str) -> Result<Vec<u8>, TorchError> {
        self.read(&format!("data/{key}"))
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, TorchError> {
        let path = format!("{}{name}", self.prefix);
        let mut entry = self.zip.by_name(&path).map_err(TorchError::Archive)?;
        // Entries are stored as they are, so that none is larger than the file.
        let mut bytes = Vec::new();
        let read = entry.read_to_end(&mut bytes);
        read.map_err(|error| TorchError::Archive(ZipError::Io(error)))?;
        Ok(bytes)
    }
}

const PICKLE: &str = "data.pkl";
