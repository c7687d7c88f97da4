//! The command `coordinator`, also `ringmaster coordinator`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use security::{Role, SecurityArgs};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use crate::config::{CoordinatorConfig, DEFAULT_NAME, DEFAULT_PROJECT};
use crate::console::Console;
use crate::recipe_args::RecipeArgs;
use crate::shutdown::Shutdown;
use crate::{RunSummary, listen, run};

/// Arguments of the coordinator.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Number of workers that the run starts with.
    #[arg(long, alias = "world_size", value_name = "N")]
    pub world_size: usize,

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

    /// When the run has ended well, stay until asked to stop: for an orchestrator that starts whatever ends again.
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
    /// When the recipe is wrong, has too few slots for this many workers, or a certificate cannot be used.
    pub fn config(&self) -> anyhow::Result<CoordinatorConfig> {
        let mut config = CoordinatorConfig::new(self.recipe.resolve()?, self.world_size)?;
        config.project = self.project.clone();
        config.name = self.name.clone();
        config.timing.join_timeout = self.join_timeout.map(Duration::from_secs);
        config.security = self.security.resolve()?;
        config.security.check_role(Role::Coordinator)?;
        Ok(config)
    }
}

/// Runs the coordinator. Exit code 0: completed, or stopped on request with the weights saved; 1: failed;
/// 2: wrong arguments or a wrong recipe.
pub fn main(args: Args) -> ExitCode {
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => return fail(&error, USAGE),
    };
    match coordinate(&args, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, FAILURE),
    }
}

fn coordinate(args: &Args, config: CoordinatorConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let console = Console::new(config.recipe.epochs);
        log_to(&console, args.log_format);
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
        let summary = ended?;
        say_where(&summary);
        if args.linger {
            println!("the run has ended; staying until asked to stop");
            asked_to_stop.cancelled().await;
        }
        Ok(())
    })
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

fn say_where(summary: &RunSummary) {
    let best = summary.directory.best_weights();
    let last = summary.directory.last_weights();
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
/// As clap exits on wrong arguments.
const USAGE: u8 = 2;

/// The port that workers are told when nobody chooses.
const DEFAULT_PORT: u16 = 50051;

/// Control messages of 64 workers are a light load; the cores belong to workers on the same machine.
const THREADS: usize = 2;

/// A few seconds of news; the console takes an entry in about a millisecond.
const NEWS_CAPACITY: usize = 64;
