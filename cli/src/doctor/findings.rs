//! What was found: the cluster as it is, without a word on whether that is good.

use serde::Serialize;

/// Everything that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    /// Version of this program.
    pub(super) version: &'static str,
    /// The run, a UUID in text form.
    pub(super) run: String,
    /// `gathering`, `running` or `finished`.
    pub(super) phase: Phase,
    /// Number of workers that the run starts with.
    pub(super) world_size: usize,
    /// The coordinator's host.
    pub(super) coordinator: Seen,
    /// Those that have joined or are about to, in ring order, then those that are not part of the ring.
    pub(super) workers: Vec<Worker>,
    /// Each worker to its right neighbour, then each worker to the coordinator.
    pub(super) edges: Vec<Edge>,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Gathering,
    Running,
    Finished,
}

/// A process, looked at from here.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Seen {
    /// How people call it.
    pub(super) name: String,
    /// `host:port`.
    pub(super) address: String,
    /// What it told.
    pub(super) look: Option<Look>,
    /// Why it told nothing.
    pub(super) failure: Option<String>,
}

/// What a process told.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Look {
    pub(super) version: String,
    /// Name of the machine.
    pub(super) host: String,
    /// Seconds that its clock is ahead of the coordinator's.
    pub(super) clock_ahead_seconds: f64,
    /// How far that may be off.
    pub(super) clock_error_seconds: f64,
    /// Bytes that may still be written.
    pub(super) free_bytes: Option<u64>,
}

/// A worker.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Worker {
    #[serde(flatten)]
    pub(super) seen: Seen,
    /// The worker process, a UUID in text form.
    pub(super) worker: String,
    /// The machine, as it told the coordinator.
    pub(super) host: String,
    pub(super) stage: Stage,
    /// Whether it is, or is about to be, a member of the ring: whoever asked for the run and is gone is not.
    pub(super) is_member: bool,
    /// Seconds since the coordinator heard of it.
    pub(super) age_seconds: f64,
    /// What it has opened, once it has joined.
    pub(super) opened: Option<Opened>,
    /// Why it was refused, if it was.
    pub(super) refusal: Option<String>,
}

/// How far a worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    Opening,
    Refused,
    Joined,
}

/// What a worker has opened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Opened {
    pub(super) device: String,
    pub(super) threads: u32,
    /// Digest of the data.
    pub(super) dataset: String,
    pub(super) train_images: u64,
    pub(super) val_images: u64,
    /// Digest of the model and its first state.
    pub(super) model: String,
    /// The model, for people.
    pub(super) description: String,
}

/// A connection from one process to another.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Edge {
    /// Name of the one who connects.
    pub(super) from: String,
    /// Name of the one who is reached.
    pub(super) to: String,
    /// Whether both are on one machine.
    pub(super) is_local: bool,
    /// Whether it is part of the ring.
    pub(super) is_ring: bool,
    pub(super) round_trip_seconds: Option<f64>,
    pub(super) bytes_per_second: Option<u64>,
    /// Why there is no connection.
    pub(super) failure: Option<String>,
    /// Whether it could not be tried, for its beginning was out of reach.
    pub(super) is_untried: bool,
}
