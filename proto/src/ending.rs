//! How a run ends, as every process of it is told.

use std::fmt;

use crate::parse::{ParseError, known, required, sentence};
use crate::roster::Member;
use crate::wire;

/// How a run, or one worker's part in it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every epoch was trained, or the recipe's patience ran out.
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
    /// The member whose loss ended the run, if that was the cause.
    pub lost: Option<LostMember>,
}

/// A member that was lost, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostMember {
    /// Who.
    pub member: Member,
    /// What showed it.
    pub evidence: LossEvidence,
}

/// What showed that a member is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossEvidence {
    /// No heartbeat within the lease.
    LeaseLapsed,
    /// Its Watch stream closed and was not opened again.
    WatchClosed,
    /// A ring neighbour reported the link broken.
    LinkLost,
    /// It said goodbye before its work was done.
    Left,
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

impl TryFrom<wire::LostMember> for LostMember {
    type Error = ParseError;

    fn try_from(lost: wire::LostMember) -> Result<Self, ParseError> {
        Ok(Self {
            member: required("member", lost.member)?.try_into()?,
            evidence: known("evidence", lost.evidence, |evidence| match evidence {
                wire::LossEvidence::Unspecified => None,
                wire::LossEvidence::LeaseLapsed => Some(LossEvidence::LeaseLapsed),
                wire::LossEvidence::WatchClosed => Some(LossEvidence::WatchClosed),
                wire::LossEvidence::LinkLost => Some(LossEvidence::LinkLost),
                wire::LossEvidence::Left => Some(LossEvidence::Left),
            })?,
        })
    }
}

impl From<LostMember> for wire::LostMember {
    fn from(lost: LostMember) -> Self {
        let evidence = match lost.evidence {
            LossEvidence::LeaseLapsed => wire::LossEvidence::LeaseLapsed,
            LossEvidence::WatchClosed => wire::LossEvidence::WatchClosed,
            LossEvidence::LinkLost => wire::LossEvidence::LinkLost,
            LossEvidence::Left => wire::LossEvidence::Left,
        };
        Self {
            member: Some(lost.member.into()),
            evidence: evidence.into(),
        }
    }
}

impl TryFrom<wire::RunEnded> for Ending {
    type Error = ParseError;

    fn try_from(ended: wire::RunEnded) -> Result<Self, ParseError> {
        Ok(Self {
            outcome: Outcome::from_wire(ended.outcome)?,
            reason: sentence(&ended.reason),
            lost: ended.lost.map(LostMember::try_from).transpose()?,
        })
    }
}

impl From<Ending> for wire::RunEnded {
    fn from(ending: Ending) -> Self {
        Self {
            outcome: wire::Outcome::from(ending.outcome).into(),
            reason: ending.reason,
            lost: ending.lost.map(Into::into),
        }
    }
}
