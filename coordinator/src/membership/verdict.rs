//! How a run ends, and why: data for programs, one sentence for people.

use std::fmt;
use std::time::Duration;

use proto::{Activity, Ending, Outcome};
use thiserror::Error;

use super::Membership;

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
        /// Whether there is a checkpoint to go on from.
        is_resumable: bool,
    },
    /// Stopped on request before all workers were there.
    StoppedBeforeStart,
    /// Stopped on request while too few workers were there to go on.
    StoppedWhileWaiting {
        /// Steps of the newest checkpoint.
        checkpoint_step: Option<u64>,
    },
    /// Something went wrong.
    Failed(Failure),
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Failure {
    /// A member reported that it cannot go on.
    #[error("rank {rank} on host {host} failed: {reason}")]
    WorkerFailed {
        /// Its rank.
        rank: usize,
        /// Its host.
        host: String,
        /// What it said.
        reason: String,
    },
    /// The rendezvous took too long.
    #[error("only {present} of {needed} workers were there after {} s", waited.as_secs())]
    NotEnoughWorkers {
        /// How many were there.
        present: usize,
        /// How many were waited for.
        needed: usize,
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
    /// The members' states differ, and none is that of most.
    #[error(
        "the workers' states differ after step {step}, and no majority says which is right; look at the hosts' memory, then resume from the newest checkpoint"
    )]
    Diverged {
        /// The step.
        step: u64,
    },
    /// A second signal: nothing was waited for.
    #[error("ended at once by a second signal; work since the newest checkpoint is lost")]
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
    /// It made no progress while the others waited for it.
    #[error("no progress for {:.1} s while {activity}", still_for.as_secs_f64())]
    Stalled {
        /// What it was doing.
        activity: Activity,
        /// Time since it last got something done.
        still_for: Duration,
    },
    /// Its state differed from that of the others too often.
    #[error("its state differed from that of the others {times} times")]
    Damaged {
        /// How often.
        times: u32,
    },
}

impl Evidence {
    /// Whether a neighbour reports a broken link.
    pub(super) const fn is_link_lost(&self) -> bool {
        matches!(self, Self::LinkLost { .. })
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
            Self::Stopped { epoch, step, .. } => {
                write!(
                    f,
                    "stopped on request at step {step}, after epoch {epoch}; the last weights are saved"
                )
            }
            Self::StoppedWhileWaiting { checkpoint_step } => {
                f.write_str("stopped on request while waiting for workers")?;
                match checkpoint_step {
                    Some(step) => write!(f, "; the newest checkpoint is of step {step}"),
                    None => Ok(()),
                }
            }
            Self::StoppedBeforeStart => f.write_str("stopped on request before all workers were there"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl Membership {
    /// Returns the end as everybody is told.
    pub fn ending(&self, verdict: &Verdict) -> Ending {
        let (outcome, is_stopped) = match verdict {
            Verdict::Completed { .. } => (Outcome::Completed, false),
            Verdict::Stopped { .. } | Verdict::StoppedWhileWaiting { .. } => (Outcome::Stopped, true),
            Verdict::StoppedBeforeStart => (Outcome::Stopped, false),
            Verdict::Failed(_) => (Outcome::Failed, true),
        };
        Ending {
            outcome,
            reason: verdict.to_string(),
            resumable: is_stopped && self.is_resumable(),
        }
    }
}

fn ranks(ranks: &[usize]) -> String {
    let texts: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
