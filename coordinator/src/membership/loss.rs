//! What shows that a member is lost, and what follows: a generation without it.
//!
//! A lapsed lease and a goodbye are decided at once, and so is a worker whose connection and whose links are gone. A link
//! that breaks between two workers that are both there is no loss: the ring is made anew with the same members, and only
//! a worker that is accused of it again and again loses its place. A Watch stream that closes while the links
//! hold may come back.

use std::time::Duration;

use proto::{LinkLost, ParseError, Refusal, Roster, Sender, Switch, WorkerId};

use super::effect::{Effect, StopCause};
use super::event::{Vitals, WatchId};
use super::generation::Running;
use super::verdict::{Evidence, Failure, Verdict};
use super::{Membership, Phase};

/// Evidence that waits for better evidence.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Suspicion {
    pub(super) worker: WorkerId,
    pub(super) evidence: Evidence,
    pub(super) decide_at: Duration,
}

impl Running {
    pub(super) fn clear_watch_suspicion(&mut self, worker: WorkerId) {
        self.suspicions
            .retain(|known| known.worker != worker || known.evidence != Evidence::WatchClosed);
    }

    /// Takes out what is still to be decided when this roster follows: links are new after a switch at once, and only then;
    /// a Watch stream that was closed still is.
    pub(super) fn take_suspicions(&mut self, next: &Roster) -> Vec<Suspicion> {
        let mut suspicions = std::mem::take(&mut self.suspicions);
        suspicions.retain(|known| match next.switch {
            Switch::AtStepBoundary => true,
            Switch::Now => !known.evidence.is_link_lost() && next.find(known.worker).is_some(),
        });
        suspicions
    }

    fn link_suspicion(&self, worker: WorkerId) -> Option<&Suspicion> {
        let mut suspicions = self.suspicions.iter();
        suspicions.find(|known| known.worker == worker && known.evidence.is_link_lost())
    }
}

impl Membership {
    pub(super) fn heartbeat(
        &mut self,
        now: Duration,
        sender: &Sender,
        vitals: &Vitals,
    ) -> Result<Vec<Effect>, Refusal> {
        self.same_run(sender.run)?;
        let seat = self.seat_of(sender.worker)?;
        self.refuse_if_finished()?;
        if sender.generation.0 > self.generation + GENERATIONS_LOST_MAX {
            return Err(Refusal::StaleGeneration {
                sent: sender.generation,
                current: self.generation(),
            });
        }
        let mut vitals = *vitals;
        if let Phase::Running(running) = &self.phase
            && sender.generation < running.unbroken_since
        {
            // Of a state that may have been replaced since.
            vitals.digest = None;
        }
        let has_digest = vitals
            .digest
            .is_some_and(|digest| !self.seats[seat].digests.contains(&digest));
        if let Some(gap) = self.seats[seat].hear(now, sender.generation, &vitals) {
            self.gaps.add(gap);
        }
        let offered = match &self.phase {
            Phase::Running(running) => running.at_work().generation().0,
            Phase::Gathering { .. } | Phase::Finished { .. } => self.generation,
        };
        self.out_of_sight
            .heard(sender.worker, sender.generation.0, offered);
        if sender.generation > self.generation() {
            // A damaged journal has lost a generation. Members take in newer ones only.
            self.generation = sender.generation.0;
            if matches!(self.phase, Phase::Running(_)) {
                return Ok(self.announce(now, Switch::Now));
            }
        }
        let mut effects = self.settle_switch(now);
        if has_digest && let Some(digest) = vitals.digest {
            effects.extend(self.compare_digests(now, digest.step));
        }
        Ok(effects)
    }

    pub(super) fn watch_closed(&mut self, now: Duration, worker: WorkerId, watch: WatchId) -> Vec<Effect> {
        let Ok(seat) = self.seat_of(worker) else {
            return vec![];
        };
        if self.seats[seat].watch != Some(watch) {
            return vec![];
        }
        self.seats[seat].watch = None;
        let decide_at = now + self.terms.timing.watch_grace;
        match &mut self.phase {
            Phase::Finished { .. } => vec![],
            Phase::Running(running) if running.is_member(worker) => {
                if let Some(known) = running.link_suspicion(worker) {
                    let evidence = known.evidence.clone();
                    return self.lose(now, seat, evidence);
                }
                running.suspicions.push(Suspicion {
                    worker,
                    evidence: Evidence::WatchClosed,
                    decide_at,
                });
                vec![]
            }
            Phase::Gathering { .. } | Phase::Running(_) => self.lose(now, seat, Evidence::WatchClosed),
        }
    }

    pub(super) fn link_lost(
        &mut self,
        now: Duration,
        sender: &Sender,
        lost: LinkLost,
    ) -> Result<Vec<Effect>, Refusal> {
        let settle = self.terms.timing.settle;
        let roster = self.roster_of(sender)?.clone();
        let (reporter, accused) = neighbours(&roster, sender.worker, lost.neighbour)?;
        let Ok(seat) = self.seat_of(accused) else {
            // It went away before the reporter had gone over to the generation without it: no step boundary comes.
            return Ok(self.announce(now, Switch::Now));
        };
        let evidence = Evidence::LinkLost {
            reporter,
            reason: lost.reason,
        };
        if self.is_cut_off(accused) {
            return Ok(self.lose(now, seat, evidence));
        }
        if let Phase::Running(running) = &mut self.phase
            && running.link_suspicion(accused).is_none()
        {
            running.suspicions.push(Suspicion {
                worker: accused,
                evidence,
                decide_at: now + settle,
            });
        }
        Ok(vec![])
    }

    pub(super) fn leave(
        &mut self,
        now: Duration,
        sender: &Sender,
        reason: String,
    ) -> Result<Vec<Effect>, Refusal> {
        self.same_run(sender.run)?;
        let seat = self.seat_of(sender.worker)?;
        if self.verdict().is_some() {
            self.seats[seat].left = true;
            return Ok(vec![]);
        }
        Ok(self.lose(now, seat, Evidence::Left { reason }))
    }

    /// Takes a worker off the list. When it was a member, the others go on without it.
    pub(super) fn lose(&mut self, now: Duration, seat: usize, evidence: Evidence) -> Vec<Effect> {
        let seat = self.seats.remove(seat);
        let worker = seat.worker();
        if matches!(evidence, Evidence::LeaseLapsed { .. }) {
            self.out_of_sight.silent(seat.heard_at);
        } else {
            self.out_of_sight.gone(worker);
        }
        let rank = match &self.phase {
            // A worker that was let go says goodbye when it has gone over; the others go over by themselves.
            Phase::Running(running) if matches!(evidence, Evidence::Left { .. }) => {
                running.roster.find(worker).map(|member| member.rank)
            }
            Phase::Running(running) => running.rank_of(worker),
            Phase::Gathering { .. } | Phase::Finished { .. } => None,
        };
        let Some(rank) = rank else {
            // Waiting for a place, or let go: nobody waits for it.
            return vec![Effect::RecordDeparted {
                present: seat.present(),
                evidence,
            }];
        };
        self.losses += 1;
        let mut effects = vec![Effect::RecordLost {
            present: seat.present(),
            rank,
            step: seat.step,
            activity: seat.activity,
            evidence,
        }];
        effects.extend(self.announce(now, Switch::Now));
        effects
    }

    pub(super) fn running_deadline(&mut self, now: Duration) -> Vec<Effect> {
        let Phase::Running(running) = &self.phase else {
            return vec![];
        };
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if let Some(due) = running
            .suspicions
            .iter()
            .find(|suspicion| suspicion.decide_at <= now)
        {
            let due = due.clone();
            return self.decide(now, due);
        }
        if is_due(self.stop_by) {
            return self.end(Verdict::Failed(Failure::StopTookTooLong {
                grace: self.terms.timing.stop_grace,
                unfinished: self.unfinished(),
            }));
        }
        if is_due(running.finish_by) {
            return self.lose_unfinished(now);
        }
        if is_due(self.time_is_up_at()) {
            self.is_time_up = true;
            return self.stop(now, StopCause::TimeIsUp);
        }
        if is_due(self.stall_at()) {
            return self.end_stall(now);
        }
        vec![]
    }

    /// Decides about a suspicion that no better evidence came for.
    fn decide(&mut self, now: Duration, suspicion: Suspicion) -> Vec<Effect> {
        let worker = suspicion.worker;
        let Ok(seat) = self.seat_of(worker) else {
            self.forget(worker);
            return vec![];
        };
        if suspicion.evidence == Evidence::WatchClosed {
            return self.lose(now, seat, suspicion.evidence);
        }
        self.make_ring_anew(now, worker, suspicion.evidence)
    }

    /// Makes the ring anew with the same members; one that broke it again and again is lost.
    pub(super) fn make_ring_anew(
        &mut self,
        now: Duration,
        accused: WorkerId,
        evidence: Evidence,
    ) -> Vec<Effect> {
        let step = self.seats.iter().map(|seat| seat.step).max().unwrap_or_default();
        let Phase::Running(running) = &mut self.phase else {
            return vec![];
        };
        if running.breaks_step < step {
            running.breaks.clear();
            running.breaks_step = step;
        }
        running.breaks.push(accused);
        let times = running.breaks.iter().filter(|&&worker| worker == accused).count();
        match self.seat_of(accused) {
            Ok(seat) if times >= BREAKS_MAX => self.lose(now, seat, evidence),
            _ => self.announce(now, Switch::Now),
        }
    }

    /// Whether its Watch stream has closed. One that was not opened yet, by a worker that has just joined or that comes
    /// back to a coordinator that was away, shows nothing.
    pub(super) fn is_cut_off(&self, worker: WorkerId) -> bool {
        let Phase::Running(running) = &self.phase else {
            return false;
        };
        let mut suspicions = running.suspicions.iter();
        suspicions.any(|known| known.worker == worker && known.evidence == Evidence::WatchClosed)
    }

    fn forget(&mut self, worker: WorkerId) {
        if let Phase::Running(running) = &mut self.phase {
            running.suspicions.retain(|known| known.worker != worker);
        }
    }
}

/// Returns the reporter's rank and the accused worker of a report in a roster.
fn neighbours(roster: &Roster, reporter: WorkerId, neighbour: usize) -> Result<(usize, WorkerId), Refusal> {
    let refused = Refusal::Malformed(ParseError::Invalid {
        field: "neighbour_rank",
        value: neighbour.to_string(),
        expected: "the rank of a ring neighbour",
    });
    let Some(reporter) = roster.find(reporter).map(|member| member.rank) else {
        return Err(refused);
    };
    let is_neighbour = [roster.left_of(reporter).rank, roster.right_of(reporter).rank].contains(&neighbour);
    if neighbour == reporter || !is_neighbour {
        return Err(refused);
    }
    Ok((reporter, roster.members()[neighbour].worker))
}

/// A damaged journal may have lost the newest rosters; a number beyond that is nonsense.
const GENERATIONS_LOST_MAX: u64 = 1 << 20;

/// A link that breaks twice may be bad luck; three times without a step in between, it does not work.
const BREAKS_MAX: usize = 3;
