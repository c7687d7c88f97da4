//! Generations that may be at work where the coordinator does not see them.
//!
//! Workers go on without a coordinator, so a generation whose members have all fallen silent may still progress. The next one
//! begins only with a member of each such generation: who takes part in the next has left the one before, and without it
//! that one progresses no more. Where nobody of it is there, the next waits: until somebody comes back, until it shows that
//! somebody is dead, or until workers that hear nothing have paused.

use std::time::Duration;

use proto::{Address, Candidate, Roster, Switch, WorkerId};

use super::effect::Effect;
use super::{Membership, Phase};

/// The generations whose end is not known, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct OutOfSight {
    generations: Vec<(u64, Vec<(WorkerId, Address)>)>,
    /// When a member was last heard of those that fell silent.
    silent_since: Duration,
}

impl OutOfSight {
    /// A generation was announced.
    pub(super) fn announced(&mut self, roster: &Roster) {
        let members = roster.members().iter();
        let members = members.map(|member| (member.worker, member.address.clone()));
        self.generations.push((roster.generation().0, members.collect()));
    }

    /// A worker told which generation it is in; 0 for none, and then it goes into none before `offered`.
    pub(super) fn heard(&mut self, worker: WorkerId, generation: u64, offered: u64) {
        let from = if generation == 0 { offered } else { generation };
        self.generations.retain(|(number, members)| {
            *number >= from || members.iter().all(|(member, _)| *member != worker)
        });
    }

    /// All members of a generation have gone over to it: none before is at work.
    pub(super) fn settled(&mut self, generation: u64) {
        self.generations.retain(|(number, _)| *number >= generation);
    }

    /// A process has ended, or will take part in nothing before it is let in again.
    pub(super) fn gone(&mut self, worker: WorkerId) {
        self.generations
            .retain(|(_, members)| members.iter().all(|(member, _)| *member != worker));
    }

    /// A process has fallen silent.
    pub(super) fn silent(&mut self, heard_at: Duration) {
        self.silent_since = self.silent_since.max(heard_at);
    }

    /// Another process is there now at its address: whoever was there before has ended.
    pub(super) fn succeeded_by(&mut self, candidate: &Candidate) {
        let is_other = |(worker, address): &(WorkerId, Address)| {
            *address != candidate.address || *worker == candidate.worker
        };
        self.generations
            .retain(|(_, members)| members.iter().all(is_other));
    }

    /// Whether a generation of these workers progresses only when no earlier one does.
    pub(super) fn is_met_by(&self, ring: &[WorkerId]) -> bool {
        let is_met = |(_, members): &(u64, Vec<(WorkerId, Address)>)| {
            members.iter().any(|(member, _)| ring.contains(member))
        };
        self.generations.iter().all(is_met)
    }
}

impl Membership {
    /// When workers that hear nothing have paused for certain, while that is all that a generation waits for.
    pub(super) fn blind_until(&self) -> Option<Duration> {
        let is_blind = self.are_enough_here() && !self.out_of_sight.generations.is_empty();
        is_blind.then(|| self.out_of_sight.silent_since + self.terms.timing.out_of_sight)
    }

    /// Begins the generation that has waited long enough for those out of sight.
    pub(super) fn end_blindness(&mut self, now: Duration) -> Vec<Effect> {
        self.out_of_sight.generations.clear();
        self.announce(now, Switch::Now)
    }

    /// A process has ended, as its host says.
    pub(super) fn found_dead(&mut self, now: Duration, worker: WorkerId) -> Vec<Effect> {
        self.out_of_sight.gone(worker);
        if self.are_enough_here() {
            return self.announce(now, Switch::Now);
        }
        vec![]
    }

    /// Workers that may be at work out of sight, and where, while a generation waits for them or for a sign that they are dead.
    pub fn out_of_sight(&self) -> Vec<(WorkerId, Address)> {
        if !matches!(self.phase, Phase::Gathering { .. }) {
            return Vec::new();
        }
        let generations = self.out_of_sight.generations.iter();
        let mut workers: Vec<(WorkerId, Address)> = generations
            .flat_map(|(_, members)| members.iter().cloned())
            .filter(|(worker, _)| self.seat_of(*worker).is_err())
            .collect();
        workers.sort_by_key(|(worker, _)| *worker);
        workers.dedup_by_key(|(worker, _)| *worker);
        workers
    }
}
