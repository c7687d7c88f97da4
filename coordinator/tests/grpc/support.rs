//! A coordinator on a free port and workers that are nothing but gRPC clients.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use coordinator::membership::Timing;
use coordinator::{CoordinatorConfig, Progress, RunError, RunSummary, Shutdown, listen, run};
use proto::wire::artifact_service_client::ArtifactServiceClient;
use proto::wire::checkpoint_service_client::CheckpointServiceClient;
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::operator_service_client::OperatorServiceClient;
use proto::wire::upload_request::Content;
use proto::wire::watch_response::Decision;
use proto::wire::{self, UploadRequest};
use proto::{
    Activity, Address, Candidate, DatasetCard, Ending, Fingerprint, Finished, Generation, ModelCard, Outcome,
    Recipe, RefusalKind, Report, Roster, RunId, Sender, UploadHeader, WorkerId,
};
use security::{Channel, Expect, Security};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tonic::{Status, Streaming};

/// A running coordinator, with its own project folder.
pub(crate) struct Coordinator {
    pub(crate) address: Address,
    pub(crate) shutdown: Shutdown,
    pub(crate) project: TempDir,
    config: CoordinatorConfig,
    ended: JoinHandle<Result<RunSummary, RunError>>,
    progress: JoinHandle<Vec<Progress>>,
    process: Process,
}

/// What a coordinator runs on: its own threads, so that it can be killed.
struct Process(Option<Runtime>);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Coordinator {
    /// Starts one for this many workers, with deadlines for impatient tests.
    pub(crate) async fn start(world_size: usize) -> Self {
        Self::start_with(world_size, |_| {}).await
    }

    pub(crate) async fn start_with(world_size: usize, change: impl FnOnce(&mut CoordinatorConfig)) -> Self {
        let project = tempfile::tempdir().unwrap();
        let mut config = CoordinatorConfig::new(Recipe::default(), world_size).unwrap();
        config.project = project.path().to_owned();
        config.timing = Timing {
            // Most workers of these tests send no heartbeats; the one test about that has a lease of its own.
            lease: Duration::from_secs(30),
            settle: Duration::from_millis(100),
            ..Timing::default()
        };
        change(&mut config);
        Self::begin(config, project, ([127, 0, 0, 1], 0).into()).await
    }

    async fn begin(config: CoordinatorConfig, project: TempDir, at: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (sender, mut news) = mpsc::channel(64);
        let shutdown = Shutdown::default();
        let (bound, address) = oneshot::channel();
        let ended = runtime.spawn({
            let (config, shutdown) = (config.clone(), shutdown.clone());
            async move {
                let listener = listen(at).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                run(listener, config, sender, shutdown).await
            }
        });
        let progress = runtime.spawn(async move {
            let mut all = Vec::new();
            while let Some(progress) = news.recv().await {
                all.push(progress);
            }
            all
        });
        Self {
            address: address.await.unwrap().into(),
            project,
            config,
            ended,
            shutdown,
            progress,
            process: Process(Some(runtime)),
        }
    }

    /// Ends it as `kill -9` does, and starts another one at the same address that takes its run over.
    pub(crate) async fn restart(mut self) -> Self {
        let at = self.address.as_str().parse().unwrap();
        let runtime = self.process.0.take().unwrap();
        spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)))
            .await
            .unwrap();
        self.config.resume = Some(self.project.path().join("train"));
        Self::begin(self.config, self.project, at).await
    }

    /// Starts another coordinator on the same run directory and returns why it did not begin.
    pub(crate) async fn rival(&self) -> RunError {
        let mut config = self.config.clone();
        config.resume = Some(self.project.path().join("train"));
        let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let (sender, _news) = mpsc::channel(64);
        soon(run(listener, config, sender, Shutdown::default()))
            .await
            .unwrap_err()
    }

    /// Waits for the end of the run.
    pub(crate) async fn end(self) -> (Result<RunSummary, RunError>, Vec<Progress>, TempDir) {
        let ended = soon(self.ended).await.unwrap();
        (ended, soon(self.progress).await.unwrap(), self.project)
    }

    /// Path of a file in the run directory.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.project.path().join("train").join(name)
    }
}

/// A worker as the coordinator sees it.
pub(crate) struct Worker {
    pub(crate) client: CoordinatorServiceClient<Channel>,
    pub(crate) artifacts: ArtifactServiceClient<Channel>,
    pub(crate) checkpoints: CheckpointServiceClient<Channel>,
    pub(crate) operator: OperatorServiceClient<Channel>,
    pub(crate) candidate: Candidate,
    pub(crate) generation: Generation,
}

impl Worker {
    /// Connects and asks for the run; does not join yet.
    pub(crate) async fn connect(coordinator: &Coordinator, number: u128, host: &str) -> Self {
        let channel = Security::loopback()
            .connect(&coordinator.address, Expect::Coordinator)
            .await
            .unwrap();
        let mut client = CoordinatorServiceClient::new(channel.clone());
        let version = proto::VERSION.to_owned();
        let answer = client
            .get_run(wire::GetRunRequest {
                version,
                member: None,
            })
            .await
            .unwrap()
            .into_inner();
        let recipe = Recipe::try_from(answer.recipe.unwrap()).unwrap();
        assert_eq!(recipe, Recipe::default().resolved());
        Self {
            client,
            artifacts: ArtifactServiceClient::new(channel.clone()),
            checkpoints: CheckpointServiceClient::new(channel.clone()),
            operator: OperatorServiceClient::new(channel),
            candidate: candidate(answer.run_id.parse().unwrap(), number, host),
            generation: Generation(0),
        }
    }

    /// Connects, joins and opens its Watch stream.
    pub(crate) async fn join(coordinator: &Coordinator, number: u128, host: &str) -> (Self, Decisions) {
        let mut worker = Self::connect(coordinator, number, host).await;
        worker.try_join().await.unwrap();
        let decisions = worker.watch().await.unwrap();
        (worker, decisions)
    }

    pub(crate) async fn try_join(&mut self) -> Result<(), Status> {
        self.client
            .join(wire::JoinRequest::from(self.candidate.clone()))
            .await
            .map(drop)
    }

    pub(crate) async fn watch(&mut self) -> Result<Decisions, Status> {
        let request = wire::WatchRequest {
            run_id: self.candidate.run.to_string(),
            worker_id: self.candidate.worker.to_string(),
        };
        let stream = self.client.watch(request).await?.into_inner();
        Ok(Decisions { stream })
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender {
            run: self.candidate.run,
            worker: self.candidate.worker,
            generation: self.generation,
        }
    }

    /// Gives a sign of life; returns the number of epochs whose results are durable.
    pub(crate) async fn heartbeat(&mut self) -> Result<u32, Status> {
        let request = wire::HeartbeatRequest {
            sender: Some(self.sender().into()),
            step: 5,
            activity: wire::Activity::from(Activity::Training).into(),
            progress: 50,
            waits_for_left: false,
            digest: None,
        };
        let answer = self.client.heartbeat(request).await?;
        Ok(answer.into_inner().recorded_epochs)
    }

    pub(crate) async fn report(&mut self, report: Report) -> Result<(), Status> {
        let request = wire::ReportRequest {
            sender: Some(self.sender().into()),
            report: Some(report.into()),
        };
        self.client.report(request).await.map(drop)
    }

    pub(crate) async fn finish(&mut self, outcome: Outcome) -> Result<(), Status> {
        let reason = String::new();
        self.report(Report::Finished(Finished {
            outcome,
            epoch: 1,
            step: 5,
            reason,
        }))
        .await
    }

    pub(crate) async fn leave(&mut self) -> Result<(), Status> {
        let request = wire::LeaveRequest {
            sender: Some(self.sender().into()),
            reason: String::new(),
        };
        self.client.leave(request).await.map(drop)
    }

    /// Uploads `bytes` in chunks, announced with the digest of `announced`.
    pub(crate) async fn upload(&mut self, bytes: &[u8], announced: &[u8], best: bool) -> Result<(), Status> {
        let header = UploadHeader {
            sender: self.sender(),
            size_bytes: announced.len() as u64,
            blake3: Fingerprint::of(announced),
            best,
        };
        let mut messages = vec![Content::Header(header.into())];
        messages.extend(
            bytes
                .chunks(1000)
                .map(|chunk| Content::Chunk(chunk.to_vec().into())),
        );
        self.send(messages).await
    }

    pub(crate) async fn send(&mut self, messages: Vec<Content>) -> Result<(), Status> {
        let messages = messages.into_iter().map(|content| UploadRequest {
            content: Some(content),
        });
        self.artifacts
            .upload(tokio_stream::iter(messages))
            .await
            .map(drop)
    }
}

/// The Watch stream of a worker.
pub(crate) struct Decisions {
    stream: Streaming<wire::WatchResponse>,
}

impl Decisions {
    pub(crate) async fn next(&mut self) -> Option<Decision> {
        soon(self.stream.message())
            .await
            .unwrap()
            .map(|response| response.decision.unwrap())
    }

    pub(crate) async fn roster(&mut self) -> Roster {
        match self.next().await {
            Some(Decision::Roster(roster)) => roster.try_into().unwrap(),
            other => panic!("expected a roster, got {other:?}"),
        }
    }

    pub(crate) async fn stop(&mut self) {
        let next = self.next().await;
        assert!(
            matches!(next, Some(Decision::StopRequested(_))),
            "expected a stop, got {next:?}"
        );
    }

    pub(crate) async fn ending(&mut self) -> Ending {
        let ending = match self.next().await {
            Some(Decision::RunEnded(ended)) => ended.try_into().unwrap(),
            other => panic!("expected the end, got {other:?}"),
        };
        assert!(self.next().await.is_none(), "something follows the end");
        ending
    }
}

/// Two workers of one generation: rank 0 on host a, rank 1 on host b.
pub(crate) struct Pair {
    pub(crate) zero: Worker,
    pub(crate) zero_decisions: Decisions,
    pub(crate) one: Worker,
    pub(crate) one_decisions: Decisions,
}

impl Pair {
    pub(crate) async fn join(coordinator: &Coordinator) -> Self {
        let (mut zero, mut zero_decisions) = Worker::join(coordinator, 2, "a").await;
        let (mut one, mut one_decisions) = Worker::join(coordinator, 1, "b").await;
        let roster = zero_decisions.roster().await;
        assert_eq!(roster, one_decisions.roster().await);
        let hosts: Vec<_> = roster
            .members()
            .iter()
            .map(|member| member.host.as_str())
            .collect();
        assert_eq!(hosts, ["a", "b"]);
        zero.generation = roster.generation();
        one.generation = roster.generation();
        Self {
            zero,
            zero_decisions,
            one,
            one_decisions,
        }
    }
}

pub(crate) fn candidate(run: RunId, number: u128, host: &str) -> Candidate {
    Candidate {
        run,
        worker: WorkerId::from_u128(number),
        version: proto::VERSION.to_owned(),
        host: host.to_owned(),
        address: format!("127.0.0.1:{}", 40_000 + number).parse().unwrap(),
        device: "cpu".to_owned(),
        threads: 1,
        dataset: DatasetCard {
            fingerprint: Fingerprint::of(b"data"),
            train_images: 10,
            val_images: 2,
            class_names: vec!["cell".to_owned()],
        },
        model: ModelCard {
            layout_digest: Fingerprint::of(b"model"),
            description: "yolov8n, 1 class".to_owned(),
            arithmetic: "flex".into(),
        },
    }
}

/// Waits, but not for ever.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("nothing happened within 10 s")
}

pub(crate) fn kind<T>(refused: &Result<T, Status>) -> Option<RefusalKind> {
    refused.as_ref().err().and_then(RefusalKind::of)
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
