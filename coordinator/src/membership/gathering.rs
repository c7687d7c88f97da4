//! The rendezvous: who may join, and who is missing.
//!
//! Everyone is compared with the worker that joined first in the run, so that a refusal names the odd one out as seen
//! from the others.

use std::fmt;
use std::time::Duration;

use proto::{Candidate, MAX_WORLD_SIZE, ParseError, Refusal, Switch, WorkerId};

use super::effect::Effect;
use super::seat::Seat;
use super::verdict::{Evidence, Failure, Verdict};
use super::{Membership, Phase};

/// A worker, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The worker process.
    pub worker: WorkerId,
    /// Its machine.
    pub host: String,
    /// The device it computes on.
    pub device: String,
}

impl fmt::Display for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.host, self.device)
    }
}

impl Membership {
    pub(super) fn join(&mut self, now: Duration, candidate: Candidate) -> Result<Vec<Effect>, Refusal> {
        self.same_run(candidate.run)?;
        self.refuse_if_finished()?;
        if let Ok(seat) = self.seat_of(candidate.worker) {
            return self.join_again(now, seat, &candidate);
        }
        if self.seats.len() >= MAX_WORLD_SIZE {
            return Err(Refusal::RunFull {
                world_size: MAX_WORLD_SIZE,
            });
        }
        self.admit(&candidate)?;
        let replaced = self.holder_of(&candidate);
        self.out_of_sight.succeeded_by(&candidate);
        self.measure.get_or_insert_with(|| candidate.clone());
        let seat = Seat::new(candidate, now);
        let mut effects = vec![Effect::RecordJoined {
            present: seat.present(),
            members: self.seats.len() + 1,
        }];
        self.seats.push(seat);
        if let Some(replaced) = replaced {
            // The roster without it is the one with its successor.
            effects.extend(self.lose(now, replaced, Evidence::WatchClosed));
            return Ok(effects);
        }
        match &self.phase {
            Phase::Gathering { .. } if self.are_enough_here() => {
                effects.extend(self.announce(now, Switch::Now));
            }
            Phase::Gathering { .. } | Phase::Finished { .. } => {}
            Phase::Running(_) => effects.extend(self.change_at_boundary(now)),
        }
        Ok(effects)
    }

    /// The answer to a join may get lost, and a worker that lost its connection joins again: both are no new worker.
    fn join_again(
        &mut self,
        now: Duration,
        seat: usize,
        candidate: &Candidate,
    ) -> Result<Vec<Effect>, Refusal> {
        if self.seats[seat].candidate != *candidate {
            return Err(Refusal::Malformed(ParseError::Invalid {
                field: "worker_id",
                value: candidate.worker.to_string(),
                expected: "an id that no worker with other properties has used",
            }));
        }
        self.seats[seat].heard_at = now;
        Ok(vec![])
    }

    fn admit(&self, candidate: &Candidate) -> Result<(), Refusal> {
        if candidate.version != self.terms.version {
            return Err(Refusal::VersionDiffers {
                worker: candidate.version.clone(),
                coordinator: self.terms.version.clone(),
            });
        }
        self.refuse_if_damaged_too_often(candidate.worker)?;
        // A port belongs to one process: when the connection of the one before is gone, so is that process.
        if let Some(seat) = self.holder_of(candidate).map(|seat| &self.seats[seat])
            && !self.is_cut_off(seat.worker())
        {
            return Err(Refusal::AddressTaken {
                address: candidate.address.clone(),
                host: seat.candidate.host.clone(),
            });
        }
        let Some(first) = &self.measure else {
            return Ok(());
        };
        if let Some(difference) = candidate.dataset.difference_from(&first.dataset) {
            return Err(Refusal::DatasetDiffers(difference));
        }
        if let Some(difference) = candidate.model.difference_from(&first.model) {
            return Err(Refusal::ModelDiffers(difference));
        }
        Ok(())
    }

    /// Returns the seat of another worker at the candidate's address.
    fn holder_of(&self, candidate: &Candidate) -> Option<usize> {
        let mut seats = self.seats.iter();
        seats.position(|seat| seat.candidate.address == candidate.address)
    }

    /// Whether the run gathers workers and has as many as it needs.
    pub(super) fn are_enough_here(&self) -> bool {
        matches!(&self.phase, Phase::Gathering { needed, .. } if self.seats.len() >= *needed)
    }

    pub(super) fn give_up_at(&self) -> Option<Duration> {
        match (&self.phase, self.terms.timing.join_timeout) {
            (Phase::Gathering { since, .. }, Some(timeout)) => Some(*since + timeout),
            _ => None,
        }
    }

    pub(super) fn gathering_deadline(&mut self, now: Duration) -> Vec<Effect> {
        let Phase::Gathering {
            remind_at, needed, ..
        } = &self.phase
        else {
            return vec![];
        };
        let (remind_at, needed) = (*remind_at, *needed);
        if self.give_up_at().is_some_and(|at| at <= now) {
            return self.end(Verdict::Failed(Failure::NotEnoughWorkers {
                present: self.seats.len(),
                needed,
                waited: self.terms.timing.join_timeout.unwrap_or_default(),
            }));
        }
        if self.blind_until().is_some_and(|at| at <= now) {
            return self.end_blindness(now);
        }
        if remind_at > now {
            return vec![];
        }
        let next = now + self.terms.timing.reminder;
        if let Phase::Gathering { remind_at, .. } = &mut self.phase {
            *remind_at = next;
        }
        vec![self.reminder()]
    }

    pub(super) fn reminder(&self) -> Effect {
        let needed = match &self.phase {
            Phase::Gathering { needed, .. } => *needed,
            _ => self.terms.min_world_size,
        };
        Effect::Remind {
            present: self.seats.iter().map(Seat::present).collect(),
            missing: needed.saturating_sub(self.seats.len()),
            out_of_sight: self.out_of_sight().len(),
        }
    }
}
