//! One run, from the empty directory to its end: puts the parts together and takes them apart in order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use proto::transport::{self, CONTROL_MESSAGE_BYTES_MAX, UPLOAD_MESSAGE_BYTES_MAX};
use proto::wire::artifact_service_server::ArtifactServiceServer;
use proto::wire::coordinator_service_server::CoordinatorServiceServer;
use proto::wire::operator_service_server::OperatorServiceServer;
use proto::{Ending, RunId};
use security::ConnectionLimits;
use serde_json::json;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::CoordinatorConfig;
use crate::membership::{Event, Failure, Membership, Terms, Verdict};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::run_directory::{RunDirectory, RunDirectoryError, Weights};
use crate::service::{ArtifactShell, ControlShell, OperatorShell};
use crate::shared::Shared;
use crate::shutdown::Shutdown;

/// A run that ended well: completed, or stopped on request.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// Where everything is.
    pub directory: RunDirectory,
    /// How it ended.
    pub verdict: Verdict,
}

/// Why a run did not end well.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is no place for its files.
    #[error(transparent)]
    Directory(#[from] RunDirectoryError),
    /// Its first file could not be written.
    #[error("cannot write to {}: {cause}", path.display())]
    Records {
        /// The run directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The server ended by itself.
    #[error("the gRPC server failed")]
    Server(#[source] tonic::transport::Error),
    /// The run failed.
    #[error("the run failed: {failure}")]
    Failed {
        /// Where everything is.
        directory: RunDirectory,
        /// What went wrong.
        failure: Failure,
    },
}

/// Coordinates one run on `listener` and returns when it is over and all workers know.
///
/// `progress` must be read until it closes. Cancelling `shutdown.stop` stops the run at a step boundary,
/// `shutdown.abort` at once.
///
/// # Errors
/// When the run directory cannot be made or written, the server fails, or the run fails: a lost worker, a
/// worker's own failure, a rendezvous or a stop that took too long.
pub async fn run(
    listener: TcpListener,
    config: CoordinatorConfig,
    progress: mpsc::Sender<Progress>,
    shutdown: Shutdown,
) -> Result<RunSummary, RunError> {
    let directory = RunDirectory::create(&config.project, &config.name, &config.recipe)?;
    let run = RunId::random();
    let recorder = open_records(&directory, run, &config, &progress)
        .await
        .map_err(|cause| RunError::Records {
            path: directory.path().to_owned(),
            cause,
        })?;
    let terms = Terms {
        run,
        world_size: config.world_size,
        version: proto::VERSION.to_owned(),
        timing: config.timing,
    };
    let (records, effects) = mpsc::channel(RECORDS_CAPACITY);
    let shared = Arc::new(Shared::new(Membership::new(terms, Duration::ZERO), records));
    let recording = tokio::spawn(recorder.run(effects));
    let closing = CancellationToken::new();
    let tasks = TaskTracker::new();
    let mut server = serve(
        listener,
        &shared,
        run,
        &config,
        directory.weights(),
        &closing,
        &tasks,
    )
    .await;
    tasks.spawn(keep_time(Arc::clone(&shared)));
    tasks.spawn(pass_on(shutdown, Arc::clone(&shared), closing.clone()));

    let server_failed = tokio::select! {
        recorded = recording => {
            end_if_not_recorded(recorded, &shared).await;
            None
        }
        served = &mut server => served.ok().and_then(Result::err),
    };
    if let Some(error) = server_failed {
        return Err(RunError::Server(error));
    }
    let verdict = shared.read(|membership| membership.verdict().cloned());
    // Invariant: the recorder ends with the run or makes it end, and a server without an error ends on request.
    let verdict = verdict.expect("the run is over");
    let _ = progress
        .send_timeout(Progress::Ended(Ending::from(&verdict)), LINGER)
        .await;
    close(&shared, server, &closing, &tasks).await;
    match verdict {
        Verdict::Failed(failure) => Err(RunError::Failed { directory, failure }),
        verdict => Ok(RunSummary {
            run,
            directory,
            verdict,
        }),
    }
}

async fn open_records(
    directory: &RunDirectory,
    run: RunId,
    config: &CoordinatorConfig,
    progress: &mpsc::Sender<Progress>,
) -> io::Result<Recorder> {
    let mut recorder = Recorder {
        results: directory.results()?,
        events: directory.events()?,
        progress: progress.clone(),
    };
    let fields = json!({
        "run_id": run.to_string(),
        "version": proto::VERSION,
        "world_size": config.world_size,
        "recipe_digest": config.recipe.digest().to_string(),
    });
    recorder.events.append("created", fields).await?;
    let created = Progress::Created {
        run,
        directory: directory.path().to_owned(),
        world_size: config.world_size,
    };
    let _ = progress.send_timeout(created, LINGER).await;
    Ok(recorder)
}

async fn serve(
    listener: TcpListener,
    shared: &Arc<Shared>,
    run: RunId,
    config: &CoordinatorConfig,
    weights: Weights,
    closing: &CancellationToken,
    tasks: &TaskTracker,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    let control = ControlShell {
        shared: Arc::clone(shared),
        run,
        recipe: config.recipe.clone(),
        world_size: config.world_size,
        timing: config.timing,
        tasks: tasks.clone(),
        watches: AtomicU64::new(0),
    };
    let artifact = ArtifactShell {
        shared: Arc::clone(shared),
        weights,
    };
    let operator = OperatorShell {
        shared: Arc::clone(shared),
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_serving::<CoordinatorServiceServer<ControlShell>>()
        .await;
    reporter
        .set_serving::<ArtifactServiceServer<ArtifactShell>>()
        .await;
    let router = transport::small(config.security.server())
        .add_service(health)
        .add_service(
            CoordinatorServiceServer::new(control)
                .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
                .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX),
        )
        .add_service(ArtifactServiceServer::new(artifact).max_decoding_message_size(UPLOAD_MESSAGE_BYTES_MAX))
        .add_service(
            OperatorServiceServer::new(operator).max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX),
        );
    let incoming = config.security.incoming(listener, ConnectionLimits::COORDINATOR);
    let closed = closing.clone().cancelled_owned();
    tokio::spawn(router.serve_with_incoming_shutdown(incoming, closed))
}

async fn keep_time(shared: Arc<Shared>) {
    shared.keep_time().await;
}

/// Turns the two tokens into events. They are no requests of a worker, so they are never refused.
async fn pass_on(shutdown: Shutdown, shared: Arc<Shared>, closing: CancellationToken) {
    let pass_on = async {
        let stop = async {
            shutdown.stop.cancelled().await;
            let _ = shared.handle(Event::StopRequested).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stop => {}
            () = shutdown.abort.cancelled() => {
                let _ = shared.handle(Event::AbortRequested).await;
            }
        }
    };
    tokio::select! {
        () = pass_on => {}
        () = closing.cancelled() => {}
    }
}

/// The recorder stops early only when it cannot write: that ends the run.
async fn end_if_not_recorded(recorded: Result<io::Result<()>, tokio::task::JoinError>, shared: &Shared) {
    let reason = match recorded {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    // A failure of the directory is no request, so it is never refused.
    let _ = shared.handle(Event::StorageFailed { reason }).await;
}

/// Gives the workers a moment to hear the end and say goodbye, then closes all connections.
async fn close(
    shared: &Shared,
    mut server: JoinHandle<Result<(), tonic::transport::Error>>,
    closing: &CancellationToken,
    tasks: &TaskTracker,
) {
    let _ = tokio::time::timeout(LINGER, shared.deserted()).await;
    closing.cancel();
    if tokio::time::timeout(DRAIN, &mut server).await.is_err() {
        warn!("some connections were still open at the end");
        server.abort();
    }
    tasks.close();
    let _ = tokio::time::timeout(DRAIN, tasks.wait()).await;
}

/// A burst of joins or reports; the recorder takes an entry in about a millisecond.
const RECORDS_CAPACITY: usize = 256;

/// How long workers have to say goodbye. With the lease before and the drain after it, every process exits
/// within 10 s of a silent loss.
const LINGER: Duration = Duration::from_secs(2);

/// How long open calls have to end after that.
const DRAIN: Duration = Duration::from_secs(1);
