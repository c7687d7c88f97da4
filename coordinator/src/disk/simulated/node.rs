//! Files and folders: what a process sees, what is durable, and what a crash may leave.

use std::collections::BTreeMap;
use std::ffi::OsString;

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

#[derive(Debug, Clone)]
pub(super) enum Node {
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

pub(super) type Names = BTreeMap<OsString, usize>;

#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(OsString, usize),
    Remove(OsString),
    Rename(OsString, OsString),
}

impl Node {
    pub(super) fn file() -> Self {
        Self::File {
            now: Vec::new(),
            durable: Vec::new(),
        }
    }

    pub(super) fn folder() -> Self {
        Self::Folder {
            now: Names::new(),
            durable: Names::new(),
            pending: Vec::new(),
        }
    }

    pub(super) fn survive(&self, survival: Survival, random: &mut Random) -> Self {
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
    pub(super) fn apply(&self, names: &mut Names) {
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

/// Marsaglia's xorshift64.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(survival: Survival) -> Self {
        Self(match survival {
            Survival::Some(seed) => seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            Survival::Nothing | Survival::Everything => 1,
        })
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) as usize) % bound.max(1)
    }
}
