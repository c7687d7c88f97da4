//! The served end of healing: gives ranges of the offered image to members of the generation.

use std::sync::Arc;
use std::time::Duration;

use proto::transport::{self, UPLOAD_CHUNK_BYTES_MAX};
use proto::wire::image_response::Content;
use proto::wire::state_service_server::{StateService, StateServiceServer};
use proto::{FetchRequest, Fingerprint, ImageHeader, Refusal, wire};
use security::Caller;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::replica::{Offer, Offers};

/// Serves `StateService` for one worker.
#[derive(Clone, Debug, Default)]
pub struct States {
    offers: Offers,
}

impl States {
    /// Returns the service of what is offered in `offers`.
    pub fn new(offers: Offers) -> Self {
        Self { offers }
    }

    /// Returns the gRPC service, with its message limit set.
    pub fn into_service(self) -> StateServiceServer<Self> {
        StateServiceServer::new(self).max_decoding_message_size(transport::CONTROL_MESSAGE_BYTES_MAX)
    }

    /// Waits until something is offered in the generation of the request; who asks may be a little early.
    async fn offer(&self, request: &FetchRequest) -> Result<Arc<Offer>, Refusal> {
        let mut offers = self.offers.subscribe();
        let asked = request.sender.generation;
        let offered = offers.wait_for(|offer| offer.as_ref().is_some_and(|offer| offer.generation >= asked));
        let offer = match tokio::time::timeout(OFFER_PATIENCE, offered).await {
            Ok(Ok(offer)) => offer.clone(),
            _ => None,
        };
        let offer = offer.ok_or_else(|| Refusal::NoState {
            reason: format!("nobody of generation {asked} is behind this worker"),
        })?;
        if offer.generation != asked {
            return Err(Refusal::StaleGeneration {
                sent: asked,
                current: offer.generation,
            });
        }
        let worker = request.sender.worker;
        if !offer.members.contains(&worker) {
            return Err(Refusal::UnknownWorker { worker });
        }
        Ok(offer)
    }
}

#[tonic::async_trait]
impl StateService for States {
    type FetchStream = ImageStream;

    async fn fetch(
        &self,
        request: Request<wire::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let caller = Caller::of(&request)?;
        let request = FetchRequest::try_from(request.into_inner()).map_err(Refusal::from)?;
        caller.speaks_for(request.sender.worker)?;
        let offer = self.offer(&request).await?;
        let total_bytes = offer.bytes.len() as u64;
        let end = request.offset.saturating_add(request.length);
        if request.offset > total_bytes || end > total_bytes {
            return Err(Refusal::TooLarge {
                bytes: end,
                limit: total_bytes,
            }
            .into());
        }
        let mut range = offer.bytes.slice(request.offset as usize..end as usize);
        let header = ImageHeader {
            step: offer.step,
            total_bytes,
            state_digest: offer.digest,
            range_blake3: Fingerprint::of(&range),
        };
        let mut contents = vec![Content::Header(header.into())];
        while !range.is_empty() {
            contents.push(Content::Chunk(
                range.split_to(range.len().min(UPLOAD_CHUNK_BYTES_MAX)),
            ));
        }
        let responses = contents.into_iter().map(|content| {
            Ok(wire::ImageResponse {
                content: Some(content),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(responses))))
    }
}

/// The answer to a fetch.
type ImageStream = std::pin::Pin<Box<dyn Stream<Item = Result<wire::ImageResponse, Status>> + Send>>;

/// A peer offers its state right after the meeting; copying a gigabyte takes less than a second.
const OFFER_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use proto::{Generation, RunId, Sender, WorkerId};

    use super::*;

    #[tokio::test]
    async fn a_state_is_given_to_members_of_the_generation_and_to_nobody_else() {
        let [one, other] = [WorkerId::from_u128(1), WorkerId::from_u128(2)];
        let offers = Offers::default();
        let states = States::new(offers.clone());
        offers.put(Offer {
            generation: Generation(3),
            members: vec![one],
            step: 7,
            digest: Fingerprint::of(b"state"),
            bytes: "state".into(),
        });
        let ask = |worker, generation| FetchRequest {
            sender: Sender {
                run: RunId::from_u128(1),
                worker,
                generation: Generation(generation),
            },
            offset: 0,
            length: 5,
        };
        assert_eq!(states.offer(&ask(one, 3)).await.unwrap().step, 7);
        let refused = states.offer(&ask(other, 3)).await.unwrap_err();
        assert_eq!(refused, Refusal::UnknownWorker { worker: other });
        let refused = states.offer(&ask(one, 2)).await.unwrap_err();
        let (sent, current) = (Generation(2), Generation(3));
        assert_eq!(refused, Refusal::StaleGeneration { sent, current });
    }
}
