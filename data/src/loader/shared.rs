//! Decoded pictures that the processes of a host share, as files of one folder. In `/dev/shm` they are in memory, once for all.
//!
//! A file's name is a digest of where its picture comes from: path, length and time of change of the image file, and the size
//! it was brought to. So a changed image is another file, and the folder serves any number of runs and data sets. Files are
//! written beside and renamed, so a reader finds a whole one or none; their content has a digest, and one that does not fit is as good as
//! none. Nothing is ever thrown out: when there is no room, pictures are decoded each time.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::UNIX_EPOCH,
};

use crate::picture::Picture;

/// A folder of pictures. Whoever can write to it decides what is trained on.
#[derive(Debug)]
pub(super) struct SharedPictures {
    folder: PathBuf,
    /// Makes names of unfinished files unique within this process.
    written: AtomicU64,
    has_failed: AtomicBool,
}

impl SharedPictures {
    /// Opens a folder, which is made where it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            written: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        })
    }

    /// Returns the picture that was made of an image file, if it is there, whole, and of this size.
    pub(super) fn get(&self, image: &Path, [width, height]: [u32; 2]) -> Option<Picture> {
        let pixels = width as usize * height as usize * 3;
        let mut file = File::open(self.path(image, [width, height]).ok()?).ok()?;
        if file.metadata().ok()?.len() != (DIGEST_BYTES + pixels) as u64 {
            return None;
        }
        let mut digest = [0; DIGEST_BYTES];
        let mut rgb = vec![0; pixels];
        file.read_exact(&mut digest).ok()?;
        file.read_exact(&mut rgb).ok()?;
        (blake3::hash(&rgb) == digest).then_some(Picture { width, height, rgb })
    }

    /// Leaves a picture that was made of an image file for others. When that fails it is told once.
    pub(super) fn put(&self, image: &Path, picture: &Picture) {
        if let Err(error) = self.write(image, picture)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "decoded pictures cannot be shared");
        }
    }

    fn write(&self, image: &Path, picture: &Picture) -> io::Result<()> {
        let path = self.path(image, [picture.width, picture.height])?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!(".{}-{number}", process::id()));
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(blake3::hash(&picture.rgb).as_bytes())?;
            file.write_all(&picture.rgb)
        });
        let renamed = written.and_then(|()| fs::rename(&unfinished, path));
        if renamed.is_err() {
            // It may not even be there.
            let _ = fs::remove_file(&unfinished);
        }
        renamed
    }

    fn path(&self, image: &Path, size: [u32; 2]) -> io::Result<PathBuf> {
        let metadata = fs::metadata(image)?;
        let changed = metadata
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut source = blake3::Hasher::new();
        source.update(fs::canonicalize(image)?.as_os_str().as_encoded_bytes());
        source.update(&metadata.len().to_le_bytes());
        source.update(&changed.as_nanos().to_le_bytes());
        for side in size {
            source.update(&side.to_le_bytes());
        }
        Ok(self.folder.join(source.finalize().to_hex().as_str()))
    }
}

const DIGEST_BYTES: usize = blake3::OUT_LEN;

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [u32; 2] = [4, 3];

    fn picture(value: u8) -> Picture {
        let [width, height] = SIZE;
        Picture::filled(width, height, [value; 3])
    }

    #[test]
    fn another_process_finds_what_one_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image.jpg");
        fs::write(&image, b"one").unwrap();
        let shared = folder.path().join("shared");
        let [one, other] = [(); 2].map(|()| SharedPictures::open(shared.clone()).unwrap());
        assert_eq!(other.get(&image, SIZE), None);
        one.put(&image, &picture(7));
        assert_eq!(other.get(&image, SIZE), Some(picture(7)));
        assert_eq!(other.get(&image, [3, 4]), None, "another size");
        fs::write(&image, b"another").unwrap();
        assert_eq!(other.get(&image, SIZE), None, "another image");
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image.jpg");
        fs::write(&image, b"one").unwrap();
        let shared = SharedPictures::open(folder.path().join("shared")).unwrap();
        shared.put(&image, &picture(7));
        let path = shared.path(&image, SIZE).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert_eq!(shared.get(&image, SIZE), None, "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(shared.get(&image, SIZE), None, "cut at {at}");
        }
        shared.put(&image, &picture(7));
        assert_eq!(shared.get(&image, SIZE), Some(picture(7)));
    }

    #[test]
    fn a_folder_that_takes_nothing_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image.jpg");
        fs::write(&image, b"one").unwrap();
        let shared = SharedPictures::open(folder.path().join("shared")).unwrap();
        fs::remove_dir(folder.path().join("shared")).unwrap();
        shared.put(&image, &picture(7));
        assert_eq!(shared.get(&image, SIZE), None);
        fs::write(folder.path().join("file"), b"").unwrap();
        assert!(SharedPictures::open(folder.path().join("file")).is_err());
    }
}
