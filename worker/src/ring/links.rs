//! Ring links: one stream to the right neighbour, one from the left, each behind a bounded queue.
//!
//! A slow peer slows its neighbours down and nothing piles up. A waiting call ends when a stream breaks or when the
//! session cancels the generation, which it does when a newer one begins. There is no timeout to guess: who is alive
//! is decided by the coordinator, not here.

use std::sync::{Arc, Mutex, PoisonError};

use collective::{LINK_CAPACITY, LinkError, Neighbour, Segment};
use proto::wire::exchange_service_client::ExchangeServiceClient;
use proto::{Member, Sender, wire};
use security::{Expect, Security};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::frames::Outgoing;

/// What arrives from the left neighbour.
pub type Inbound = mpsc::Receiver<Result<Segment, LinkError>>;

/// The links of one rank in one generation.
pub struct RingLinks {
    right: mpsc::Sender<Segment>,
    left: Inbound,
    cancelled: CancellationToken,
    broken: Broken,
}

/// Whether a stream has failed, and why: a rank that computes, or only waits for its left, must hear of it too.
#[derive(Clone, Debug, Default)]
pub struct Broken {
    token: CancellationToken,
    first: Arc<Mutex<Option<LinkError>>>,
}

impl Broken {
    /// Notes a failure; only the first counts.
    pub fn set(&self, failure: LinkError) {
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(failure);
        self.token.cancel();
    }

    /// Waits for a failure and returns it.
    pub async fn wait(&self) -> LinkError {
        self.token.cancelled().await;
        // Invariant: the token is cancelled after the failure was noted.
        self.get().expect("a broken link has a reason")
    }

    fn get(&self) -> Option<LinkError> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RingLinks {
    /// Opens the stream to the right neighbour and pairs it with the one that comes `from_left`.
    ///
    /// Returns at once: the connection is made by a task of the current runtime. The neighbour listens since
    /// before it joined, so one attempt is enough.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn open(
        security: Security,
        own: Sender,
        right: Member,
        from_left: Inbound,
        cancelled: CancellationToken,
        broken: Broken,
    ) -> Self {
        let (to_right, outbound) = mpsc::channel(LINK_CAPACITY);
        let task = send_segments(security, own, right, outbound);
        tokio::spawn({
            let (cancelled, broken) = (cancelled.clone(), broken.clone());
            async move {
                tokio::select! {
                    result = task => if let Err(status) = result {
                        broken.set(LinkError::Refused {
                            neighbour: Neighbour::Right,
                            reason: status.message().to_owned(),
                        });
                    },
                    () = cancelled.cancelled() => {}
                }
            }
        });
        Self {
            right: to_right,
            left: from_left,
            cancelled,
            broken,
        }
    }

    /// Returns the links of a ring of one, which `cancelled` ends.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn alone(cancelled: CancellationToken) -> Self {
        Self {
            cancelled,
            ..Self::in_memory(1).remove(0)
        }
    }

    /// Returns what is cancelled when the generation ends.
    pub fn cancellation(&self) -> CancellationToken {
        self.cancelled.clone()
    }

    /// Checks that the generation goes on: an operation of a ring of one has nobody to hear it from.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn check(&self) -> Result<(), LinkError> {
        if self.cancelled.is_cancelled() {
            return Err(LinkError::Closed {
                neighbour: Neighbour::Left,
            });
        }
        Ok(())
    }

    /// Returns the links of a ring within this process, in rank order.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn in_memory(world_size: usize) -> Vec<Self> {
        let ends = (0..world_size).map(|_| mpsc::channel(LINK_CAPACITY));
        let (rights, mut lefts): (Vec<_>, Vec<_>) = ends.unzip();
        // What rank r sends arrives at rank r + 1.
        lefts.rotate_right(world_size.min(1));
        let forward = |right: mpsc::Sender<Result<Segment, LinkError>>| {
            let (to_right, mut outbound) = mpsc::channel(1);
            tokio::spawn(async move {
                while let Some(segment) = outbound.recv().await {
                    if right.send(Ok(segment)).await.is_err() {
                        break;
                    }
                }
            });
            to_right
        };
        rights
            .into_iter()
            .zip(lefts)
            .map(|(right, left)| Self {
                right: forward(right),
                left,
                cancelled: CancellationToken::new(),
                broken: Broken::default(),
            })
            .collect()
    }

    /// Hands a segment to the stream to the right neighbour; waits while its queue is full.
    ///
    /// # Errors
    /// When the stream has failed or the generation was cancelled.
    pub async fn send(&mut self, segment: Segment) -> Result<(), LinkError> {
        let sent = tokio::select! {
            sent = self.right.send(segment) => sent.is_ok(),
            () = self.cancelled.cancelled() => false,
        };
        if sent {
            return Ok(());
        }
        Err(self.broken.get().unwrap_or(LinkError::Closed {
            neighbour: Neighbour::Right,
        }))
    }

    /// Returns the next segment from the left neighbour; waits while there is none.
    ///
    /// # Errors
    /// When a stream has failed or the generation was cancelled.
    pub async fn receive(&mut self) -> Result<Segment, LinkError> {
        let closed = LinkError::Closed {
            neighbour: Neighbour::Left,
        };
        tokio::select! {
            // What has arrived counts, also after the stream to the right has ended.
            biased;
            received = self.left.recv() => received.unwrap_or(Err(closed)),
            () = self.cancelled.cancelled() => Err(closed),
            failure = self.broken.wait() => Err(failure),
        }
    }
}

/// Opens the stream to the right neighbour and carries the queue's segments until the queue closes.
async fn send_segments(
    security: Security,
    own: Sender,
    right: Member,
    outbound: mpsc::Receiver<Segment>,
) -> Result<(), Status> {
    let channel = security
        .connect(&right.address, Expect::Worker(right.worker))
        .await
        .map_err(|error| {
            let (address, reason) = (&right.address, crate::connect::reason(&error));
            Status::unavailable(format!("cannot connect to {address}: {reason}"))
        })?;
    let opening = wire::ExchangeOpening {
        sender: Some(own.into()),
    };
    let mut client = ExchangeServiceClient::new(Outgoing::new(opening, outbound).sent_by(channel));
    client.exchange(tokio_stream::empty()).await.map(|_summary| ())
}
