//! `ringmaster train`: a coordinator and worker processes on this machine.
//!
//! The coordinator runs in this process, on loopback; workers are processes of this same program, so that training
//! here and training on many hosts are one and the same. Their logs go to the run's directory.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use coordinator::command::{LogFormat, log_to};
use coordinator::console::Console;
use coordinator::{CoordinatorConfig, Progress, RecipeArgs, RunDirectory, RunError, RunSummary, Shutdown};
use data::{Dataset, Limits, Split};
use model::device::open_device;
use model::frozen;
use model::weights::transfer;
use proto::{Address, EpochReport, ONE_HOST_BUCKET_MIB, Recipe};
use security::Security;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use worker::prepare::{selection, starting_weights};

use crate::outputs::PlotArgs;
use crate::{load_weights, remarks};

use self::pictures::Pictures;
use self::refusals::check_cache;

mod pictures;
mod refusals;

/// Arguments of `train`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    workers: NonZeroUsize,
    /// Device to compute on, as for `worker`; `gpu`, `cuda` and `wgpu` without a number give each worker its own GPU
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads of each worker [default: the cores, shared out]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Folder in which the workers share decoded pictures, as in /dev/shm; without, each keeps up to 1 GiB of its own for training and as much for validation
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Folder that holds the run's folder
    #[arg(long, value_name = "DIR", default_value = coordinator::DEFAULT_PROJECT)]
    project: PathBuf,
    /// Name of the run's folder; a number is added when it is taken
    #[arg(long, default_value = coordinator::DEFAULT_NAME)]
    name: String,
    /// Go on with the run in this folder, from its newest checkpoint, on any number of workers
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// Number of checkpoints that are kept
    #[arg(long, value_name = "N", default_value_t = coordinator::DEFAULT_KEEP)]
    keep: usize,
    #[command(flatten)]
    plots: PlotArgs,
    /// All hyper-parameters. Without `--data`, and with `--data shapes`, the defaults are those of the demo: 96 pixels,
    /// 14 epochs, nominal batch 16, the last 4 epochs without mosaic. Buckets have 2 MiB, as suits one host, unless a recipe file is given
    #[command(flatten)]
    recipe: RecipeArgs,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    check_cache(args.cache.as_deref())?;
    let recipe = match &args.resume {
        Some(run) => recipe_of(run, &args)?,
        None => {
            if let Some(remark) = args.recipe.remark()? {
                eprintln!("{remark}");
            }
            completed(&args.recipe)?
        }
    };
    // Workers would find it, too, but only when the run has its directory.
    frozen::check(recipe.model.parse()?, recipe.freeze as usize)?;
    let training_set = check(&recipe, &args)?;
    let pictures = args
        .plots
        .are_wanted()
        .then(|| Pictures::new(&recipe, training_set));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let (summary, best) = runtime.block_on(train(&recipe, &args, pictures))?;
    next_steps(&recipe, &summary, best.as_ref());
    if summary.is_resumable {
        println!("resume with: --resume {}", summary.directory.path().display());
        return Ok(ExitCode::from(RESUMABLE));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the recipe of the run that goes on, which is fixed.
fn recipe_of(run: &Path, args: &Args) -> anyhow::Result<Recipe> {
    let (_, recipe) = RunDirectory::open(run)?;
    ensure!(
        args.recipe == RecipeArgs::default() || completed(&args.recipe)?.resolved() == recipe,
        "the recipe of the run in {} is fixed; leave its arguments out, or begin a new run",
        run.display()
    );
    Ok(recipe)
}

/// Fills in what is not asked for.
fn completed(recipe: &RecipeArgs) -> anyhow::Result<Recipe> {
    let recipe = with_demo_defaults(with_defaults_of_one_host(recipe.clone()));
    Ok(with_weights_model(recipe)?.resolve()?)
}

/// Fills in what suits workers of one host.
fn with_defaults_of_one_host(mut recipe: RecipeArgs) -> RecipeArgs {
    if recipe.config.is_none() {
        recipe.bucket_mib.get_or_insert(ONE_HOST_BUCKET_MIB);
    }
    recipe
}

/// Fills in what suits the built-in data set, where nothing else is asked for: small pictures, few epochs.
fn with_demo_defaults(mut recipe: RecipeArgs) -> RecipeArgs {
    let is_built_in = recipe.data.as_deref().is_none_or(|data| data == data::SHAPES);
    if is_built_in && recipe.config.is_none() {
        recipe.imgsz.get_or_insert(DEMO_IMAGE_SIZE);
        recipe.epochs.get_or_insert(DEMO_EPOCHS);
        // Every batch is an update, for there are few.
        recipe.nbs.get_or_insert(DEMO_NOMINAL_BATCH);
        recipe.close_mosaic.get_or_insert(DEMO_CLOSE_MOSAIC);
    }
    recipe
}

/// Takes the model from the weights where nothing else names it: `--weights FILE`, a file that holds no more than their path, or
/// `--model FILE` as others write it.
fn with_weights_model(mut recipe: RecipeArgs) -> anyhow::Result<RecipeArgs> {
    let is_file = |name: &String| {
        [".pt", ".safetensors"]
            .iter()
            .any(|ending| name.ends_with(ending))
    };
    let weights = if recipe.weights.is_none() && recipe.model.as_ref().is_some_and(is_file) {
        recipe.weights = recipe.model.take();
        recipe.weights.clone()
    } else {
        recipe.weights_without_model()?
    };
    if let Some(path) = weights {
        recipe.model = Some(load_weights(path.as_ref())?.metadata.kind.to_string());
    }
    Ok(recipe)
}

/// Opens what the workers will open, so that a mistake is one sentence here and nothing is begun. Returns the training
/// set.
fn check(recipe: &Recipe, args: &Args) -> anyhow::Result<Arc<Dataset>> {
    for worker in 0..args.workers.get() {
        open_device(&device_of(&args.device, worker), None)?;
    }
    let open = |split| -> anyhow::Result<Dataset> {
        let dataset = Dataset::open(&recipe.data, split, &Limits::default())?.select(&selection(recipe))?;
        remarks::describe(&dataset);
        Ok(dataset)
    };
    let training_set = open(Split::Train)?;
    open(Split::Val)?;
    if let Some(weights) = starting_weights(recipe)? {
        let (_, report) = transfer(&weights, &training_set.names, recipe.seed);
        eprintln!(
            "start from {}\n{report}",
            recipe.weights.as_deref().unwrap_or_default()
        );
    }
    Ok(Arc::new(training_set))
}

/// Runs coordinator and workers to the end, and returns the best epoch too.
async fn train(
    recipe: &Recipe,
    args: &Args,
    mut pictures: Option<Pictures>,
) -> anyhow::Result<(RunSummary, Option<EpochReport>)> {
    let mut config = CoordinatorConfig::new(recipe.clone(), args.workers.get())?;
    config.project.clone_from(&args.project);
    config.name.clone_from(&args.name);
    config.resume.clone_from(&args.resume);
    config.keep = args.keep.max(1);
    // Workers of an earlier `train` ended with it.
    config.workers_are_gone = true;
    config.security = Security::loopback();
    let listener = coordinator::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = Address::from(
        listener
            .local_addr()
            .context("the coordinator's address is unknown")?,
    );

    let console = Console::new(recipe.epochs);
    log_to(&console, LogFormat::Text);
    let shutdown = Shutdown::on_signals().context("cannot handle signals")?;
    let (progress, mut from_coordinator) = mpsc::channel(PROGRESS_CAPACITY);
    let (to_console, shown) = mpsc::channel(PROGRESS_CAPACITY);
    let console = tokio::spawn(console.render(shown));
    let abort = shutdown.abort.clone();
    let run = tokio::spawn(coordinator::run(listener, config, progress, shutdown));

    // The run's directory is there before its first event, so the workers' logs can go into it.
    let mut workers = JoinSet::new();
    let crew = Arc::new(Crew::new(args.workers, abort));
    let mut best = None;
    while let Some(event) = from_coordinator.recv().await {
        if let Progress::Started { .. } = &event {
            crew.has_begun.store(true, Ordering::Relaxed);
        }
        if let Progress::Created {
            directory, threads, ..
        } = &event
        {
            // A run goes on with the threads that it had: on some backends the bits of a result depend on their number.
            let earlier = threads.and_then(|threads| NonZeroUsize::new(threads as usize));
            let threads = args
                .threads
                .or(earlier)
                .unwrap_or_else(|| fair_share(args.workers));
            if let Some(pictures) = &mut pictures {
                pictures.begin(directory);
            }
            for worker in 0..args.workers.get() {
                let (child, log) = start_worker(args, &address, directory, worker, threads)?;
                workers.spawn(watch(child, log, Arc::clone(&crew)));
            }
        }
        if let Progress::Epoch(report) = &event
            && report.best
        {
            best = Some(*report);
        }
        // The console ends with its channel, at the end of this loop.
        let _ = to_console.send(event).await;
    }
    drop(to_console);
    let result = run.await.context("the coordinator panicked")?;
    // A worker that hangs must not keep this process: dropped workers are killed.
    let mut failures = Vec::new();
    while let Ok(Some(worker)) = timeout(WORKERS_PATIENCE, workers.join_next()).await {
        failures.extend(worker.context("a watching task panicked")?);
    }
    drop(workers);
    console.await.context("the console panicked")?;
    if let Some(pictures) = pictures {
        pictures.finish();
    }
    match result {
        Ok(summary) => Ok((summary, best)),
        Err(RunError::Failed { directory, failure }) => {
            let detail = failures
                .first()
                .map(|words| format!(" ({words})"))
                .unwrap_or_default();
            bail!(
                "{failure}{detail}; logs are in {}",
                directory.path().join(LOGS).display()
            )
        }
        Err(error) => Err(error.into()),
    }
}

fn start_worker(
    args: &Args,
    coordinator: &Address,
    directory: &Path,
    worker: usize,
    threads: NonZeroUsize,
) -> anyhow::Result<(Child, PathBuf)> {
    let logs = directory.join(LOGS);
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let path = logs.join(format!("worker-{worker}.log"));
    let log = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let program = std::env::current_exe().context("the path of this program is unknown")?;
    let child = Command::new(program)
        .arg("worker")
        // Everything stays on this machine, so nobody needs certificates.
        .args(["--coordinator", coordinator.as_str(), "--insecure"])
        .env_remove("RINGMASTER_CERTS")
        .env_remove("RINGMASTER_JOIN_TOKEN_FILE")
        .args(["--device", &device_of(&args.device, worker)])
        // Its coordinator is this process and does not come back.
        .args(["--orphan-timeout", "5"])
        .args(["--threads", &threads.to_string()])
        .args(
            args.cache
                .iter()
                .flat_map(|folder| [OsStr::new("--cache"), folder.as_os_str()]),
        )
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C is for the coordinator, which stops all of them at the same step.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a worker")?;
    Ok((child, path))
}

/// The workers of this machine.
struct Crew {
    alive: AtomicUsize,
    /// Whether they are at work; before, all are needed.
    has_begun: AtomicBool,
    abort: CancellationToken,
}

impl Crew {
    fn new(workers: NonZeroUsize, abort: CancellationToken) -> Self {
        Self {
            alive: AtomicUsize::new(workers.get()),
            has_begun: AtomicBool::new(false),
            abort,
        }
    }

    /// One of them has failed. The others go on, when there are any and the run has begun.
    fn lose_one(&self) {
        let left = self.alive.fetch_sub(1, Ordering::Relaxed) - 1;
        if left == 0 || !self.has_begun.load(Ordering::Relaxed) {
            self.abort.cancel();
        }
    }
}

/// Waits for a worker. Returns its last words when it failed.
async fn watch(mut child: Child, log: PathBuf, crew: Arc<Crew>) -> Option<String> {
    match child.wait().await {
        Ok(status) if status.success() || status.code() == Some(i32::from(RESUMABLE)) => None,
        _ => {
            crew.lose_one();
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let words = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
            words.map(str::to_owned)
        }
    }
}

/// Returns the device of a worker: `cuda` becomes `cuda:0` for the first, `cuda:1` for the second.
fn device_of(device: &str, worker: usize) -> String {
    match device {
        "cuda" | "wgpu" | "gpu" => format!("{device}:{worker}"),
        other => other.to_owned(),
    }
}

/// Returns the threads of a worker when nobody says: the cores are shared out.
fn fair_share(workers: NonZeroUsize) -> NonZeroUsize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(cores / workers).unwrap_or(NonZeroUsize::MIN)
}

fn next_steps(recipe: &Recipe, summary: &RunSummary, best: Option<&EpochReport>) {
    println!("results: {}", summary.directory.path().display());
    if let Some(EpochReport { epoch, metrics, .. }) = best {
        println!(
            "best:    epoch {epoch}, precision {:.3} recall {:.3} mAP50 {:.3} mAP50-95 {:.3}",
            metrics.precision, metrics.recall, metrics.map50, metrics.map50_95
        );
    }
    let weights = [summary.directory.best_weights(), summary.directory.last_weights()];
    if let Some(weights) = weights.iter().find(|weights| weights.exists()) {
        let weights = weights.display();
        let source = if recipe.data == data::SHAPES {
            data::SHAPES
        } else {
            "PICTURES"
        };
        // As this program was called: it need not be on the search path.
        let program = std::env::args().next().unwrap_or_else(|| "ringmaster".to_owned());
        println!("weights: {weights}");
        println!(
            "next:    {program} val --weights {weights} --data {}",
            recipe.data
        );
        println!("         {program} predict --weights {weights} --source {source}");
    }
}

/// `EX_TEMPFAIL` of sysexits, as `coordinator` and `worker` exit when a run can be resumed.
const RESUMABLE: u8 = 75;

/// Progress is small; the console keeps up.
const PROGRESS_CAPACITY: usize = 64;

/// A worker leaves within about four seconds of the run's end.
const WORKERS_PATIENCE: Duration = Duration::from_secs(6);

/// Folder of the workers' logs in the run's directory.
const LOGS: &str = "logs";

/// The demo: what reaches a useful detector in about twenty seconds on two cores.
const DEMO_IMAGE_SIZE: u32 = 96;
const DEMO_EPOCHS: u32 = 14;
const DEMO_NOMINAL_BATCH: u32 = 16;
const DEMO_CLOSE_MOSAIC: u32 = 4;
