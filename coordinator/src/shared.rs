//! The one piece of state that all services share: the membership behind a mutex, and the ways out of it.
//!
//! Every event goes through [`Shared::handle`]. Effects leave under the same lock that made them, so their
//! order is that of the events: decisions into a slot that Watch streams read, everything into the bounded
//! queue of the recorder. Room in that queue is reserved before the lock is taken; nothing waits under the lock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::{Ending, Refusal, Roster, RunStatus, Sender};
use tokio::sync::{Notify, mpsc, watch};

use crate::membership::{Effect, Event, MAX_EFFECTS, Membership};

/// What Watch streams show: everything that holds now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions {
    pub(crate) roster: Option<Roster>,
    pub(crate) stop_requested: bool,
    pub(crate) ending: Option<Ending>,
}

/// The shared state of a coordinator.
#[derive(Debug)]
pub(crate) struct Shared {
    started: Instant,
    membership: Mutex<Membership>,
    decisions: watch::Sender<Decisions>,
    records: mpsc::Sender<Effect>,
    /// Wakes the timer when the next deadline may have moved.
    moved: Notify,
    /// Wakes the end of the run when the last worker has left.
    deserted: Notify,
}

impl Shared {
    /// Makes the state; `records` leads to the recorder.
    pub(crate) fn new(membership: Membership, records: mpsc::Sender<Effect>) -> Self {
        Self {
            started: Instant::now(),
            membership: Mutex::new(membership),
            decisions: watch::Sender::new(Decisions::default()),
            records,
            moved: Notify::new(),
            deserted: Notify::new(),
        }
    }

    /// Feeds an event to the membership and passes its effects on.
    pub(crate) async fn handle(&self, event: Event) -> Result<(), Refusal> {
        // Without a recorder the run directory is lost and the run about to end: effects go unrecorded then.
        let mut room = self.records.reserve_many(MAX_EFFECTS).await.ok();
        let mut membership = self.lock();
        let effects = membership.handle(self.now(), event)?;
        for effect in effects {
            self.publish(&effect);
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

    /// Checks that the sender may upload weights now.
    pub(crate) fn may_upload(&self, sender: &Sender) -> Result<(), Refusal> {
        self.lock().may_upload(sender)
    }

    /// A snapshot for people.
    pub(crate) fn snapshot(&self, epochs: u32) -> RunStatus {
        self.lock().snapshot(self.now(), epochs)
    }

    /// Runs `read` on the membership.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Membership) -> T) -> T {
        read(&self.lock())
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
                () = tokio::time::sleep_until((self.started + next).into()) => {
                    // Invariant: a deadline is no request, so it is never refused.
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

    fn publish(&self, effect: &Effect) {
        self.decisions.send_if_modified(|decisions| {
            match effect {
                Effect::Announce(roster) => decisions.roster = Some(roster.clone()),
                Effect::RequestStop => decisions.stop_requested = true,
                Effect::End(verdict) => decisions.ending = Some(verdict.into()),
                Effect::RecordJoined { .. }
                | Effect::RecordDeparted { .. }
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
