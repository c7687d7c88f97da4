//! A file system in memory that can fail or end the world at its N-th call, for tests.
//!
//! Each file and folder has what a process sees *now* and what is *durable*. After a crash, [`Survival`] says what
//! is left of the difference: nothing, everything, or a part of it. Parts are chosen as a real disk may choose
//! them: each change of names in a folder on its own, in no order; of bytes that were appended any number, and any
//! number of those zeros (a block that was allotted, but never written).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::TryLockError;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex};

use super::{Disk, DiskFile};

/// The file system. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Nothing,
    /// The call of this index is not done, or half done, and none after it.
    CrashAt(u64),
    /// The call of this index fails, and those after it work.
    FailAt(u64),
    /// From the call of this index on there is no room.
    FullFrom(u64),
}

/// What a crash leaves of changes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survival {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// Some of them, by this seed.
    Some(u64),
}

/// Which calls do as they say. A disk that lies shows that a test notices missing syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Honesty {
    Honest,
    IgnoresFileSync,
    IgnoresFolderSync,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    calls: u64,
    fault: Fault,
    crashed: bool,
    honesty: Honesty,
}

#[derive(Debug, Clone)]
enum Node {
    File {
        now: Vec<u8>,
        durable: Vec<u8>,
    },
    Folder {
        now: Names,
        durable: Names,
        pending: Vec<Change>,
    },
}

type Names = BTreeMap<OsString, usize>;

#[derive(Debug, Clone)]
enum Change {
    Put(OsString, usize),
    Remove(OsString),
    Rename(OsString, OsString),
}

/// The kinds of call that a fault can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Needs room.
    Grow,
    Other,
}

impl SimulatedDisk {
    /// An empty file system.
    pub(crate) fn new() -> Self {
        Self::with(vec![Node::folder()], Honesty::Honest)
    }

    /// An empty file system that lies.
    pub(crate) fn lying(honesty: Honesty) -> Self {
        Self::with(vec![Node::folder()], honesty)
    }

    fn with(nodes: Vec<Node>, honesty: Honesty) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes,
            calls: 0,
            fault: Fault::Nothing,
            crashed: false,
            honesty,
        })))
    }

    /// Counts calls from here on, and strikes at one of them.
    pub(crate) fn strike(&self, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        state.calls = 0;
        state.fault = fault;
    }

    /// How many calls that change something were made since [`strike`](Self::strike).
    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    pub(crate) fn is_crashed(&self) -> bool {
        self.0.lock().unwrap().crashed
    }

    /// The file system as it is found after a crash at this moment.
    pub(crate) fn after_crash(&self, survival: Survival) -> Self {
        let state = self.0.lock().unwrap();
        let mut random = Random(match survival {
            Survival::Some(seed) => seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            _ => 1,
        });
        let nodes = state.nodes.iter().map(|node| node.survive(survival, &mut random));
        Self::with(nodes.collect(), state.honesty)
    }

    /// Damages the bytes of a file behind everybody's back.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().unwrap();
        let id = state.find(path).unwrap();
        let Node::File { now, durable } = &mut state.nodes[id] else {
            panic!("{} is a folder", path.display());
        };
        change(now);
        durable.clone_from(now);
    }
}

impl Node {
    fn folder() -> Self {
        Self::Folder {
            now: Names::new(),
            durable: Names::new(),
            pending: Vec::new(),
        }
    }

    fn survive(&self, survival: Survival, random: &mut Random) -> Self {
        match self {
            Self::File { now, durable } => {
                let left = match survival {
                    Survival::Nothing => durable.clone(),
                    Survival::Everything => now.clone(),
                    Survival::Some(_) => torn(durable, now, random),
                };
                Self::File {
                    now: left.clone(),
                    durable: left,
                }
            }
            Self::Folder {
                now,
                durable,
                pending,
            } => {
                let left = match survival {
                    Survival::Nothing => durable.clone(),
                    Survival::Everything => now.clone(),
                    Survival::Some(_) => {
                        let mut left = durable.clone();
                        for change in pending {
                            if random.below(2) == 0 {
                                change.apply(&mut left);
                            }
                        }
                        left
                    }
                };
                Self::Folder {
                    now: left.clone(),
                    durable: left,
                    pending: Vec::new(),
                }
            }
        }
    }
}

/// What may be left of a file.
fn torn(durable: &[u8], now: &[u8], random: &mut Random) -> Vec<u8> {
    let Some(appended) = now.strip_prefix(durable) else {
        return if random.below(2) == 0 { durable } else { now }.to_vec();
    };
    let mut left = appended[..random.below(appended.len() + 1)].to_vec();
    if random.below(2) == 0 {
        let written = random.below(left.len() + 1);
        left[written..].fill(0);
    }
    [durable, &left].concat()
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Put(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }
}

impl State {
    /// Counts a call, and says whether it fails; `true` in the error's place means: after half of it.
    fn call(&mut self, call: Call) -> io::Result<()> {
        self.alive()?;
        let index = self.calls;
        self.calls += 1;
        match self.fault {
            Fault::CrashAt(at) if index == at => {
                self.crashed = true;
                Err(io::Error::other("the machine crashed"))
            }
            Fault::FailAt(at) if index == at => Err(io::Error::other("input/output error")),
            Fault::FullFrom(from) if index >= from && call == Call::Grow => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "no space left on device",
            )),
            _ => Ok(()),
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other("the machine crashed before"));
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut id = 0;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            id = match &self.nodes[id] {
                Node::Folder { now, .. } => *now.get(name).ok_or(io::ErrorKind::NotFound)?,
                Node::File { .. } => return Err(io::ErrorKind::NotADirectory.into()),
            };
        }
        Ok(id)
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(usize, &'a OsStr)> {
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?;
        Ok((parent, path.file_name().ok_or(io::ErrorKind::InvalidInput)?))
    }

    fn names(&self, id: usize) -> io::Result<&Names> {
        match &self.nodes[id] {
            Node::Folder { now, .. } => Ok(now),
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn change(&mut self, folder: usize, change: Change) {
        let Node::Folder { now, pending, .. } = &mut self.nodes[folder] else {
            panic!("node {folder} is no folder");
        };
        change.apply(now);
        pending.push(change);
    }

    fn put(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (parent, name) = self.parent(path)?;
        if self.names(parent)?.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.call(Call::Grow)?;
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.change(parent, Change::Put(name.to_owned(), id));
        Ok(id)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        self.call(Call::Other)?;
        self.change(parent, Change::Remove(name.to_owned()));
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let node = Node::File {
            now: Vec::new(),
            durable: Vec::new(),
        };
        let mut state = self.0.lock().unwrap();
        state.alive()?;
        let id = state.put(path, node)?;
        Ok(self.handle(id))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.0.lock().unwrap();
        state.alive()?;
        let id = state.find(path)?;
        match state.nodes[id] {
            Node::File { .. } => Ok(self.handle(id)),
            Node::Folder { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn open_writable(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.alive()?;
        state.put(path, Node::folder()).map(|_| ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.alive()?;
        let (folder, old) = state.parent(from)?;
        let (same, new) = state.parent(to)?;
        assert_eq!(
            folder, same,
            "a rename across folders needs more care than this disk takes"
        );
        let names = state.names(folder)?;
        let id = *names.get(old).ok_or(io::ErrorKind::NotFound)?;
        if let Some(&replaced) = names.get(new) {
            match (&state.nodes[id], &state.nodes[replaced]) {
                (Node::File { .. }, Node::File { .. }) => {}
                (Node::Folder { .. }, Node::Folder { now, .. }) if now.is_empty() => {}
                _ => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            }
        }
        state.call(Call::Other)?;
        state.change(folder, Change::Rename(old.to_owned(), new.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.alive()?;
        let id = state.find(path)?;
        match state.nodes[id] {
            Node::File { .. } => state.remove(path),
            Node::Folder { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.alive()?;
        let id = state.find(path)?;
        if !state.names(id)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.alive()?;
        let id = state.find(path)?;
        state.call(Call::Other)?;
        if state.honesty == Honesty::IgnoresFolderSync {
            return Ok(());
        }
        match &mut state.nodes[id] {
            Node::Folder {
                now,
                durable,
                pending,
            } => {
                durable.clone_from(now);
                pending.clear();
                Ok(())
            }
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let state = self.0.lock().unwrap();
        state.alive()?;
        let id = state.find(path)?;
        Ok(state.names(id)?.keys().cloned().collect())
    }
}

impl SimulatedDisk {
    fn handle(&self, id: usize) -> Box<dyn DiskFile> {
        Box::new(SimulatedFile {
            disk: self.clone(),
            id,
            position: 0,
        })
    }
}

/// An open file of the file system. It has no lock: one process uses the disk.
#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    id: usize,
    position: usize,
}

impl SimulatedFile {
    /// Calls `act` with the file's bytes: now, and durable.
    fn with<T>(&self, state: &mut State, act: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>) -> T) -> T {
        match &mut state.nodes[self.id] {
            Node::File { now, durable } => act(now, durable),
            Node::Folder { .. } => panic!("node {} is no file", self.id),
        }
    }
}

impl Read for SimulatedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.0.lock().unwrap();
        state.alive()?;
        let position = self.position;
        let count = self.with(&mut state, |now, _| {
            let left = now.get(position..).unwrap_or_default();
            let count = left.len().min(buffer.len());
            buffer[..count].copy_from_slice(&left[..count]);
            count
        });
        drop(state);
        self.position += count;
        Ok(count)
    }
}

impl Write for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.0.lock().unwrap();
        let called = state.call(Call::Grow);
        // What fails is half done, unless the machine was down before.
        let count = match &called {
            Ok(()) => bytes.len(),
            Err(_) if state.calls == 0 => 0,
            Err(error) if error.to_string().ends_with("before") => 0,
            Err(_) => bytes.len() / 2,
        };
        let position = self.position;
        self.with(&mut state, |now, _| {
            if now.len() < position + count {
                now.resize(position + count, 0);
            }
            now[position..position + count].copy_from_slice(&bytes[..count]);
        });
        drop(state);
        called?;
        self.position += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SimulatedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let mut state = self.disk.0.lock().unwrap();
        state.alive()?;
        let length = self.with(&mut state, |now, _| now.len()) as i64;
        let position = match to {
            SeekFrom::Start(offset) => offset as i64,
            SeekFrom::End(offset) => length + offset,
            SeekFrom::Current(offset) => self.position as i64 + offset,
        };
        self.position = usize::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(self.position as u64)
    }
}

impl DiskFile for SimulatedFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        state.call(Call::Other)?;
        if state.honesty != Honesty::IgnoresFileSync {
            self.with(&mut state, |now, durable| durable.clone_from(now));
        }
        Ok(())
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        state.call(Call::Other)?;
        self.with(&mut state, |now, _| now.resize(bytes as usize, 0));
        Ok(())
    }

    fn try_lock(&mut self) -> Result<(), TryLockError> {
        Ok(())
    }
}

/// Marsaglia's xorshift64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) as usize) % bound.max(1)
    }
}
