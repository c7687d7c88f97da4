//! How a run ends, as every process of it is told.

use std::fmt;

use crate::parse::{ParseError, known, sentence};
use crate::wire;

/// How a run, or one worker's part in it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every epoch was trained, the recipe's patience ran out, or its time was up.
    Completed,
    /// Stopped on request, after the last weights were saved.
    Stopped,
    /// Something went wrong.
    Failed,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// One sentence for people.
    pub reason: String,
    /// Whether it can be resumed from its newest checkpoint.
    pub resumable: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        })
    }
}

impl Outcome {
    /// Parses the number of a message field.
    ///
    /// # Errors
    /// When the number is 0 or unknown.
    pub fn from_wire(number: i32) -> Result<Self, ParseError> {
        known("outcome", number, |outcome| match outcome {
            wire::Outcome::Unspecified => None,
            wire::Outcome::Completed => Some(Self::Completed),
            wire::Outcome::Stopped => Some(Self::Stopped),
            wire::Outcome::Failed => Some(Self::Failed),
        })
    }
}

impl From<Outcome> for wire::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::Stopped => Self::Stopped,
            Outcome::Failed => Self::Failed,
        }
    }
}

impl TryFrom<wire::RunEnded> for Ending {
    type Error = ParseError;

    fn try_from(ended: wire::RunEnded) -> Result<Self, ParseError> {
        Ok(Self {
            outcome: Outcome::from_wire(ended.outcome)?,
            reason: sentence(&ended.reason),
            resumable: ended.resumable,
        })
    }
}

impl From<Ending> for wire::RunEnded {
    fn from(ending: Ending) -> Self {
        Self {
            outcome: wire::Outcome::from(ending.outcome).into(),
            reason: ending.reason,
            resumable: ending.resumable,
        }
    }
}
