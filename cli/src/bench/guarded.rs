//! The training loop as a run has it: a coordinator that keeps a journal and watches, sessions that tell of themselves.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use coordinator::{CoordinatorConfig, Shutdown};
use data::ValJob;
use proto::{Address, DatasetCard, Fingerprint, ModelCard, Outcome, Recipe};
use security::Security;
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use worker::compute::{Cards, Desk, Engine, Notice, Opened, work};
use worker::session::{self, Part, WorkerConfig};
use worker::training::source::{SlotBatches, SlotJobs, Source, ValBatches};

use super::made_up::MadeUp;
use super::ranks::{Processes, tell};
use super::step::{Args, Equipment, Report, images, recipe, report, warm_up};

/// Has a run of made-up pictures coordinated by this process and computed by others, and returns what these measured, in rank
/// order; `None` in one of them, which has told it.
///
/// # Errors
/// When a process or the run fails.
pub(super) fn conduct(args: &Args) -> anyhow::Result<Option<Vec<Report>>> {
    let runtime = match args.coordinator {
        Some(_) => worker::command::runtime(),
        None => Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = runtime.context("cannot start the async runtime")?;
    match &args.coordinator {
        Some(coordinator) => {
            let report = runtime.block_on(take_part(args, coordinator.parse()?))?;
            tell(&report)?;
            Ok(None)
        }
        None => runtime.block_on(coordinate(args)).map(Some),
    }
}

async fn coordinate(args: &Args) -> anyhow::Result<Vec<Report>> {
    let scratch = Scratch::new()?;
    let mut config = CoordinatorConfig::new(recipe(args), args.ranks.workers as usize)?;
    config.project.clone_from(&scratch.0);
    let listener = coordinator::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = Address::from(
        listener
            .local_addr()
            .context("the coordinator's address is unknown")?,
    );
    let (progress, mut news) = mpsc::channel(PROGRESS_CAPACITY);
    let listens = tokio::spawn(async move { while news.recv().await.is_some() {} });
    let shutdown = Shutdown::default();
    let run = tokio::spawn(coordinator::run(listener, config, progress, shutdown.clone()));
    let workers = args.ranks.workers;
    let played = tokio::task::spawn_blocking(move || {
        let mut ranks = Processes::start(workers, &["--coordinator", address.as_str()])?;
        let reports = ranks.reports()?;
        ranks.end()?;
        anyhow::Ok(reports)
    });
    let reports = played.await.context("a thread panicked")?;
    if reports.is_err() {
        shutdown.abort.cancel();
    }
    let ended = run.await.context("the coordinator panicked")?;
    listens.await.context("a task panicked")?;
    let reports = reports?;
    ended?;
    Ok(reports)
}

/// A folder of this process, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("ringmaster-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is small.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn take_part(args: &Args, coordinator: Address) -> anyhow::Result<Report> {
    let (reports, told) = channel();
    let config = WorkerConfig {
        coordinator,
        security: Security::loopback(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        advertise: None,
        join_timeout: PATIENCE,
        orphan_timeout: PATIENCE,
        device: args.device.clone(),
        threads: args.threads.get() as u32,
        engine: Arc::new(MadeUpEngine {
            args: args.clone(),
            reports,
        }),
    };
    let part = session::run(config, CancellationToken::new()).await?;
    if let Part::Run(ending) = part {
        ensure!(
            ending.outcome == Outcome::Completed,
            "the run did not complete: {}",
            ending.reason
        );
    }
    // The compute thread ends when the session has.
    told.recv_timeout(PATIENCE)
        .map_err(|_| anyhow!("no step was timed"))
}

/// Opens nothing, and trains on made-up pictures.
struct MadeUpEngine {
    args: Args,
    reports: Sender<Report>,
}

impl Engine for MadeUpEngine {
    fn start(&self, _recipe: Recipe, desk: Desk) -> io::Result<()> {
        let (args, reports, runtime) = (self.args.clone(), self.reports.clone(), Handle::current());
        let last_words = desk.last_words();
        thread::Builder::new().name("compute".into()).spawn(move || {
            let source = Clocked::default();
            let trained = Equipment::open(&args).map(|equipment| {
                runtime.block_on(work_with(&args, equipment, &source, desk));
            });
            let reported = trained.and_then(|()| report(&args, &source.moments(&args)));
            match reported {
                // Nobody listens any more when the session has failed.
                Ok(report) => drop(reports.send(report)),
                Err(error) => drop(last_words.blocking_send(Notice::Failed(error))),
            }
        })?;
        Ok(())
    }
}

async fn work_with(args: &Args, mut equipment: Equipment, source: &Clocked, desk: Desk) {
    let name = Fingerprint::of(b"made up");
    let opened = Opened {
        recipe: &equipment.recipe,
        cards: Cards {
            dataset: DatasetCard {
                fingerprint: name,
                train_images: images(args) as u64,
                val_images: 0,
                class_names: Vec::new(),
            },
            model: ModelCard {
                layout_digest: name,
                description: equipment.recipe.model.clone(),
                arithmetic: String::new(),
            },
            steps: equipment.plan.steps(),
        },
        plan: &equipment.plan,
        schedule: &equipment.schedule,
        source,
        learner: &mut equipment.learner,
        threads: args.threads,
    };
    work(opened, equipment.state, desk).await;
}

/// Notes when the first picture of each step is asked for.
#[derive(Default)]
struct Clocked(Arc<Mutex<Vec<Instant>>>);

impl Clocked {
    /// Returns when the timed steps began, and the one after them.
    fn moments(&self, args: &Args) -> Vec<Instant> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let timed = begun.iter().skip(warm_up(args) as usize);
        timed.take(args.steps as usize + 1).copied().collect()
    }
}

impl Source for Clocked {
    fn slots(&self, jobs: SlotJobs) -> SlotBatches {
        let begun = Arc::clone(&self.0);
        let mut step = None;
        Box::new(MadeUp.slots(jobs).inspect(move |batch| {
            let asked = batch.as_ref().ok().map(|batch| batch.step);
            if asked != step {
                step = asked;
                begun
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Instant::now());
            }
        }))
    }

    fn validation(&self) -> Vec<ValJob> {
        MadeUp.validation()
    }

    fn validation_batches(&self, jobs: Vec<ValJob>) -> ValBatches {
        MadeUp.validation_batches(jobs)
    }
}

/// Progress is small, and read at once.
const PROGRESS_CAPACITY: usize = 64;

/// All begin within moments, and the coordinator stays.
const PATIENCE: Duration = Duration::from_secs(60);
