//! A worker's part in a run: from the first call to the end.
//!
//! [`run`] finds the coordinator, opens data and model, and then takes part: it enters one generation after the other,
//! reports what broke, and leaves when the run is over or when it was asked to. Training itself is on the compute
//! thread; this file decides nothing about it. The coordinator may be away: [`attachment`] finds it again.
//!
//! What a worker does in a generation does not end with the generation's loss. Only these end a session: the end of the
//! run, a drain, a failure of this worker alone, a refusal, or a coordinator that is away for longer than
//! `--orphan-timeout`.

mod attachment;
mod calls;
mod ending;
mod error;
mod opening;
mod place;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use collective::{CollectiveError, Neighbour, RingError};
use probe::host_name;
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::{Address, Candidate, Ending, Finished, Generation, Member, Outcome, RefusalKind, Report, Sender};
use security::{Channel, Security};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use self::attachment::{Attachment, News};
use self::calls::{failed, leave, link_failure, link_lost, tell};
pub use self::error::SessionError;
use self::opening::{get_run, opened, serve};
use self::place::{Current, Next};
use crate::address::{Advertise, advertised};
use crate::compute::{Engine, Left, Notice, Ports, connect as connect_compute};
use crate::connect;
use crate::delivery::{Route, courier};
use crate::heartbeat::Heartbeats;
use crate::outbox::Outbox;
use crate::pulse::Pulse;
use crate::replica::Offers;
use crate::ring::service::Exchange;
use crate::signals::Signals;
use crate::training::{self, TrainingError};

/// What a worker is started with.
#[derive(Clone)]
pub struct WorkerConfig {
    /// The coordinator.
    pub coordinator: Address,
    /// How to prove who this is, and to check who others are.
    pub security: Security,
    /// Address that peers' connections are accepted on.
    pub listen: SocketAddr,
    /// How peers reach this worker, when not by the address that the coordinator is reached from.
    pub advertise: Option<Advertise>,
    /// How long to look for the coordinator.
    pub join_timeout: Duration,
    /// How long the coordinator may be away during the run.
    pub orphan_timeout: Duration,
    /// The device, for people.
    pub device: String,
    /// Threads to compute with.
    pub threads: u32,
    /// What opens the run and computes.
    pub engine: Arc<dyn Engine>,
}

/// How a worker's part ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The run is over for everybody.
    Run(Ending),
    /// This worker was asked to end and has handed over; the run goes on.
    Drained,
}

/// Takes part in the run of `config.coordinator` until it ends, or until `shutdown` is cancelled and the others can do
/// without this worker.
///
/// # Errors
/// When the session could not begin, or this worker alone cannot go on; a run that ended badly for everybody is `Ok`.
pub async fn run(config: WorkerConfig, shutdown: CancellationToken) -> Result<Part, SessionError> {
    let address = config.listen;
    let security = &config.security;
    let listener = security
        .listen(address)
        .await
        .map_err(|source| SessionError::Listen { address, source })?;
    let bound = listener
        .local_addr()
        .map_err(|source| SessionError::Listen { address, source })?;
    // Served before the coordinator is there: whether this process is healthy does not depend on another.
    let (exchange, offers) = (Exchange::default(), Offers::default());
    let served = serve(&config, listener, exchange.clone(), offers.clone());
    let _served = AbortOnDropHandle::new(served);
    let (channel, reached_from) = connect::coordinator(
        &config.security,
        &config.coordinator,
        config.join_timeout,
        &shutdown,
    )
    .await?;
    let address = advertised(config.advertise.as_ref(), bound, reached_from)?;
    let worker = config.security.new_worker();
    let member = Member {
        rank: 0,
        worker,
        host: host_name(),
        address: address.clone(),
    };
    let (run, recipe) = get_run(&config, member, channel.clone()).await?;

    let (signals, pulse, outbox) = (Arc::default(), Arc::default(), Arc::default());
    let (mut ports, desk) = connect_compute(&signals, &pulse, &outbox);
    let started = config.engine.start(recipe, desk);
    started.map_err(|error| SessionError::Compute(error.into()))?;
    let cards = opened(&mut ports, &shutdown).await?;

    let session = Session {
        candidate: Candidate {
            run,
            worker,
            version: proto::VERSION.to_owned(),
            host: host_name(),
            address,
            device: config.device.clone(),
            threads: config.threads,
            dataset: cards.dataset,
            model: cards.model,
        },
        channel,
        exchange,
        offers,
        shutdown,
        signals,
        pulse,
        outbox,
        ports,
        places: watch::Sender::new(0),
        config,
        current: None,
        next: None,
        is_draining: false,
        is_stopping: false,
        tellings: JoinSet::new(),
        finishing: None,
    };
    session.take_part().await
}

/// A session that knows its run and has opened it.
struct Session {
    config: WorkerConfig,
    candidate: Candidate,
    channel: Channel,
    exchange: Exchange,
    offers: Offers,
    shutdown: CancellationToken,
    signals: Arc<Signals>,
    pulse: Arc<Pulse>,
    outbox: Arc<Outbox>,
    ports: Ports,
    /// Places that training was given and has not left.
    places: watch::Sender<usize>,
    /// The generation that training is in, or was in last.
    current: Option<Current>,
    /// A roster that takes effect at a step boundary.
    next: Option<Next>,
    is_draining: bool,
    /// Whether the run is to stop for everybody.
    is_stopping: bool,
    /// Tell of a broken link.
    tellings: JoinSet<Option<RefusalKind>>,
    /// Delivers what is left and says that this worker's work is done; then, when it leaves alone, that it has left.
    finishing: Option<AbortOnDropHandle<bool>>,
}

impl Session {
    async fn take_part(mut self) -> Result<Part, SessionError> {
        let Candidate { run, worker, .. } = self.candidate;
        let heartbeats = Arc::new(Heartbeats::start(
            &self.config.security,
            &self.config.coordinator,
            run,
            worker,
            Arc::clone(&self.pulse),
            Arc::clone(&self.signals),
        ));
        let route = Route {
            run,
            worker,
            channel: self.channel.clone(),
        };
        let courier = courier(route, Arc::clone(&self.outbox), Arc::clone(&self.pulse));
        let _courier = AbortOnDropHandle::new(tokio::spawn(courier));
        let (sender, news) = mpsc::channel(NEWS_CAPACITY);
        let attachment = Attachment {
            client: self.client(),
            candidate: self.candidate.clone(),
            patience: self.config.orphan_timeout,
            news: sender,
            places: self.places.subscribe(),
        };
        let keeping = Arc::clone(&heartbeats);
        let _attached = AbortOnDropHandle::new(tokio::spawn(async move { attachment.keep(&keeping).await }));
        let result = self.attend(news, &heartbeats).await;
        self.unwind().await;
        result
    }

    /// Waits for what comes, and does what follows from it.
    async fn attend(
        &mut self,
        mut news: mpsc::Receiver<News>,
        heartbeats: &Heartbeats,
    ) -> Result<Part, SessionError> {
        loop {
            self.outbox.recorded(heartbeats.recorded_epochs());
            let part = tokio::select! {
                // The end of the run comes first: whatever is still to be done, nobody waits for it any more.
                biased;
                news = news.recv() => match news {
                    Some(news) => self.on_news(news).await?,
                    None => return Err(self.lost("the attachment ended")),
                },
                notice = self.ports.notices.recv() => match notice {
                    Some(Notice::Left(left)) => {
                        self.places.send_modify(|places| *places = places.saturating_sub(1));
                        self.on_left(left).await?
                    }
                    Some(Notice::Failed(error)) => return Err(self.fail(SessionError::Compute(error)).await),
                    Some(Notice::Opened(_)) => None,
                    None => return Err(SessionError::Compute(anyhow::anyhow!("the compute thread ended"))),
                },
                failure = place::broken(self.current.as_ref()), if self.next.is_none() => {
                    if let Some(current) = &mut self.current {
                        current.is_reported = true;
                        let report = link_failure(&current.roster, current.rank, &failure);
                        info!(reason = %failure, "a link of the ring broke; waiting for a new generation");
                        self.tell(report);
                    }
                    None
                }
                finished = end_of(&mut self.finishing) => {
                    self.finishing = None;
                    matches!(finished, Ok(true)).then_some(Part::Drained)
                }
                () = self.shutdown.cancelled(), if !self.is_draining => self.drain().await?,
            };
            if let Some(part) = part {
                return Ok(part);
            }
        }
    }

    async fn on_news(&mut self, news: News) -> Result<Option<Part>, SessionError> {
        match news {
            News::Joined => {
                self.finish_again();
                if self.current.is_none() {
                    info!("joined the run; waiting for a generation");
                }
            }
            News::Unknown => self.abandon(),
            News::Roster(roster) => return self.on_roster(roster).await,
            News::Stop => {
                self.is_stopping = true;
                self.signals.stop();
            }
            News::Checkpoint(number) => self.signals.checkpoint(number),
            News::Ended(ending) => {
                leave(self.client(), self.sender(), String::new()).await;
                return Ok(Some(Part::Run(ending)));
            }
            News::Refused(status) => {
                return Err(SessionError::Refused {
                    coordinator: self.config.coordinator.clone(),
                    reason: status.message().to_owned(),
                });
            }
            News::Lost(reason) => return Err(self.lost(&reason)),
            News::Stuck => {
                return Err(SessionError::Stuck {
                    seconds: self.config.orphan_timeout.as_secs(),
                });
            }
            News::Nonsense(error) => return Err(error.into()),
        }
        Ok(None)
    }

    async fn on_left(&mut self, left: Left) -> Result<Option<Part>, SessionError> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        if current.roster.generation() != left.generation {
            return Ok(None);
        }
        current.is_training = false;
        current.ring = Some(left.ring);
        let is_reported = current.is_reported;
        let finished = |outcome, reason| Finished {
            outcome,
            epoch: left.epochs,
            step: left.step,
            reason,
        };
        match left.result {
            // When the ring breaks, others have gone over already, or will: whoever is missing there is missed there.
            Ok(training::Ending::Switched) | Err(TrainingError::Ring { .. }) if self.next.is_some() => {
                if let Some(next) = self.next.take() {
                    return self.enter(next).await;
                }
            }
            Ok(training::Ending::Switched) => {}
            Ok(training::Ending::Completed) => self.finish(finished(Outcome::Completed, String::new())),
            Ok(training::Ending::OutOfPatience { best }) => {
                let reason = format!("no better epoch since epoch {}", best + 1);
                self.finish(finished(Outcome::Completed, reason));
            }
            Ok(training::Ending::Stopped) => self.finish(finished(Outcome::Stopped, String::new())),
            // Nobody's link is at fault, and it would be as long the next time.
            Err(TrainingError::Ring {
                source: source @ CollectiveError::Ring(RingError::BlobTooLong { .. }),
                ..
            }) => self.tell(failed(source.to_string())),
            Err(TrainingError::Ring { source, .. }) if !is_reported => self.report_broken(&source),
            Err(TrainingError::Ring { .. }) => {}
            Err(error @ (TrainingError::NotFinite { .. } | TrainingError::Unsettled { .. })) => {
                self.tell(failed(error.to_string()));
            }
            Err(error @ TrainingError::Heal { .. }) => {
                warn!(%error, "leaving the generation and joining again");
                leave(self.client(), self.sender(), error.to_string()).await;
                self.abandon();
            }
            Err(error) => return Err(self.fail(error.into()).await),
        }
        Ok(None)
    }

    fn report_broken(&mut self, failure: &CollectiveError) {
        let Some(current) = &mut self.current else {
            return;
        };
        current.is_reported = true;
        warn!(reason = %failure, "the ring broke; waiting for a new generation");
        let report = match failure {
            CollectiveError::Link(link) => link_failure(&current.roster, current.rank, link),
            CollectiveError::Ring(damage) => {
                link_lost(&current.roster, current.rank, Neighbour::Left, damage.to_string())
            }
        };
        self.tell(report);
    }

    fn tell(&mut self, report: Report) {
        // Those that have ended make room.
        while self.tellings.try_join_next().is_some() {}
        self.tellings.spawn(tell(self.client(), self.sender(), report));
    }

    fn client(&self) -> CoordinatorServiceClient<Channel> {
        CoordinatorServiceClient::new(self.channel.clone())
    }

    fn generation(&self) -> Generation {
        let current = self.current.as_ref();
        current.map_or(Generation(0), |current| current.roster.generation())
    }

    fn sender(&self) -> Sender {
        Sender {
            run: self.candidate.run,
            worker: self.candidate.worker,
            generation: self.generation(),
        }
    }

    fn lost(&self, reason: &str) -> SessionError {
        SessionError::CoordinatorLost {
            coordinator: self.config.coordinator.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// Waits for something to end, or without end when there is nothing.
async fn end_of<F: Future + Unpin>(task: &mut Option<F>) -> F::Output {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// A roster, a stop, an end, and what comes of a connection that comes and goes.
const NEWS_CAPACITY: usize = 16;
