//! An open file of the simulated file system.

use std::fs::TryLockError;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::node::Node;
use super::{Call, Honesty, SimulatedDisk, State};
use crate::disk::DiskFile;

/// An open file of the file system. It has no lock: one process uses the disk.
#[derive(Debug)]
pub(super) struct SimulatedFile {
    pub(super) disk: SimulatedDisk,
    pub(super) id: usize,
    pub(super) position: usize,
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
        state.alive()?;
        let called = state.call(Call::Grow);
        // What fails is half done.
        let count = if called.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
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
