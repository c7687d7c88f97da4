//! The rendezvous: who may join, who is missing, and the ring order of the first generation.
//!
//! Everyone is compared with the worker that joined first among those present, so that a refusal names the
//! odd one out as seen from the others.

use std::fmt;
use std::time::Duration;

use proto::{Candidate, Generation, Member, ParseError, Refusal, Roster, WorkerId};

use super::effect::Effect;
use super::seat::Seat;
use super::verdict::{Evidence, Failure, Verdict};
use super::{Membership, Phase};

/// A worker of the gathering, as people see it.
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
        if !matches!(self.phase, Phase::Gathering { .. }) {
            return Err(Refusal::RunFull {
                world_size: self.terms.world_size,
            });
        }
        self.admit(&candidate)?;
        let seat = Seat::new(candidate, now);
        let joined = Effect::RecordJoined {
            present: present(&seat),
            members: self.seats.len() + 1,
        };
        self.seats.push(seat);
        if self.seats.len() < self.terms.world_size {
            return Ok(vec![joined]);
        }
        Ok(vec![joined, self.begin(now)])
    }

    /// The answer to a join may get lost, so the same request again is no new one.
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
        let taken = self
            .seats
            .iter()
            .find(|seat| seat.candidate.address == candidate.address);
        if let Some(seat) = taken {
            return Err(Refusal::AddressTaken {
                address: candidate.address.clone(),
                host: seat.candidate.host.clone(),
            });
        }
        let Some(first) = self.seats.first().map(|seat| &seat.candidate) else {
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

    /// Begins the first generation. Hosts are kept together, so that a ring over h machines crosses between
    /// machines h times; workers of one host keep the order in which they joined.
    fn begin(&mut self, now: Duration) -> Effect {
        self.seats.sort_by(|a, b| a.candidate.host.cmp(&b.candidate.host));
        let members = self
            .seats
            .iter()
            .enumerate()
            .map(|(rank, seat)| Member {
                rank,
                worker: seat.candidate.worker,
                host: seat.candidate.host.clone(),
                address: seat.candidate.address.clone(),
            })
            .collect();
        // Invariant: ranks are positions, a worker has one seat, and the world size was checked.
        let roster = Roster::new(FIRST, members).expect("seats make a ring");
        self.phase = Phase::Running {
            roster: roster.clone(),
            since: now,
            suspicions: Vec::new(),
            stop_by: None,
            finish_by: None,
        };
        Effect::Announce(roster)
    }

    /// Frees the place of a worker that went away before the run began.
    pub(super) fn depart(&mut self, seat: usize, evidence: Evidence) -> Vec<Effect> {
        let seat = self.seats.remove(seat);
        vec![Effect::RecordDeparted {
            present: present(&seat),
            evidence,
        }]
    }

    pub(super) fn give_up_at(&self) -> Option<Duration> {
        match (&self.phase, self.terms.timing.join_timeout) {
            (Phase::Gathering { since, .. }, Some(timeout)) => Some(*since + timeout),
            _ => None,
        }
    }

    pub(super) fn gathering_deadline(&mut self, now: Duration) -> Vec<Effect> {
        if self.give_up_at().is_some_and(|at| at <= now) {
            return self.end(Verdict::Failed(Failure::NotEnoughWorkers {
                present: self.seats.len(),
                world_size: self.terms.world_size,
                waited: self.terms.timing.join_timeout.unwrap_or_default(),
            }));
        }
        let reminder = self.terms.timing.reminder;
        let Phase::Gathering { remind_at, .. } = &mut self.phase else {
            return vec![];
        };
        if *remind_at > now {
            return vec![];
        }
        *remind_at = now + reminder;
        vec![Effect::Remind {
            present: self.seats.iter().map(present).collect(),
            missing: self.terms.world_size - self.seats.len(),
        }]
    }
}

fn present(seat: &Seat) -> Present {
    Present {
        worker: seat.candidate.worker,
        host: seat.candidate.host.clone(),
        device: seat.candidate.device.clone(),
    }
}

/// The generation that follows the gathering.
const FIRST: Generation = Generation(1);
