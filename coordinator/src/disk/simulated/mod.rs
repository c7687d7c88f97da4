//! A file system in memory that can fail or end the world at its N-th call, for tests.
//!
//! Each file and folder has what a process sees *now* and what is *durable*. After a crash, [`Survival`] says what
//! is left of the difference: nothing, everything, or a part of it. Parts are chosen as a real disk may choose
//! them: each change of names in a folder on its own, in no order; of bytes that were appended any number, and any
//! number of those zeros (a block that was allotted, but never written).

mod file;
mod node;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex};

use self::file::SimulatedFile;
pub(crate) use self::node::Survival;
use self::node::{Change, Names, Node, Random};
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
        let mut random = Random::new(survival);
        let nodes = state.nodes.iter().map(|node| node.survive(survival, &mut random));
        Self::with(nodes.collect(), state.honesty)
    }
}

impl State {
    /// Counts a call, and says whether it fails.
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
        let parent = self.find(path.parent().unwrap_or_else(|| Path::new("")))?;
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
        let mut state = self.0.lock().unwrap();
        state.alive()?;
        let id = state.put(path, Node::file())?;
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
