//! Brings what training reports to the coordinator, in order, without holding training up.
//!
//! Training hands records to a bounded queue; a task of the runtime sends them. A step report that finds the
//! queue full is dropped, for the next one says more; epochs and weights wait for room and are never dropped.
//! Rates of time are computed here, where the clock is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proto::wire::artifact_service_client::ArtifactServiceClient;
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::upload_request::Content;
use proto::{
    Activity, EpochReport, Fingerprint, Losses, Metrics, Report, Sender, StepReport, UploadHeader, transport,
    wire,
};
use security::Channel;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;
use tracing::debug;

use crate::report::{EpochRecord, Reporter, StepRecord};

/// What the heartbeat tells: written by training, read by the session.
#[derive(Debug, Default)]
pub struct Pulse {
    step: AtomicU64,
    activity: AtomicU8,
}

impl Pulse {
    /// Returns the number of steps done.
    pub fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }

    /// Returns what the rank is doing.
    pub fn activity(&self) -> Activity {
        ACTIVITIES[usize::from(self.activity.load(Ordering::Relaxed))]
    }

    fn set_activity(&self, activity: Activity) {
        let index = ACTIVITIES
            .iter()
            .position(|&known| known == activity)
            .unwrap_or(0);
        self.activity.store(index as u8, Ordering::Relaxed);
    }
}

const ACTIVITIES: [Activity; 4] = [
    Activity::Waiting,
    Activity::Training,
    Activity::Validating,
    Activity::Saving,
];

/// Something to deliver.
enum Parcel {
    Report(Report),
    Weights { bytes: Vec<u8>, best: bool },
}

/// The reporter of a worker.
pub struct Delivery {
    queue: mpsc::Sender<Parcel>,
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
    /// Starts delivering over `channel` for a run of `steps` steps.
    ///
    /// The task ends when the reporter is dropped and all is delivered; it returns the first failure.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn start(
        channel: Channel,
        sender: Sender,
        steps: u64,
        pulse: Arc<Pulse>,
    ) -> (Self, JoinHandle<Result<(), Status>>) {
        let (queue, parcels) = mpsc::channel(QUEUE_CAPACITY);
        let task = tokio::spawn(deliver(channel, sender, parcels));
        let now = Instant::now();
        let window = Window {
            start: now,
            images: 0,
        };
        (
            Self {
                queue,
                pulse,
                steps,
                window,
                epoch_start: now,
                training_end: None,
            },
            task,
        )
    }

    fn send(&self, parcel: Parcel) {
        if self.queue.blocking_send(parcel).is_err() {
            // The task ended with a failure, which the session reports.
            debug!("a report was not delivered: delivery has ended");
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

    fn advanced(&mut self, step: u64) {
        self.pulse.step.store(step, Ordering::Relaxed);
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
        let _dropped_when_full = self.queue.try_send(Parcel::Report(Report::Step(report)));
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
        self.send(Parcel::Weights {
            bytes: weights,
            best: record.is_best,
        });
        self.send(Parcel::Report(Report::Epoch(report)));
        self.epoch_start = Instant::now();
        self.window = Window {
            start: self.epoch_start,
            images: 0,
        };
    }

    fn last_weights(&mut self, weights: Vec<u8>) {
        self.send(Parcel::Weights {
            bytes: weights,
            best: false,
        });
    }
}

fn losses([box_loss, cls_loss, dfl_loss]: [f64; 3]) -> Losses {
    Losses {
        box_loss,
        cls_loss,
        dfl_loss,
    }
}

async fn deliver(
    channel: Channel,
    sender: Sender,
    mut parcels: mpsc::Receiver<Parcel>,
) -> Result<(), Status> {
    let mut coordinator = CoordinatorServiceClient::new(channel.clone());
    let mut artifacts = ArtifactServiceClient::new(channel);
    while let Some(parcel) = parcels.recv().await {
        match parcel {
            Parcel::Report(report) => {
                let is_step = matches!(report, Report::Step(_));
                let request = wire::ReportRequest {
                    sender: Some(sender.into()),
                    report: Some(report.into()),
                };
                let told = coordinator.report(request).await;
                match told {
                    // The next one says more.
                    Err(status) if is_step => debug!(reason = status.message(), "step report not taken"),
                    told => drop(told?),
                }
            }
            Parcel::Weights { bytes, best } => upload(&mut artifacts, sender, bytes, best).await?,
        }
    }
    Ok(())
}

async fn upload(
    artifacts: &mut ArtifactServiceClient<Channel>,
    sender: Sender,
    bytes: Vec<u8>,
    best: bool,
) -> Result<(), Status> {
    let blake3 = Fingerprint::of(&bytes);
    let header = UploadHeader {
        sender,
        size_bytes: bytes.len() as u64,
        blake3,
        best,
    };
    let mut rest = bytes::Bytes::from(bytes);
    let mut contents = vec![Content::Header(header.into())];
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(transport::UPLOAD_CHUNK_BYTES_MAX));
        contents.push(Content::Chunk(chunk));
    }
    let requests = contents.into_iter().map(|content| wire::UploadRequest {
        content: Some(content),
    });
    artifacts
        .upload(tokio_stream::iter(requests))
        .await
        .map(|_stored| ())
}

/// Reports and weights under way; weights may be large, so few.
const QUEUE_CAPACITY: usize = 4;

/// A person reads the live line about so often.
const STEP_REPORT_INTERVAL: Duration = Duration::from_secs(1);
