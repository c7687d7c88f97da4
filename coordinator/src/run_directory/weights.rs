//! `weights/`: files that appear whole or not at all.
//!
//! Bytes arrive in a hidden file in the same folder. Only when size and digest are those announced is it
//! synced and renamed to its final name, and the folder synced after that, so that a crash at any moment leaves
//! either the old file or the new one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::transport::UPLOAD_BYTES_MAX;
use proto::{Fingerprint, Refusal};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

/// The weights folder of a run.
#[derive(Debug, Clone)]
pub(crate) struct Weights {
    folder: PathBuf,
    /// Numbers the hidden files, so that two uploads never share one.
    uploads: Arc<AtomicU64>,
    /// Held while files are renamed, so that `last` and `best` change together.
    publishing: Arc<Mutex<()>>,
}

/// A file on its way in. Dropped before it is published, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct IncomingWeights {
    weights: Weights,
    hidden: HiddenFile,
    file: File,
    hasher: blake3::Hasher,
    written: u64,
    size: u64,
    digest: Fingerprint,
}

impl Weights {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            uploads: Arc::new(AtomicU64::new(0)),
            publishing: Arc::new(Mutex::new(())),
        }
    }

    /// Starts to take in a file of this size and digest.
    pub(crate) async fn receive(&self, size: u64, digest: Fingerprint) -> Result<IncomingWeights, Refusal> {
        if size > UPLOAD_BYTES_MAX {
            return Err(Refusal::TooLarge {
                bytes: size,
                limit: UPLOAD_BYTES_MAX,
            });
        }
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let hidden = HiddenFile(self.folder.join(format!(".incoming-{number}")));
        let file = File::create_new(&hidden.0).await.map_err(storage)?;
        Ok(IncomingWeights {
            weights: self.clone(),
            hidden,
            file,
            hasher: blake3::Hasher::new(),
            written: 0,
            size,
            digest,
        })
    }
}

impl IncomingWeights {
    /// Appends the next bytes.
    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        self.written += chunk.len() as u64;
        if self.written > self.size {
            return Err(Refusal::Corrupt {
                what: format!("more than the announced {} bytes came", self.size),
            });
        }
        self.hasher.update(chunk);
        self.file.write_all(chunk).await.map_err(storage)
    }

    /// Checks size and digest and makes the bytes durable, still under the hidden name.
    pub(crate) async fn seal(&mut self) -> Result<(), Refusal> {
        if self.written != self.size {
            return Err(Refusal::Corrupt {
                what: format!("{} of {} bytes came", self.written, self.size),
            });
        }
        if self.hasher.finalize().as_bytes() != self.digest.as_bytes() {
            return Err(Refusal::Corrupt {
                what: "the bytes do not have the announced digest".into(),
            });
        }
        self.file.flush().await.map_err(storage)?;
        self.file.sync_all().await.map_err(storage)
    }

    /// Renames the sealed file to `last`, and its twin to `best` if asked.
    pub(crate) async fn publish(self, best: bool) -> Result<(), Refusal> {
        let _guard = self.weights.publishing.lock().await;
        let folder = &self.weights.folder;
        let twin = HiddenFile(self.hidden.0.with_extension("twin"));
        if best {
            duplicate(&self.hidden.0, &twin.0).await.map_err(storage)?;
        }
        fs::rename(&self.hidden.0, folder.join(LAST))
            .await
            .map_err(storage)?;
        if best {
            fs::rename(&twin.0, folder.join(BEST)).await.map_err(storage)?;
        }
        sync_folder(folder).await.map_err(storage)
    }
}

/// A file name that is removed, if there still is a file of that name, when its owner lets go of it.
#[derive(Debug)]
struct HiddenFile(PathBuf);

impl Drop for HiddenFile {
    fn drop(&mut self) {
        // Renamed files are gone from here; anything else that goes wrong leaves a hidden file and no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A second name for the same bytes, or a synced copy where the file system has no hard links.
async fn duplicate(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).await.is_ok() {
        return Ok(());
    }
    fs::copy(from, to).await?;
    File::options().write(true).open(to).await?.sync_all().await
}

/// Makes renames in a folder durable. Only Unix lets a folder be opened and synced.
async fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder).await?.sync_all().await?;
    }
    Ok(())
}

fn storage(error: io::Error) -> Refusal {
    Refusal::Storage {
        reason: error.to_string(),
    }
}

pub(super) const LAST: &str = "last.safetensors";
pub(super) const BEST: &str = "best.safetensors";

#[cfg(test)]
mod tests {
    use super::*;

    async fn upload(weights: &Weights, bytes: &[u8], digest: Fingerprint, best: bool) -> Result<(), Refusal> {
        let mut incoming = weights.receive(bytes.len() as u64, digest).await?;
        for chunk in bytes.chunks(3) {
            incoming.write(chunk).await?;
        }
        incoming.seal().await?;
        incoming.publish(best).await
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn best_keeps_its_bytes_when_last_moves_on() {
        let folder = tempfile::tempdir().unwrap();
        let weights = Weights::new(folder.path().to_owned());
        for (bytes, best) in [(b"first".as_slice(), true), (b"second", true), (b"third", false)] {
            upload(&weights, bytes, Fingerprint::of(bytes), best)
                .await
                .unwrap();
        }
        assert_eq!(names(folder.path()), [BEST, LAST]);
        assert_eq!(std::fs::read(folder.path().join(LAST)).unwrap(), b"third");
        assert_eq!(std::fs::read(folder.path().join(BEST)).unwrap(), b"second");
    }

    #[tokio::test]
    async fn bytes_that_do_not_fit_leave_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let weights = Weights::new(folder.path().to_owned());
        upload(&weights, b"good", Fingerprint::of(b"good"), false)
            .await
            .unwrap();
        let refused = upload(&weights, b"evil", Fingerprint::of(b"good"), true).await;
        assert!(matches!(refused, Err(Refusal::Corrupt { .. })));
        let mut short = weights.receive(9, Fingerprint::of(b"short")).await.unwrap();
        short.write(b"short").await.unwrap();
        assert!(matches!(short.seal().await, Err(Refusal::Corrupt { .. })));
        drop(short);
        let mut long = weights.receive(2, Fingerprint::of(b"long")).await.unwrap();
        assert!(matches!(long.write(b"long").await, Err(Refusal::Corrupt { .. })));
        drop(long);
        assert_eq!(names(folder.path()), [LAST]);
        assert_eq!(std::fs::read(folder.path().join(LAST)).unwrap(), b"good");
    }

    #[tokio::test]
    async fn a_file_over_the_limit_is_refused_before_a_byte_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let weights = Weights::new(folder.path().to_owned());
        let refused = weights.receive(UPLOAD_BYTES_MAX + 1, Fingerprint::of(b"")).await;
        assert!(matches!(refused, Err(Refusal::TooLarge { .. })));
        assert!(names(folder.path()).is_empty());
    }
}
