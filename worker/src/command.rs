//! Command line of a worker.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use proto::{Address, Ending, Outcome};
use security::{Role, SecurityArgs, SecurityError};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::address::Advertise;
use crate::connect::ConnectError;
use crate::prepare::HostOptions;
use crate::session::{self, Part, SessionError, WorkerConfig};

/// Arguments of `worker`: where the coordinator is, and what belongs to this host. Hyper-parameters are not here;
/// they come from the coordinator.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of the coordinator
    #[arg(long, value_name = "HOST:PORT")]
    coordinator: Address,
    /// Device to compute on: auto, cpu, cpu:flex, cpu:tch, gpu:N, cuda:N or wgpu:N, as far as compiled in
    #[arg(long, default_value = "auto", conflicts_with = "gpu")]
    device: String,
    /// GPU to compute on; short for `--device gpu:N`
    #[arg(long, value_name = "N")]
    gpu: Option<usize>,
    /// Threads to compute with; on CPUs with libtorch also how many slots are computed, and in memory, at a time [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Data set on this host, when it lies elsewhere than the recipe says
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder in which workers of this host share decoded pictures, as in /dev/shm; without, each keeps up to 1 GiB of its own for training and as much for validation
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Address to accept the ring neighbour on [default: a free port on all addresses, with --insecure on 127.0.0.1]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// How neighbours reach this worker [default: the address that the coordinator is reached from]
    #[arg(long, value_name = "HOST[:PORT]")]
    advertise: Option<Advertise>,
    /// Seconds that the coordinator may be away during the run; training goes on meanwhile
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(..=JOIN_TIMEOUT_MAX))]
    orphan_timeout: u64,
    /// Seconds to look for the coordinator
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=JOIN_TIMEOUT_MAX))]
    join_timeout: u64,
    /// Exit code when this worker was asked to end, and the run goes on or has not begun; another than 0 for an orchestrator that is
    /// to start one in its place
    #[arg(long, value_name = "CODE", default_value_t = 0)]
    drained_exit_code: u8,
    #[command(flatten)]
    security: SecurityArgs,
}

impl Args {
    fn config(self) -> Result<WorkerConfig, SecurityError> {
        let security = self.security.resolve()?;
        security.check_role(Role::Worker)?;
        let listen = self.listen.unwrap_or_else(|| security.default_listen(0));
        security.check_address(listen)?;
        let device = self.gpu.map_or(self.device, |index| format!("gpu:{index}"));
        let host = HostOptions {
            device,
            threads: self.threads,
            data: self.data,
            cache: self.cache,
        };
        Ok(WorkerConfig {
            coordinator: self.coordinator,
            security,
            listen,
            advertise: self.advertise,
            join_timeout: Duration::from_secs(self.join_timeout),
            orphan_timeout: Duration::from_secs(self.orphan_timeout),
            device: host.device.clone(),
            threads: host.thread_count().get() as u32,
            engine: Arc::new(host),
        })
    }
}

/// Runs a worker to the end of its part: 0 when the run completed; `--drained-exit-code` when this worker was asked to end
/// and the run goes on or has not begun; 75 when the run was stopped and can be resumed; 1 when it failed; 2 for certificates or addresses that cannot
/// be used.
pub fn main(args: Args) -> ExitCode {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    #[cfg(all(feature = "tch", unix))]
    start_with_environment();

    let drained = ExitCode::from(args.drained_exit_code);
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(source) => {
            error!(%source, "cannot start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    let shutdown = CancellationToken::new();
    runtime.spawn(cancel_on_signal(shutdown.clone()));
    let result = runtime.block_on(session::run(config, shutdown));
    // A compute thread that does not unwind must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(Part::Run(ending)) => report(&ending),
        Ok(Part::Drained) => drained,
        Err(SessionError::StoppedEarly | SessionError::Connect(ConnectError::Stopped { .. })) => {
            info!("stopped before training began");
            drained
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the runtime of a worker, whose threads move segments and add them up: they are few, for on a host with few cores they would
/// wake each other for every segment, and take their time from computing.
///
/// # Errors
/// When the system has no threads or no event queue left.
pub fn runtime() -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads((cores / 2).clamp(1, RUNTIME_THREADS_MAX))
        .enable_all()
        .build()
}

/// Enough for a fast link's bytes each way, encrypted, and one to add up.
const RUNTIME_THREADS_MAX: usize = 8;

/// What libraries are told by the environment that a process which computes with libtorch starts with.
///
/// Between two operators OpenMP's threads spin unless they are to be passive. Two workers of one machine then keep each other from
/// computing: 0.4 images a second on two cores where it is 17 with threads that sleep. And glibc's allocator gives large blocks back
/// to the system, which fills them with zeros when it hands them out for the next operation; here it keeps them, in one heap for
/// all threads, up to the largest size that every version of it takes, and takes more 64 MiB at a time. Without bins for small blocks
/// freed last, it need not empty them at each large block. It asks for huge pages, which the system has ready or clears at once: a step
/// is 2 to 4 % shorter.
const LIBTORCH_ENVIRONMENT: [(&str, &str); 6] = [
    ("OMP_WAIT_POLICY", "passive"),
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
    ("MALLOC_TOP_PAD_", "67108864"),
    ("GLIBC_TUNABLES", "glibc.malloc.mxfast=0:glibc.malloc.hugetlb=1"),
];

/// Returns what a process that computes with libtorch is to be told by its environment, and is not yet.
pub fn missing_environment() -> Vec<(&'static str, &'static str)> {
    let all = LIBTORCH_ENVIRONMENT.into_iter();
    all.filter(|(name, _)| std::env::var_os(name).is_none()).collect()
}

/// Starts this program anew, as the same process, with what libtorch is to be told.
#[cfg(all(feature = "tch", unix))]
fn start_with_environment() {
    use std::os::unix::process::CommandExt;
    let missing = missing_environment();
    if missing.is_empty() {
        return;
    }
    let mut arguments = std::env::args_os();
    let (Some(name), Ok(program)) = (arguments.next(), std::env::current_exe()) else {
        return;
    };
    let mut again = std::process::Command::new(program);
    again.arg0(name).args(arguments).envs(missing);
    // Returns only when it has failed.
    let error = again.exec();
    tracing::warn!(%error, "libtorch's environment cannot be set: its idle threads stay awake; give --threads when several workers share a machine");
}

fn report(ending: &Ending) -> ExitCode {
    match ending.outcome {
        Outcome::Completed | Outcome::Stopped => {
            info!(outcome = %ending.outcome, reason = ending.reason, "the run has ended");
            ExitCode::from(if ending.resumable { RESUMABLE } else { 0 })
        }
        Outcome::Failed => {
            eprintln!("error: the run failed: {}", ending.reason);
            ExitCode::FAILURE
        }
    }
}

/// Cancels at the first SIGINT or SIGTERM; exits at the second.
async fn cancel_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        error!("signals cannot be handled; the worker ends at once when asked to stop");
        return;
    };
    for second in [false, true] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if second {
            error!("asked to stop twice; ending at once");
            std::process::exit(130);
        }
        shutdown.cancel();
    }
}

/// `EX_TEMPFAIL` of sysexits: try again later.
const RESUMABLE: u8 = 75;
/// As clap exits on wrong arguments; an orchestrator need not try again.
const USAGE: u8 = 2;

/// A week: nobody waits longer.
const JOIN_TIMEOUT_MAX: u64 = 7 * 24 * 3600;
