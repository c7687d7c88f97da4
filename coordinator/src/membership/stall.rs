//! Members that do not get on: who keeps the others waiting, in the midst of the run and at its end.
//!
//! A slow worker is no stall, however slow: see [`Gaps`](super::gaps::Gaps) for the limit.

use std::time::Duration;

use proto::{Activity, WorkerId};

use super::effect::Effect;
use super::verdict::Evidence;
use super::{Membership, Phase};

impl Membership {
    /// When the run counts as stalled: the newest sign of progress of any member lies too far back.
    pub(super) fn stall_at(&self) -> Option<Duration> {
        let Phase::Running(running) = &self.phase else {
            return None;
        };
        let seats = self.seats.iter();
        let unfinished =
            seats.filter(|seat| seat.finished.is_none() && running.roster.find(seat.worker()).is_some());
        let newest = unfinished.map(|seat| seat.progress_at).max()?;
        Some(newest + self.gaps.limit(self.terms.timing.stall_patience))
    }

    /// Names who keeps the others waiting: the one that does not wait itself, or else the one that does not wait for its
    /// neighbour when others do, stuck before the first operation of the ring. When nobody can be told from the others, a link
    /// swallows what it is given, and the ring is made anew.
    pub(super) fn end_stall(&mut self, now: Duration) -> Vec<Effect> {
        let Some(roster) = self.roster().cloned() else {
            return vec![];
        };
        let members = roster.members().iter();
        let seats = members.filter_map(|member| self.seat_of(member.worker).ok());
        let unfinished: Vec<usize> = seats
            .filter(|&seat| self.seats[seat].finished.is_none())
            .collect();
        let blocking: Vec<usize> = unfinished
            .iter()
            .copied()
            .filter(|&seat| !self.seats[seat].waits_for_left)
            .collect();
        let mut busy = blocking.iter();
        let culprit = busy
            .find(|&&seat| self.seats[seat].activity != Activity::Waiting)
            .or_else(|| blocking.first().filter(|_| blocking.len() < unfinished.len()))
            .copied();
        let still_for = |seat: usize| now.saturating_sub(self.seats[seat].progress_at);
        if let Some(seat) = culprit {
            let evidence = Evidence::Stalled {
                activity: self.seats[seat].activity,
                still_for: still_for(seat),
            };
            return self.lose(now, seat, evidence);
        }
        let accused = roster.members()[0].worker;
        let Ok(seat) = self.seat_of(accused) else {
            return vec![];
        };
        let evidence = Evidence::Stalled {
            activity: self.seats[seat].activity,
            still_for: still_for(seat),
        };
        self.make_ring_anew(now, accused, evidence)
    }

    /// Takes those off the list that did not finish when the others did.
    pub(super) fn lose_unfinished(&mut self, now: Duration) -> Vec<Effect> {
        if let Phase::Running(running) = &mut self.phase {
            running.finish_by = None;
        }
        let grace = self.terms.timing.finish_grace;
        let unfinished = self.unfinished();
        let Some(&rank) = unfinished.first() else {
            return vec![];
        };
        // Invariant: ranks come from the roster.
        let worker = self.roster().expect("a generation is at work").members()[rank].worker;
        match self.seat_of(worker) {
            Ok(seat) => {
                let activity = self.seats[seat].activity;
                self.lose(
                    now,
                    seat,
                    Evidence::Stalled {
                        activity,
                        still_for: grace,
                    },
                )
            }
            Err(_) => vec![],
        }
    }

    pub(super) fn unfinished(&self) -> Vec<usize> {
        let Some(roster) = self.roster() else {
            return vec![];
        };
        let is_unfinished = |worker: WorkerId| {
            let mut seats = self.seats.iter();
            !seats.any(|seat| seat.worker() == worker && seat.finished.is_some())
        };
        let members = roster.members().iter();
        members
            .filter(|member| is_unfinished(member.worker))
            .map(|member| member.rank)
            .collect()
    }

    /// Gives everybody the time again that passed while nobody could be heard.
    pub(super) fn forgive(&mut self, now: Duration) {
        for seat in &mut self.seats {
            seat.heard_at = seat.heard_at.max(now);
            seat.progress_at = now;
        }
        let lease = self.terms.timing.lease;
        if let Phase::Running(running) = &mut self.phase {
            let suspicions = running.suspicions.iter_mut();
            let waiting = suspicions.map(|suspicion| &mut suspicion.decide_at);
            for at in waiting.chain(&mut running.finish_by).chain(&mut self.stop_by) {
                *at = (*at).max(now + lease);
            }
        }
    }
}
