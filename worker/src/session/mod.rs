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
mod error;
mod place;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use collective::{CollectiveError, Neighbour};
use probe::{Doctor, host_name};
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::exchange_service_server::ExchangeServiceServer;
use proto::{
    Address, Candidate, Ending, Finished, Generation, Member, Outcome, Recipe, RefusalKind, Report, Roster,
    RunId, Sender, Switch, wire,
};
use security::network::Listener;
use security::{Channel, ConnectionLimits, Security};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use self::attachment::{Attachment, News};
use self::calls::{failed, leave, link_failure, link_lost, tell};
pub use self::error::SessionError;
use self::place::{Current, Next};
use crate::address::{Advertise, advertised};
use crate::compute::{Cards, Engine, Left, Notice, Ports, connect as connect_compute};
use crate::connect;
use crate::delivery::{Route, courier};
use crate::heartbeat::Heartbeats;
use crate::outbox::Outbox;
use crate::prober::Prober;
use crate::pulse::Pulse;
use crate::replica::Offers;
use crate::ring::service::Exchange;
use crate::ring::state_service::States;
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

/// Serves the ring neighbours and those who copy the state, until the returned task is aborted.
fn serve(config: &WorkerConfig, listener: Listener, exchange: Exchange, offers: Offers) -> JoinHandle<()> {
    let mut server = config.security.server();
    let incoming = config.security.incoming(listener, ConnectionLimits::WORKER);
    let doctor = Doctor::new(".".into());
    let prober = Prober::new(config.security.clone(), config.coordinator.clone());
    tokio::spawn(async move {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<ExchangeServiceServer<Exchange>>().await;
        let served = server
            .add_service(health_service)
            .add_service(exchange.into_service())
            .add_service(States::new(offers).into_service())
            .add_service(doctor.into_service())
            .add_service(prober.into_service())
            .serve_with_incoming(incoming)
            .await;
        if let Err(error) = served {
            warn!(%error, "the worker's services ended");
        }
    })
}

/// Asks which run it is.
async fn get_run(
    config: &WorkerConfig,
    member: Member,
    channel: Channel,
) -> Result<(RunId, Recipe), SessionError> {
    let request = wire::GetRunRequest {
        version: proto::VERSION.to_owned(),
        member: Some(member.into()),
    };
    let mut client = CoordinatorServiceClient::new(channel);
    let answer = client.get_run(request).await;
    let response = answer
        .map_err(|status| SessionError::Refused {
            coordinator: config.coordinator.clone(),
            reason: status.message().to_owned(),
        })?
        .into_inner();
    let recipe = response
        .recipe
        .ok_or(proto::ParseError::Missing { field: "recipe" })?;
    let run = response.run_id.parse()?;
    info!(%run, world_size = response.world_size, "found the run");
    Ok((run, recipe.try_into()?))
}

/// Waits until data and model are open.
async fn opened(ports: &mut Ports, shutdown: &CancellationToken) -> Result<Cards, SessionError> {
    let notice = tokio::select! {
        notice = ports.notices.recv() => notice,
        () = shutdown.cancelled() => return Err(SessionError::StoppedEarly),
    };
    match notice {
        Some(Notice::Opened(cards)) => Ok(cards),
        Some(Notice::Failed(error)) => Err(SessionError::Compute(error)),
        Some(Notice::Left(_)) | None => Err(SessionError::Compute(anyhow::anyhow!("nothing was opened"))),
    }
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

    async fn on_roster(&mut self, roster: Roster) -> Result<Option<Part>, SessionError> {
        let generation = roster.generation();
        // A roster that was planned is one to go over to at once when the coordinator that planned it is gone.
        let is_planned = |next: &Next| next.roster.generation() == generation;
        let is_hurried = roster.switch == Switch::Now && self.next.as_ref().is_some_and(is_planned);
        let known = self.next.as_ref().map(|next| next.roster.generation());
        if generation <= known.unwrap_or_else(|| self.generation()) && !is_hurried {
            return Ok(None);
        }
        let next = self.expect(roster);
        let is_training = self.current.as_ref().is_some_and(|current| current.is_training);
        // Ranks agree to go over to the generation that follows theirs; when that was missed, the others have gone over.
        let follows = generation.0 == self.generation().0 + 1;
        if next.roster.switch == Switch::AtStepBoundary && is_training && follows {
            info!(%generation, "a new generation takes effect at the next step boundary");
            self.signals.prepare_generation(generation.0);
            self.next = Some(next);
            return Ok(None);
        }
        self.enter(next).await
    }

    /// Goes over to a generation; a step that is in progress is given up. The part ends when the generation goes on
    /// without a worker that wanted to leave.
    async fn enter(&mut self, next: Next) -> Result<Option<Part>, SessionError> {
        self.next = None;
        self.tellings.abort_all();
        self.finishing = None;
        if let Some(current) = &self.current
            && current.is_training
        {
            current.cancelled.cancel();
        }
        if next.entry.is_none() && self.is_draining {
            return Ok(Some(self.handed_over().await));
        }
        let Some((current, place)) = self.place(next) else {
            // The generation goes on without this worker; it is told so by its next heartbeat, or by a newer roster.
            self.current = None;
            return Ok(None);
        };
        let generation = current.roster.generation();
        self.exchange.forget_before(generation);
        self.pulse.enter(generation);
        self.outbox.set_reporter(current.rank == 0);
        info!(rank = current.rank, world_size = current.roster.world_size(), %generation, "training begins");
        let is_alone = current.roster.world_size() == 1;
        self.current = Some(current);
        if self.is_draining {
            if is_alone {
                self.signals.stop();
            } else {
                self.ask_to_go();
            }
        }
        self.places.send_modify(|places| *places += 1);
        if self.ports.places.send(place).await.is_err() {
            return Err(SessionError::Compute(anyhow::anyhow!("the compute thread ended")));
        }
        Ok(None)
    }

    /// Gives up the current generation: the others go on without this worker. The state is kept.
    fn abandon(&mut self) {
        if let Some(current) = self.current.take() {
            warn!(generation = %current.roster.generation(), "the generation goes on without this worker");
            current.cancelled.cancel();
        }
        self.next = None;
        self.tellings.abort_all();
        self.finishing = None;
        self.outbox.set_reporter(false);
        self.pulse.enter(Generation(0));
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

    /// Delivers what is left, then says that this worker's work is done, or leaves when it alone is to end.
    fn finish(&mut self, finished: Finished) {
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
    fn finish_again(&mut self) {
        let finished = self.current.as_ref().and_then(|current| current.finished.clone());
        if let Some(finished) = finished
            && self.finishing.is_none()
        {
            self.finish(finished);
        }
    }

    /// Asks to be let go at a step boundary.
    async fn drain(&mut self) -> Result<Option<Part>, SessionError> {
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

    /// Asks to be let go, until a generation begins without this worker. A run that waits for workers lets it go at once:
    /// no step boundary comes.
    fn ask_to_go(&mut self) {
        let (client, sender) = (self.client(), self.sender());
        self.finishing = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            while tell(client.clone(), sender, Report::DrainRequested).await != Some(RefusalKind::NotNow) {
                sleep(ASKING_PAUSE).await;
            }
            info!("the run waits for workers, and goes on without this one from what the others have");
            leave(client, sender, "asked to end".to_owned()).await;
            true
        })));
    }

    /// Says goodbye after a generation has begun without this worker.
    async fn handed_over(&mut self) -> Part {
        self.outbox.set_reporter(false);
        let _ = timeout(HANDOVER_PATIENCE, self.outbox.emptied()).await;
        leave(self.client(), self.sender(), "asked to end".to_owned()).await;
        info!("handed over; the run goes on without this worker");
        Part::Drained
    }

    /// Leaves because of a failure of this worker alone.
    async fn fail(&mut self, error: SessionError) -> SessionError {
        leave(self.client(), self.sender(), error.to_string()).await;
        error
    }

    /// Ends training: a process that exits while a thread computes may crash in its libraries.
    async fn unwind(&mut self) {
        let is_training = self.current.as_ref().is_some_and(|current| current.is_training);
        self.abandon_quietly();
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

    fn abandon_quietly(&mut self) {
        if let Some(current) = &self.current {
            current.cancelled.cancel();
        }
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

/// A blocked ring call returns at once when cancelled; what may take longer is one step's computation.
const UNWIND_PATIENCE: Duration = Duration::from_secs(3);

/// A coordinator that is asked to let a worker go and comes to wait for workers meanwhile must be asked again.
const ASKING_PAUSE: Duration = Duration::from_secs(1);

/// A range of a checkpoint that is still under way when a worker leaves.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(10);

/// A roster, a stop, an end, and what comes of a connection that comes and goes.
const NEWS_CAPACITY: usize = 16;
