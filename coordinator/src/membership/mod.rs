//! Who is in the run, in which generation, and how it ends: a pure state machine.
//!
//! It reads no clock and no socket. A shell calls [`Membership::handle`] with each event and the time it
//! happened, carries out the effects in order, and calls it again with [`Event::DeadlineReached`] at
//! [`Membership::next_deadline`]. An event that is refused changes nothing. Once [`Membership::verdict`] is
//! there, it stays.
//!
//! Times are durations since the coordinator started.
//!
//! | file | holds |
//! |---|---|
//! | `event`, `effect` | what happens, and what is to be done about it |
//! | `timing`, `gaps` | every deadline, with its reason; when silence is a stall |
//! | `fence` | run, membership and generation of a sender, and its rights |
//! | `seat` | what is known about one worker |
//! | `gathering` | who may join |
//! | `generation` | rosters: the ring order, and when one is followed by the next |
//! | `loss` | what shows that a member is lost, and what follows |
//! | `out_of_sight` | generations that may be at work although nobody is heard |
//! | `stall` | who keeps the others waiting |
//! | `damage` | states that differ |
//! | `reports` | progress, results, checkpoints, the end |
//! | `verdict` | how a run ends, and why |
//! | `snapshot` | the state as people see it |

mod damage;
mod effect;
mod event;
mod fence;
mod gaps;
mod gathering;
mod generation;
mod loss;
mod out_of_sight;
mod reports;
mod seat;
mod snapshot;
mod stall;
mod timing;
mod verdict;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use proto::{Candidate, EpochReport, Generation, Refusal, Roster, RunId, StepReport, WorkerId};

pub use self::effect::{Effect, MAX_EFFECTS, StopCause};
pub use self::event::{Event, Vitals, WatchId};
use self::gaps::Gaps;
pub use self::gathering::Present;
use self::generation::Running;
use self::out_of_sight::OutOfSight;
use self::seat::Seat;
pub use self::timing::Timing;
pub use self::verdict::{Evidence, Failure, Verdict};

/// What a run asks for before it begins, fixed for its life.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The run.
    pub run: RunId,
    /// Number of workers it starts with.
    pub world_size: usize,
    /// Number of workers that it goes on with at least.
    pub min_world_size: usize,
    /// Version that every program must have.
    pub version: String,
    /// Its deadlines.
    pub timing: Timing,
}

/// What a coordinator knows about a run that an earlier process has begun.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Past {
    /// The newest generation; 0 when none has begun.
    pub generation: u64,
    /// Its members in ring order.
    pub members: Vec<Candidate>,
    /// Whether its members may still be at work: the coordinator was lost, the run was not stopped.
    pub is_at_work: bool,
    /// Steps of the newest whole checkpoint.
    pub checkpoint_step: Option<u64>,
    /// Epochs whose results are durable.
    pub recorded_epochs: u32,
    /// How long the run has trained, as far as its results tell.
    pub elapsed: Duration,
    /// How often it was taken over before, this time included.
    pub takeovers: u32,
}

/// The membership of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    terms: Terms,
    phase: Phase,
    /// In the order of joining.
    seats: Vec<Seat>,
    /// The newest generation that was announced; 0 before the first.
    generation: u64,
    /// What every worker must have opened: the first worker's card, for the run's whole life.
    measure: Option<Candidate>,
    /// When the run began, as a time of this coordinator; results count from here.
    began: Option<Duration>,
    /// What earlier coordinators of the run counted.
    elapsed_before: Duration,
    checkpoint_step: Option<u64>,
    checkpoint_requests: u64,
    stop_by: Option<Duration>,
    /// Whether the stop is for the time limit.
    is_time_up: bool,
    last_step: Option<StepReport>,
    last_epoch: Option<EpochReport>,
    /// Epochs whose results were durable when this coordinator began.
    recorded_epochs: u32,
    losses: u32,
    damages: BTreeMap<WorkerId, u32>,
    /// The newest step after which all members' digests were compared.
    compared_step: Option<u64>,
    gaps: Gaps,
    out_of_sight: OutOfSight,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// Waiting until enough workers are there.
    Gathering {
        since: Duration,
        remind_at: Duration,
        needed: usize,
    },
    Running(Running),
    Finished {
        roster: Option<Roster>,
        verdict: Verdict,
    },
}

impl Membership {
    /// Opens the gathering of a run.
    pub fn new(terms: Terms, now: Duration) -> Self {
        Self::resume(terms, Past::default(), now)
    }

    /// Takes over a run that an earlier coordinator has begun.
    ///
    /// Members that may still be at work have the lease and a grace to come back; the generation goes on as if nothing had
    /// happened. Otherwise workers gather anew, and the next generation begins at the newest checkpoint.
    pub fn resume(terms: Terms, past: Past, now: Duration) -> Self {
        let mut membership = Self {
            phase: Phase::Gathering {
                since: now,
                remind_at: now + terms.timing.reminder,
                needed: terms.world_size,
            },
            seats: Vec::new(),
            generation: past.generation,
            measure: past.members.first().cloned(),
            began: None,
            elapsed_before: past.elapsed,
            checkpoint_step: past.checkpoint_step,
            // Workers remember the number that they served last: those of this coordinator are above all before.
            checkpoint_requests: u64::from(past.takeovers) << 32,
            stop_by: None,
            is_time_up: false,
            last_step: None,
            last_epoch: None,
            recorded_epochs: past.recorded_epochs,
            losses: 0,
            damages: BTreeMap::new(),
            compared_step: None,
            gaps: Gaps::default(),
            out_of_sight: OutOfSight::default(),
            terms,
        };
        if past.is_at_work && !past.members.is_empty() {
            membership.take_over(past.members, now);
        }
        membership
    }

    /// Takes in an event and returns what is to be done, in this order; at most [`MAX_EFFECTS`].
    ///
    /// # Errors
    /// When the event is refused; nothing has changed then.
    pub fn handle(&mut self, now: Duration, event: Event) -> Result<Vec<Effect>, Refusal> {
        match event {
            Event::Joined(candidate) => self.join(now, candidate),
            Event::WatchOpened { run, worker, watch } => self.watch_opened(run, worker, watch),
            Event::WatchClosed { worker, watch } => Ok(self.watch_closed(now, worker, watch)),
            Event::Heartbeat { sender, vitals } => self.heartbeat(now, &sender, &vitals),
            Event::Reported { sender, report } => self.report(now, &sender, report),
            Event::Left { sender, reason } => self.leave(now, &sender, reason),
            Event::CheckpointCommitted { step } => Ok(self.checkpoint_committed(step)),
            Event::CheckpointRequested => self.request_checkpoint(),
            Event::FoundDead { worker } => Ok(self.found_dead(now, worker)),
            Event::WasAsleep => {
                self.forgive(now);
                Ok(vec![])
            }
            Event::StopRequested => Ok(self.stop(now, StopCause::Asked)),
            Event::AbortRequested => Ok(self.end(Verdict::Failed(Failure::Aborted))),
            Event::StorageFailed { reason } => Ok(self.end(Verdict::Failed(Failure::Storage { reason }))),
            Event::DeadlineReached => Ok(self.deadline_reached(now)),
        }
    }

    /// When [`Event::DeadlineReached`] is due, or `None` when nothing is waited for.
    pub fn next_deadline(&self) -> Option<Duration> {
        let leases = self.seats.iter().filter_map(|seat| self.lease_end(seat));
        match &self.phase {
            Phase::Gathering { remind_at, .. } => leases
                .chain([*remind_at])
                .chain(self.give_up_at())
                .chain(self.blind_until())
                .min(),
            Phase::Running(running) => leases
                .chain(running.deadlines())
                .chain(self.stop_by)
                .chain(self.time_is_up_at())
                .chain(self.stall_at())
                .min(),
            Phase::Finished { .. } => None,
        }
    }

    /// How the run ended, once it has.
    pub const fn verdict(&self) -> Option<&Verdict> {
        match &self.phase {
            Phase::Finished { verdict, .. } => Some(verdict),
            Phase::Gathering { .. } | Phase::Running(_) => None,
        }
    }

    /// The members of the newest generation while it is at work or was when the run ended, or `None`.
    pub const fn roster(&self) -> Option<&Roster> {
        match &self.phase {
            Phase::Gathering { .. } => None,
            Phase::Running(running) => Some(&running.roster),
            Phase::Finished { roster, .. } => roster.as_ref(),
        }
    }

    /// The newest generation; 0 before the first.
    pub const fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// What the members of a roster said about themselves, in ring order.
    pub fn candidates(&self, roster: &Roster) -> Vec<Candidate> {
        let members = roster.members().iter();
        let seats =
            members.filter_map(|member| self.seats.iter().find(|seat| seat.worker() == member.worker));
        seats.map(|seat| seat.candidate.clone()).collect()
    }

    /// Whether the run is over and no worker is left that may still call.
    pub fn is_deserted(&self) -> bool {
        self.verdict().is_some() && self.seats.iter().all(|seat| seat.left || seat.watch.is_none())
    }

    /// Whether the run could be resumed from a checkpoint.
    pub(super) const fn is_resumable(&self) -> bool {
        self.checkpoint_step.is_some()
    }

    fn watch_opened(&mut self, run: RunId, worker: WorkerId, watch: WatchId) -> Result<Vec<Effect>, Refusal> {
        self.same_run(run)?;
        let seat = self.seat_of(worker)?;
        self.seats[seat].watch = Some(watch);
        if let Phase::Running(running) = &mut self.phase {
            running.clear_watch_suspicion(worker);
        }
        Ok(vec![])
    }

    fn stop(&mut self, now: Duration, cause: StopCause) -> Vec<Effect> {
        match &self.phase {
            Phase::Gathering { .. } if self.generation == 0 => self.end(Verdict::StoppedBeforeStart),
            Phase::Gathering { .. } => self.end(Verdict::StoppedWhileWaiting {
                checkpoint_step: self.checkpoint_step,
            }),
            Phase::Running(_) if self.stop_by.is_none() => {
                self.stop_by = Some(now + self.terms.timing.stop_grace);
                vec![Effect::RequestStop(cause)]
            }
            Phase::Running(_) | Phase::Finished { .. } => vec![],
        }
    }

    /// When the run has trained for as long as it may; `None` when it may go on, or is asked to stop already.
    fn time_is_up_at(&self) -> Option<Duration> {
        let left = self.terms.timing.time_limit?.saturating_sub(self.elapsed_before);
        self.stop_by.is_none().then_some(self.began? + left)
    }

    /// Deals with the one matter that is most overdue; others become due again at once.
    fn deadline_reached(&mut self, now: Duration) -> Vec<Effect> {
        let lapsed = self
            .seats
            .iter()
            .position(|seat| self.lease_end(seat).is_some_and(|end| end <= now));
        match (&self.phase, lapsed) {
            (Phase::Finished { .. }, _) => vec![],
            (_, Some(seat)) => {
                let silent_for = now.saturating_sub(self.seats[seat].heard_at);
                self.lose(now, seat, Evidence::LeaseLapsed { silent_for })
            }
            (Phase::Gathering { .. }, None) => self.gathering_deadline(now),
            (Phase::Running(_), None) => self.running_deadline(now),
        }
    }

    /// When the seat's lease lapses; `None` for a worker of which nothing more is expected.
    fn lease_end(&self, seat: &Seat) -> Option<Duration> {
        (!seat.left).then(|| seat.heard_at + self.terms.timing.lease)
    }

    fn end(&mut self, verdict: Verdict) -> Vec<Effect> {
        if self.verdict().is_some() {
            return vec![];
        }
        let roster = self.roster().cloned();
        self.phase = Phase::Finished {
            roster,
            verdict: verdict.clone(),
        };
        vec![Effect::End(verdict)]
    }
}
