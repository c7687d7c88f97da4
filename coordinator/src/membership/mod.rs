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
//! | `timing` | every deadline, with its reason |
//! | `fence` | run, membership and generation of a sender, and its rights |
//! | `seat` | what is known about one worker |
//! | `gathering` | who may join, and the ring order |
//! | `running` | reports, loss, and the end of a generation |
//! | `verdict` | how a run ends, and why |
//! | `snapshot` | the state as people see it |

mod effect;
mod event;
mod fence;
mod gathering;
mod running;
mod seat;
mod snapshot;
mod timing;
mod verdict;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;

use std::time::Duration;

use proto::{EpochReport, Generation, Refusal, Roster, RunId, Sender, StepReport, WorkerId};

pub use self::effect::{Effect, MAX_EFFECTS};
pub use self::event::{Event, WatchId};
pub use self::gathering::Present;
use self::running::Suspicion;
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
    /// Version that every program must have.
    pub version: String,
    /// Its deadlines.
    pub timing: Timing,
}

/// The membership of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    terms: Terms,
    phase: Phase,
    /// In the order of joining while gathering, in the order of ranks from then on.
    seats: Vec<Seat>,
    last_step: Option<StepReport>,
    last_epoch: Option<EpochReport>,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Gathering {
        since: Duration,
        remind_at: Duration,
    },
    Running {
        roster: Roster,
        since: Duration,
        suspicions: Vec<Suspicion>,
        stop_by: Option<Duration>,
        finish_by: Option<Duration>,
    },
    Finished {
        roster: Option<Roster>,
        verdict: Verdict,
    },
}

impl Membership {
    /// Opens the gathering of a run.
    pub fn new(terms: Terms, now: Duration) -> Self {
        Self {
            phase: Phase::Gathering {
                since: now,
                remind_at: now + terms.timing.reminder,
            },
            terms,
            seats: Vec::new(),
            last_step: None,
            last_epoch: None,
        }
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
            Event::Heartbeat {
                sender,
                step,
                activity,
            } => {
                let seat = self.fenced(&sender)?;
                self.refuse_if_finished()?;
                let seat = &mut self.seats[seat];
                seat.heard_at = now;
                seat.step = step;
                seat.activity = activity;
                Ok(vec![])
            }
            Event::Reported { sender, report } => self.report(now, &sender, report),
            Event::Left { sender, reason } => self.leave(&sender, reason),
            Event::StopRequested => Ok(self.stop(now)),
            Event::AbortRequested => Ok(self.end(Verdict::Failed(Failure::Aborted))),
            Event::StorageFailed { reason } => Ok(self.end(Verdict::Failed(Failure::Storage { reason }))),
            Event::DeadlineReached => Ok(self.deadline_reached(now)),
        }
    }

    /// When [`Event::DeadlineReached`] is due, or `None` when nothing is waited for.
    pub fn next_deadline(&self) -> Option<Duration> {
        let leases = self.seats.iter().filter_map(|seat| self.lease_end(seat));
        match &self.phase {
            Phase::Gathering { remind_at, .. } => leases.chain([*remind_at]).chain(self.give_up_at()).min(),
            Phase::Running {
                suspicions,
                stop_by,
                finish_by,
                ..
            } => leases
                .chain(suspicions.iter().map(|suspicion| suspicion.decide_at))
                .chain(*stop_by)
                .chain(*finish_by)
                .min(),
            Phase::Finished { .. } => None,
        }
    }

    /// How the run ended, once it has.
    pub const fn verdict(&self) -> Option<&Verdict> {
        match &self.phase {
            Phase::Finished { verdict, .. } => Some(verdict),
            Phase::Gathering { .. } | Phase::Running { .. } => None,
        }
    }

    /// The current generation's members, or `None` before the first.
    pub const fn roster(&self) -> Option<&Roster> {
        match &self.phase {
            Phase::Gathering { .. } => None,
            Phase::Running { roster, .. } => Some(roster),
            Phase::Finished { roster, .. } => roster.as_ref(),
        }
    }

    /// The current generation; 0 before the first.
    pub fn generation(&self) -> Generation {
        self.roster().map_or(Generation(0), Roster::generation)
    }

    /// Whether the run is over and no worker is left that may still call. A lost one will not.
    pub fn is_deserted(&self) -> bool {
        let lost = match self.verdict() {
            None => return false,
            Some(Verdict::Failed(Failure::Lost { member, .. })) => Some(member.worker),
            Some(_) => None,
        };
        self.seats
            .iter()
            .all(|seat| seat.left || seat.watch.is_none() || Some(seat.candidate.worker) == lost)
    }

    fn watch_opened(&mut self, run: RunId, worker: WorkerId, watch: WatchId) -> Result<Vec<Effect>, Refusal> {
        self.same_run(run)?;
        let seat = self.seat_of(worker)?;
        self.seats[seat].watch = Some(watch);
        if let Phase::Running { suspicions, .. } = &mut self.phase {
            suspicions.retain(|s| s.rank != seat || s.evidence != Evidence::WatchClosed);
        }
        Ok(vec![])
    }

    fn watch_closed(&mut self, now: Duration, worker: WorkerId, watch: WatchId) -> Vec<Effect> {
        let Ok(seat) = self.seat_of(worker) else {
            return vec![];
        };
        if self.seats[seat].watch != Some(watch) {
            return vec![];
        }
        self.seats[seat].watch = None;
        match self.phase {
            Phase::Gathering { .. } => self.depart(seat, Evidence::WatchClosed),
            Phase::Running { .. } => {
                self.suspect(now, seat, Evidence::WatchClosed);
                vec![]
            }
            Phase::Finished { .. } => vec![],
        }
    }

    fn leave(&mut self, sender: &Sender, reason: String) -> Result<Vec<Effect>, Refusal> {
        let seat = self.fenced(sender)?;
        self.seats[seat].left = true;
        Ok(match self.phase {
            Phase::Gathering { .. } => self.depart(seat, Evidence::Left { reason }),
            Phase::Running { .. } if self.seats[seat].finished.is_none() => {
                self.lose(seat, Evidence::Left { reason })
            }
            Phase::Running { .. } | Phase::Finished { .. } => vec![],
        })
    }

    fn stop(&mut self, now: Duration) -> Vec<Effect> {
        let grace = self.terms.timing.stop_grace;
        match &mut self.phase {
            Phase::Gathering { .. } => self.end(Verdict::StoppedBeforeStart),
            Phase::Running { stop_by, .. } if stop_by.is_none() => {
                *stop_by = Some(now + grace);
                vec![Effect::RequestStop]
            }
            Phase::Running { .. } | Phase::Finished { .. } => vec![],
        }
    }

    /// Deals with the one matter that is most overdue; others become due again at once.
    fn deadline_reached(&mut self, now: Duration) -> Vec<Effect> {
        let lapsed = self
            .seats
            .iter()
            .position(|seat| self.lease_end(seat).is_some_and(|end| end <= now));
        match (&self.phase, lapsed) {
            (Phase::Gathering { .. }, Some(seat)) => self.depart(seat, self.silence(now, seat)),
            (Phase::Gathering { .. }, None) => self.gathering_deadline(now),
            (Phase::Running { .. }, Some(seat)) => self.lose(seat, self.silence(now, seat)),
            (Phase::Running { .. }, None) => self.running_deadline(now),
            (Phase::Finished { .. }, _) => vec![],
        }
    }

    /// When the seat's lease lapses; `None` for a worker of which nothing more is expected.
    fn lease_end(&self, seat: &Seat) -> Option<Duration> {
        (seat.finished.is_none() && !seat.left).then(|| seat.heard_at + self.terms.timing.lease)
    }

    fn silence(&self, now: Duration, seat: usize) -> Evidence {
        Evidence::LeaseLapsed {
            silent_for: now.saturating_sub(self.seats[seat].heard_at),
        }
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
