//! A coordinator and its workers as hosts of a simulated network, and a run of them through a list of faults.
//!
//! Everything is the programs' own - sessions, heartbeats, the ring over gRPC, healing, checkpoints, the journal - but for the
//! network, the clock and the learner. Files are real ones, in a temporary folder.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use coordinator::{CoordinatorConfig, RunDirectory, Shutdown};
use proto::{OptimizerKind, Recipe};
use security::Security;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use turmoil::Sim;
use worker::session::{self, Part, WorkerConfig};

use crate::faults::{Fault, Host, Planned};
use crate::history::{Entry, Fact, History};
use crate::learner::Quadratic;
use crate::log::{Lines, Log};
use crate::network::Simulated;

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) history: Vec<Entry>,
    /// The log of all hosts.
    pub(crate) lines: Vec<String>,
    /// Hosts that had not ended when the time was up.
    pub(crate) running: Vec<Host>,
    /// Faults that began before the run was over.
    pub(crate) began: usize,
    /// Simulated time.
    pub(crate) took: Duration,
}

/// Returns the recipe of every simulated run.
pub(crate) fn recipe() -> Recipe {
    Recipe {
        epochs: 100,
        batch: 8,
        micro_batch: Some(2),
        nbs: 8,
        imgsz: 32,
        optimizer: OptimizerKind::Sgd,
        warmup_epochs: 1.0,
        patience: 0,
        checkpoint_every: 7,
        save_period: 0,
        digest_every: 1,
        hash_every: 1,
        ..Recipe::default()
    }
}

/// Runs `workers` workers through `faults`; the network's latencies follow from `seed`.
pub(crate) fn run(seed: u64, workers: usize, faults: &[Planned]) -> Outcome {
    let (history, lines) = (History::default(), Lines::default());
    let log = Log {
        history: history.clone(),
        lines: lines.clone(),
    };
    let subscriber = tracing_subscriber::registry().with(
        log.with_filter(
            tracing_subscriber::filter::Targets::new()
                .with_target("worker", LevelFilter::DEBUG)
                .with_target("coordinator", LevelFilter::DEBUG)
                .with_target("security", LevelFilter::DEBUG)
                // Opens a span for the host whose turn it is.
                .with_target("turmoil", LevelFilter::INFO),
        ),
    );
    tracing::subscriber::with_default(subscriber, || {
        let mut world = World::new(seed, workers, history.clone());
        let (running, began) = world.run(faults, &lines);
        Outcome {
            history: history.entries(),
            lines: lines.all(),
            running,
            began,
            took: world.sim.elapsed(),
        }
    })
}

struct World {
    sim: Sim<'static>,
    workers: usize,
    stops: Stops,
    over: Over,
    /// What ends at its time.
    healing: Vec<Planned>,
    /// Workers that were asked to end, to be started again when they have.
    leaving: Vec<Host>,
    _project: tempfile::TempDir,
}

/// Whether the coordinator has said that the run is completed.
type Over = Rc<Cell<bool>>;

/// Asks the process of each host to end.
type Stops = Rc<RefCell<BTreeMap<Host, CancellationToken>>>;

impl World {
    fn new(seed: u64, workers: usize, history: History) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(8))
            .simulation_duration(Duration::MAX)
            .tcp_capacity(TCP_CAPACITY)
            .build();
        let project = project();
        let (stops, over) = (Stops::default(), Over::default());
        let place = project.path().to_owned();
        let (noted, ends) = (history.clone(), Rc::clone(&over));
        sim.host(Host::Coordinator.to_string(), move || {
            coordinate(place.clone(), workers, noted.clone(), Rc::clone(&ends))
        });
        // One more than the run begins with: it comes late, or never.
        for number in 0..=workers {
            let host = Host::Worker(number);
            let (history, stops, over) = (history.clone(), Rc::clone(&stops), Rc::clone(&over));
            sim.host(host.to_string(), move || {
                work(host, history.clone(), Rc::clone(&stops), Rc::clone(&over))
            });
        }
        sim.crash(Host::Worker(workers).to_string());
        Self {
            sim,
            workers,
            stops,
            over,
            healing: Vec::new(),
            leaving: Vec::new(),
            _project: project,
        }
    }

    /// Returns who has not ended, and how many faults began.
    fn run(&mut self, faults: &[Planned], lines: &Lines) -> (Vec<Host>, usize) {
        let mut faults = faults.iter().copied().peekable();
        let mut began = 0;
        let mut calm_since = Duration::ZERO;
        loop {
            let now = self.sim.elapsed();
            while let Some(planned) = faults.next_if(|planned| planned.from <= now) {
                lines.push(format!("--- {planned}"));
                self.begin(planned.fault);
                self.healing.push(planned);
                began += 1;
            }
            let (over, lasting) = self.healing.iter().partition(|planned| planned.until <= now);
            self.healing = lasting;
            let over: Vec<Planned> = over;
            for planned in over {
                lines.push(format!("--- over: {planned}"));
                self.end(planned.fault);
            }
            let leaving = std::mem::take(&mut self.leaving);
            let (still, gone): (_, Vec<Host>) = leaving
                .into_iter()
                .partition(|host| self.sim.is_host_running(host.to_string()));
            self.leaving = still;
            for host in gone {
                self.start(host);
            }
            if faults.peek().is_some() || !self.healing.is_empty() {
                calm_since = now;
            }
            // Hosts return no errors: what went wrong is in the history.
            self.sim.step().expect("a step of the simulation");
            let running = self.running();
            let is_over = self.over.get();
            let is_calm = faults.peek().is_none() && self.healing.is_empty();
            if (running.is_empty() && (is_over || is_calm))
                || (is_over && now > calm_since + AFTERWARDS)
                || now > calm_since + RECOVERY_MAX
            {
                return (running, began);
            }
        }
    }

    fn hosts(&self) -> impl Iterator<Item = Host> + use<> {
        std::iter::once(Host::Coordinator).chain((0..=self.workers).map(Host::Worker))
    }

    fn running(&mut self) -> Vec<Host> {
        let hosts: Vec<Host> = self.hosts().collect();
        hosts
            .into_iter()
            .filter(|host| self.sim.is_host_running(host.to_string()))
            .collect()
    }

    /// Whether no fault keeps the host down.
    fn is_up(&self, host: Host) -> bool {
        !self.healing.iter().any(
            |planned| matches!(planned.fault, Fault::Crash(down) | Fault::PowerLoss(down) if down == host),
        )
    }

    fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(host) => self.sim.crash(host.to_string()),
            Fault::PowerLoss(host) => {
                self.cut(host, true);
                self.sim.crash(host.to_string());
            }
            Fault::Partition(one, other) => self.sim.partition(one.to_string(), other.to_string()),
            Fault::Isolation(host) => self.cut(host, true),
            Fault::Split(first) => self.split(first, true),
            Fault::Hold(one, other) => self.sim.hold(one.to_string(), other.to_string()),
            Fault::SlowLink(one, other) => {
                self.sim
                    .set_link_latency(one.to_string(), other.to_string(), SLOW);
            }
            Fault::Drain(worker) => {
                if let Some(stop) = self.stops.borrow().get(&Host::Worker(worker)) {
                    stop.cancel();
                }
            }
            Fault::Join => {}
        }
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(host) => self.start(host),
            Fault::PowerLoss(host) => {
                self.cut(host, false);
                self.start(host);
            }
            Fault::Partition(one, other) => self.sim.repair(one.to_string(), other.to_string()),
            Fault::Isolation(host) => self.cut(host, false),
            Fault::Split(first) => self.split(first, false),
            Fault::Hold(one, other) => self.sim.release(one.to_string(), other.to_string()),
            Fault::SlowLink(one, other) => {
                self.sim
                    .set_link_latency(one.to_string(), other.to_string(), USUAL);
            }
            Fault::Drain(worker) => self.leaving.push(Host::Worker(worker)),
            Fault::Join => self.start(Host::Worker(self.workers)),
        }
    }

    /// Starts a host's process, unless one is running or the run is over: nobody starts workers for it then.
    fn start(&mut self, host: Host) {
        if !self.sim.is_host_running(host.to_string()) && self.is_up(host) && !self.over.get() {
            self.sim.bounce(host.to_string());
        }
    }

    fn cut(&mut self, host: Host, is_cut: bool) {
        for other in self.hosts().filter(|&other| other != host) {
            self.link(host, other, is_cut);
        }
    }

    fn split(&mut self, first: usize, is_cut: bool) {
        let far = first..self.workers;
        let is_far = |host: &Host| matches!(host, Host::Worker(number) if far.contains(number));
        for one in self.hosts().filter(|host| !is_far(host)).collect::<Vec<_>>() {
            for other in self.hosts().filter(&is_far) {
                self.link(one, other, is_cut);
            }
        }
    }

    fn link(&mut self, one: Host, other: Host, is_cut: bool) {
        if is_cut {
            self.sim.partition(one.to_string(), other.to_string());
        } else {
            self.sim.repair(one.to_string(), other.to_string());
        }
    }
}

/// Returns a folder for a run, in memory where there is such a place: what a disk takes is no simulated time.
fn project() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary folder")
}

/// The life of a coordinator.
async fn coordinate(project: PathBuf, workers: usize, history: History, over: Over) -> turmoil::Result {
    let host = Host::Coordinator.to_string();
    history.note(&host, Fact::Began);
    let how = match coordinator_run(&project, workers).await {
        Ok(how) => {
            over.set(true);
            how
        }
        Err(error) => {
            let how = format!("{error:#}");
            // It died between the end of the run and its own.
            over.set(how.contains("has ended"));
            how
        }
    };
    history.note(&host, Fact::Ended { how });
    Ok(())
}

async fn coordinator_run(project: &Path, workers: usize) -> anyhow::Result<String> {
    let mut config = CoordinatorConfig::new(recipe(), workers)?;
    config.security = Security::over(Arc::new(Simulated));
    config.project = project.to_owned();
    let own = project.join(&config.name);
    if RunDirectory::is_begun(&own) {
        config.resume = Some(own);
    }
    let listener = config.security.listen(COORDINATOR_LISTENS.parse()?).await?;
    let (progress, mut news) = mpsc::channel(64);
    tokio::spawn(async move { while news.recv().await.is_some() {} });
    let summary = coordinator::run(listener, config, progress, Shutdown::default()).await?;
    Ok(summary.verdict.to_string())
}

/// The life of a worker: it is started again when it fails.
async fn work(host: Host, history: History, stops: Stops, over: Over) -> turmoil::Result {
    loop {
        history.note(&host.to_string(), Fact::Began);
        let stop = CancellationToken::new();
        stops.borrow_mut().insert(host, stop.clone());
        let config = WorkerConfig {
            coordinator: COORDINATOR.parse()?,
            security: Security::over(Arc::new(Simulated)),
            listen: WORKER_LISTENS.parse()?,
            advertise: Some(host.to_string().parse()?),
            join_timeout: Duration::from_secs(60),
            orphan_timeout: Duration::from_secs(60),
            device: "none".into(),
            threads: 1,
            engine: Arc::new(Quadratic {
                host: host.to_string(),
                history: history.clone(),
            }),
        };
        let ended = session::run(config, stop.clone()).await;
        let is_done = ended.is_ok() || stop.is_cancelled();
        let how = match ended {
            Ok(Part::Run(ending)) => ending.outcome.to_string(),
            Ok(Part::Drained) => "drained".to_owned(),
            Err(error) => format!("failed: {error}"),
        };
        history.note(&host.to_string(), Fact::Ended { how });
        // Nobody starts a worker again for a run that is over.
        if is_done || over.get() {
            return Ok(());
        }
        tokio::time::sleep(RESTART).await;
    }
}

const COORDINATOR: &str = "coordinator:50051";
const COORDINATOR_LISTENS: &str = "0.0.0.0:50051";
/// A fixed port, as in a container that is started again.
const WORKER_LISTENS: &str = "0.0.0.0:50061";

/// The clock's grain; a message takes some of them.
const TICK: Duration = Duration::from_millis(2);

/// Segments under way on a connection.
const TCP_CAPACITY: usize = 1024;

/// Latency of a slow link, and of a usual one after it was slow.
const SLOW: Duration = Duration::from_millis(300);
const USUAL: Duration = Duration::from_millis(4);

/// An orchestrator's pause before it starts a process again.
const RESTART: Duration = Duration::from_secs(1);

/// Workers that have missed the end of the run notice it by their own patience.
const AFTERWARDS: Duration = Duration::from_secs(150);

/// After the last fault the run must come to its end within this time: every deadline that may have to pass, several times
/// over, and the steps that are left.
const RECOVERY_MAX: Duration = Duration::from_secs(300);
