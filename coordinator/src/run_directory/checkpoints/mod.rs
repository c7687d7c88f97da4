//! `checkpoints/`: states of the run that appear whole or not at all.
//!
//! ```text
//! checkpoints/
//!   step-000000120/
//!     manifest.json        what belongs to it, with digests
//!     shard-000.bin ...    the state's byte image, cut into one range per rank
//!   step-000000140/ ...
//!   last                   one line: the name of the last checkpoint's folder
//! ```
//!
//! A checkpoint grows in a hidden folder. Each shard is verified and synced before it gets its name there; when
//! all are in and fit together, the manifest is written, everything is synced, the folder is renamed into place, and
//! only then `last` moves and older checkpoints go. A crash or an error between any two of these leaves the
//! checkpoints before it as they were.
//!
//! `last` is a small file and not a symbolic link: a file can be synced before it gets its name, is copied by
//! every tool and to every file system, and whatever it says is only ever read as a step number.
//!
//! One process at a time owns the folder; the lock on the journal sees to that.

mod checkpoint;
mod commit;
mod error;
mod header;
mod incoming;
mod manifest;
mod names;
mod newest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::{Fingerprint, RunId};

pub use self::checkpoint::Checkpoint;
pub use self::commit::Committed;
pub use self::error::CheckpointError;
pub use self::header::{SHARDS_MAX, ShardHeader, TOTAL_BYTES_MAX};
pub use self::incoming::IncomingShard;
pub use self::newest::Newest;
use crate::disk::{Disk, RealDisk, folder_of, remove_folder_of_files};

/// The checkpoints of a run. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    run: RunId,
    recipe_digest: Fingerprint,
    keep: usize,
    /// Held for short changes only.
    state: Mutex<State>,
    /// Held while checkpoints are put in place, removed or verified. Taken before `state`.
    committing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<Pending>,
    /// Numbers pending checkpoints and incoming files.
    numbers: u64,
    /// The last checkpoint that this process committed.
    committed: Option<Checkpoint>,
    /// Steps whose checkpoint was found damaged.
    damaged: BTreeSet<u64>,
}

/// A checkpoint whose shards are coming in.
#[derive(Debug, Clone)]
struct Pending {
    id: u64,
    step: u64,
    generation: u64,
    shards_expected: u32,
    folder: PathBuf,
    /// The shards that are verified, synced and named.
    shards: BTreeMap<u32, ShardHeader>,
    /// Being committed: it can no longer be given up.
    is_closed: bool,
}

impl Checkpoints {
    /// Opens the folder, which is made if it is missing, and removes what earlier processes left unfinished.
    ///
    /// `keep` is how many checkpoints stay; at least one does. Checkpoints of another run or recipe count as
    /// damaged.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(folder: PathBuf, run: RunId, recipe_digest: Fingerprint, keep: usize) -> io::Result<Self> {
        Self::open_on(Arc::new(RealDisk), folder, run, recipe_digest, keep)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        run: RunId,
        recipe_digest: Fingerprint,
        keep: usize,
    ) -> io::Result<Self> {
        match disk.create_folder(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        disk.sync_folder(folder_of(&folder))?;
        for name in disk.list(&folder)? {
            if !names::is_unfinished(&name) {
                continue;
            }
            let path = folder.join(&name);
            match remove_folder_of_files(&*disk, &path) {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => disk.remove_file(&path)?,
                removed => removed?,
            }
        }
        let inner = Inner {
            disk,
            folder,
            run,
            recipe_digest,
            keep: keep.max(1),
            state: Mutex::default(),
            committing: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Starts to take in a shard.
    ///
    /// A shard that is there already, or whose step is saved or passed by a newer checkpoint, is only checked.
    ///
    /// # Errors
    /// When the header cannot be right or contradicts those before it, too many checkpoints are coming in, or the system
    /// refuses; then this checkpoint is given up.
    pub fn receive(&self, header: &ShardHeader) -> Result<IncomingShard, CheckpointError> {
        header.check()?;
        self.make_room(header);
        let mut state = self.inner.state();
        let is_passed = state
            .committed
            .as_ref()
            .is_some_and(|last| last.step() >= header.step);
        if is_passed {
            return Ok(IncomingShard::checked_only(Arc::clone(&self.inner), *header));
        }
        let number = state.numbers;
        state.numbers += 2;
        let found = state
            .pending
            .iter()
            .position(|pending| pending.is_for(header.step, header.generation));
        let index = match found {
            Some(index) => index,
            None => {
                let pending = self.inner.begin(&state, header, number)?;
                state.pending.push(pending);
                state.pending.len() - 1
            }
        };
        let pending = &state.pending[index];
        if pending.shards_expected != header.shards {
            return Err(CheckpointError::BadHeader {
                step: header.step,
                shard: header.shard,
                what: format!(
                    "{} shards, but other ranks say {}",
                    header.shards, pending.shards_expected
                ),
            });
        }
        if pending.shards.contains_key(&header.shard) {
            pending.same_or_conflict(header)?;
            return Ok(IncomingShard::checked_only(Arc::clone(&self.inner), *header));
        }
        let (id, hidden) = (pending.id, pending.folder.join(names::incoming(number + 1)));
        // Still under the lock, so that the folder is there.
        let created = self.inner.disk.create_new(&hidden);
        drop(state);
        IncomingShard::start(Arc::clone(&self.inner), *header, id, hidden, created)
    }

    /// Gives up the oldest checkpoint that is coming in when there is no room for a newer one: a range of it is missing, and
    /// its rank has a newer one to bring.
    fn make_room(&self, header: &ShardHeader) {
        let state = self.inner.state();
        let is_known = |pending: &Pending| pending.is_for(header.step, header.generation);
        if state.pending.len() < PENDING_MAX || state.pending.iter().any(is_known) {
            return;
        }
        let older = state.pending.iter().filter(|pending| pending.step < header.step);
        let oldest = older.min_by_key(|pending| pending.step).map(|pending| pending.id);
        drop(state);
        self.inner.give_up(|pending| Some(pending.id) == oldest);
    }

    /// Gives up the checkpoint of this step and generation, if it is coming in.
    pub fn abort(&self, step: u64, generation: u64) {
        self.inner.give_up(|pending| pending.is_for(step, generation));
    }

    /// Gives up all checkpoints that come in from other generations.
    pub fn abort_other_than(&self, generation: u64) {
        self.inner.give_up(|pending| pending.generation != generation);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one that cannot panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.committing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the folder of a pending checkpoint.
    fn begin(&self, state: &State, header: &ShardHeader, id: u64) -> Result<Pending, CheckpointError> {
        let &ShardHeader { step, generation, .. } = header;
        if state.pending.len() >= PENDING_MAX {
            return Err(CheckpointError::TooManyPending { step });
        }
        let folder = self.folder.join(names::pending(step, generation));
        // One that was given up, and could not be removed then.
        let made =
            remove_folder_of_files(&*self.disk, &folder).and_then(|()| self.disk.create_folder(&folder));
        made.map_err(|cause| CheckpointError::Storage {
            step,
            path: folder.clone(),
            cause,
        })?;
        Ok(Pending {
            id,
            step,
            generation,
            shards_expected: header.shards,
            folder,
            shards: BTreeMap::new(),
            is_closed: false,
        })
    }

    /// Forgets pending checkpoints and removes their folders. One that is being committed stays.
    fn give_up(&self, unwanted: impl Fn(&Pending) -> bool) {
        let mut state = self.state();
        let unwanted = |pending: &mut Pending| !pending.is_closed && unwanted(pending);
        for pending in state.pending.extract_if(.., unwanted) {
            // What cannot be removed now is removed when the folder is opened again.
            let _ = remove_folder_of_files(&*self.disk, &pending.folder);
        }
    }
}

impl Pending {
    fn is_for(&self, step: u64, generation: u64) -> bool {
        (self.step, self.generation) == (step, generation)
    }

    fn is_complete(&self) -> bool {
        self.shards.len() == self.shards_expected as usize
    }

    /// Compares a header with that of the same shard, which is in.
    fn same_or_conflict(&self, header: &ShardHeader) -> Result<(), CheckpointError> {
        if self.shards.get(&header.shard) == Some(header) {
            return Ok(());
        }
        Err(CheckpointError::Conflict {
            step: header.step,
            shard: header.shard,
        })
    }
}

/// Uploads that take longer than this many checkpoints would never catch up.
pub(super) const PENDING_MAX: usize = 4;
