//! The store against clean runs, bad shards, damage, crashes and full disks.

mod clean;
mod crash;
mod damage;
mod full_disk;
mod senders;

use std::path::Path;

use proto::{Fingerprint, RunId};

use super::*;

const RUN: RunId = RunId::from_u128(7);

fn recipe() -> Fingerprint {
    Fingerprint::of(b"recipe")
}

fn open(folder: &Path, keep: usize) -> Checkpoints {
    Checkpoints::open(folder.to_owned(), RUN, recipe(), keep).unwrap()
}

/// The state's image at a step: different at each.
fn image(step: u64, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|index| (index as u64 * 31 + step * 7 + 1) as u8)
        .collect()
}

/// The headers of an image that is cut into this many shards.
fn headers(step: u64, generation: u64, image: &[u8], shards: u32) -> Vec<ShardHeader> {
    let cut = |shard: u32| image.len() as u64 * u64::from(shard) / u64::from(shards);
    (0..shards)
        .map(|shard| ShardHeader {
            step,
            generation,
            shard,
            shards,
            offset: cut(shard),
            size_bytes: cut(shard + 1) - cut(shard),
            total_bytes: image.len() as u64,
            blake3: Fingerprint::of(&image[cut(shard) as usize..cut(shard + 1) as usize]),
            state_digest: Fingerprint::of(image),
        })
        .collect()
}

fn upload(store: &Checkpoints, header: &ShardHeader, image: &[u8]) -> Result<(), CheckpointError> {
    let bytes = &image[header.offset as usize..(header.offset + header.size_bytes) as usize];
    let mut incoming = store.receive(header)?;
    for chunk in bytes.chunks(5) {
        incoming.write(chunk)?;
    }
    incoming.seal()
}

/// Uploads all shards and commits after each.
fn save(store: &Checkpoints, step: u64, image: &[u8], shards: u32) -> Result<Committed, CheckpointError> {
    let mut committed = None;
    for header in headers(step, 1, image, shards) {
        assert!(committed.is_none(), "committed before the last shard");
        upload(store, &header, image)?;
        committed = store.commit(step, 1)?;
    }
    Ok(committed.expect("all shards are in"))
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn whole_image(checkpoint: &Checkpoint) -> Vec<u8> {
    checkpoint.read_range(0, checkpoint.total_bytes()).unwrap()
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoints");
    (folder, path)
}
