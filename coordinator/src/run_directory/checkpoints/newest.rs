//! Finding the newest checkpoint that is whole.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::Fingerprint;

use super::checkpoint::Checkpoint;
use super::manifest::{MANIFEST_BYTES_MAX, Manifest};
use super::{Checkpoints, names};
use crate::disk::{Disk, DiskFile};

/// What was found.
#[derive(Debug)]
pub struct Newest {
    /// The checkpoint that `last` names, or else the newest other one that is whole.
    pub checkpoint: Option<Checkpoint>,
    /// What was looked at before and is damaged, with the reason; not empty means that something is wrong.
    pub damaged: Vec<(PathBuf, String)>,
}

impl Checkpoints {
    /// Returns the checkpoint that `last` names, or the newest whole one when that is damaged.
    ///
    /// Every byte of it is read and verified. Commits wait meanwhile.
    pub fn newest_whole(&self) -> Newest {
        let _no_commit = self.inner.one_at_a_time();
        let mut damaged = Vec::new();
        let steps = self.steps().unwrap_or_else(|error| {
            damaged.push((self.inner.folder.clone(), error.to_string()));
            Vec::new()
        });
        let last = match self.last() {
            Ok(last) => last,
            Err(reason) => {
                damaged.push((self.inner.folder.join(names::LAST), reason));
                None
            }
        };
        if last.is_none() && damaged.is_empty() && !steps.is_empty() {
            damaged.push((self.inner.folder.join(names::LAST), "it is missing".into()));
        }
        let others = steps.into_iter().rev().filter(|&step| Some(step) != last);
        for step in last.into_iter().chain(others) {
            match self.verify(step) {
                Ok(checkpoint) => {
                    let checkpoint = Some(checkpoint);
                    return Newest { checkpoint, damaged };
                }
                Err(reason) => {
                    self.inner.state().damaged.insert(step);
                    damaged.push((self.inner.folder.join(names::step(step)), reason));
                }
            }
        }
        Newest {
            checkpoint: None,
            damaged,
        }
    }

    /// The steps that have a folder, ascending.
    pub(super) fn steps(&self) -> io::Result<Vec<u64>> {
        let names = self.inner.disk.list(&self.inner.folder)?;
        let mut steps: Vec<_> = names.iter().filter_map(|name| names::parse_step(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The step that `last` names, if there is such a file.
    pub(super) fn last(&self) -> Result<Option<u64>, String> {
        let path = self.inner.folder.join(names::LAST);
        let text = match read_small(&*self.inner.disk, &path, LAST_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| error.to_string())?,
        };
        let name = text
            .strip_suffix(b"\n")
            .and_then(|name| str::from_utf8(name).ok());
        let step = name.and_then(|name| names::parse_step(name.as_ref()));
        step.map(Some).ok_or_else(|| "it names no checkpoint".into())
    }

    /// Returns the checkpoint of this step if it is whole, or what is wrong with it.
    pub(super) fn verify(&self, step: u64) -> Result<Checkpoint, String> {
        let inner = &*self.inner;
        let folder = inner.folder.join(names::step(step));
        let path = folder.join(names::MANIFEST);
        let bytes = read_small(&*inner.disk, &path, MANIFEST_BYTES_MAX)
            .map_err(|error| format!("{}: {error}", names::MANIFEST))?;
        let manifest =
            Manifest::from_json(&bytes).map_err(|error| format!("{}: {error}", names::MANIFEST))?;
        if manifest.step != step {
            return Err(format!("it is the checkpoint of step {}", manifest.step));
        }
        if manifest.run != inner.run {
            return Err(format!("it belongs to run {}", manifest.run));
        }
        if manifest.recipe_digest != inner.recipe_digest {
            return Err("it was made with another recipe".into());
        }
        for (shard, number) in manifest.shards.iter().zip(0..) {
            let name = names::shard(number);
            let (bytes, digest) =
                digest(&*inner.disk, &folder.join(&name)).map_err(|error| format!("{name}: {error}"))?;
            if bytes != shard.bytes {
                return Err(format!("{name}: {bytes} bytes instead of {}", shard.bytes));
            }
            if digest != shard.blake3 {
                return Err(format!(
                    "{name}: its bytes do not have the digest in the manifest"
                ));
            }
        }
        Ok(Checkpoint {
            disk: Arc::clone(&inner.disk),
            folder,
            manifest,
        })
    }
}

/// Size and BLAKE3 of a file.
fn digest(disk: &dyn Disk, path: &Path) -> io::Result<(u64, Fingerprint)> {
    let mut file: Box<dyn DiskFile> = disk.open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, (*hasher.finalize().as_bytes()).into())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The bytes of a file of at most this size.
fn read_small(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    disk.open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// `step-`, up to 20 digits and an end of line, with some room.
const LAST_BYTES_MAX: u64 = 64;

/// Large enough for the full speed of BLAKE3 and of a disk.
const READ_BYTES: usize = 1 << 20;
