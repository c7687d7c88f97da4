//! Signs of life, on a connection of their own, so that a busy data or report stream never delays them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::{Address, RefusalKind, RunId, Sender, WorkerId, wire};
use security::{Channel, Expect, Security};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::pulse::Pulse;
use crate::signals::Signals;

/// Heartbeats that go on as long as this lives, and begin with the first join.
#[derive(Debug)]
pub struct Heartbeats {
    joins: watch::Sender<Joined>,
    heard: Arc<Heard>,
    _task: AbortOnDropHandle<()>,
}

/// The newest join.
#[derive(Clone, Copy, Debug, Default)]
struct Joined {
    /// Its number; 0 before the first.
    number: u64,
    /// How often to send a sign of life from then on.
    every: Duration,
}

/// What the answers told.
#[derive(Debug)]
struct Heard {
    /// Number of the join after which the coordinator did not know this worker any more.
    unknown_since: watch::Sender<u64>,
    recorded_epochs: AtomicU32,
}

impl Heartbeats {
    /// Prepares them.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn start(
        security: &Security,
        coordinator: &Address,
        run: RunId,
        worker: WorkerId,
        pulse: Arc<Pulse>,
        signals: Arc<Signals>,
    ) -> Self {
        let channel = security.connect_lazy(coordinator, Expect::Coordinator, |endpoint| {
            endpoint.timeout(ANSWER_PATIENCE)
        });
        let heard = Arc::new(Heard {
            unknown_since: watch::Sender::new(0),
            recorded_epochs: AtomicU32::new(0),
        });
        let (joins, joined) = watch::channel(Joined::default());
        let heart = Heart {
            client: CoordinatorServiceClient::new(channel),
            run,
            worker,
            pulse,
            signals,
            heard: Arc::clone(&heard),
            answered: Instant::now(),
        };
        Self {
            joins,
            heard,
            _task: AbortOnDropHandle::new(tokio::spawn(heart.beat(joined))),
        }
    }

    /// This worker has joined, for the first time or again.
    pub fn joined(&self, every: Duration) {
        self.joins.send_modify(|joined| {
            joined.number += 1;
            joined.every = every.max(SHORTEST_INTERVAL);
        });
    }

    /// Waits until the coordinator says that it does not know this worker since it joined last.
    pub async fn unknown(&self) {
        let number = self.joins.borrow().number;
        let mut unknown_since = self.heard.unknown_since.subscribe();
        // The sending half lives in `self`.
        let _ = unknown_since
            .wait_for(|&since| since == number && number > 0)
            .await;
    }

    /// Returns the number of epochs whose results are durable.
    pub fn recorded_epochs(&self) -> u32 {
        self.heard.recorded_epochs.load(Ordering::Relaxed)
    }
}

/// The sending end.
struct Heart {
    client: CoordinatorServiceClient<Channel>,
    run: RunId,
    worker: WorkerId,
    pulse: Arc<Pulse>,
    signals: Arc<Signals>,
    heard: Arc<Heard>,
    /// When the coordinator last answered.
    answered: Instant,
}

impl Heart {
    async fn beat(mut self, mut joins: watch::Receiver<Joined>) {
        loop {
            let unknown_since = *self.heard.unknown_since.borrow();
            let Ok(joined) = joins
                .wait_for(|joined| joined.number > unknown_since)
                .await
                .map(|joined| *joined)
            else {
                return;
            };
            self.tell(joined.number).await;
            self.pause_or_resume();
            sleep(joined.every).await;
        }
    }

    /// A coordinator that hears nothing from any member for long lets the run go on without them: until it answers again, they
    /// must not go on either.
    fn pause_or_resume(&self) {
        let away = self.answered.elapsed();
        if away < PAUSE_AFTER {
            if self.signals.resume() {
                info!("the coordinator answers again; training goes on");
            }
        } else if self.signals.pause() {
            warn!(
                seconds = away.as_secs(),
                "the coordinator does not answer; training waits for it, for the run may go on elsewhere"
            );
        }
    }

    async fn tell(&mut self, join: u64) {
        let sender = Sender {
            run: self.run,
            worker: self.worker,
            generation: self.pulse.generation(),
        };
        let beat = wire::HeartbeatRequest {
            sender: Some(sender.into()),
            step: self.pulse.step(),
            activity: wire::Activity::from(self.pulse.activity()).into(),
            progress: self.pulse.progress_made(),
            waits_for_left: self.pulse.waits_for_left(),
            digest: self.pulse.digest().map(Into::into),
        };
        match self.client.heartbeat(beat).await {
            Ok(answer) => {
                self.answered = Instant::now();
                let recorded = answer.into_inner().recorded_epochs;
                self.heard.recorded_epochs.fetch_max(recorded, Ordering::Relaxed);
            }
            Err(status) if RefusalKind::of(&status) == Some(RefusalKind::UnknownWorker) => {
                self.answered = Instant::now();
                self.heard.unknown_since.send_replace(join);
            }
            Err(status) => debug!(reason = status.message(), "heartbeat not answered"),
        }
    }
}

/// A coordinator cannot ask for more.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// An answer takes milliseconds; one that takes seconds says nothing about now any more.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// Long enough to start a coordinator again; with some seconds to spare below the time that a coordinator waits for members out
/// of its sight.
const PAUSE_AFTER: Duration = Duration::from_secs(45);
