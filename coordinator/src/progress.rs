//! What a run tells the program around it. Nothing is printed by the library.

use std::path::PathBuf;

use proto::{Ending, EpochReport, Generation, Member, RunId, StepReport};

use crate::membership::{Evidence, Present, StopCause};

/// News of a run. Step reports are dropped when the reader is slow; everything else waits for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The run has its directory and waits for workers.
    Created {
        /// The run.
        run: RunId,
        /// Its directory.
        directory: PathBuf,
        /// Number of workers that it waits for.
        world_size: usize,
        /// Threads that each worker of an earlier part of the run computed with.
        threads: Option<u32>,
    },
    /// Workers are still missing.
    Waiting {
        /// Who is there.
        present: Vec<Present>,
        /// How many are missing.
        missing: usize,
        /// How many may be at work although nobody hears them.
        out_of_sight: usize,
    },
    /// A generation begins.
    Started {
        /// Its number.
        generation: Generation,
        /// Its members in ring order.
        members: Vec<Member>,
    },
    /// A member was lost; the others go on.
    Lost {
        /// Who.
        present: Present,
        /// Its rank.
        rank: usize,
        /// What showed it.
        evidence: Evidence,
    },
    /// A checkpoint is committed.
    Checkpoint {
        /// Steps applied in it.
        step: u64,
    },
    /// Something that a person should know.
    Notice(String),
    /// Progress within an epoch.
    Step(StepReport),
    /// The result of an epoch.
    Epoch(EpochReport),
    /// The workers were asked to stop.
    Stopping(StopCause),
    /// The run is over.
    Ended(Ending),
}
