//! One run, from the empty directory to its end: puts the parts together and takes them apart in order.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use probe::Doctor;
use proto::RunId;
use proto::transport::{self, CONTROL_MESSAGE_BYTES_MAX, UPLOAD_MESSAGE_BYTES_MAX};
use proto::wire::artifact_service_server::ArtifactServiceServer;
use proto::wire::checkpoint_service_server::CheckpointServiceServer;
use proto::wire::coordinator_service_server::CoordinatorServiceServer;
use proto::wire::operator_service_server::OperatorServiceServer;
use security::network::Listener;
use security::{ConnectionLimits, Security};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::arrivals::Arrivals;
use crate::config::CoordinatorConfig;
use crate::membership::{Event, Failure, Membership, Terms, Timing, Verdict};
use crate::past::{Home, HomeError};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::run_directory::{RunDirectory, Weights};
use crate::service::{ArtifactShell, CheckpointShell, ControlShell, OperatorShell};
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
    /// Whether it can be resumed.
    pub is_resumable: bool,
}

/// Why a run did not end well.
#[derive(Debug, Error)]
pub enum RunError {
    /// It could not be begun or taken over.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its event log could not be written.
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
/// `progress` must be read until it closes. Cancelling `shutdown.stop` stops the run at a step boundary, with a
/// checkpoint; `shutdown.abort` ends it at once.
///
/// # Errors
/// When the run directory cannot be made, opened or written, the server fails, or the run fails: a failure that every
/// worker has, states that differ, a rendezvous or a stop that took too long. A lost worker is no failure.
pub async fn run(
    listener: impl Into<Listener>,
    config: CoordinatorConfig,
    progress: mpsc::Sender<Progress>,
    shutdown: Shutdown,
) -> Result<RunSummary, RunError> {
    let home = Home::open(&config)?;
    let (run, directory) = (home.run, home.directory.clone());
    let beginning = announce(&home, &config, &progress).await;
    let terms = Terms {
        run,
        world_size: config.world_size,
        min_world_size: config.min_world_size,
        version: proto::VERSION.to_owned(),
        timing: Timing {
            time_limit: config.recipe.time_limit(),
            ..config.timing
        },
    };
    let Home {
        journal,
        results,
        checkpoints,
        newest,
        past,
        events: mut log,
        ..
    } = home;
    for (event, fields) in beginning {
        log.append(event, fields)
            .await
            .map_err(|cause| RunError::Records {
                path: directory.path().to_owned(),
                cause,
            })?;
    }
    let recorder = Recorder {
        results,
        events: log,
        progress: progress.clone(),
        checkpoints: checkpoints.clone(),
    };
    let (records, effects) = mpsc::channel(RECORDS_CAPACITY);
    let recorded_epochs = past.recorded_epochs;
    let membership = Membership::resume(terms, past, Duration::ZERO);
    let shared = Arc::new(Shared::new(
        membership,
        config.timing.lease,
        journal,
        records,
        recorded_epochs,
    ));
    let recording = tokio::spawn(recorder.run(effects, Arc::clone(&shared)));
    let closing = CancellationToken::new();
    let tasks = TaskTracker::new();
    let services = Services {
        shared: &shared,
        run,
        config: &config,
        weights: directory.weights(),
        doctor: Doctor::new(directory.path().to_owned()),
        checkpoint: CheckpointShell {
            shared: Arc::clone(&shared),
            checkpoints,
            newest: Arc::new(Mutex::new(newest)),
        },
    };
    let mut server = serve(listener.into(), services, &closing, &tasks).await;
    tasks.spawn(keep_time(Arc::clone(&shared)));
    tasks.spawn(look_for_the_silent(
        Arc::clone(&shared),
        config.security.clone(),
        closing.clone(),
    ));
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
    // Invariant: the recorder ends with the run or makes it end, and a server without an error ends on request.
    let verdict = shared
        .read(|membership| membership.verdict().cloned())
        .expect("the run is over");
    let ending = shared.read(|membership| membership.ending(&verdict));
    let is_resumable = ending.resumable;
    let _ = progress.send_timeout(Progress::Ended(ending), LINGER).await;
    close(&shared, server, &closing, &tasks).await;
    match verdict {
        Verdict::Failed(failure) => Err(RunError::Failed { directory, failure }),
        verdict => Ok(RunSummary {
            run,
            directory,
            verdict,
            is_resumable,
        }),
    }
}

/// Tells of the beginning.
async fn announce(
    home: &Home,
    config: &CoordinatorConfig,
    progress: &mpsc::Sender<Progress>,
) -> Vec<(&'static str, Value)> {
    let created = Progress::Created {
        run: home.run,
        directory: home.directory.path().to_owned(),
        world_size: config.world_size,
        threads: home.past.members.first().map(|member| member.threads),
    };
    let _ = progress.send_timeout(created, LINGER).await;
    let mut events = vec![(
        if config.resume.is_some() {
            "resumed"
        } else {
            "created"
        },
        json!({
            "run_id": home.run.to_string(),
            "version": proto::VERSION,
            "world_size": config.world_size,
            "recipe_digest": config.recipe.digest().to_string(),
            "generation": home.past.generation,
            "checkpoint_step": home.past.checkpoint_step,
        }),
    )];
    let mut notices = home.notices.clone();
    for text in &notices {
        events.push(("notice", json!({ "text": text })));
    }
    if config.resume.is_some() {
        notices.push(beginning(home));
    }
    for text in notices {
        let _ = progress.send_timeout(Progress::Notice(text), LINGER).await;
    }
    events
}

/// Says what a run that is taken over goes on from.
fn beginning(home: &Home) -> String {
    let past = &home.past;
    match past.checkpoint_step {
        _ if past.is_at_work => format!(
            "taking over generation {}; its {} workers come back by themselves",
            past.generation,
            past.members.len()
        ),
        Some(step) => format!("resuming from the checkpoint of step {step}"),
        None => "resuming from the beginning: there is no checkpoint".to_owned(),
    }
}

/// What is served.
struct Services<'a> {
    shared: &'a Arc<Shared>,
    run: RunId,
    config: &'a CoordinatorConfig,
    weights: Weights,
    doctor: Doctor,
    checkpoint: CheckpointShell,
}

async fn serve(
    listener: Listener,
    services: Services<'_>,
    closing: &CancellationToken,
    tasks: &TaskTracker,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    let Services {
        shared,
        run,
        config,
        weights,
        doctor,
        checkpoint,
    } = services;
    let arrivals = Arc::new(Arrivals::default());
    let control = ControlShell {
        shared: Arc::clone(shared),
        arrivals: Arc::clone(&arrivals),
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
        arrivals,
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_serving::<CoordinatorServiceServer<ControlShell>>()
        .await;
    reporter
        .set_serving::<ArtifactServiceServer<ArtifactShell>>()
        .await;
    reporter
        .set_serving::<CheckpointServiceServer<CheckpointShell>>()
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
            CheckpointServiceServer::new(checkpoint).max_decoding_message_size(UPLOAD_MESSAGE_BYTES_MAX),
        )
        .add_service(doctor.into_service())
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

/// Asks the hosts of workers that were lost without a sign whether anybody still listens there.
async fn look_for_the_silent(shared: Arc<Shared>, security: Security, closing: CancellationToken) {
    let look = async {
        loop {
            tokio::time::sleep(LOOKING_PAUSE).await;
            for (worker, address) in shared.read(Membership::out_of_sight) {
                let deserted = tokio::time::timeout(LOOKING_PATIENCE, security.is_deserted(&address)).await;
                if deserted.unwrap_or(false) {
                    info!(%worker, %address, "nobody listens at the address of a lost worker: its process has ended");
                    // A fact, so it is never refused.
                    let _ = shared.handle(Event::FoundDead { worker }).await;
                }
            }
        }
    };
    tokio::select! {
        () = look => {}
        () = closing.cancelled() => {}
    }
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

/// How often it is looked for lost workers while the run waits for them.
const LOOKING_PAUSE: Duration = Duration::from_secs(1);

/// A host that is there says within a round trip whether somebody listens.
const LOOKING_PATIENCE: Duration = Duration::from_secs(2);
