//! Loaders: threads that make network inputs ahead of the consumer.
//!
//! `ordered` is the engine: jobs in, results out in the same order, a bounded number of them ahead. `train` and `val` say
//! what a job is, `cache` keeps decoded pictures in memory, `shared` in a folder for all processes of a host. Results depend on the jobs alone, never on the number of
//! threads.

mod cache;
mod ordered;
mod shared;
mod train;
mod val;

use std::num::NonZeroUsize;

pub use cache::{Loaded, PictureCache};
pub use train::{SlotBatch, SlotJob, TrainLoader};
pub use val::{TruthBox, ValBatch, ValJob, ValLoader, val_batches};

use crate::dataset::SampleId;

/// The size of a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Number of threads.
    pub threads: NonZeroUsize,
    /// Largest number of results that are ready or in work ahead of the consumer; below the number of threads, some
    /// threads idle.
    pub queue: NonZeroUsize,
}

/// Why a loader cannot go on. These are faults of the program or its caller: unreadable files are no error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoaderError {
    /// A job names a sample that the dataset does not have.
    #[error("sample {} was asked for, the dataset has {len}", sample.0)]
    UnknownSample {
        /// The sample asked for.
        sample: SampleId,
        /// Number of samples of the dataset.
        len: usize,
    },
    /// A thread died.
    #[error("a loader thread panicked")]
    Panicked,
}

fn check_samples(cache: &PictureCache, samples: &[SampleId]) -> Result<(), LoaderError> {
    let len = cache.dataset().len();
    match samples.iter().find(|sample| sample.0 as usize >= len) {
        Some(&sample) => Err(LoaderError::UnknownSample { sample, len }),
        None => Ok(()),
    }
}
