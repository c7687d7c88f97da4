//! How a worker's part ends: with its work done, with a handover, or because it alone cannot go on.

use std::sync::Arc;
use std::time::Duration;

use proto::{Finished, Outcome, RefusalKind, Report};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::calls::{leave, tell};
use super::{Part, Session, SessionError};
use crate::compute::Notice;

impl Session {
    /// Delivers what is left, then says that this worker's work is done, or leaves when it alone is to end.
    pub(super) fn finish(&mut self, finished: Finished) {
        if let Some(current) = &mut self.current {
            current.finished = Some(finished.clone());
        }
        let (client, sender, outbox) = (self.client(), self.sender(), Arc::clone(&self.outbox));
        let is_leaving = self.is_draining && !self.is_stopping && finished.outcome == Outcome::Stopped;
        self.finishing = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            outbox.emptied().await;
            if is_leaving {
                leave(client, sender, "asked to end".to_owned()).await;
            } else {
                let _ = tell(client, sender, Report::Finished(finished)).await;
            }
            is_leaving
        })));
    }

    /// Says once more that this worker's work is done: a coordinator that was away does not know what the one before knew.
    pub(super) fn finish_again(&mut self) {
        let finished = self.current.as_ref().and_then(|current| current.finished.clone());
        if let Some(finished) = finished
            && self.finishing.is_none()
        {
            self.finish(finished);
        }
    }

    /// Asks to be let go at a step boundary.
    pub(super) async fn drain(&mut self) -> Result<Option<Part>, SessionError> {
        self.is_draining = true;
        let Some(current) = &self.current else {
            leave(self.client(), self.sender(), "asked to end".to_owned()).await;
            return Err(SessionError::StoppedEarly);
        };
        info!("asked to end; handing over at a step boundary");
        if current.roster.world_size() == 1 && self.next.is_none() {
            self.signals.stop();
        } else if self.finishing.is_none() {
            self.ask_to_go();
        }
        Ok(None)
    }

    /// Delivers what is left, for those who go on without this worker may not have it, and asks to be let go, until a generation
    /// begins without it. A run that waits for workers lets it go at once: no step boundary comes.
    pub(super) fn ask_to_go(&mut self) {
        let (client, sender, outbox) = (self.client(), self.sender(), Arc::clone(&self.outbox));
        self.finishing = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = timeout(HANDOVER_PATIENCE, outbox.emptied()).await;
            while tell(client.clone(), sender, Report::DrainRequested).await != Some(RefusalKind::NotNow) {
                sleep(ASKING_PAUSE).await;
            }
            info!("the run waits for workers, and goes on without this one from what the others have");
            leave(client, sender, "asked to end".to_owned()).await;
            true
        })));
    }

    /// Says goodbye after a generation has begun without this worker.
    pub(super) async fn handed_over(&mut self) -> Part {
        self.outbox.set_reporter(false);
        let _ = timeout(HANDOVER_PATIENCE, self.outbox.emptied()).await;
        leave(self.client(), self.sender(), "asked to end".to_owned()).await;
        info!("handed over; the run goes on without this worker");
        Part::Drained
    }

    /// Leaves because of a failure of this worker alone.
    pub(super) async fn fail(&mut self, error: SessionError) -> SessionError {
        leave(self.client(), self.sender(), error.to_string()).await;
        error
    }

    /// Ends training: a process that exits while a thread computes may crash in its libraries.
    pub(super) async fn unwind(&mut self) {
        let Some(current) = &self.current else {
            return;
        };
        let is_training = current.is_training;
        current.cancelled.cancel();
        let left = async {
            while let Some(notice) = self.ports.notices.recv().await {
                if matches!(notice, Notice::Left(_) | Notice::Failed(_)) {
                    return;
                }
            }
        };
        if is_training && timeout(UNWIND_PATIENCE, left).await.is_err() {
            warn!("training did not unwind in time; leaving it");
        }
    }
}

/// A blocked ring call returns at once when cancelled; what may take longer is one step's computation.
const UNWIND_PATIENCE: Duration = Duration::from_secs(3);

/// A coordinator that is asked to let a worker go and comes to wait for workers meanwhile must be asked again.
const ASKING_PAUSE: Duration = Duration::from_secs(1);

/// Results of an epoch, or a range of a checkpoint, that are still under way when a worker leaves.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(10);
