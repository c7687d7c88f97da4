//! A worker's conversation with its coordinator: from the first call to the end of the run.
//!
//! [`run`] is the calling order of the protocol: get the run, open data and model, join, wait for the roster, train,
//! report, wait for the end. Training itself is on the compute thread; this file decides nothing about it. Whatever
//! happens, the session ends within seconds of the run's end, and every wait is bounded: by a deadline, or by the
//! coordinator's silence, which ends the session too.

mod calls;
mod error;
mod verdict;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use collective::{Group, Links, memory_ring};
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::exchange_service_server::ExchangeServiceServer;
use proto::wire::watch_response::Decision;
use proto::{Address, Ending, Generation, Recipe, Roster, RunId, Sender, WorkerId, wire};
use security::{Channel, ConnectionLimits, Security};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use self::calls::refused;
pub use self::error::SessionError;
use self::verdict::{delivery_failure, end_of, failed, finish, tell};
use crate::address::{Advertise, advertised};
use crate::compute::{Cards, Compute, Done, Place};
use crate::connect;
use crate::delivery::{Delivery, Pulse};
use crate::heartbeat::Heartbeats;
use crate::prepare::HostOptions;
use crate::ring::links::GrpcLinks;
use crate::ring::service::Exchange;

/// What a worker is started with.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The coordinator.
    pub coordinator: Address,
    /// How to prove who this is, and to check who others are.
    pub security: Security,
    /// Address that the ring neighbour's connection is accepted on.
    pub listen: SocketAddr,
    /// How neighbours reach this worker, when not by the address that the coordinator is reached from.
    pub advertise: Option<Advertise>,
    /// How long to look for the coordinator.
    pub join_timeout: Duration,
    /// Device, threads and data of this host.
    pub host: HostOptions,
}

/// Takes part in the run of `config.coordinator` until it ends.
///
/// Cancelling `shutdown` asks all ranks to stop at a step boundary; the weights are saved first.
///
/// # Errors
/// When the session could not begin or broke; a run that ended badly for everybody is `Ok` with its [`Ending`].
pub async fn run(config: WorkerConfig, shutdown: CancellationToken) -> Result<Ending, SessionError> {
    let address = config.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| SessionError::Listen { address, source })?;
    let bound = listener
        .local_addr()
        .map_err(|source| SessionError::Listen { address, source })?;
    // Served before the coordinator is there: whether this process is healthy does not depend on another.
    let exchange = Exchange::default();
    let _served = AbortOnDropHandle::new(serve(&config.security, listener, exchange.clone()));
    let (channel, reached_from) = connect::coordinator(
        &config.security,
        &config.coordinator,
        config.join_timeout,
        &shutdown,
    )
    .await?;
    let advertised = advertised(config.advertise.as_ref(), bound, reached_from)?;
    Session::begin(config, channel, exchange, shutdown)
        .await?
        .take_part(advertised)
        .await
}

/// Serves the exchange until the returned task is aborted.
fn serve(security: &Security, listener: TcpListener, exchange: Exchange) -> JoinHandle<()> {
    let mut server = security.server();
    let incoming = security.incoming(listener, ConnectionLimits::WORKER);
    tokio::spawn(async move {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<ExchangeServiceServer<Exchange>>().await;
        let served = server
            .add_service(health_service)
            .add_service(exchange.into_service())
            .serve_with_incoming(incoming)
            .await;
        if let Err(error) = served {
            warn!(%error, "the exchange service ended");
        }
    })
}

/// What is under way while a worker trains.
struct Part {
    sender: Sender,
    roster: Roster,
    /// Aborted with this, so that training never waits for a queue that nobody empties.
    delivered: AbortOnDropHandle<Result<(), Status>>,
    decisions: Streaming<wire::WatchResponse>,
    /// Ends the ring.
    cancelled: CancellationToken,
    /// The coordinator does not answer.
    lapsed: CancellationToken,
}

/// A session that knows its run.
struct Session {
    config: WorkerConfig,
    coordinator: CoordinatorServiceClient<Channel>,
    channel: Channel,
    exchange: Exchange,
    shutdown: CancellationToken,
    run: RunId,
    worker: WorkerId,
    recipe: Recipe,
    stop: Arc<AtomicBool>,
    /// The end of training, until it has come.
    training: Option<oneshot::Receiver<anyhow::Result<Done>>>,
}

impl Session {
    /// Asks which run it is.
    async fn begin(
        config: WorkerConfig,
        channel: Channel,
        exchange: Exchange,
        shutdown: CancellationToken,
    ) -> Result<Self, SessionError> {
        let mut coordinator = CoordinatorServiceClient::new(channel.clone());
        let request = wire::GetRunRequest {
            version: proto::VERSION.to_owned(),
        };
        let response = coordinator
            .get_run(request)
            .await
            .map_err(|status| refused(&config.coordinator, &status))?
            .into_inner();
        let recipe: Recipe = response
            .recipe
            .ok_or(proto::ParseError::Missing { field: "recipe" })?
            .try_into()?;
        let run = response.run_id.parse()?;
        let worker = config.security.new_worker();
        info!(%run, %worker, world_size = response.world_size, "found the run");
        let stop = Arc::default();
        Ok(Self {
            config,
            coordinator,
            channel,
            exchange,
            shutdown,
            run,
            worker,
            recipe,
            stop,
            training: None,
        })
    }

    /// Joins, trains, and returns how the run ended, when the compute thread has ended too: a process that exits while
    /// a thread computes may crash in its libraries.
    async fn take_part(mut self, address: Address) -> Result<Ending, SessionError> {
        let compute = Compute::start(
            self.recipe.clone(),
            self.config.host.clone(),
            Arc::clone(&self.stop),
        )
        .map_err(|error| SessionError::Compute(error.into()))?;
        self.training = Some(compute.done);
        let result = self.conduct(address, compute.cards, compute.place).await;
        if self.training.is_some()
            && timeout(UNWIND_PATIENCE, end_of(&mut self.training))
                .await
                .is_err()
        {
            warn!("training did not unwind in time; leaving it");
        }
        result
    }

    async fn conduct(
        &mut self,
        address: Address,
        mut cards: oneshot::Receiver<anyhow::Result<Cards>>,
        place: oneshot::Sender<Place>,
    ) -> Result<Ending, SessionError> {
        let cards = tokio::select! {
            cards = &mut cards => cards
                .map_err(|closed| SessionError::Compute(closed.into()))?
                .map_err(SessionError::Prepare)?,
            () = self.shutdown.cancelled() => return Err(SessionError::StoppedEarly),
        };
        let steps = cards.steps;
        let lease = self.join(address, cards).await?;
        let mut decisions = self.watch().await?;

        let pulse = Arc::new(Pulse::default());
        let sender = |generation| Sender {
            run: self.run,
            worker: self.worker,
            generation,
        };
        let waiting = Heartbeats::start(
            &self.config.security,
            &self.config.coordinator,
            sender(Generation(0)),
            lease,
            &pulse,
        );
        let roster = match self.roster(&mut decisions, &waiting.lapsed).await? {
            Ok(roster) => roster,
            Err(ending) => return Ok(ending),
        };
        drop(waiting);
        let sender = sender(roster.generation());
        let alive = Heartbeats::start(
            &self.config.security,
            &self.config.coordinator,
            sender,
            lease,
            &pulse,
        );
        let lapsed = alive.lapsed.clone();

        let cancelled = CancellationToken::new();
        // The ring ends with this function, however it ends.
        let _ring_guard = cancelled.clone().drop_guard();
        let (group, links) = self.ring(&roster, sender, cancelled.clone());
        let (delivery, delivered) = Delivery::start(self.channel.clone(), sender, steps, pulse);
        let delivered = AbortOnDropHandle::new(delivered);
        if place
            .send(Place {
                group,
                links,
                delivery,
            })
            .is_err()
        {
            warn!("the compute thread ended before training");
        }
        self.attend(Part {
            sender,
            roster,
            delivered,
            decisions,
            cancelled,
            lapsed,
        })
        .await
    }

    /// Waits for the roster; the inner error is a run that ended before it had one.
    async fn roster(
        &self,
        decisions: &mut Streaming<wire::WatchResponse>,
        lapsed: &CancellationToken,
    ) -> Result<Result<Roster, Ending>, SessionError> {
        loop {
            let decision = tokio::select! {
                decision = decisions.message() => self.decision(decision)?,
                () = lapsed.cancelled() => return Err(self.lost(SILENT)),
                () = self.shutdown.cancelled() => return Err(SessionError::StoppedEarly),
            };
            match decision {
                Decision::Roster(roster) => return Ok(Ok(roster.try_into()?)),
                Decision::RunEnded(ended) => return Ok(Err(ended.try_into()?)),
                Decision::StopRequested(_) => self.stop.store(true, Ordering::Relaxed),
            }
        }
    }

    /// Opens the ring of a roster.
    fn ring(
        &self,
        roster: &Roster,
        sender: Sender,
        cancelled: CancellationToken,
    ) -> (Group, Box<dyn Links + Send>) {
        // Invariant: the coordinator sends a roster to its members only, and a roster is a valid group.
        let rank = roster.find(self.worker).expect("a roster of this worker").rank;
        let group = Group::new(roster.generation(), rank, roster.world_size()).expect("a roster is a group");
        info!(rank, world_size = roster.world_size(), generation = %roster.generation(), "training begins");
        if roster.world_size() == 1 {
            let alone = memory_ring(1).remove(0);
            return (group, Box::new(alone));
        }
        let left = roster.left_of(rank).clone();
        let right = roster.right_of(rank).clone();
        let inbound = self.exchange.expect(self.run, roster.generation(), left);
        (
            group,
            Box::new(GrpcLinks::open(
                self.config.security.clone(),
                sender,
                right,
                inbound,
                cancelled,
            )),
        )
    }

    /// Waits for the end of training and of the run, whichever order they come in.
    async fn attend(&mut self, part: Part) -> Result<Ending, SessionError> {
        let Part {
            sender,
            roster,
            delivered,
            mut decisions,
            cancelled,
            lapsed,
        } = part;
        let mut delivered = Some(delivered);
        let mut reporting = None;
        loop {
            tokio::select! {
                // The end of the run comes first: whatever is still to be reported, nobody waits for it any more.
                biased;
                decision = decisions.message() => match self.decision(decision)? {
                    Decision::RunEnded(ended) => {
                        cancelled.cancel();
                        self.leave(sender).await;
                        return Ok(ended.try_into()?);
                    }
                    Decision::StopRequested(_) => self.stop.store(true, Ordering::Relaxed),
                    Decision::Roster(_) => warn!("another roster during a run is not understood; ignored"),
                },
                () = lapsed.cancelled() => return Err(self.lost(SILENT)),
                result = end_of(&mut self.training), if self.training.is_some() => {
                    self.training = None;
                    let done = result.map_err(|closed| SessionError::Compute(closed.into()))?;
                    let client = self.coordinator.clone();
                    reporting = Some(spawn(finish(client, sender, roster.clone(), done, delivered.take())));
                }
                ended = end_of(&mut delivered), if self.training.is_some() => {
                    delivered = None;
                    if let Some(failure) = delivery_failure(ended) {
                        let client = self.coordinator.clone();
                        reporting = Some(spawn(tell(client, sender, failed(failure))));
                    }
                }
                told = end_of(&mut reporting) => {
                    reporting = None;
                    if let Ok(Err(reason)) = told {
                        return Err(self.lost(&reason));
                    }
                }
                () = self.shutdown.cancelled(), if !self.stop.load(Ordering::Relaxed) => {
                    info!("asked to stop; all ranks will stop after the same step");
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Starts a task that ends with its handle.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// A blocked ring call returns at once when cancelled; what may take longer is one step's computation.
const UNWIND_PATIENCE: Duration = Duration::from_secs(3);

/// Why a coordinator counts as lost whose lease has lapsed.
const SILENT: &str = "it does not answer heartbeats";
