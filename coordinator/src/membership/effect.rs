//! What a run wants done.

use std::time::Duration;

use proto::{Activity, EpochReport, MAX_WORLD_SIZE, Roster, StepReport};

use super::gathering::Present;
use super::verdict::{Evidence, Verdict};

/// Something for the shell to do. The same value feeds log, files, progress and Watch streams.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Record that a worker has joined.
    RecordJoined {
        /// Who.
        present: Present,
        /// How many are there now.
        members: usize,
    },
    /// Record that a worker went away that was no member of a generation.
    RecordDeparted {
        /// Who.
        present: Present,
        /// What showed it.
        evidence: Evidence,
    },
    /// Record that a member was lost.
    RecordLost {
        /// Who.
        present: Present,
        /// Its rank.
        rank: usize,
        /// Steps that it had applied.
        step: u64,
        /// What it was doing when it was last heard.
        activity: Activity,
        /// What showed it.
        evidence: Evidence,
    },
    /// Record that a member's state differs from that of most others.
    RecordDamaged {
        /// Who.
        present: Present,
        /// Its rank.
        rank: usize,
        /// The step after which it differed.
        step: u64,
        /// How often that has happened to it.
        times: u32,
    },
    /// Say who is there and how many are missing.
    Remind {
        /// Who is there, in the order of joining.
        present: Vec<Present>,
        /// How many are missing.
        missing: usize,
        /// How many may be at work although nobody hears them: one of them is waited for, or the end of a time.
        out_of_sight: usize,
    },
    /// Make a generation durable, then announce it to every Watch stream.
    Announce(Roster),
    /// Ask every worker to stop at the next step boundary.
    RequestStop(StopCause),
    /// Ask every worker for a checkpoint at the next step boundary.
    RequestCheckpoint {
        /// Number of the request.
        number: u64,
    },
    /// Record that a checkpoint is committed.
    RecordCheckpoint {
        /// Steps applied in it.
        step: u64,
    },
    /// Show progress.
    ShowStep(StepReport),
    /// Record the result of an epoch.
    RecordEpoch {
        /// The result.
        report: EpochReport,
        /// Time since the run began.
        elapsed: Duration,
    },
    /// Tell every Watch stream that the run is over. Nothing follows it.
    End(Verdict),
}

/// Most effects of one event: everybody is lost at once, and what follows.
pub const MAX_EFFECTS: usize = MAX_WORLD_SIZE + 2;

/// Why a run is to stop before its last epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Somebody asked for it.
    Asked,
    /// It has trained for as long as it may.
    TimeIsUp,
}
