//! From shards that are all in to a checkpoint in place.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::error::CheckpointError;
use super::header::ShardHeader;
use super::manifest::{Manifest, ManifestContent};
use super::{Checkpoints, Inner, Pending, names};
use crate::disk::{remove_folder_of_files, replace_file};

/// A checkpoint that is whole, durable and the last one.
#[derive(Debug)]
pub struct Committed {
    /// It.
    pub checkpoint: Checkpoint,
    /// Whether this call put it in place; not so when its step was saved before.
    pub is_new: bool,
    /// Steps whose checkpoints were removed.
    pub pruned: Vec<u64>,
    /// Checkpoints that should have been removed, and why they are still there. They do no harm but take room.
    pub unpruned: Vec<(PathBuf, io::Error)>,
}

impl Checkpoints {
    /// Puts the checkpoint of this step in place when all its shards are in; `None` while some are missing.
    ///
    /// On return it is durable, `last` names it, and all but the newest ones are removed. Checkpoints of earlier steps
    /// that are still coming in are given up. When a whole checkpoint of the step is there already, that one is
    /// returned and nothing else happens; a damaged one is replaced.
    ///
    /// # Errors
    /// When ranks have different states, shards do not make up the state, or the system refuses; then this checkpoint
    /// is given up and those before it are as they were.
    pub fn commit(&self, step: u64, generation: u64) -> Result<Option<Committed>, CheckpointError> {
        let _alone = self.inner.one_at_a_time();
        let mut state = self.inner.state();
        if let Some(last) = state.committed.as_ref().filter(|last| last.step() == step) {
            return Ok(Some(Committed::again(last.clone())));
        }
        let Some(pending) = state
            .pending
            .iter_mut()
            .find(|pending| pending.is_for(step, generation))
        else {
            drop(state);
            return self.commit_existing(step);
        };
        if !pending.is_complete() {
            return Ok(None);
        }
        pending.is_closed = true;
        let pending = pending.clone();
        drop(state);
        let outcome = self
            .put_in_place(&pending)
            .and_then(|(checkpoint, is_new)| self.finish(checkpoint, is_new));
        if outcome.is_err() {
            // Gone already when it is in place; what cannot be removed now goes when the folder is opened again.
            let _ = remove_folder_of_files(&*self.inner.disk, &pending.folder);
        }
        // Not before: until the step counts as saved, a second upload of a shard must find it here.
        self.inner.state().pending.retain(|other| other.id != pending.id);
        outcome.map(Some)
    }

    /// A checkpoint of the step is perhaps there: of an earlier process, or because `last` could not be moved.
    fn commit_existing(&self, step: u64) -> Result<Option<Committed>, CheckpointError> {
        let Ok(checkpoint) = self.verify(step) else {
            return Ok(None);
        };
        // `last` never goes back for a call that brings nothing.
        if self
            .last()
            .is_ok_and(|last| last.is_some_and(|last| last >= step))
        {
            return Ok(Some(Committed::again(checkpoint)));
        }
        self.inner.sync(step)?;
        self.finish(checkpoint, false).map(Some)
    }

    /// Writes the manifest and renames the folder; returns the checkpoint, and whether it is new.
    fn put_in_place(&self, pending: &Pending) -> Result<(Checkpoint, bool), CheckpointError> {
        let inner = &self.inner;
        let (step, disk) = (pending.step, &*inner.disk);
        let path = inner.folder.join(names::step(step));
        judge(step, &pending.shards)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| CheckpointError::Storage { step, path, cause }
        };
        let exists = self.steps().map_err(failed(&inner.folder))?.contains(&step);
        if exists {
            if let Ok(checkpoint) = self.verify(step) {
                remove_folder_of_files(disk, &pending.folder).map_err(failed(&pending.folder))?;
                inner.sync(step)?;
                return Ok((checkpoint, false));
            }
            inner.remove(step).map_err(failed(&path))?;
        }
        // A second upload of a shard that is in may still be under way; it removes its file itself as well.
        let listed = disk.list(&pending.folder).map_err(failed(&pending.folder))?;
        for name in listed.into_iter().filter(|name| names::is_incoming(name)) {
            let path = pending.folder.join(name);
            match disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path)(error)),
                _ => {}
            }
        }
        let manifest = inner.manifest(pending);
        replace_file(
            disk,
            &pending.folder,
            names::MANIFEST,
            manifest.to_json().as_bytes(),
        )
        .map_err(failed(&pending.folder.join(names::MANIFEST)))?;
        disk.rename(&pending.folder, &path).map_err(failed(&path))?;
        inner.sync(step)?;
        let checkpoint = Checkpoint {
            disk: Arc::clone(&inner.disk),
            folder: path,
            manifest,
        };
        Ok((checkpoint, true))
    }

    /// Moves `last` and removes what is not needed any more.
    fn finish(&self, checkpoint: Checkpoint, is_new: bool) -> Result<Committed, CheckpointError> {
        let inner = &*self.inner;
        let step = checkpoint.step();
        let line = format!("{}\n", names::step(step));
        replace_file(&*inner.disk, &inner.folder, names::LAST, line.as_bytes()).map_err(|cause| {
            CheckpointError::Storage {
                step,
                path: inner.folder.join(names::LAST),
                cause,
            }
        })?;
        let mut state = inner.state();
        state.committed = Some(checkpoint.clone());
        state.damaged.remove(&step);
        drop(state);
        inner.give_up(|pending| pending.step <= step);
        let mut committed = Committed {
            is_new,
            ..Committed::again(checkpoint)
        };
        self.prune(&mut committed);
        Ok(committed)
    }

    /// Removes damaged checkpoints, and older ones than the newest `keep`. The one just committed always stays.
    fn prune(&self, committed: &mut Committed) {
        let inner = &*self.inner;
        let step = committed.checkpoint.step();
        let steps = match self.steps() {
            Ok(steps) => steps,
            Err(error) => {
                committed.unpruned.push((inner.folder.clone(), error));
                return;
            }
        };
        let damaged = inner.state().damaged.clone();
        let (broken, others): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .filter(|&other| other != step)
            .partition(|other| damaged.contains(other));
        // Whole ones of later steps are there when an earlier one was resumed from; they are not older.
        let older = others.into_iter().rev().filter(|&other| other < step);
        for step in broken.into_iter().chain(older.skip(inner.keep - 1)) {
            match inner.remove(step) {
                Ok(()) => {
                    inner.state().damaged.remove(&step);
                    committed.pruned.push(step);
                }
                Err(error) => committed
                    .unpruned
                    .push((inner.folder.join(names::step(step)), error)),
            }
        }
    }
}

impl Committed {
    fn again(checkpoint: Checkpoint) -> Self {
        Self {
            checkpoint,
            is_new: false,
            pruned: Vec::new(),
            unpruned: Vec::new(),
        }
    }
}

impl Inner {
    /// Makes the names of checkpoints durable.
    fn sync(&self, step: u64) -> Result<(), CheckpointError> {
        self.disk
            .sync_folder(&self.folder)
            .map_err(|cause| CheckpointError::Storage {
                step,
                path: self.folder.clone(),
                cause,
            })
    }

    /// Removes a checkpoint. Its name goes first and durably, so that no part of it is ever taken for it.
    fn remove(&self, step: u64) -> io::Result<()> {
        let hidden = self.folder.join(names::removed(step));
        remove_folder_of_files(&*self.disk, &hidden)?;
        self.disk.rename(&self.folder.join(names::step(step)), &hidden)?;
        self.disk.sync_folder(&self.folder)?;
        remove_folder_of_files(&*self.disk, &hidden)
    }

    /// The manifest of a complete checkpoint whose shards agree.
    fn manifest(&self, pending: &Pending) -> Manifest {
        let shards: Vec<_> = pending
            .shards
            .values()
            .map(|shard| (shard.offset, shard.size_bytes, shard.blake3))
            .collect();
        // Invariant: a complete checkpoint has at least one shard.
        let first = &pending.shards[&0];
        Manifest::from(ManifestContent {
            run: self.run,
            step: pending.step,
            generation: pending.generation,
            recipe_digest: self.recipe_digest,
            total_bytes: first.total_bytes,
            state_digest: first.state_digest,
            shards,
        })
    }
}

/// Checks that all shards are of one state, and make it up without a gap.
fn judge(step: u64, shards: &BTreeMap<u32, ShardHeader>) -> Result<(), CheckpointError> {
    let mut groups: Vec<(_, Vec<u32>)> = Vec::new();
    for (&rank, shard) in shards {
        let state = (shard.total_bytes, shard.state_digest);
        match groups.iter_mut().find(|(other, _)| *other == state) {
            Some((_, ranks)) => ranks.push(rank),
            None => groups.push((state, vec![rank])),
        }
    }
    // A stable sort: of groups of one size, that with the lowest rank stays in front.
    groups.sort_by_key(|(_, ranks)| std::cmp::Reverse(ranks.len()));
    if groups.len() > 1 {
        let agreeing = groups.remove(0).1;
        let mut odd: Vec<_> = groups.into_iter().flat_map(|(_, ranks)| ranks).collect();
        odd.sort_unstable();
        return Err(CheckpointError::Disagree { step, odd, agreeing });
    }
    let mut expected = 0;
    for (&shard, header) in shards {
        if header.offset != expected {
            return Err(CheckpointError::Gap {
                step,
                shard,
                offset: header.offset,
                expected,
            });
        }
        expected += header.size_bytes;
    }
    let total_bytes = shards.values().next().map_or(0, |shard| shard.total_bytes);
    if expected != total_bytes {
        return Err(CheckpointError::Gap {
            step,
            shard: shards.len() as u32,
            offset: total_bytes,
            expected,
        });
    }
    Ok(())
}
