//! How a run ends, and why: data for programs, one sentence for people.

use std::fmt;
use std::time::Duration;

use proto::{Ending, LossEvidence, LostMember, Member, Outcome};
use thiserror::Error;

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Training is complete.
    Completed {
        /// Epochs completed.
        epoch: u32,
        /// Steps applied.
        step: u64,
        /// Why it completed early; empty when every epoch was trained.
        reason: String,
    },
    /// Stopped on request, with the last weights saved.
    Stopped {
        /// Epochs completed.
        epoch: u32,
        /// Steps applied.
        step: u64,
    },
    /// Stopped on request before all workers were there.
    StoppedBeforeStart,
    /// Something went wrong.
    Failed(Failure),
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Failure {
    /// A member is lost.
    #[error("rank {} on host {} ({}) was lost: {evidence}", member.rank, member.host, member.address)]
    Lost {
        /// Who.
        member: Member,
        /// How that is known.
        evidence: Evidence,
    },
    /// A member reported that it cannot go on.
    #[error("rank {} on host {} failed: {reason}", member.rank, member.host)]
    WorkerFailed {
        /// Who.
        member: Member,
        /// What it said.
        reason: String,
    },
    /// The rendezvous took too long.
    #[error("only {present} of {world_size} workers were there after {} s", waited.as_secs())]
    NotEnoughWorkers {
        /// How many were there.
        present: usize,
        /// How many were waited for.
        world_size: usize,
        /// For how long.
        waited: Duration,
    },
    /// Workers did not stop in time.
    #[error("rank {} did not stop within {} s of being asked", ranks(unfinished), grace.as_secs())]
    StopTookTooLong {
        /// The time that they had.
        grace: Duration,
        /// The ranks that did not finish.
        unfinished: Vec<usize>,
    },
    /// Some workers finished, others did not.
    #[error("rank {} did not finish within {} s of the first rank that did", ranks(unfinished), grace.as_secs())]
    FinishTookTooLong {
        /// The time that they had.
        grace: Duration,
        /// The ranks that did not finish.
        unfinished: Vec<usize>,
    },
    /// A second signal: nothing was waited for.
    #[error("ended at once by a second signal; work since the last saved weights is lost")]
    Aborted,
    /// The run directory cannot be written.
    #[error("cannot write to the run directory: {reason}")]
    Storage {
        /// What the system said.
        reason: String,
    },
}

/// What shows that a member is lost.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Evidence {
    /// Its lease lapsed.
    #[error("no heartbeat for {:.1} s", silent_for.as_secs_f64())]
    LeaseLapsed {
        /// Time since the last sign of life.
        silent_for: Duration,
    },
    /// Its Watch stream closed and was not opened again.
    #[error("its connection to the coordinator closed")]
    WatchClosed,
    /// A neighbour reported the link between them broken.
    #[error("rank {reporter} reports the link to it broken: {reason}")]
    LinkLost {
        /// The rank that reports.
        reporter: usize,
        /// What the transport said there.
        reason: String,
    },
    /// It said goodbye before its work was done.
    #[error("it left: {}", if reason.is_empty() { "no reason given" } else { reason.as_str() })]
    Left {
        /// The reason that it gave.
        reason: String,
    },
}

impl Evidence {
    /// Whether both come from the same observer and say the same kind of thing.
    pub(super) fn same_source(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::LinkLost { reporter: a, .. }, Self::LinkLost { reporter: b, .. }) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether a neighbour reports a broken link.
    pub(super) const fn is_link_lost(&self) -> bool {
        matches!(self, Self::LinkLost { .. })
    }

    const fn on_the_wire(&self) -> LossEvidence {
        match self {
            Self::LeaseLapsed { .. } => LossEvidence::LeaseLapsed,
            Self::WatchClosed => LossEvidence::WatchClosed,
            Self::LinkLost { .. } => LossEvidence::LinkLost,
            Self::Left { .. } => LossEvidence::Left,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed { epoch, step, reason } => {
                write!(f, "completed after epoch {epoch}, step {step}")?;
                if !reason.is_empty() {
                    write!(f, ": {reason}")?;
                }
                Ok(())
            }
            Self::Stopped { epoch, step } => {
                write!(
                    f,
                    "stopped on request at step {step}, after epoch {epoch}; the last weights are saved"
                )
            }
            Self::StoppedBeforeStart => f.write_str("stopped on request before all workers were there"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl From<&Verdict> for Ending {
    fn from(verdict: &Verdict) -> Self {
        let outcome = match verdict {
            Verdict::Completed { .. } => Outcome::Completed,
            Verdict::Stopped { .. } | Verdict::StoppedBeforeStart => Outcome::Stopped,
            Verdict::Failed(_) => Outcome::Failed,
        };
        let lost = match verdict {
            Verdict::Failed(Failure::Lost { member, evidence }) => Some(LostMember {
                member: member.clone(),
                evidence: evidence.on_the_wire(),
            }),
            _ => None,
        };
        Self {
            outcome,
            reason: verdict.to_string(),
            lost,
        }
    }
}

fn ranks(ranks: &[usize]) -> String {
    let texts: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
