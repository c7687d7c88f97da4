//! `CoordinatorService`: each call parses its message once, becomes an event, and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proto::wire::coordinator_service_server::CoordinatorService;
use proto::wire::watch_response::Decision;
use proto::wire::{self, WatchResponse};
use proto::{
    Activity, Candidate, Member, ParseError, Recipe, Refusal, Report, RunId, Sender, Stage, StateDigest,
    WorkerId,
};
use security::Caller;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::arrivals::Arrivals;
use crate::membership::{Event, Timing, Vitals, WatchId};
use crate::shared::{Decisions, Shared};

/// The service of one run.
#[derive(Debug)]
pub(crate) struct ControlShell {
    pub(crate) shared: Arc<Shared>,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) run: RunId,
    pub(crate) recipe: Recipe,
    pub(crate) world_size: usize,
    pub(crate) timing: Timing,
    /// The tasks behind Watch streams.
    pub(crate) tasks: TaskTracker,
    /// Numbers the Watch streams.
    pub(crate) watches: AtomicU64,
}

#[tonic::async_trait]
impl CoordinatorService for ControlShell {
    async fn get_run(
        &self,
        request: Request<wire::GetRunRequest>,
    ) -> Result<Response<wire::GetRunResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wire::GetRunRequest { version, member } = request.into_inner();
        let member = member.map(Member::try_from).transpose().map_err(Refusal::from)?;
        if let Some(member) = &member {
            caller.speaks_for(member.worker)?;
        }
        if version != proto::VERSION {
            let refusal = Refusal::VersionDiffers {
                worker: version,
                coordinator: proto::VERSION.to_owned(),
            };
            if let Some(member) = member {
                self.arrivals.refused(Instant::now(), member, refusal.to_string());
            }
            return Err(refusal.into());
        }
        if let Some(member) = member {
            self.arrivals.came(Instant::now(), member);
        }
        Ok(Response::new(wire::GetRunResponse {
            run_id: self.run.to_string(),
            recipe: Some(self.recipe.clone().into()),
            world_size: self.world_size as u32,
        }))
    }

    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::JoinResponse>, Status> {
        let caller = Caller::of(&request)?;
        let candidate = Candidate::try_from(request.into_inner()).map_err(Refusal::from)?;
        caller.speaks_for(candidate.worker)?;
        let member = Member {
            rank: 0,
            worker: candidate.worker,
            host: candidate.host.clone(),
            address: candidate.address.clone(),
        };
        let joined = match refuse_unreachable(&candidate, &caller) {
            Ok(()) => self.shared.handle(Event::Joined(candidate)).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = joined {
            self.arrivals.refused(Instant::now(), member, refusal.to_string());
            return Err(refusal.into());
        }
        self.arrivals.joined(member.worker);
        Ok(Response::new(wire::JoinResponse {
            heartbeat_interval_milliseconds: self.timing.heartbeat_interval.as_millis() as u32,
            lease_milliseconds: self.timing.lease.as_millis() as u32,
        }))
    }

    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let run: RunId = request.run_id.parse().map_err(Refusal::from)?;
        let worker: WorkerId = request.worker_id.parse().map_err(Refusal::from)?;
        caller.speaks_for(worker)?;
        let watch = WatchId(self.watches.fetch_add(1, Ordering::Relaxed));
        self.shared
            .handle(Event::WatchOpened { run, worker, watch })
            .await?;
        let (sender, receiver) = mpsc::channel(WATCH_CAPACITY);
        self.tasks
            .spawn(stream_decisions(Arc::clone(&self.shared), worker, watch, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn heartbeat(
        &self,
        request: Request<wire::HeartbeatRequest>,
    ) -> Result<Response<wire::HeartbeatResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let digest = request.digest.map(StateDigest::try_from).transpose();
        let event = Event::Heartbeat {
            sender: sender(&caller, request.sender)?,
            vitals: Vitals {
                step: request.step,
                activity: Activity::from_wire(request.activity).map_err(Refusal::from)?,
                progress: request.progress,
                waits_for_left: request.waits_for_left,
                digest: digest.map_err(Refusal::from)?,
            },
        };
        self.shared.handle(event).await?;
        Ok(Response::new(wire::HeartbeatResponse {
            recorded_epochs: *self.shared.recorded_epochs().borrow(),
        }))
    }

    async fn report(
        &self,
        request: Request<wire::ReportRequest>,
    ) -> Result<Response<wire::ReportResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let sender = sender(&caller, request.sender)?;
        let report = request
            .report
            .ok_or(Refusal::Malformed(ParseError::Missing { field: "report" }))?;
        let report = Report::try_from(report).map_err(Refusal::from)?;
        let epoch = match &report {
            Report::Epoch(report) => report.epoch,
            _ => 0,
        };
        self.shared.handle(Event::Reported { sender, report }).await?;
        self.recorded(epoch).await?;
        Ok(Response::new(wire::ReportResponse {}))
    }

    async fn leave(
        &self,
        request: Request<wire::LeaveRequest>,
    ) -> Result<Response<wire::LeaveResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let event = Event::Left {
            sender: sender(&caller, request.sender)?,
            reason: request.reason,
        };
        self.shared.handle(event).await?;
        Ok(Response::new(wire::LeaveResponse {}))
    }

    async fn peers(&self, _: Request<wire::PeersRequest>) -> Result<Response<wire::PeersResponse>, Status> {
        let all = self
            .shared
            .attendance()
            .into_iter()
            .chain(self.arrivals.list(Instant::now()));
        let reachable = all.filter(|worker| !matches!(worker.stage, Stage::Refused(_)));
        let members = reachable.map(|worker| worker.member.into()).collect();
        Ok(Response::new(wire::PeersResponse { members }))
    }

    async fn status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        Ok(Response::new(self.shared.snapshot(self.recipe.epochs).into()))
    }
}

impl ControlShell {
    /// Waits until the results of an epoch are durable: only then does the worker forget them.
    async fn recorded(&self, epoch: u32) -> Result<(), Status> {
        let mut recorded = self.shared.recorded_epochs();
        let durable = recorded.wait_for(|&recorded| recorded >= epoch);
        match tokio::time::timeout(RECORD_PATIENCE, durable).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Status::unavailable("the results are not written yet")),
        }
    }
}

/// Refuses a worker on another machine whose neighbours would look for it on their own.
fn refuse_unreachable(candidate: &Candidate, caller: &Caller) -> Result<(), Refusal> {
    match caller.address().map(|from| from.ip().to_canonical()) {
        Some(from) if !from.is_loopback() && candidate.address.is_loopback() => Err(Refusal::Unreachable {
            address: candidate.address.clone(),
            from,
        }),
        _ => Ok(()),
    }
}

fn sender(caller: &Caller, sender: Option<wire::Sender>) -> Result<Sender, Refusal> {
    let sender = Sender::try_from(sender.ok_or(ParseError::Missing { field: "sender" })?)?;
    caller.speaks_for(sender.worker)?;
    Ok(sender)
}

/// Sends every decision once, the ones that already hold first, until the run ends or the worker goes away.
async fn stream_decisions(
    shared: Arc<Shared>,
    worker: WorkerId,
    watch: WatchId,
    stream: mpsc::Sender<Result<WatchResponse, Status>>,
) {
    let mut decisions = shared.decisions();
    let mut told = Told::default();
    loop {
        let news = told.news(&decisions.borrow_and_update());
        for decision in news {
            let is_last = matches!(decision, Decision::RunEnded(_));
            let response = WatchResponse {
                decision: Some(decision),
            };
            // A worker that does not read holds up nobody but this task.
            let is_gone = stream.send(Ok(response)).await.is_err();
            if is_last || is_gone {
                break;
            }
        }
        if told.ending {
            return;
        }
        tokio::select! {
            changed = decisions.changed() => if changed.is_err() { return },
            () = stream.closed() => {
                // A stream that closes is a fact, not a request: it is never refused.
                let _ = shared.handle(Event::WatchClosed { worker, watch }).await;
                return;
            }
        }
    }
}

/// What one Watch stream has sent.
#[derive(Debug, Default)]
struct Told {
    generation: u64,
    checkpoint: u64,
    stop: bool,
    ending: bool,
}

impl Told {
    fn news(&mut self, decisions: &Decisions) -> Vec<Decision> {
        let mut news = Vec::new();
        for roster in [&decisions.roster, &decisions.next].into_iter().flatten() {
            if roster.generation().0 > self.generation {
                self.generation = roster.generation().0;
                news.push(Decision::Roster(roster.clone().into()));
            }
        }
        if let Some(number) = decisions.checkpoint
            && number > self.checkpoint
        {
            self.checkpoint = number;
            news.push(Decision::CheckpointRequested(wire::CheckpointRequested {
                number,
            }));
        }
        if decisions.stop_requested && !self.stop {
            self.stop = true;
            news.push(Decision::StopRequested(wire::StopRequested {}));
        }
        if let Some(ending) = &decisions.ending
            && !self.ending
        {
            self.ending = true;
            news.push(Decision::RunEnded(ending.clone().into()));
        }
        news
    }
}

/// Two rosters, a checkpoint, a stop request, an end.
const WATCH_CAPACITY: usize = 8;

/// A row of a file, made durable.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);
