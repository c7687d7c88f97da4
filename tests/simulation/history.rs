//! What happened in a simulated run, as the invariants read it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Something that a host did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A process began, without any state.
    Began,
    /// Training took its place in a generation.
    TookPlace { generation: u64 },
    /// A slot of a step was computed; steps count from zero here.
    Contributed { step: u64, slot: u32, samples: Vec<u32> },
    /// A step was applied; `step` counts those applied, this one included, and `hash` is that of the whole state.
    Applied {
        generation: u64,
        step: u64,
        hash: String,
    },
    /// The state was replaced by one with so many steps applied.
    Copied { step: u64 },
    /// The process ended by itself.
    Ended { how: String },
}

/// A fact, with its place and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Simulated time since the beginning.
    pub(crate) at: Duration,
    pub(crate) host: String,
    pub(crate) fact: Fact,
}

/// All facts in their order. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<Vec<Entry>>>);

impl History {
    /// Notes a fact of now.
    pub(crate) fn note(&self, host: &str, fact: Fact) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let host = host.to_owned();
        self.lock().push(Entry { at, host, fact });
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:9.3} s  {}: {:?}",
            self.at.as_secs_f64(),
            self.host,
            self.fact
        )
    }
}

/// Makes histories for the invariants' own tests: a second passes from one fact to the next.
#[cfg(test)]
pub(crate) fn made_up(facts: &[(&str, Fact)]) -> Vec<Entry> {
    let entries = facts.iter().enumerate();
    entries
        .map(|(second, (host, fact))| Entry {
            at: Duration::from_secs(second as u64),
            host: (*host).to_owned(),
            fact: fact.clone(),
        })
        .collect()
}

#[cfg(test)]
pub(crate) fn applied(generation: u64, step: u64) -> Fact {
    Fact::Applied {
        generation,
        step,
        hash: format!("state {step}"),
    }
}
