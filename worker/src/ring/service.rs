//! The served end of the ring: takes the left neighbour's stream of each generation.
//!
//! A neighbour may call before this worker has heard of the generation; it then waits a little. A caller of an
//! older generation, or one that is not the left neighbour, is refused. What a segment means is checked by the
//! operation that takes it.
//!
//! Two generations are expected at a time when the newer one takes effect at a step boundary: who joins it may call
//! before the others have left the older one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use collective::{Generation, LINK_CAPACITY, LinkError, Neighbour, Segment};
use proto::transport::SEGMENT_MESSAGE_BYTES_MAX;
use proto::wire::exchange_request::Content;
use proto::wire::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use proto::{Member, ParseError, Refusal, RunId, Sender, wire};
use security::Caller;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

use super::frames::{Incoming, KeepBody, OPENING_BYTES_MAX};
use super::links::{Broken, Inbound};

/// Serves `ExchangeService` for one worker.
#[derive(Clone, Debug)]
pub struct Exchange {
    expected: watch::Sender<Expectations>,
}

/// The streams that may come, by generation.
#[derive(Clone, Debug, Default)]
struct Expectations {
    /// The newest generation that was ever expected.
    newest: u64,
    streams: BTreeMap<u64, Arc<Expected>>,
}

/// A stream that may come.
#[derive(Debug)]
struct Expected {
    run: RunId,
    generation: Generation,
    left: Member,
    broken: Broken,
    /// Taken by the first stream: there is one per generation.
    queue: Mutex<Option<mpsc::Sender<Result<Segment, LinkError>>>>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            expected: watch::Sender::new(Expectations::default()),
        }
    }
}

impl Exchange {
    /// Accepts the stream of the left neighbour in `generation` from now on, and returns its receiving end. A failure
    /// of the stream is noted in `broken` too.
    pub fn expect(&self, run: RunId, generation: Generation, left: Member, broken: Broken) -> Inbound {
        let (queue, inbound) = mpsc::channel(LINK_CAPACITY);
        let expected = Arc::new(Expected {
            run,
            generation,
            left,
            broken,
            queue: Mutex::new(Some(queue)),
        });
        self.expected.send_modify(|expectations| {
            expectations.newest = expectations.newest.max(generation.0);
            expectations.streams.insert(generation.0, expected);
        });
        inbound
    }

    /// Forgets all generations before this one.
    pub fn forget_before(&self, generation: Generation) {
        self.expected
            .send_modify(|expectations| expectations.streams.retain(|&known, _| known >= generation.0));
    }

    /// Returns the gRPC service, which limits messages itself.
    pub fn into_service(self) -> KeepBody<ExchangeServiceServer<Self>> {
        KeepBody(ExchangeServiceServer::new(self))
    }

    /// Waits until this worker is in the caller's generation, and checks that the caller is its left neighbour.
    async fn admit(&self, sender: &Sender) -> Result<Arc<Expected>, Status> {
        let mut expected = self.expected.subscribe();
        let caught_up = expected.wait_for(|expected| expected.newest >= sender.generation.0);
        let seconds = ROSTER_PATIENCE.as_secs();
        let expectations = match tokio::time::timeout(ROSTER_PATIENCE, caught_up).await {
            Ok(Ok(expected)) => expected.clone(),
            // The sending half lives in `self`, so only the timeout is left.
            _ => return Err(Refusal::TooSlow { seconds }.into()),
        };
        let expected = expectations.streams.get(&sender.generation.0).cloned();
        let expected = expected.ok_or(Refusal::StaleGeneration {
            sent: sender.generation,
            current: Generation(expectations.newest),
        })?;
        if sender.run != expected.run {
            return Err(Refusal::OtherRun {
                asked: sender.run,
                serving: expected.run,
            }
            .into());
        }
        if sender.worker != expected.left.worker {
            return Err(Refusal::UnknownWorker {
                worker: sender.worker,
            }
            .into());
        }
        Ok(expected)
    }
}

#[tonic::async_trait]
impl ExchangeService for Exchange {
    async fn exchange(
        &self,
        request: Request<Streaming<wire::ExchangeRequest>>,
    ) -> Result<Response<wire::ExchangeSummary>, Status> {
        let caller = Caller::of(&request)?;
        let mut stream = Incoming::of(&request)?;
        let sender = opening(stream.message(OPENING_BYTES_MAX).await?)?;
        caller.speaks_for(sender.worker)?;
        let expected = self.admit(&sender).await?;
        let queue = expected
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| Status::already_exists("the stream of this generation is open already"))?;

        let mut summary = wire::ExchangeSummary::default();
        loop {
            let segment = match stream.message(SEGMENT_MESSAGE_BYTES_MAX).await {
                Ok(Some(request)) => segment(request, expected.generation)?,
                Ok(None) => return Ok(Response::new(summary)),
                Err(status) => {
                    let failure = LinkError::Refused {
                        neighbour: Neighbour::Left,
                        reason: status.message().to_owned(),
                    };
                    expected.broken.set(failure.clone());
                    // The receiver may be gone, which is how its generation ends.
                    let _ = queue.send(Err(failure)).await;
                    return Err(status);
                }
            };
            summary.segments += 1;
            summary.payload_bytes += segment.payload().len() as u64;
            if queue.send(Ok(segment)).await.is_err() {
                return Err(Status::cancelled("this worker has left the generation"));
            }
        }
    }
}

fn opening(request: Option<wire::ExchangeRequest>) -> Result<Sender, Refusal> {
    match request.and_then(|request| request.content) {
        Some(Content::Opening(opening)) => {
            let sender = opening.sender.ok_or(ParseError::Missing { field: "sender" })?;
            Ok(sender.try_into()?)
        }
        _ => Err(ParseError::Missing { field: "opening" }.into()),
    }
}

fn segment(request: wire::ExchangeRequest, current: Generation) -> Result<Segment, Refusal> {
    let Some(Content::Segment(segment)) = request.content else {
        return Err(ParseError::Missing { field: "segment" }.into());
    };
    let segment = Segment::try_from(segment)?;
    let sent = segment.id().generation;
    if sent != current {
        return Err(Refusal::StaleGeneration { sent, current });
    }
    Ok(segment)
}

/// How long a caller may be ahead of this worker in hearing of a generation. Rosters are pushed to all members at
/// once, so seconds are plenty.
const ROSTER_PATIENCE: Duration = Duration::from_secs(10);
