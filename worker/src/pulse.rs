//! What a heartbeat tells: written by training, read by the heart.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use proto::{Activity, Generation, StateDigest};

/// Signs of life of this rank.
#[derive(Debug, Default)]
pub struct Pulse {
    generation: AtomicU64,
    step: AtomicU64,
    activity: AtomicU8,
    progress: AtomicU64,
    waits_for_left: AtomicBool,
    digest: Mutex<Option<StateDigest>>,
}

impl Pulse {
    /// Returns the generation that this rank is in; 0 before the first.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }

    /// Enters a generation, in which the state may become another one.
    pub fn enter(&self, generation: Generation) {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.generation.store(generation.0, Ordering::Relaxed);
    }

    /// Returns the number of steps done.
    pub fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }

    /// So many steps are done.
    pub fn advance(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.progress();
    }

    /// Returns what the rank is doing.
    pub fn activity(&self) -> Activity {
        ACTIVITIES[usize::from(self.activity.load(Ordering::Relaxed))]
    }

    /// The rank turned to something else.
    pub fn set_activity(&self, activity: Activity) {
        let index = ACTIVITIES
            .iter()
            .position(|&known| known == activity)
            .unwrap_or(0);
        self.activity.store(index as u8, Ordering::Relaxed);
        self.progress();
    }

    /// Something got done.
    pub fn progress(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how much got done.
    pub fn progress_made(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Whether the rank waits for its left neighbour from now on.
    pub fn wait_for_left(&self, waits: bool) {
        self.waits_for_left.store(waits, Ordering::Relaxed);
    }

    /// Whether the rank waits for its left neighbour.
    pub fn waits_for_left(&self) -> bool {
        self.waits_for_left.load(Ordering::Relaxed)
    }

    /// Returns the newest digest of the state.
    pub fn digest(&self) -> Option<StateDigest> {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the digest of the state.
    pub fn set_digest(&self, digest: StateDigest) {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
    }
}

const ACTIVITIES: [Activity; 4] = [
    Activity::Waiting,
    Activity::Training,
    Activity::Validating,
    Activity::Saving,
];
