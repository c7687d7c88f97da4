//! Progress, results, checkpoints, and the end of a run that nothing went wrong with.

use std::time::Duration;

use proto::{EpochReport, Finished, Outcome, Refusal, Report, Roster, Sender};

use super::effect::Effect;
use super::verdict::{Failure, Verdict};
use super::{Membership, Phase};

impl Membership {
    pub(super) fn report(
        &mut self,
        now: Duration,
        sender: &Sender,
        report: Report,
    ) -> Result<Vec<Effect>, Refusal> {
        self.same_run(sender.run)?;
        let seat = self.seat_of(sender.worker)?;
        self.refuse_if_finished()?;
        match report {
            Report::Step(step) => {
                self.last_step = Some(step);
                Ok(vec![Effect::ShowStep(step)])
            }
            Report::Epoch(epoch) => Ok(self.epoch(now, epoch)),
            Report::Finished(finished) => {
                self.roster_of(sender)?;
                Ok(self.finish(now, seat, finished))
            }
            Report::LinkLost(lost) => self.link_lost(now, sender, lost),
            Report::DrainRequested => {
                if matches!(self.phase, Phase::Gathering { .. }) {
                    // No step boundary comes, and who is taken in again need not have the newest state.
                    return Err(Refusal::NotNow {
                        action: "wait for a step boundary",
                        reason: WAITING.to_owned(),
                    });
                }
                self.seats[seat].is_draining = true;
                Ok(self.change_at_boundary(now))
            }
        }
    }

    /// An epoch is recorded once: ranks that may not know whether it is report it again.
    fn epoch(&mut self, now: Duration, report: EpochReport) -> Vec<Effect> {
        let newest = self.last_epoch.map_or(self.recorded_epochs, |last| last.epoch);
        if report.epoch <= newest {
            return vec![];
        }
        self.last_epoch = Some(report);
        let began = self.began.unwrap_or(now);
        let elapsed = self.elapsed_before + now.saturating_sub(began);
        vec![Effect::RecordEpoch { report, elapsed }]
    }

    fn finish(&mut self, now: Duration, seat: usize, finished: Finished) -> Vec<Effect> {
        if finished.outcome == Outcome::Failed {
            let worker = self.seats[seat].worker();
            let rank = self
                .roster()
                .and_then(|roster| roster.find(worker))
                .map_or(0, |member| member.rank);
            return self.end(Verdict::Failed(Failure::WorkerFailed {
                rank,
                host: self.seats[seat].candidate.host.clone(),
                reason: finished.reason,
            }));
        }
        let (epoch, step) = (finished.epoch, finished.step);
        self.seats[seat].step = step;
        self.seats[seat].finished = Some(finished);
        let finish_by = now + self.terms.timing.finish_grace;
        let Phase::Running(running) = &mut self.phase else {
            return vec![];
        };
        running.finish_by.get_or_insert(finish_by);
        let rosters: Vec<Roster> = running.rosters().cloned().collect();
        let Some(parts) = rosters.iter().find_map(|roster| self.parts(roster)) else {
            return vec![];
        };
        let is_stopped = parts.iter().any(|part| part.outcome == Outcome::Stopped);
        let verdict = if is_stopped && self.is_time_up {
            Verdict::Completed {
                epoch,
                step,
                reason: "the time that it was given is up".to_owned(),
            }
        } else if is_stopped {
            Verdict::Stopped {
                epoch,
                step,
                is_resumable: self.is_resumable(),
            }
        } else {
            Verdict::Completed {
                epoch,
                step,
                reason: parts[0].reason.clone(),
            }
        };
        self.end(verdict)
    }

    /// Returns how the parts of all members of a roster ended, once all have.
    fn parts(&self, roster: &Roster) -> Option<Vec<&Finished>> {
        let members = roster.members().iter();
        members
            .map(|member| {
                let mut seats = self.seats.iter();
                seats
                    .find(|seat| seat.worker() == member.worker)?
                    .finished
                    .as_ref()
            })
            .collect()
    }

    pub(super) fn checkpoint_committed(&mut self, step: u64) -> Vec<Effect> {
        if self.verdict().is_some() || self.checkpoint_step >= Some(step) {
            return vec![];
        }
        self.checkpoint_step = Some(step);
        vec![Effect::RecordCheckpoint { step }]
    }

    pub(super) fn request_checkpoint(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.refuse_if_finished()?;
        if !matches!(self.phase, Phase::Running(_)) {
            return Err(Refusal::NotNow {
                action: "make a checkpoint",
                reason: WAITING.to_owned(),
            });
        }
        self.checkpoint_requests += 1;
        Ok(vec![Effect::RequestCheckpoint {
            number: self.checkpoint_requests,
        }])
    }
}

const WAITING: &str = "the run waits for workers";
