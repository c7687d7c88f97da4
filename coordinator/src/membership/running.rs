//! A generation at work: reports, suspicion and loss, and the end.
//!
//! In this version a lost member ends the run. A lapsed lease, a goodbye and a worker's own failure are
//! decided at once. A broken link or Watch stream only raises a suspicion for a moment: the process that died
//! and the neighbours that noticed are heard in any order, and the process is the better culprit.

use std::time::Duration;

use proto::{EpochReport, Finished, LinkLost, Outcome, ParseError, Refusal, Report, Sender};

use super::effect::Effect;
use super::verdict::{Evidence, Failure, Verdict};
use super::{Membership, Phase};

/// Evidence that waits for better evidence.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Suspicion {
    pub(super) rank: usize,
    pub(super) evidence: Evidence,
    pub(super) decide_at: Duration,
}

impl Membership {
    pub(super) fn report(
        &mut self,
        now: Duration,
        sender: &Sender,
        report: Report,
    ) -> Result<Vec<Effect>, Refusal> {
        let rank = self.fenced(sender)?;
        self.refuse_if_finished()?;
        let Phase::Running { since, .. } = self.phase else {
            return Err(Refusal::Malformed(ParseError::Invalid {
                field: "report",
                value: "sent before the first roster".into(),
                expected: "a report from a running generation",
            }));
        };
        match report {
            Report::Step(step) => {
                self.rank_zero_only(rank, "report steps")?;
                self.last_step = Some(step);
                Ok(vec![Effect::ShowStep(step)])
            }
            Report::Epoch(epoch) => {
                self.rank_zero_only(rank, "report epochs")?;
                Ok(self.epoch(now.saturating_sub(since), epoch))
            }
            Report::Finished(finished) => Ok(self.finish(now, rank, finished)),
            Report::LinkLost(lost) => self.link_lost(now, rank, lost),
        }
    }

    /// An epoch is recorded once; a report that is repeated because its answer got lost changes nothing.
    fn epoch(&mut self, elapsed: Duration, report: EpochReport) -> Vec<Effect> {
        if self.last_epoch.is_some_and(|last| report.epoch <= last.epoch) {
            return vec![];
        }
        self.last_epoch = Some(report);
        vec![Effect::RecordEpoch { report, elapsed }]
    }

    fn finish(&mut self, now: Duration, rank: usize, finished: Finished) -> Vec<Effect> {
        if finished.outcome == Outcome::Failed {
            return self.end(Verdict::Failed(Failure::WorkerFailed {
                member: self.member(rank),
                reason: finished.reason,
            }));
        }
        let (epoch, step) = (finished.epoch, finished.step);
        self.seats[rank].step = step;
        self.seats[rank].finished = Some(finished);
        let grace = self.terms.timing.finish_grace;
        if let Phase::Running {
            finish_by,
            suspicions,
            ..
        } = &mut self.phase
        {
            finish_by.get_or_insert(now + grace);
            // A link that broke stays broken: whoever waits at its other end will never finish.
            suspicions.retain(|suspicion| suspicion.rank != rank || suspicion.evidence.is_link_lost());
        }
        let parts: Vec<&Finished> = self
            .seats
            .iter()
            .filter_map(|seat| seat.finished.as_ref())
            .collect();
        if parts.len() < self.seats.len() {
            return vec![];
        }
        let verdict = if parts.iter().any(|part| part.outcome == Outcome::Stopped) {
            Verdict::Stopped { epoch, step }
        } else {
            Verdict::Completed {
                epoch,
                step,
                reason: parts[0].reason.clone(),
            }
        };
        self.end(verdict)
    }

    fn link_lost(&mut self, now: Duration, reporter: usize, lost: LinkLost) -> Result<Vec<Effect>, Refusal> {
        let world_size = self.seats.len();
        let right = (reporter + 1) % world_size;
        let left = (reporter + world_size - 1) % world_size;
        if lost.neighbour == reporter || (lost.neighbour != right && lost.neighbour != left) {
            return Err(Refusal::Malformed(ParseError::Invalid {
                field: "neighbour_rank",
                value: lost.neighbour.to_string(),
                expected: "the rank of a ring neighbour",
            }));
        }
        let reason = lost.reason;
        self.suspect(now, lost.neighbour, Evidence::LinkLost { reporter, reason });
        Ok(vec![])
    }

    /// Notes evidence against a member, unless nothing more is expected of it or the same is known already. A member that
    /// has finished is still expected to deliver what its links hold.
    pub(super) fn suspect(&mut self, now: Duration, rank: usize, evidence: Evidence) {
        let seat = &self.seats[rank];
        let decide_at = now + self.terms.timing.settle;
        if seat.left || (seat.finished.is_some() && !evidence.is_link_lost()) {
            return;
        }
        if let Phase::Running { suspicions, .. } = &mut self.phase
            && !suspicions
                .iter()
                .any(|known| known.rank == rank && known.evidence.same_source(&evidence))
        {
            suspicions.push(Suspicion {
                rank,
                evidence,
                decide_at,
            });
        }
    }

    pub(super) fn lose(&mut self, rank: usize, evidence: Evidence) -> Vec<Effect> {
        self.end(Verdict::Failed(Failure::Lost {
            member: self.member(rank),
            evidence,
        }))
    }

    pub(super) fn running_deadline(&mut self, now: Duration) -> Vec<Effect> {
        let Phase::Running {
            suspicions,
            stop_by,
            finish_by,
            ..
        } = &self.phase
        else {
            return vec![];
        };
        let is_due = |at: &Option<Duration>| at.is_some_and(|at| at <= now);
        if suspicions.iter().any(|suspicion| suspicion.decide_at <= now) {
            let culprit = suspicions
                .iter()
                .find(|suspicion| suspicion.evidence == Evidence::WatchClosed)
                .unwrap_or(&suspicions[0])
                .clone();
            return self.lose(culprit.rank, culprit.evidence);
        }
        let failure = if is_due(stop_by) {
            Failure::StopTookTooLong {
                grace: self.terms.timing.stop_grace,
                unfinished: self.unfinished(),
            }
        } else if is_due(finish_by) {
            Failure::FinishTookTooLong {
                grace: self.terms.timing.finish_grace,
                unfinished: self.unfinished(),
            }
        } else {
            return vec![];
        };
        self.end(Verdict::Failed(failure))
    }

    fn unfinished(&self) -> Vec<usize> {
        (0..self.seats.len())
            .filter(|rank| self.seats[*rank].finished.is_none())
            .collect()
    }

    fn member(&self, rank: usize) -> proto::Member {
        // Invariant: only called while running, when there is a member for each seat.
        let roster = self.roster().expect("a generation is at work");
        roster.members()[rank].clone()
    }
}
