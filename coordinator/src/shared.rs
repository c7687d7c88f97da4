//! The one piece of state that all services share: the membership behind a mutex, and the ways out of it.
//!
//! Every event goes through [`Shared::handle`]. Effects leave under the same lock that made them, so their
//! order is that of the events: what must survive this process into the journal, decisions into a slot that Watch
//! streams read, everything into the bounded queue of the recorder. Room in that queue is reserved before the lock is
//! taken; the one thing that is waited for under the lock is the journal's disk, a few times in a run.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use proto::{Attendance, Ending, Refusal, Roster, RunStatus, Sender, Switch, wire};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::journal::{Journal, Record};
use crate::membership::{Effect, Event, MAX_EFFECTS, Membership, Verdict};

/// What Watch streams show: everything that holds now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions {
    /// The newest roster that takes effect at once.
    pub(crate) roster: Option<Roster>,
    /// The newest roster after it, which takes effect at a step boundary.
    pub(crate) next: Option<Roster>,
    /// Number of the newest request for a checkpoint that was not made yet.
    pub(crate) checkpoint: Option<u64>,
    pub(crate) stop_requested: bool,
    pub(crate) ending: Option<Ending>,
}

/// The shared state of a coordinator.
#[derive(Debug)]
pub(crate) struct Shared {
    started: Instant,
    lease: Duration,
    membership: Mutex<Membership>,
    journal: Mutex<Journal>,
    decisions: watch::Sender<Decisions>,
    records: mpsc::Sender<Effect>,
    /// Epochs whose results are durable.
    recorded_epochs: watch::Sender<u32>,
    /// Steps of the newest committed checkpoint.
    checkpoint_step: watch::Sender<Option<u64>>,
    /// Wakes the timer when the next deadline may have moved.
    moved: Notify,
    /// Wakes the end of the run when the last worker has left.
    deserted: Notify,
}

impl Shared {
    /// Makes the state; `records` leads to the recorder, `lease` is the workers'.
    pub(crate) fn new(
        membership: Membership,
        lease: Duration,
        journal: Journal,
        records: mpsc::Sender<Effect>,
        recorded_epochs: u32,
    ) -> Self {
        let decisions = Decisions {
            roster: membership.roster().cloned(),
            ..Decisions::default()
        };
        Self {
            started: Instant::now(),
            lease,
            membership: Mutex::new(membership),
            journal: Mutex::new(journal),
            decisions: watch::Sender::new(decisions),
            records,
            recorded_epochs: watch::Sender::new(recorded_epochs),
            checkpoint_step: watch::Sender::new(None),
            moved: Notify::new(),
            deserted: Notify::new(),
        }
    }

    /// Feeds an event to the membership and passes its effects on.
    pub(crate) async fn handle(&self, event: Event) -> Result<(), Refusal> {
        // Without a recorder the run directory is lost and the run about to end: effects go unrecorded then.
        let mut room = self.records.reserve_many(MAX_EFFECTS).await.ok();
        let mut membership = self.lock();
        let mut effects = membership.handle(self.now(), event)?;
        if let Err(error) = self.make_durable(&membership, &effects) {
            let reason = error.to_string();
            let failed = membership.handle(self.now(), Event::StorageFailed { reason })?;
            // Nothing follows when the run is over already: then its end is told, though it is not on disk.
            if !failed.is_empty() {
                effects = failed;
            }
        }
        for effect in effects {
            self.publish(&effect, &membership);
            if let Some(permit) = room.as_mut().and_then(Iterator::next) {
                permit.send(effect);
            }
        }
        let is_deserted = membership.is_deserted();
        drop(membership);
        self.moved.notify_one();
        if is_deserted {
            self.deserted.notify_one();
        }
        Ok(())
    }

    /// What is decided, now and from now on.
    pub(crate) fn decisions(&self) -> watch::Receiver<Decisions> {
        self.decisions.subscribe()
    }

    /// Checks that the sender may upload weights or a part of a checkpoint now.
    pub(crate) fn may_upload(&self, sender: &Sender) -> Result<(), Refusal> {
        self.lock().may_upload(sender)
    }

    /// A snapshot for people.
    pub(crate) fn snapshot(&self, epochs: u32) -> RunStatus {
        self.lock().snapshot(self.now(), epochs)
    }

    /// Those that have joined, for people.
    pub(crate) fn attendance(&self) -> Vec<Attendance> {
        self.lock().attendance(self.now())
    }

    /// Runs `read` on the membership.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Membership) -> T) -> T {
        read(&self.lock())
    }

    /// The results of this epoch are durable.
    pub(crate) fn epoch_recorded(&self, epoch: u32) {
        self.recorded_epochs.send_if_modified(|recorded| {
            let is_newer = epoch > *recorded;
            *recorded = epoch.max(*recorded);
            is_newer
        });
    }

    /// Epochs whose results are durable.
    pub(crate) fn recorded_epochs(&self) -> watch::Receiver<u32> {
        self.recorded_epochs.subscribe()
    }

    /// Steps of the newest checkpoint that this coordinator committed.
    pub(crate) fn checkpoint_step(&self) -> watch::Receiver<Option<u64>> {
        self.checkpoint_step.subscribe()
    }

    /// Reports passed deadlines, until the run has ended.
    pub(crate) async fn keep_time(&self) {
        loop {
            let moved = self.moved.notified();
            let (next, has_ended) = self.read(|m| (m.next_deadline(), m.verdict().is_some()));
            if has_ended {
                return;
            }
            let Some(next) = next else {
                moved.await;
                continue;
            };
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep_until(self.started + next) => {
                    // Deadlines are no requests, so they are never refused.
                    let late = self.now().saturating_sub(next);
                    if late > self.lease / LATE_FRACTION {
                        warn!(seconds = late.as_secs_f64(), "this process was not running; nobody is blamed for the silence");
                        let _ = self.handle(Event::WasAsleep).await;
                    }
                    // What is nobody's silence, a reminder say, is still due.
                    let _ = self.handle(Event::DeadlineReached).await;
                }
            }
        }
    }

    /// Waits until no worker is left that may still call.
    pub(crate) async fn deserted(&self) {
        if !self.read(Membership::is_deserted) {
            self.deserted.notified().await;
        }
    }

    /// Writes into the journal what must be known after this process is gone.
    fn make_durable(&self, membership: &Membership, effects: &[Effect]) -> std::io::Result<()> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        for effect in effects {
            let record = match effect {
                Effect::Announce(roster) => Record::Generation {
                    generation: roster.generation().0,
                    members: membership
                        .candidates(roster)
                        .into_iter()
                        .map(|candidate| wire::JoinRequest::from(candidate).encode_to_vec())
                        .collect(),
                },
                Effect::RecordCheckpoint { step } => Record::CheckpointCommitted { step: *step },
                Effect::End(verdict) => record_of(verdict, &membership.ending(verdict)),
                _ => continue,
            };
            journal.append(&record)?;
        }
        Ok(())
    }

    fn publish(&self, effect: &Effect, membership: &Membership) {
        if let Effect::RecordCheckpoint { step } = effect {
            self.checkpoint_step.send_replace(Some(*step));
        }
        self.decisions.send_if_modified(|decisions| {
            match effect {
                Effect::Announce(roster) if roster.switch == Switch::AtStepBoundary => {
                    // What was to be next before has taken effect, or there would be no other.
                    if let Some(before) = decisions.next.take() {
                        decisions.roster = Some(before);
                    }
                    decisions.next = Some(roster.clone());
                }
                Effect::Announce(roster) => {
                    decisions.roster = Some(roster.clone());
                    decisions.next = None;
                }
                Effect::RequestStop(_) => decisions.stop_requested = true,
                Effect::RequestCheckpoint { number } => decisions.checkpoint = Some(*number),
                Effect::RecordCheckpoint { .. } => decisions.checkpoint = None,
                Effect::End(verdict) => decisions.ending = Some(membership.ending(verdict)),
                Effect::RecordJoined { .. }
                | Effect::RecordDeparted { .. }
                | Effect::RecordLost { .. }
                | Effect::RecordDamaged { .. }
                | Effect::Remind { .. }
                | Effect::ShowStep(_)
                | Effect::RecordEpoch { .. } => return false,
            }
            true
        });
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Membership> {
        // A panic in the membership would be a bug; its state is replaced as a whole, so it is still whole.
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how the end of a run is journalled: what can be resumed is not over.
fn record_of(verdict: &Verdict, ending: &Ending) -> Record {
    if ending.resumable {
        let step = match verdict {
            Verdict::Stopped { step, .. } => *step,
            _ => 0,
        };
        return Record::Stopped { step };
    }
    Record::Ended {
        outcome: ending.outcome.to_string(),
        reason: ending.reason.clone(),
    }
}

/// A deadline that is met later than this part of a lease was missed because this process did not run.
const LATE_FRACTION: u32 = 4;

#[cfg(test)]
mod tests;
