//! Ring links over gRPC: one client stream to the right neighbour, one served stream from the left.
//!
//! Training blocks on these links; the streams live on the runtime. Both ends are bounded queues, so a slow peer
//! slows its neighbours down and nothing piles up. A blocked call ends when a stream breaks or when the session
//! cancels the generation, which it does when the coordinator says that the run is over. There is no timeout to
//! guess: who is alive is decided by leases, not here.

use std::sync::{Arc, Mutex, PoisonError};

use collective::{LINK_CAPACITY, LinkError, Links, Neighbour, Segment};
use proto::wire::exchange_request::Content;
use proto::wire::exchange_service_client::ExchangeServiceClient;
use proto::{Member, Sender, wire};
use security::{Expect, Security};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The links of one rank in one generation.
pub struct GrpcLinks {
    runtime: Handle,
    right: mpsc::Sender<Segment>,
    right_failure: Failure,
    left: mpsc::Receiver<Result<Segment, LinkError>>,
    cancelled: CancellationToken,
    /// Cancelled when the stream to the right has failed: a rank that only waits for its left must hear of it too.
    broken: CancellationToken,
}

/// Why a stream ended, written by its task and read by the blocked call.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<String>>>);

impl Failure {
    fn set(&self, reason: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// Returns the failure as an error of the link to the right.
    fn error(&self) -> LinkError {
        let neighbour = Neighbour::Right;
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(reason) => LinkError::Refused { neighbour, reason },
            None => LinkError::Closed { neighbour },
        }
    }
}

impl GrpcLinks {
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
        from_left: mpsc::Receiver<Result<Segment, LinkError>>,
        cancelled: CancellationToken,
    ) -> Self {
        let (to_right, outbound) = mpsc::channel(LINK_CAPACITY);
        let failure = Failure::default();
        let broken = CancellationToken::new();
        let task = send_segments(security, own, right, outbound);
        tokio::spawn({
            let (failure, cancelled, broken) = (failure.clone(), cancelled.clone(), broken.clone());
            async move {
                tokio::select! {
                    result = task => if let Err(status) = result {
                        failure.set(status.message().to_owned());
                        broken.cancel();
                    },
                    () = cancelled.cancelled() => {}
                }
            }
        });
        Self {
            runtime: Handle::current(),
            right: to_right,
            right_failure: failure,
            left: from_left,
            cancelled,
            broken,
        }
    }
}

impl Links for GrpcLinks {
    fn send(&mut self, segment: Segment) -> Result<(), LinkError> {
        let sent = self.runtime.block_on(async {
            tokio::select! {
                sent = self.right.send(segment) => sent.is_ok(),
                () = self.cancelled.cancelled() => false,
            }
        });
        if sent {
            Ok(())
        } else {
            Err(self.right_failure.error())
        }
    }

    fn receive(&mut self) -> Result<Segment, LinkError> {
        let closed = LinkError::Closed {
            neighbour: Neighbour::Left,
        };
        self.runtime.block_on(async {
            tokio::select! {
                // What has arrived counts, also after the stream to the right has ended.
                biased;
                received = self.left.recv() => received.unwrap_or(Err(closed)),
                () = self.cancelled.cancelled() => Err(closed),
                () = self.broken.cancelled() => Err(self.right_failure.error()),
            }
        })
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
    let mut client = ExchangeServiceClient::new(channel);
    let opening = Content::Opening(wire::ExchangeOpening {
        sender: Some(own.into()),
    });
    let segments = ReceiverStream::new(outbound).map(|segment| Content::Segment(segment.into()));
    let requests = tokio_stream::once(opening)
        .chain(segments)
        .map(|content| wire::ExchangeRequest {
            content: Some(content),
        });
    client.exchange(requests).await.map(|_summary| ())
}
