//! A shard on its way in.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CheckpointError;
use super::header::ShardHeader;
use super::{Inner, names};
use crate::disk::DiskFile;

/// A shard on its way in. Dropped before it is sealed, it leaves nothing behind.
#[derive(Debug)]
pub struct IncomingShard {
    inner: Arc<Inner>,
    header: ShardHeader,
    /// Where the bytes go; nowhere when they are not needed.
    target: Option<Target>,
    hasher: blake3::Hasher,
    written: u64,
}

#[derive(Debug)]
struct Target {
    /// Id of the pending checkpoint.
    pending: u64,
    file: Box<dyn DiskFile>,
    hidden: PathBuf,
}

/// What became of a hidden file.
enum Naming {
    Done,
    NotNeeded,
    Refused(CheckpointError),
}

impl IncomingShard {
    /// One whose bytes are checked and not kept.
    pub(super) fn checked_only(inner: Arc<Inner>, header: ShardHeader) -> Self {
        Self {
            inner,
            header,
            target: None,
            hasher: blake3::Hasher::new(),
            written: 0,
        }
    }

    /// One that goes to this file of this pending checkpoint.
    pub(super) fn start(
        inner: Arc<Inner>,
        header: ShardHeader,
        pending: u64,
        hidden: PathBuf,
        created: io::Result<Box<dyn DiskFile>>,
    ) -> Result<Self, CheckpointError> {
        let mut incoming = Self::checked_only(inner, header);
        match created {
            Ok(file) => {
                incoming.target = Some(Target {
                    pending,
                    file,
                    hidden,
                });
                Ok(incoming)
            }
            Err(cause) => Err(incoming.failed(pending, hidden, cause)),
        }
    }

    /// Appends the next bytes.
    ///
    /// # Errors
    /// When more come than were announced, or the system refuses.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), CheckpointError> {
        self.written += chunk.len() as u64;
        if self.written > self.header.size_bytes {
            return Err(self.corrupt(format!(
                "more than the announced {} bytes came",
                self.header.size_bytes
            )));
        }
        self.hasher.update(chunk);
        let Some(target) = &mut self.target else {
            return Ok(());
        };
        match target.file.write_all(chunk) {
            Ok(()) => Ok(()),
            Err(cause) => {
                let (pending, path) = (target.pending, target.hidden.clone());
                Err(self.failed(pending, path, cause))
            }
        }
    }

    /// Checks size and digest, makes the bytes durable, and gives them their name in the pending folder.
    ///
    /// # Errors
    /// When other bytes came than were announced, the checkpoint was given up meanwhile, or the system refuses.
    pub fn seal(mut self) -> Result<(), CheckpointError> {
        if self.written != self.header.size_bytes {
            return Err(self.corrupt(format!(
                "{} of {} bytes came",
                self.written, self.header.size_bytes
            )));
        }
        if self.hasher.finalize().as_bytes() != self.header.blake3.as_bytes() {
            return Err(self.corrupt("the bytes do not have the announced digest".into()));
        }
        let Some(target) = &mut self.target else {
            return Ok(());
        };
        let synced = target.file.sync();
        let (pending, hidden) = (target.pending, target.hidden.clone());
        match synced.and_then(|()| self.name(pending, &hidden)) {
            Ok(Naming::Done) => {
                self.target = None;
                Ok(())
            }
            // Its hidden file goes when this is dropped.
            Ok(Naming::NotNeeded) => Ok(()),
            Ok(Naming::Refused(error)) => Err(error),
            Err(cause) => Err(self.failed(pending, hidden, cause)),
        }
    }

    /// Renames the hidden file to the shard's name, if it is still wanted.
    fn name(&self, pending: u64, hidden: &Path) -> io::Result<Naming> {
        let &ShardHeader { step, shard, .. } = &self.header;
        let mut state = self.inner.state();
        if state.committed.as_ref().is_some_and(|last| last.step() >= step) {
            return Ok(Naming::NotNeeded);
        }
        let Some(pending) = state.pending.iter_mut().find(|candidate| candidate.id == pending) else {
            return Ok(Naming::Refused(CheckpointError::Aborted { step, shard }));
        };
        if pending.shards.contains_key(&shard) {
            let same = pending.same_or_conflict(&self.header);
            return Ok(same.map_or_else(Naming::Refused, |()| Naming::NotNeeded));
        }
        self.inner
            .disk
            .rename(hidden, &pending.folder.join(names::shard(shard)))?;
        pending.shards.insert(shard, self.header);
        Ok(Naming::Done)
    }

    /// Gives up the checkpoint, which frees the room that it takes, and says why.
    fn failed(&self, pending: u64, path: PathBuf, cause: io::Error) -> CheckpointError {
        self.inner.give_up(|candidate| candidate.id == pending);
        CheckpointError::Storage {
            step: self.header.step,
            path,
            cause,
        }
    }

    fn corrupt(&self, what: String) -> CheckpointError {
        CheckpointError::Corrupt {
            step: self.header.step,
            shard: self.header.shard,
            what,
        }
    }
}

impl Drop for IncomingShard {
    fn drop(&mut self) {
        if let Some(target) = &self.target {
            // What cannot be removed now is removed with its folder.
            let _ = self.inner.disk.remove_file(&target.hidden);
        }
    }
}
