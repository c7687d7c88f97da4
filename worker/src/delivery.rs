//! Turns what training reports into reports, and brings them to the coordinator.
//!
//! [`Delivery`] is training's end: it never waits, and computes rates of time, for the clock is here. [`courier`] is the
//! other end: it tries again until the coordinator has what must not be lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::wire::artifact_service_client::ArtifactServiceClient;
use proto::wire::checkpoint_service_client::CheckpointServiceClient;
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::{put_request, upload_request};
use proto::{
    Activity, EpochReport, Fingerprint, Losses, Metrics, RefusalKind, Report, RunId, Sender, ShardHeader,
    StateDigest, StepReport, UploadHeader, WorkerId, transport, wire,
};
use security::Channel;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tracing::{debug, warn};

use crate::outbox::{Outbox, Parcel};
use crate::pulse::Pulse;
use crate::report::{EpochRecord, Reporter, ShardRecord, StepRecord};

/// The reporter of a worker.
pub struct Delivery {
    outbox: Arc<Outbox>,
    pulse: Arc<Pulse>,
    steps: u64,
    window: Window,
    epoch_start: Instant,
    training_end: Option<Instant>,
}

/// Images since the last step report.
struct Window {
    start: Instant,
    images: u64,
}

impl Delivery {
    /// Returns a reporter for a run of `steps` steps.
    pub fn new(outbox: Arc<Outbox>, pulse: Arc<Pulse>, steps: u64) -> Self {
        let now = Instant::now();
        Self {
            outbox,
            pulse,
            steps,
            window: Window {
                start: now,
                images: 0,
            },
            epoch_start: now,
            training_end: None,
        }
    }
}

impl Reporter for Delivery {
    fn activity(&mut self, activity: Activity) {
        if activity == Activity::Validating {
            self.training_end = Some(Instant::now());
        }
        self.pulse.set_activity(activity);
    }

    fn worked(&mut self) {
        self.pulse.progress();
    }

    fn advanced(&mut self, step: u64) {
        self.pulse.advance(step);
    }

    fn digest(&mut self, digest: StateDigest) {
        self.pulse.set_digest(digest);
    }

    fn step(&mut self, record: StepRecord) {
        self.window.images += record.images;
        let elapsed = self.window.start.elapsed();
        if elapsed < STEP_REPORT_INTERVAL {
            return;
        }
        let report = StepReport {
            epoch: record.epoch + 1,
            step: record.step,
            steps: self.steps,
            losses: losses(record.losses),
            images_per_second: self.window.images as f64 / elapsed.as_secs_f64(),
        };
        self.window = Window {
            start: Instant::now(),
            images: 0,
        };
        self.outbox.step(report);
    }

    fn epoch(&mut self, record: EpochRecord, weights: Vec<u8>) {
        let training_end = self.training_end.take().unwrap_or_else(Instant::now);
        let training = training_end - self.epoch_start;
        let rates = record.rates.lr;
        let report = EpochReport {
            epoch: record.epoch + 1,
            step: record.step,
            train: losses(record.training_losses),
            val: losses(record.validation_losses),
            metrics: Metrics {
                precision: record.metrics.precision,
                recall: record.metrics.recall,
                map50: record.metrics.map50,
                map50_95: record.metrics.map50_95,
            },
            learning_rates: [rates.decay, rates.norm, rates.bias].map(f64::from),
            images_per_second: record.images as f64 / training.as_secs_f64().max(f64::MIN_POSITIVE),
            seconds: self.epoch_start.elapsed().as_secs_f64(),
            best: record.is_best,
            hash: record.hash,
            redone_steps: record.redone_steps,
        };
        self.outbox.epoch(report, weights);
        self.epoch_start = Instant::now();
        self.window = Window {
            start: self.epoch_start,
            images: 0,
        };
    }

    fn last_weights(&mut self, weights: Vec<u8>) {
        self.outbox.last_weights(weights);
    }

    fn checkpoint(&mut self, shard: ShardRecord) {
        self.outbox.shard(shard);
    }

    fn is_range_under_way(&self) -> bool {
        self.outbox.is_range_under_way()
    }
}

fn losses([box_loss, cls_loss, dfl_loss]: [f64; 3]) -> Losses {
    Losses {
        box_loss,
        cls_loss,
        dfl_loss,
    }
}

/// Who delivers, and where to.
#[derive(Clone, Debug)]
pub struct Route {
    /// The run.
    pub run: RunId,
    /// This worker.
    pub worker: WorkerId,
    /// The coordinator; connects again by itself.
    pub channel: Channel,
}

/// Brings what is in the box to the coordinator, one after the other, without end.
pub async fn courier(route: Route, outbox: Arc<Outbox>, pulse: Arc<Pulse>) {
    loop {
        let parcel = outbox.next().await;
        let sender = Sender {
            run: route.run,
            worker: route.worker,
            generation: pulse.generation(),
        };
        if let Err(status) = deliver(&route.channel, sender, &parcel, &outbox).await {
            debug!(reason = status.message(), "the coordinator did not take it yet");
            give_up_on(&parcel, &status, &outbox);
            sleep(RETRY_PAUSE).await;
        }
    }
}

async fn deliver(channel: &Channel, sender: Sender, parcel: &Parcel, outbox: &Outbox) -> Result<(), Status> {
    let mut coordinator = CoordinatorServiceClient::new(channel.clone());
    match parcel {
        Parcel::Step(report) => {
            coordinator
                .report(report_of(sender, Report::Step(*report)))
                .await?;
        }
        Parcel::Epoch(result) => {
            if let Some(weights) = &result.weights {
                upload(channel, sender, weights.clone(), result.report.best).await?;
            }
            coordinator
                .report(report_of(sender, Report::Epoch(result.report)))
                .await?;
            outbox.recorded(result.report.epoch);
        }
        Parcel::LastWeights(weights) => {
            upload(channel, sender, weights.clone(), false).await?;
            outbox.saved();
        }
        Parcel::Shard(shard) => {
            put(channel, sender, shard.clone()).await?;
            outbox.put();
        }
    }
    Ok(())
}

/// A range that the coordinator does not take is given up: the next checkpoint is a whole one again. Everything else
/// stays in the box, or is made up for by the next.
fn give_up_on(parcel: &Parcel, status: &Status, outbox: &Outbox) {
    if let Parcel::Shard(shard) = parcel {
        warn!(
            step = shard.step,
            reason = status.message(),
            "this rank's part of a checkpoint was not taken"
        );
        outbox.put();
    }
    if RefusalKind::of(status) == Some(RefusalKind::RunEnded) {
        outbox.recorded(u32::MAX);
        outbox.saved();
    }
}

/// Returns the request of a report.
pub fn report_of(sender: Sender, report: Report) -> wire::ReportRequest {
    wire::ReportRequest {
        sender: Some(sender.into()),
        report: Some(report.into()),
    }
}

async fn upload(channel: &Channel, sender: Sender, weights: Bytes, best: bool) -> Result<(), Status> {
    use upload_request::Content;
    let header = UploadHeader {
        sender,
        size_bytes: weights.len() as u64,
        blake3: fingerprint(weights.clone()).await?,
        best,
    };
    let contents = std::iter::once(Content::Header(header.into())).chain(chunks(weights).map(Content::Chunk));
    let requests = contents.map(|content| wire::UploadRequest {
        content: Some(content),
    });
    let requests: Vec<_> = requests.collect();
    let mut artifacts = ArtifactServiceClient::new(channel.clone());
    artifacts
        .upload(tokio_stream::iter(requests))
        .await
        .map(|_stored| ())
}

async fn put(channel: &Channel, sender: Sender, shard: ShardRecord) -> Result<(), Status> {
    use put_request::Content;
    let bytes = Bytes::from(shard.bytes);
    let header = ShardHeader {
        sender: Sender {
            generation: shard.generation,
            ..sender
        },
        step: shard.step,
        shard: shard.shard,
        shards: shard.shards,
        offset: shard.offset,
        size_bytes: bytes.len() as u64,
        total_bytes: shard.total_bytes,
        blake3: fingerprint(bytes.clone()).await?,
        state_digest: shard.state_digest,
    };
    let chunks = chunks(bytes);
    let contents = std::iter::once(Content::Header(header.into())).chain(chunks.map(Content::Chunk));
    let requests: Vec<_> = contents
        .map(|content| wire::PutRequest {
            content: Some(content),
        })
        .collect();
    let mut checkpoints = CheckpointServiceClient::new(channel.clone());
    checkpoints
        .put(tokio_stream::iter(requests))
        .await
        .map(|_stored| ())
}

/// Hashes on a thread where it keeps nobody from moving bytes.
async fn fingerprint(bytes: Bytes) -> Result<Fingerprint, Status> {
    tokio::task::spawn_blocking(move || Fingerprint::of(&bytes))
        .await
        .map_err(|error| Status::internal(format!("hashing has failed: {error}")))
}

/// Returns slices of at most the size of a message.
fn chunks(mut rest: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| rest.split_to(rest.len().min(transport::UPLOAD_CHUNK_BYTES_MAX)))
    })
}

/// A person reads the live line about so often.
const STEP_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Short for a person; long for a coordinator that is coming back.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
