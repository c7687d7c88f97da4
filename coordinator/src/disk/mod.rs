//! The few file system calls behind everything that must survive a crash.
//!
//! The journal and the checkpoint store reach files through this trait only, so that their tests can end the
//! world at each single call: an implementation in memory drops what was not synced, and tears what was half
//! written. [`RealDisk`] is `std::fs`.
//!
//! What it promises is what POSIX promises: bytes are durable after [`DiskFile::sync`], names (of new, renamed
//! and removed files) after [`Disk::sync_folder`], and a rename is seen either whole or not at all.

#[cfg(test)]
pub(crate) mod simulated;

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// A file system, as far as it is needed.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Makes a file, for reading and writing; it must not exist.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open_writable(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Makes a folder; it must not exist, its parent must.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or folder another name in the same folder. A file that has it is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
}

/// An open file.
pub(crate) trait DiskFile: Debug + Read + Write + Seek + Send + Sync {
    /// Makes its bytes and its length durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts it to this length.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;
    /// Takes its exclusive lock, until it is closed.
    fn try_lock(&mut self) -> Result<(), TryLockError>;
}

/// `std::fs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn open_writable(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::options().read(true).write(true).open(path)?))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    /// Only Unix lets a folder be opened and synced.
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if cfg!(unix) {
            File::open(path)?.sync_all()?;
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        Self::set_len(self, bytes)
    }

    fn try_lock(&mut self) -> Result<(), TryLockError> {
        Self::try_lock(self)
    }
}

/// The folder that holds the name; a bare name lies in the working directory.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Removes a folder and the files in it; the folder holds no folders. What is gone already is no error.
pub(crate) fn remove_folder_of_files(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let names = match disk.list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in names {
        disk.remove_file(&path.join(name))?;
    }
    disk.remove_folder(path)
}

/// Puts a small file in place of the one of that name, if there is one: written beside, synced, renamed.
pub(crate) fn replace_file(disk: &dyn Disk, folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let hidden = folder.join(format!(".{name}.new"));
    let written = write_synced(disk, &hidden, bytes).and_then(|()| disk.rename(&hidden, &folder.join(name)));
    if written.is_err() {
        // What cannot be removed now is removed when the folder is opened again.
        let _ = disk.remove_file(&hidden);
    }
    written?;
    disk.sync_folder(folder)
}

fn write_synced(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = disk.create_new(path)?;
    file.write_all(bytes)?;
    file.sync()
}
