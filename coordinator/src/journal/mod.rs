//! The journal: what the coordinator must still know after it was killed.
//!
//! One append-only file of few, small records. [`Journal::append`] returns when the record is durable, so a
//! coordinator appends first and acts after. Opening gives the records up to the first that is damaged, never one
//! behind it, and says what is wrong; the damaged tail is kept beside the journal when it is cut off. A
//! lock on the file keeps two coordinators from owning one run.
//!
//! It decides nothing: what the records mean is the coordinator's matter.

mod frame;
mod record;
#[cfg(test)]
mod tests;

use std::fs::TryLockError;
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use self::frame::Frame;
pub use self::record::Record;
use crate::disk::{Disk, DiskFile, RealDisk, folder_of};

/// The journal of a run, open and locked.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Where the whole records end and the next one goes.
    end: u64,
    tail: Tail,
}

/// What lies behind the whole records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Nothing,
    /// Damage that was found: kept beside before it is cut off.
    Damaged,
    /// Perhaps a part of a record that could not be written: cut off.
    Unfinished,
}

/// A journal that was opened again.
#[derive(Debug)]
pub struct Opened {
    /// Takes further records.
    pub journal: Journal,
    /// All whole records before the first damage, oldest first.
    pub records: Vec<Record>,
    /// What is damaged, if something is.
    pub damage: Option<Damage>,
}

/// Where the whole records of a journal end early.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} is damaged from byte {offset} on ({reason}): the last {bytes} bytes are not used", path.display())]
pub struct Damage {
    /// The journal.
    pub path: PathBuf,
    /// Where the damage begins.
    pub offset: u64,
    /// How many bytes are there from `offset` to the end of the file.
    pub bytes: u64,
    /// What does not fit.
    pub reason: &'static str,
}

/// Why a journal cannot be opened.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process owns it.
    #[error("{} is in use: another coordinator is running this run; stop it first", path.display())]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// A record is whole, but this program does not know it. Cutting it off would lose what it says.
    #[error(
        "{} has a record at byte {offset} that this version of ringmaster cannot read ({reason}): use the version that wrote it",
        path.display()
    )]
    Unknown {
        /// The journal.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What is not known.
        reason: String,
    },
    /// The system refused.
    #[error("cannot open {}: {cause}", path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl Journal {
    /// Makes the journal, empty, locked and durable.
    ///
    /// # Errors
    /// When it exists, or the system refuses.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::create_on(Arc::new(RealDisk), path)
    }

    /// Opens a journal and reads what is whole in it. Nothing is changed before the first
    /// [`append`](Self::append).
    ///
    /// # Errors
    /// When another process owns it, a newer program wrote it, or the system refuses. Damage is no error.
    pub fn open(path: &Path) -> Result<Opened, JournalError> {
        Self::open_on(Arc::new(RealDisk), path)
    }

    /// Appends a record and returns when it is durable. After an error the journal is as it was.
    ///
    /// (When even taking back fails, as on a disk that is gone, the next call takes back first. Only a
    /// coordinator that is killed before that may find the record when it opens the journal again.)
    ///
    /// # Errors
    /// When the record is too large, or the system refuses.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let (kind, payload) = record.encode();
        let bytes = frame::encode(self.end, kind, &payload).ok_or_else(|| {
            let text = format!("a record of {} bytes is over the limit", payload.len());
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        self.settle()?;
        self.tail = Tail::Unfinished;
        if let Err(error) = self.write_at_end(&bytes) {
            // If this fails too, the next append tries it again.
            let _ = self.settle();
            return Err(error);
        }
        self.end += bytes.len() as u64;
        self.tail = Tail::Nothing;
        Ok(())
    }

    pub(crate) fn create_on(disk: Arc<dyn Disk>, path: &Path) -> io::Result<Self> {
        let mut file = disk.create_new(path)?;
        file.try_lock()?;
        file.sync()?;
        disk.sync_folder(folder_of(path))?;
        Ok(Self {
            disk,
            file,
            path: path.to_owned(),
            end: 0,
            tail: Tail::Nothing,
        })
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, path: &Path) -> Result<Opened, JournalError> {
        let failed = |cause| JournalError::Io {
            path: path.to_owned(),
            cause,
        };
        let mut file = disk.open_writable(path).map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::InUse {
                path: path.to_owned(),
            },
            TryLockError::Error(cause) => failed(cause),
        })?;
        let file_bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let mut reader = BufReader::new(&mut file);
        let mut records = Vec::new();
        let mut end = 0;
        let damage = loop {
            match frame::read(&mut reader, end, file_bytes).map_err(failed)? {
                Frame::End => break None,
                Frame::Damaged { reason } => {
                    break Some(Damage {
                        path: path.to_owned(),
                        offset: end,
                        bytes: file_bytes - end,
                        reason,
                    });
                }
                Frame::Whole {
                    version,
                    kind,
                    payload,
                } => {
                    let unknown = |reason| JournalError::Unknown {
                        path: path.to_owned(),
                        offset: end,
                        reason,
                    };
                    if version != frame::VERSION {
                        return Err(unknown(format!("version {version} of the format is not known")));
                    }
                    records.push(Record::decode(kind, &payload).map_err(unknown)?);
                    end += (frame::HEADER_BYTES + payload.len()) as u64;
                }
            }
        };
        let tail = if damage.is_some() {
            Tail::Damaged
        } else {
            Tail::Nothing
        };
        let path = path.to_owned();
        let journal = Self {
            disk,
            file,
            path,
            end,
            tail,
        };
        Ok(Opened {
            journal,
            records,
            damage,
        })
    }

    /// Cuts off what lies behind the whole records, if something may.
    fn settle(&mut self) -> io::Result<()> {
        if self.tail == Tail::Damaged {
            self.keep_tail()?;
            self.tail = Tail::Unfinished;
        }
        if self.tail == Tail::Unfinished {
            self.file.set_len(self.end)?;
            self.file.sync()?;
            self.tail = Tail::Nothing;
        }
        Ok(())
    }

    /// Copies the damaged tail to the first free `journal.damaged-N` beside the journal.
    fn keep_tail(&mut self) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".damaged-");
        for number in 1..=DAMAGED_MAX {
            let mut numbered = name.clone();
            numbered.push(number.to_string());
            let path = self.path.with_file_name(numbered);
            let mut kept = match self.disk.create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            };
            self.file.seek(SeekFrom::Start(self.end))?;
            let copied = io::copy(&mut self.file, &mut kept)
                .and_then(|_| kept.sync())
                .and_then(|()| self.disk.sync_folder(folder_of(&path)));
            if copied.is_err() {
                // A part of the tail is worth nothing; the journal still has all of it.
                let _ = self.disk.remove_file(&path);
            }
            return copied;
        }
        let text = format!("{DAMAGED_MAX} damaged tails lie beside {}", self.path.display());
        Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
    }

    fn write_at_end(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(bytes)?;
        self.file.sync()
    }
}

/// Nobody's disk fails so often that more would help to find out why.
const DAMAGED_MAX: u32 = 999;
