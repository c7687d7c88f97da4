//! `ringmaster bench allreduce`: how long a sum over worker processes takes.
//!
//! This process starts one process a rank, gives them each other's addresses, and reads what each measured; rank 0's figures
//! count. The ring, its streams and its server are those of training.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use collective::{F32Sum, Generation, Group, I32Sum, PieceSizes, Reduction};
use proto::{Address, Member, Recipe, RunId, Sender, SumKind, WorkerId};
use security::{ConnectionLimits, Security};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use worker::ring::Ring;
use worker::ring::links::{Broken, RingLinks};
use worker::ring::service::Exchange;

/// Arguments of `bench allreduce`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    workers: u64,
    /// Bytes of the vector, four for each value; the default is the gradient of yolov8n
    #[arg(long, value_name = "B", default_value_t = 12_628_736, value_parser = clap::value_parser!(u64).range(4..=1 << 32))]
    bytes: u64,
    /// How values are added up: exact (as integers) or f32
    #[arg(long, value_name = "KIND", default_value = "exact")]
    sum: SumKind,
    /// Sums that are timed, after a quarter as many that are not
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    iterations: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Be this rank of a benchmark: only used by the benchmark itself
    #[arg(long, hide = true)]
    rank: Option<usize>,
}

/// What a rank measured.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    workers: u64,
    bytes: u64,
    sum: String,
    iterations: u64,
    /// Of one sum.
    milliseconds_median: f64,
    milliseconds_min: f64,
    /// Bytes of the vector a second at the median.
    megabytes_per_second: f64,
}

/// Where a rank is reached.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    worker: u128,
    address: String,
}

pub(super) fn main(args: &Args) -> anyhow::Result<()> {
    if let Some(rank) = args.rank {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let measured = runtime.block_on(take_part(args, rank));
        runtime.shutdown_background();
        return measured;
    }
    ensure!(
        args.bytes.is_multiple_of(4),
        "--bytes {} is not a multiple of 4",
        args.bytes
    );
    let report = conduct(args)?;
    let sentence = format!(
        "{:.2} ms a sum at the median of {}, {:.2} ms at best: {} bytes over {} workers, {:.0} MB/s",
        report.milliseconds_median,
        report.iterations,
        report.milliseconds_min,
        report.bytes,
        report.workers,
        report.megabytes_per_second
    );
    super::print(&report, sentence, args.json)
}

/// Starts the ranks, introduces them to each other, and returns what rank 0 measured.
fn conduct(args: &Args) -> anyhow::Result<Report> {
    let mut ranks = Ranks::start(args)?;
    let places = (ranks.0.iter_mut())
        .map(|rank| rank.read::<Place>())
        .collect::<Result<Vec<_>, _>>()?;
    for rank in &mut ranks.0 {
        rank.write(&places)?;
    }
    let mut reports = (ranks.0.iter_mut())
        .map(|rank| rank.read::<Report>())
        .collect::<Result<Vec<_>, _>>()?;
    for rank in &mut ranks.0 {
        // Now that all are done, and nobody's neighbour is missed.
        drop(rank.child.stdin.take());
        let ended = rank.child.wait().context("cannot wait for a rank")?;
        ensure!(ended.success(), "a rank ended with {ended}");
    }
    Ok(reports.swap_remove(0))
}

/// The processes of the ranks; dropped, they end.
struct Ranks(Vec<Rank>);

struct Rank {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Ranks {
    fn start(args: &Args) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut ranks = Self(Vec::new());
        for rank in 0..args.workers {
            let mut command = Command::new(&program);
            command.args(["bench", "allreduce"]);
            for (option, value) in [
                ("--workers", args.workers),
                ("--bytes", args.bytes),
                ("--iterations", args.iterations),
                ("--rank", rank),
            ] {
                command.args([option, &value.to_string()]);
            }
            command.args(["--sum", &args.sum.to_string()]);
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start a rank")?;
            // Invariant: the output was made a pipe above.
            let output = BufReader::new(child.stdout.take().expect("a pipe"));
            ranks.0.push(Rank { child, output });
        }
        Ok(ranks)
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for Rank { child, .. } in &mut self.0 {
            // One that has ended cannot be killed, and that is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Rank {
    fn read<T: for<'a> Deserialize<'a>>(&mut self) -> anyhow::Result<T> {
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

/// The part of a rank.
async fn take_part(args: &Args, rank: usize) -> anyhow::Result<()> {
    let security = Security::loopback();
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
    let own = Place {
        worker: security.new_worker().as_u128(),
        address: listener.local_addr().context("cannot listen")?.to_string(),
    };
    let exchange = Exchange::default();
    let incoming = security.incoming(listener, ConnectionLimits::WORKER);
    let server = security.server().add_service(exchange.clone().into_service());
    tokio::spawn(server.serve_with_incoming(incoming));
    println!("{}", serde_json::to_string(&own)?);

    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .context("cannot read from the benchmark")?;
    let places: Vec<Place> = serde_json::from_str(&line).context("the benchmark has failed")?;
    let ring = ring(&security, &exchange, &places, rank)?;
    let times = match args.sum {
        SumKind::Exact => measure::<I32Sum>(ring, args, 1, args.workers as i32).await?,
        SumKind::F32 => measure::<F32Sum>(ring, args, 1.0, args.workers as f32).await?,
    };
    println!("{}", serde_json::to_string(&report(args, times))?);
    // Neighbours may still take what this rank has sent.
    line.clear();
    std::io::stdin()
        .read_line(&mut line)
        .context("cannot read from the benchmark")?;
    Ok(())
}

fn ring(security: &Security, exchange: &Exchange, places: &[Place], rank: usize) -> anyhow::Result<Ring> {
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
    let sizes = PieceSizes::new(
        Recipe::default().bucket_bytes(),
        PieceSizes::default().segment_bytes(),
    )?;
    Ok(Ring::new(group, links, sizes, Arc::default()))
}

/// Sums a vector of `one`s to `all` again and again, and returns the times of those sums that count.
async fn measure<R: Reduction>(
    mut ring: Ring,
    args: &Args,
    one: R::Element,
    all: R::Element,
) -> anyhow::Result<Vec<Duration>> {
    let warm_up = args.iterations.div_ceil(4);
    let mut times = Vec::new();
    let mut values = vec![one; (args.bytes / 4) as usize];
    for step in 0..warm_up + args.iterations {
        // Sums of sums soon have no room left.
        values.fill(one);
        let start = Instant::now();
        ring.sum::<R>(step, &mut values).await?;
        times.push(start.elapsed());
    }
    ensure!(
        values.iter().all(|value| *value == all),
        "the sum is wrong: it begins with {:?} instead of {all:?}",
        values[0]
    );
    Ok(times.split_off(warm_up as usize))
}

fn report(args: &Args, mut times: Vec<Duration>) -> Report {
    times.sort();
    let median = times[times.len() / 2].as_secs_f64();
    Report {
        workers: args.workers,
        bytes: args.bytes,
        sum: args.sum.to_string(),
        iterations: args.iterations,
        milliseconds_median: median * 1e3,
        milliseconds_min: times[0].as_secs_f64() * 1e3,
        megabytes_per_second: args.bytes as f64 / median / 1e6,
    }
}

const RUN: RunId = RunId::from_u128(1);
const GENERATION: Generation = Generation(1);
