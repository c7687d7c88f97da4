//! A checkpoint that was verified, and reading from it.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::Fingerprint;

use super::manifest::Manifest;
use super::names;
use crate::disk::{Disk, DiskFile};

/// A whole checkpoint. Its files were verified when it was found and do not change; they are gone once newer
/// checkpoints push it out.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
}

impl Checkpoint {
    /// The step after which the state was taken.
    pub fn step(&self) -> u64 {
        self.manifest.step
    }

    /// The generation that took it.
    pub fn generation(&self) -> u64 {
        self.manifest.generation
    }

    /// Size of the state's byte image.
    pub fn total_bytes(&self) -> u64 {
        self.manifest.total_bytes
    }

    /// Digest of the state, as the ranks reported it.
    pub fn state_digest(&self) -> Fingerprint {
        self.manifest.state_digest
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Returns a reader of `bytes` bytes of the image from `offset` on, whatever shards they lie in.
    ///
    /// # Errors
    /// When the range is not inside the image.
    pub fn reader(&self, offset: u64, bytes: u64) -> io::Result<impl Read + Send + use<>> {
        if offset
            .checked_add(bytes)
            .is_none_or(|end| end > self.total_bytes())
        {
            let text = format!(
                "{bytes} bytes at {offset} are not inside {} bytes",
                self.total_bytes()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(RangeReader {
            checkpoint: self.clone(),
            position: offset,
            end: offset + bytes,
            shard: 0,
            open: None,
        })
    }

    /// Returns `bytes` bytes of the image from `offset` on.
    ///
    /// # Errors
    /// When the range is not inside the image, or the system refuses.
    pub fn read_range(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut reader = self.reader(offset, bytes)?;
        let mut range = Vec::with_capacity(usize::try_from(bytes).map_err(io::Error::other)?);
        reader.read_to_end(&mut range)?;
        Ok(range)
    }
}

/// Reads shard after shard.
struct RangeReader {
    checkpoint: Checkpoint,
    position: u64,
    end: u64,
    /// The shard of `position`, or one before it.
    shard: u32,
    open: Option<Box<dyn DiskFile>>,
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.end || buffer.is_empty() {
            return Ok(0);
        }
        // Invariant: shards have no gap and end at the image's end, which `position` is before.
        let shard = loop {
            let shard = &self.checkpoint.manifest.shards[self.shard as usize];
            if self.position < shard.offset + shard.bytes {
                break shard;
            }
            self.shard += 1;
            self.open = None;
        };
        let file = match &mut self.open {
            Some(file) => file,
            closed => {
                let path = self.checkpoint.folder.join(names::shard(self.shard));
                let mut file = self.checkpoint.disk.open(&path)?;
                file.seek(SeekFrom::Start(self.position - shard.offset))?;
                closed.insert(file)
            }
        };
        let left = self.end.min(shard.offset + shard.bytes) - self.position;
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = file.read(&mut buffer[..count])?;
        if count == 0 {
            let text = format!("shard {} ends early: it was changed", self.shard);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.position += count as u64;
        Ok(count)
    }
}
