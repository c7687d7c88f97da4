//! What a run wants done.

use std::time::Duration;

use proto::{EpochReport, Roster, StepReport};

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
    /// Record that a worker went away before the run began; its place is free again.
    RecordDeparted {
        /// Who.
        present: Present,
        /// What showed it.
        evidence: Evidence,
    },
    /// Say who is there and how many are missing.
    Remind {
        /// Who is there, in the order of joining.
        present: Vec<Present>,
        /// How many are missing.
        missing: usize,
    },
    /// Announce a generation to every Watch stream.
    Announce(Roster),
    /// Ask every worker to stop at the next step boundary.
    RequestStop,
    /// Show progress.
    ShowStep(StepReport),
    /// Record the result of an epoch.
    RecordEpoch {
        /// The result.
        report: EpochReport,
        /// Time since the generation began.
        elapsed: Duration,
    },
    /// Tell every Watch stream that the run is over. Nothing follows it.
    End(Verdict),
}

/// Most effects of one event: the last worker joins and the generation begins.
pub const MAX_EFFECTS: usize = 2;
