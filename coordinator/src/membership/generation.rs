//! Rosters: who is in the next generation, in which order, and when the members go over to it.
//!
//! A loss is followed at once: the ring is broken anyway. A worker that comes or wants to leave waits for a step
//! boundary, so that nothing is given up: every member says in the control word of its steps whether it holds the new
//! roster, and all go over after the first step in which all do. One such change is under way at a time.

use std::time::Duration;

use proto::{Candidate, Generation, Member, Roster, Switch, WorkerId};

use super::effect::Effect;
use super::loss::Suspicion;
use super::seat::Seat;
use super::verdict::Verdict;
use super::{Membership, Phase};

/// A generation at work.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Running {
    /// The newest roster.
    pub(super) roster: Roster,
    /// The roster before it, while not all members have gone over.
    pub(super) previous: Option<Roster>,
    /// The newest roster that took effect at once: nothing was given up since.
    pub(super) unbroken_since: Generation,
    pub(super) suspicions: Vec<Suspicion>,
    /// When the last rank must have finished.
    pub(super) finish_by: Option<Duration>,
    /// How often the ring was made anew, with the same members, since a step was last applied; by the accused.
    pub(super) breaks: Vec<WorkerId>,
    /// The step at which that was counted.
    pub(super) breaks_step: u64,
    /// Members that are to copy the state of others, until all digests are equal again: who was told may not have come to it.
    pub(super) damaged: Vec<WorkerId>,
}

impl Running {
    fn new(roster: Roster) -> Self {
        Self {
            unbroken_since: roster.generation(),
            damaged: roster.damaged.clone(),
            roster,
            previous: None,
            suspicions: Vec::new(),
            finish_by: None,
            breaks: Vec::new(),
            breaks_step: 0,
        }
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> {
        let suspicions = self.suspicions.iter().map(|suspicion| suspicion.decide_at);
        suspicions.chain(self.finish_by)
    }

    /// The rosters that members may be in: the newest first.
    pub(super) fn rosters(&self) -> impl Iterator<Item = &Roster> {
        std::iter::once(&self.roster).chain(&self.previous)
    }

    /// The roster whose members are the first to have the state: newcomers of a planned one copy it yet.
    pub(super) fn at_work(&self) -> &Roster {
        self.previous.as_ref().unwrap_or(&self.roster)
    }

    pub(super) fn is_member(&self, worker: WorkerId) -> bool {
        self.rank_of(worker).is_some()
    }

    /// The worker's rank in the newest roster that it is in.
    pub(super) fn rank_of(&self, worker: WorkerId) -> Option<usize> {
        self.rosters()
            .find_map(|roster| roster.find(worker))
            .map(|member| member.rank)
    }
}

impl Membership {
    /// Announces the generation that follows, with everybody who is there and does not want to leave.
    pub(super) fn announce(&mut self, now: Duration, switch: Switch) -> Vec<Effect> {
        let enough = match &self.phase {
            Phase::Gathering { needed, .. } => *needed,
            // A drain is somebody's wish: the others go on, however few they are. A stop needs one that has the state.
            _ if switch == Switch::AtStepBoundary || self.stop_by.is_some() => 1,
            _ => self.terms.min_world_size,
        };
        let enough = enough.max(1);
        let workers = self.next_ring(enough);
        let ring: Vec<WorkerId> = workers.iter().map(|seat| seat.worker()).collect();
        if workers.len() < enough || !self.out_of_sight.is_met_by(&ring) {
            return self.wait_for_more(now);
        }
        let members = workers
            .iter()
            .enumerate()
            .map(|(rank, seat)| Member {
                rank,
                worker: seat.worker(),
                host: seat.candidate.host.clone(),
                address: seat.candidate.address.clone(),
            })
            .collect();
        self.generation += 1;
        // Invariant: ranks are positions, a worker has one seat, and the number of seats is limited.
        let mut roster = Roster::new(Generation(self.generation), members).expect("seats make a ring");
        roster.switch = switch;
        roster.checkpoint_step = self.checkpoint_step;
        if let (Phase::Running(running), Switch::Now) = (&mut self.phase, switch) {
            running.damaged.retain(|worker| ring.contains(worker));
            roster.damaged = std::mem::take(&mut running.damaged);
        }
        let is_after_a_wait = matches!(self.phase, Phase::Gathering { .. });
        self.out_of_sight.announced(&roster);
        let mut next = Running::new(roster.clone());
        if let Phase::Running(running) = &mut self.phase {
            next.suspicions = running.take_suspicions(&roster);
            next.breaks = std::mem::take(&mut running.breaks);
            next.breaks_step = running.breaks_step;
            if switch == Switch::AtStepBoundary {
                next.previous = Some(running.roster.clone());
                next.unbroken_since = running.unbroken_since;
            }
        }
        self.phase = Phase::Running(next);
        self.began.get_or_insert(now);
        if is_after_a_wait {
            // The state may be an older one, and then steps are compared again.
            self.compared_step = None;
        }
        if switch == Switch::Now {
            for seat in &mut self.seats {
                seat.finished = None;
                seat.progress_at = now;
                seat.digests.clear();
            }
        }
        vec![Effect::Announce(roster)]
    }

    /// Goes over to gathering: too few workers are left.
    fn wait_for_more(&mut self, now: Duration) -> Vec<Effect> {
        if self.stop_by.is_some() {
            return self.end(Verdict::StoppedWhileWaiting {
                checkpoint_step: self.checkpoint_step,
            });
        }
        let needed = self.terms.min_world_size.max(1);
        if !matches!(self.phase, Phase::Gathering { .. }) {
            self.phase = Phase::Gathering {
                since: now,
                remind_at: now + self.terms.timing.reminder,
                needed,
            };
        }
        vec![self.reminder()]
    }

    /// Returns the seats of the next ring in its order: those that have the state first and in their order, so that rank 0
    /// is one of them; workers of one host side by side, so that a ring over h hosts crosses between hosts h
    /// times.
    ///
    /// Who wants to leave stays while no other member has the state, or there would not be `enough`; it asks again.
    fn next_ring(&self, enough: usize) -> Vec<&Seat> {
        let old_rank = |seat: &&Seat| match &self.phase {
            Phase::Running(running) => running.rank_of(seat.worker()),
            Phase::Gathering { .. } | Phase::Finished { .. } => None,
        };
        let is_at_work = |seat: &&Seat| match &self.phase {
            Phase::Running(running) => running.at_work().find(seat.worker()).is_some(),
            Phase::Gathering { .. } | Phase::Finished { .. } => false,
        };
        // Before anybody has told, at the start of a run or of a coordinator, all members are taken at their place.
        let is_told = self.seats.iter().any(|seat| is_at_work(&seat) && seat.has_state);
        let has_state = |seat: &&Seat| is_at_work(seat) && (seat.has_state || !is_told);
        let (mut leaving, mut staying): (Vec<&Seat>, Vec<&Seat>) =
            self.seats.iter().partition(|seat| seat.is_draining);
        leaving.sort_by_key(|seat| old_rank(seat).unwrap_or(usize::MAX));
        for seat in leaving {
            let is_without_state = has_state(&seat) && !staying.iter().any(has_state);
            if is_without_state || staying.len() < enough {
                staying.push(seat);
            }
        }
        staying.sort_by_key(|seat| (!has_state(seat), old_rank(seat).unwrap_or(usize::MAX)));
        let mut hosts: Vec<&str> = Vec::new();
        for seat in &staying {
            if !hosts.contains(&seat.candidate.host.as_str()) {
                hosts.push(&seat.candidate.host);
            }
        }
        let host = |seat: &&Seat| hosts.iter().position(|&host| host == seat.candidate.host);
        staying.sort_by_key(host);
        staying
    }

    /// Announces the next generation at a step boundary, when somebody waits to come in or to leave, and no change is
    /// under way.
    pub(super) fn change_at_boundary(&mut self, now: Duration) -> Vec<Effect> {
        let Phase::Running(running) = &self.phase else {
            return vec![];
        };
        // Who has finished goes over to nothing at a step boundary.
        if running.previous.is_some() || running.finish_by.is_some() || self.stop_by.is_some() {
            return vec![];
        }
        let next: Vec<WorkerId> = self.next_ring(1).iter().map(|seat| seat.worker()).collect();
        let current: Vec<WorkerId> = running
            .roster
            .members()
            .iter()
            .map(|member| member.worker)
            .collect();
        let is_change = next.len() != current.len() || next.iter().any(|worker| !current.contains(worker));
        if is_change {
            return self.announce(now, Switch::AtStepBoundary);
        }
        vec![]
    }

    /// Notes that members have gone over to the newest generation; when all have, the next change may begin.
    pub(super) fn settle_switch(&mut self, now: Duration) -> Vec<Effect> {
        let Phase::Running(running) = &mut self.phase else {
            return vec![];
        };
        let generation = running.roster.generation();
        let has_gone_over = |worker: WorkerId| {
            let mut seats = self.seats.iter();
            seats.any(|seat| seat.worker() == worker && seat.generation == generation)
        };
        let are_all_over = running
            .roster
            .members()
            .iter()
            .all(|member| has_gone_over(member.worker));
        if running.previous.is_some() && !are_all_over {
            return vec![];
        }
        running.previous = None;
        if are_all_over {
            self.out_of_sight.settled(generation.0);
        }
        self.change_at_boundary(now)
    }

    /// Goes on with the generation of an earlier coordinator.
    pub(super) fn take_over(&mut self, members: Vec<Candidate>, now: Duration) {
        let listed = members.iter().enumerate().map(|(rank, member)| Member {
            rank,
            worker: member.worker,
            host: member.host.clone(),
            address: member.address.clone(),
        });
        let Ok(mut roster) = Roster::new(Generation(self.generation), listed.collect()) else {
            return;
        };
        // Who did not hear of it goes over at once: some may have, and then the older ring is broken.
        roster.checkpoint_step = self.checkpoint_step;
        self.out_of_sight.announced(&roster);
        let returns_by = now + self.terms.timing.recovery_grace;
        self.seats = members
            .into_iter()
            .map(|member| Seat::new(member, returns_by))
            .collect();
        self.began = Some(now);
        self.phase = Phase::Running(Running::new(roster));
    }
}
