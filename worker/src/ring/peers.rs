//! The calling end of healing: ranges of a state from peers, or of a checkpoint from the coordinator.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use proto::wire::checkpoint_service_client::CheckpointServiceClient;
use proto::wire::image_response::Content;
use proto::wire::state_service_client::StateServiceClient;
use proto::{Address, FetchRequest, Fingerprint, GetRequest, ImageHeader, Roster, Sender, transport, wire};
use security::{Expect, Security};
use tokio::time::timeout;
use tonic::Streaming;

use crate::connect::reason;
use crate::pulse::Pulse;
use crate::replica::{Fetch, Fetched, Peers};

/// The members of a generation and its coordinator, over gRPC.
pub struct GrpcPeers {
    security: Security,
    sender: Sender,
    roster: Roster,
    coordinator: Address,
    pulse: Arc<Pulse>,
}

impl GrpcPeers {
    /// Returns the peers of `sender` in a generation; what arrives counts as progress.
    pub fn new(
        security: Security,
        sender: Sender,
        roster: Roster,
        coordinator: Address,
        pulse: Arc<Pulse>,
    ) -> Self {
        Self {
            security,
            sender,
            roster,
            coordinator,
            pulse,
        }
    }

    /// Takes in a header and at most `limit` bytes, and checks their digest.
    async fn collect(
        &self,
        mut stream: Streaming<wire::ImageResponse>,
        limit: u64,
    ) -> Result<Fetched, String> {
        let mut header: Option<ImageHeader> = None;
        let mut bytes = Vec::new();
        loop {
            let message = timeout(ANSWER_PATIENCE, stream.message())
                .await
                .map_err(|_| NO_ANSWER)?;
            let message = message.map_err(|status| status.message().to_owned())?;
            match message.map(|message| message.content) {
                None => break,
                Some(Some(Content::Header(first))) if header.is_none() => {
                    header = Some(
                        first
                            .try_into()
                            .map_err(|error: proto::ParseError| error.to_string())?,
                    );
                }
                Some(Some(Content::Chunk(chunk))) if header.is_some() => bytes.extend_from_slice(&chunk),
                Some(_) => return Err("the answer is not one header and then bytes".to_owned()),
            }
            if bytes.len() as u64 > limit {
                return Err("the answer is longer than what was asked for".to_owned());
            }
            // A large state over a slow link takes longer than a stall may.
            self.pulse.progress();
        }
        let header = header.ok_or("the answer has no header")?;
        if Fingerprint::of(&bytes) != header.range_blake3 {
            return Err("the range was damaged on its way".to_owned());
        }
        Ok(Fetched { header, bytes })
    }
}

impl Peers for GrpcPeers {
    fn fetch(&self, rank: usize, range: Range<u64>) -> Fetch<'_> {
        Box::pin(async move {
            let member = self.roster.members().get(rank).ok_or("there is no such rank")?;
            let request = FetchRequest {
                sender: self.sender,
                offset: range.start,
                length: range.end - range.start,
            };
            let call = async {
                let expected = Expect::Worker(member.worker);
                let channel = self.security.connect(&member.address, expected).await;
                let channel = channel.map_err(|error| reason(&error))?;
                let mut client = StateServiceClient::new(channel)
                    .max_decoding_message_size(transport::UPLOAD_MESSAGE_BYTES_MAX);
                let answer = client.fetch(wire::FetchRequest::from(request)).await;
                answer.map_err(|status| status.message().to_owned())
            };
            let stream = timeout(ANSWER_PATIENCE, call)
                .await
                .map_err(|_| NO_ANSWER)??
                .into_inner();
            self.collect(stream, range.end - range.start).await
        })
    }

    fn checkpoint(&self, range: Range<u64>) -> Fetch<'_> {
        Box::pin(async move {
            let request = GetRequest {
                sender: self.sender,
                offset: range.start,
                length: range.end - range.start,
            };
            let call = async {
                let channel = self
                    .security
                    .connect(&self.coordinator, Expect::Coordinator)
                    .await;
                let channel = channel.map_err(|error| reason(&error))?;
                let mut client = CheckpointServiceClient::new(channel)
                    .max_decoding_message_size(transport::UPLOAD_MESSAGE_BYTES_MAX);
                let answer = client.get(wire::GetRequest::from(request)).await;
                answer.map_err(|status| status.message().to_owned())
            };
            let stream = timeout(ANSWER_PATIENCE, call)
                .await
                .map_err(|_| NO_ANSWER)??
                .into_inner();
            self.collect(stream, range.end - range.start).await
        })
    }
}

/// A range has a few MiB; a peer that sends nothing for this long is gone or stuck, and the coordinator decides which.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

const NO_ANSWER: &str = "no answer";
