//! Benchmarks over worker processes of this machine.
//!
//! The benchmark starts itself once more for each rank, gives the ranks each other's addresses, and reads what each measured.
//! The ring, its streams and its server are those of training.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use collective::{Generation, Group, PieceSizes};
use proto::{Address, Member, ONE_HOST_BUCKET_MIB, Recipe, RunId, Sender, WorkerId};
use security::{ConnectionLimits, Security};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use worker::command::missing_environment;
use worker::ring::Ring;
use worker::ring::links::{Broken, RingLinks};
use worker::ring::service::Exchange;

/// Who takes part in a benchmark.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Ranks {
    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(super) workers: u64,
    /// Connect workers by TCP, as between hosts, instead of Unix sockets
    #[arg(long)]
    tcp: bool,
    /// Size of the largest buckets in MiB [default: that of `train`; by TCP, that of a coordinator]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1024))]
    bucket_mib: Option<u32>,
    /// Be this rank of a benchmark: only used by the benchmark itself
    #[arg(long, hide = true)]
    pub(super) rank: Option<u64>,
}

/// Where a rank is reached.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    worker: u128,
    address: String,
}

impl Ranks {
    /// Returns the defaults of training, but for what was asked for here.
    pub(super) fn recipe(&self) -> Recipe {
        let recipe = Recipe::default();
        let bucket_mib = if self.tcp {
            recipe.bucket_mib
        } else {
            ONE_HOST_BUCKET_MIB
        };
        Recipe {
            bucket_mib: self.bucket_mib.unwrap_or(bucket_mib),
            ..recipe
        }
    }

    /// Has `part` played by each of the processes, and returns what they measured, in rank order; `None` in one of
    /// these processes, which has told it.
    ///
    /// # Errors
    /// When a process fails, the first of them.
    pub(super) fn conduct<R: Serialize + DeserializeOwned>(
        &self,
        part: impl AsyncFnOnce(Ring) -> anyhow::Result<R>,
    ) -> anyhow::Result<Option<Vec<R>>> {
        let Some(rank) = self.rank else {
            return conduct(self.workers).map(Some);
        };
        let runtime = worker::command::runtime().context("cannot start the async runtime")?;
        let security = match self.tcp {
            true => Security::loopback().by_tcp(),
            false => Security::loopback(),
        };
        let sizes = PieceSizes::new(
            self.recipe().bucket_bytes(),
            PieceSizes::default().segment_bytes(),
        )?;
        let played = runtime.block_on(take_part(rank as usize, security, sizes, part));
        runtime.shutdown_background();
        played.map(|()| None)
    }
}

/// Starts the ranks, introduces them to each other, and returns what they measured.
fn conduct<R: DeserializeOwned>(workers: u64) -> anyhow::Result<Vec<R>> {
    let mut ranks = Processes::start(workers, &[])?;
    let places = (ranks.0.iter_mut())
        .map(Process::read::<Place>)
        .collect::<Result<Vec<_>, _>>()?;
    for rank in &mut ranks.0 {
        rank.write(&places)?;
    }
    let reports = ranks.reports()?;
    // Now that all are done, nobody's neighbour is missed.
    ranks.end()?;
    Ok(reports)
}

/// The processes of the ranks; dropped, they end.
pub(super) struct Processes(Vec<Process>);

struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Processes {
    /// Starts one for each rank, with the arguments of this process and some more.
    pub(super) fn start(workers: u64, more: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut ranks = Self(Vec::new());
        for rank in 0..workers {
            let mut child = Command::new(&program)
                .args(std::env::args_os().skip(1))
                .args(["--rank", &rank.to_string()])
                .args(more)
                .envs(missing_environment())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start a rank")?;
            // Invariant: the output was made a pipe above.
            let output = BufReader::new(child.stdout.take().expect("a pipe"));
            ranks.0.push(Process { child, output });
        }
        Ok(ranks)
    }

    /// Returns what each tells next.
    pub(super) fn reports<R: DeserializeOwned>(&mut self) -> anyhow::Result<Vec<R>> {
        self.0.iter_mut().map(Process::read).collect()
    }

    /// Lets the ranks end, which wait for their input to close, and waits until they have.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        for rank in &mut self.0 {
            drop(rank.child.stdin.take());
            let ended = rank.child.wait().context("cannot wait for a rank")?;
            ensure!(ended.success(), "a rank ended with {ended}");
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for Process { child, .. } in &mut self.0 {
            // One that has ended cannot be killed, and that is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Process {
    fn read<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .context("cannot read from a rank")?;
        serde_json::from_str(&line).context("a rank has failed")
    }

    fn write(&mut self, told: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(told).context("cannot write JSON")?;
        // Invariant: the input was made a pipe when the process was started.
        let mut input = self.child.stdin.as_ref().expect("a pipe");
        writeln!(input, "{line}").context("cannot write to a rank")
    }
}

/// The part of a rank: takes its place in the ring, plays, tells what it measured, and waits for the others.
async fn take_part<R: Serialize>(
    rank: usize,
    security: Security,
    sizes: PieceSizes,
    part: impl AsyncFnOnce(Ring) -> anyhow::Result<R>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
    let own = Place {
        worker: security.new_worker().as_u128(),
        address: listener.local_addr().context("cannot listen")?.to_string(),
    };
    let exchange = Exchange::default();
    let incoming = security.incoming(listener, ConnectionLimits::WORKER);
    let server = security.server().add_service(exchange.clone().into_service());
    tokio::spawn(server.serve_with_incoming(incoming));
    tell(&own)?;
    let places: Vec<Place> = serde_json::from_str(&next_line()?).context("the benchmark has failed")?;
    let (group, links) = links(&security, &exchange, &places, rank)?;
    let ring = Ring::new(group, links, sizes, Arc::default());
    tell(&part(ring).await?)?;
    // Neighbours may still take what this rank has sent.
    next_line().map(drop)
}

/// Tells the process that started this one.
pub(super) fn tell(what: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what).context("cannot write JSON")?);
    Ok(())
}

/// Returns the next line from the benchmark, empty when it is through.
fn next_line() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .context("cannot read from the benchmark")?;
    Ok(line)
}

fn links(
    security: &Security,
    exchange: &Exchange,
    places: &[Place],
    rank: usize,
) -> anyhow::Result<(Group, RingLinks)> {
    let member = |rank: usize| -> anyhow::Result<Member> {
        let Place { worker, address } = &places[rank];
        Ok(Member {
            rank,
            worker: WorkerId::from_u128(*worker),
            host: "here".into(),
            address: address.parse::<Address>()?,
        })
    };
    let group = Group::new(GENERATION, rank, places.len())?;
    let links = if places.len() == 1 {
        RingLinks::alone(CancellationToken::new())
    } else {
        let sender = Sender {
            run: RUN,
            worker: member(rank)?.worker,
            generation: GENERATION,
        };
        let from_left = exchange.expect(RUN, GENERATION, member(group.left())?, Broken::default());
        RingLinks::open(
            security.clone(),
            sender,
            member(group.right())?,
            from_left,
            CancellationToken::new(),
            Broken::default(),
        )
    };
    Ok((group, links))
}

const RUN: RunId = RunId::from_u128(1);
const GENERATION: Generation = Generation(1);
