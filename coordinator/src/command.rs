//! The command `coordinator`, also `ringmaster coordinator`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use proto::{Outcome, Recipe};
use security::{Role, SecurityArgs};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::config::{CoordinatorConfig, DEFAULT_KEEP, DEFAULT_NAME, DEFAULT_PROJECT};
use crate::console::Console;
use crate::recipe_args::RecipeArgs;
use crate::shutdown::Shutdown;
use crate::{HomeError, RunDirectory, RunError, listen, run};

/// Arguments of the coordinator.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Number of workers that the run starts with.
    #[arg(long, alias = "world_size", value_name = "N")]
    pub world_size: usize,

    /// Number of workers that the run goes on with at least when some are lost; with fewer it waits.
    #[arg(long, alias = "min_world_size", value_name = "N", default_value_t = 1)]
    pub min_world_size: usize,

    /// Take over the run in this directory: from its workers where they are still at work, from its newest checkpoint
    /// otherwise. Without a directory: the run of this project and name if it was begun, a new one if not; one that has
    /// ended is only told of.
    #[arg(long, value_name = "RUN", num_args = 0..=1)]
    pub resume: Option<Option<PathBuf>>,

    /// Number of checkpoints that are kept.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_KEEP, value_parser = at_least_one)]
    pub keep: usize,

    /// Seconds without any progress of a worker that count as a stall; more where steps take long.
    #[arg(long, alias = "stall_patience", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub stall_patience: u64,

    /// Address and port that workers connect to [default: port 50051 on all addresses, with --insecure on 127.0.0.1].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Give up when not all workers are there after this long; wait without end otherwise.
    #[arg(long, alias = "join_timeout", value_name = "SECONDS")]
    pub join_timeout: Option<u64>,

    /// Folder that holds the run directories.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PROJECT)]
    pub project: PathBuf,

    /// Name of the run directory; a number is added when it is taken.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME)]
    pub name: String,

    /// When the run has completed, or an operator has stopped it, stay until asked to end by a signal: for an orchestrator that
    /// starts whatever ends again.
    #[arg(long)]
    pub linger: bool,

    /// How log lines look. What is logged is chosen with RUST_LOG, as in `RUST_LOG=info`.
    #[arg(long, alias = "log_format", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Certificates and token.
    #[command(flatten)]
    pub security: SecurityArgs,

    /// All hyper-parameters.
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Args {
    /// Reads and checks everything that the arguments name.
    ///
    /// # Errors
    /// When the recipe is wrong, has too few slots for this many workers, there is no run to take over, or a certificate
    /// cannot be used.
    pub fn config(&self) -> anyhow::Result<CoordinatorConfig> {
        let resume = self.run_to_resume();
        let recipe = match &resume {
            Some(path) => self.recipe_of(path)?,
            None => self.recipe.resolve()?,
        };
        let mut config = CoordinatorConfig::new(recipe, self.world_size)?;
        ensure!(
            (1..=self.world_size).contains(&self.min_world_size),
            "--min-world-size is {}, but must be 1 to --world-size, {}",
            self.min_world_size,
            self.world_size
        );
        config.project = self.project.clone();
        config.name = self.name.clone();
        config.resume = resume;
        config.min_world_size = self.min_world_size;
        config.keep = self.keep;
        config.timing.stall_patience = Duration::from_secs(self.stall_patience);
        config.timing.join_timeout = self.join_timeout.map(Duration::from_secs);
        config.security = self.security.resolve()?;
        config.security.check_role(Role::Coordinator)?;
        Ok(config)
    }

    /// Returns the directory of the run to take over.
    fn run_to_resume(&self) -> Option<PathBuf> {
        match &self.resume {
            None => None,
            Some(Some(path)) => Some(path.clone()),
            Some(None) => {
                let path = self.project.join(&self.name);
                RunDirectory::is_begun(&path).then_some(path)
            }
        }
    }

    /// Returns the recipe of a run that is taken over; what the command line says must agree with it.
    fn recipe_of(&self, path: &Path) -> anyhow::Result<Recipe> {
        let (_, recipe) = RunDirectory::open(path)?;
        let is_silent = self.recipe == RecipeArgs::default();
        ensure!(
            is_silent || self.recipe.resolve()?.resolved() == recipe,
            "the recipe of the run in {} is fixed, but the command line has another one; leave its arguments out, or begin a new run",
            path.display()
        );
        Ok(recipe)
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) => Err("at least one checkpoint is kept".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

/// Runs the coordinator. Exit code 0: completed; 75: stopped on request, with a checkpoint to resume from; 1: failed;
/// 2: wrong arguments or a wrong recipe.
pub fn main(args: Args) -> ExitCode {
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => return fail(&error, USAGE),
    };
    match coordinate(&args, config) {
        Ok(code) => code,
        Err(error) => fail(&error, FAILURE),
    }
}

fn coordinate(args: &Args, config: CoordinatorConfig) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let console = Console::new(config.recipe.epochs);
        log_to(&console, args.log_format);
        if let Some(remark) = args.recipe.remark()? {
            warn!("{remark}");
        }
        let shutdown = Shutdown::on_signals().context("cannot handle signals")?;
        let listen_on = args
            .listen
            .unwrap_or_else(|| config.security.default_listen(DEFAULT_PORT));
        config.security.check_address(listen_on)?;
        let listener = listen(listen_on).await?;
        let address = listener.local_addr().context("the own address is unknown")?;
        println!(
            "listening on {address}; start workers with: worker --coordinator HOST:{}",
            address.port()
        );
        let (progress, news) = mpsc::channel(NEWS_CAPACITY);
        let rendering = tokio::spawn(console.render(news));
        let asked_to_stop = shutdown.stop.clone();
        let ended = run(listener, config, progress, shutdown).await;
        rendering.await.context("the console failed")?;
        let summary = match ended {
            // Started again by somebody who starts whatever is not there: what was asked for is done.
            Err(RunError::Home(HomeError::Ended {
                path,
                outcome,
                reason,
            })) if args.resume == Some(None) => {
                println!("the run in {} has ended: {outcome}: {reason}", path.display());
                if outcome == Outcome::Failed.to_string() {
                    return Ok(ExitCode::from(FAILURE));
                }
                say_where(&RunDirectory::open(&path)?.0);
                linger(args, &asked_to_stop).await;
                return Ok(ExitCode::SUCCESS);
            }
            ended => ended?,
        };
        say_where(&summary.directory);
        if summary.is_resumable {
            println!("resume with: --resume {}", summary.directory.path().display());
        }
        linger(args, &asked_to_stop).await;
        Ok(ExitCode::from(if summary.is_resumable { RESUMABLE } else { 0 }))
    })
}

/// Stays after the end of a run, if that is wanted and nobody has asked this process to end.
async fn linger(args: &Args, asked_to_stop: &CancellationToken) {
    if args.linger && !asked_to_stop.is_cancelled() {
        println!("the run has ended; staying until asked to stop");
        asked_to_stop.cancelled().await;
    }
}

/// Sends logs to stderr, above the live line. Keeps what is there when the program has set up its own.
pub fn log_to(console: &Console, format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(console.log_writer());
    let _ = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
}

fn say_where(directory: &RunDirectory) {
    let best = directory.best_weights();
    let last = directory.last_weights();
    for weights in [best, last] {
        if weights.exists() {
            println!("weights: {}", weights.display());
        }
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(code)
}

const FAILURE: u8 = 1;
/// `EX_TEMPFAIL` of sysexits: try again later.
const RESUMABLE: u8 = 75;
/// As clap exits on wrong arguments.
const USAGE: u8 = 2;

/// The port that workers are told when nobody chooses.
const DEFAULT_PORT: u16 = 50051;

/// Control messages of 64 workers are a light load; the cores belong to workers on the same machine.
const THREADS: usize = 2;

/// A few seconds of news; the console takes an entry in about a millisecond.
const NEWS_CAPACITY: usize = 64;
