//! Staying in touch with the coordinator: joins, watches, and does both again when the connection or the coordinator was
//! lost. Training does not depend on it.

use std::time::Duration;

use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::watch_response::Decision;
use proto::{Candidate, Ending, ParseError, RefusalKind, Roster, wire};
use security::Channel;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};

use crate::heartbeat::Heartbeats;

/// What the coordinator decided, or what became of the connection to it.
#[derive(Debug)]
pub(super) enum News {
    /// The worker is in, for the first time or again.
    Joined,
    /// The coordinator took this worker off its list: the generation goes on without it.
    Unknown,
    /// A generation begins.
    Roster(Roster),
    /// Stop at the next step boundary.
    Stop,
    /// Make a checkpoint at the next step boundary.
    Checkpoint(u64),
    /// The run is over.
    Ended(Ending),
    /// The coordinator does not let this worker in.
    Refused(Status),
    /// The coordinator was away for too long.
    Lost(String),
    /// Training did not end when its generation went on without this worker.
    Stuck,
    /// The coordinator said what cannot be.
    Nonsense(ParseError),
}

/// Who attaches.
pub(super) struct Attachment {
    pub(super) client: CoordinatorServiceClient<Channel>,
    pub(super) candidate: Candidate,
    /// How long the coordinator may be away.
    pub(super) patience: Duration,
    pub(super) news: mpsc::Sender<News>,
    /// Places in a generation that training was given and has not left.
    pub(super) places: watch::Receiver<usize>,
}

/// Why a connection ended.
enum Detached {
    /// The transport failed, or the coordinator went away.
    Broken(Status),
    /// This worker is not known any more.
    Unknown,
    /// Nothing more is to be expected or nobody listens.
    Over,
}

impl Attachment {
    /// Stays attached until the run is over, the coordinator refuses, or nobody listens.
    pub(super) async fn keep(mut self, heartbeats: &Heartbeats) {
        let mut heard = Instant::now();
        let mut is_away = false;
        loop {
            let detached = self.attach(heartbeats, &mut heard, &mut is_away).await;
            match detached {
                Detached::Over => return,
                Detached::Unknown => {
                    warn!("this worker was taken off the list; joining again");
                    if self.news.send(News::Unknown).await.is_err() {
                        return;
                    }
                    // Who cannot take a place must not be given one: it would keep the others waiting again.
                    if timeout(self.patience, self.places.wait_for(|&places| places == 0))
                        .await
                        .is_err()
                    {
                        let _ = self.news.send(News::Stuck).await;
                        return;
                    }
                }
                Detached::Broken(status) => {
                    if !is_away {
                        warn!(
                            reason = status.message(),
                            "the coordinator is away; training goes on"
                        );
                        is_away = true;
                    }
                    if heard.elapsed() > self.patience {
                        let _ = self.news.send(News::Lost(status.message().to_owned())).await;
                        return;
                    }
                }
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn attach(&mut self, heartbeats: &Heartbeats, heard: &mut Instant, is_away: &mut bool) -> Detached {
        let joined = match self.join().await {
            Ok(joined) => joined,
            Err(status) => return self.refused(status, *heard).await,
        };
        let every = Duration::from_millis(joined.heartbeat_interval_milliseconds.into());
        heartbeats.joined(every);
        if self.news.send(News::Joined).await.is_err() {
            return Detached::Over;
        }
        let mut stream = match self.watch().await {
            Ok(stream) => stream,
            Err(status) => return self.refused(status, *heard).await,
        };
        if *is_away {
            info!("the coordinator is back");
            *is_away = false;
        }
        loop {
            *heard = Instant::now();
            let message = tokio::select! {
                message = stream.message() => message,
                () = heartbeats.unknown() => return Detached::Unknown,
            };
            let decision = match message {
                Ok(Some(response)) => response.decision,
                Ok(None) => return Detached::Broken(Status::unavailable("it closed the watch stream")),
                Err(status) => return Detached::Broken(status),
            };
            *heard = Instant::now();
            let news = parse(decision).unwrap_or_else(News::Nonsense);
            let is_last = matches!(news, News::Ended(_) | News::Nonsense(_));
            if self.news.send(news).await.is_err() || is_last {
                return Detached::Over;
            }
        }
    }

    async fn join(&mut self) -> Result<wire::JoinResponse, Status> {
        let request = wire::JoinRequest::from(self.candidate.clone());
        let answer = timeout(ANSWER_PATIENCE, self.client.join(request)).await;
        Ok(answer.map_err(|_| no_answer())??.into_inner())
    }

    async fn watch(&mut self) -> Result<Streaming<wire::WatchResponse>, Status> {
        let request = wire::WatchRequest {
            run_id: self.candidate.run.to_string(),
            worker_id: self.candidate.worker.to_string(),
        };
        let answer = timeout(ANSWER_PATIENCE, self.client.watch(request)).await;
        Ok(answer.map_err(|_| no_answer())??.into_inner())
    }

    /// A refusal is the last word, except one that says that this worker must join first, or that the address still belongs
    /// to a worker that has just died.
    async fn refused(&self, status: Status, heard: Instant) -> Detached {
        match RefusalKind::of(&status) {
            None => {
                debug!(reason = status.message(), code = ?status.code(), "not attached");
                Detached::Broken(status)
            }
            Some(RefusalKind::UnknownWorker) => Detached::Broken(status),
            Some(RefusalKind::AddressTaken) if heard.elapsed() < SUCCESSION_PATIENCE => {
                debug!("a worker that was here before is not missed yet");
                Detached::Broken(status)
            }
            Some(_) => {
                let _ = self.news.send(News::Refused(status)).await;
                Detached::Over
            }
        }
    }
}

fn parse(decision: Option<Decision>) -> Result<News, ParseError> {
    let decision = decision.ok_or(ParseError::Missing { field: "decision" })?;
    Ok(match decision {
        Decision::Roster(roster) => News::Roster(roster.try_into()?),
        Decision::StopRequested(_) => News::Stop,
        Decision::CheckpointRequested(request) => News::Checkpoint(request.number),
        Decision::RunEnded(ended) => News::Ended(ended.try_into()?),
    })
}

fn no_answer() -> Status {
    Status::new(Code::DeadlineExceeded, "no answer")
}

/// An answer of the control plane takes milliseconds, and a disk flush.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Short for a person; long for a coordinator that is coming back.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A dead worker is missed after its lease, which is shorter.
const SUCCESSION_PATIENCE: Duration = Duration::from_secs(15);
