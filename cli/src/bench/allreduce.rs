//! `ringmaster bench allreduce`: how long a sum over worker processes takes.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use collective::{Bf16Sum, F32Sum, I32Sum, Reduction};
use proto::{SumKind, WireKind};
use serde::{Deserialize, Serialize};
use tokio::spawn;
use worker::ring::Ring;

use super::ranks::Ranks;

/// Arguments of `bench allreduce`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ranks: Ranks,
    /// Bytes of the vector, four for each value; the default is the gradient of yolov8n
    #[arg(long, value_name = "B", default_value_t = 12_628_736, value_parser = clap::value_parser!(u64).range(4..=1 << 32))]
    bytes: u64,
    /// How values are added up: exact (as integers) or f32
    #[arg(long, value_name = "KIND", default_value = "exact")]
    sum: SumKind,
    /// How f32 sums travel: f32 or bf16
    #[arg(long, value_name = "KIND", default_value = "f32")]
    wire: WireKind,
    /// Sums that are timed, after a quarter as many that are not
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    iterations: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a rank measured.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    workers: u64,
    bytes: u64,
    sum: String,
    wire: String,
    iterations: u64,
    /// Of one sum.
    milliseconds_median: f64,
    milliseconds_min: f64,
    /// Bytes of the vector a second at the median.
    megabytes_per_second: f64,
}

pub(super) fn main(args: &Args) -> anyhow::Result<()> {
    ensure!(
        args.bytes.is_multiple_of(4),
        "--bytes {} is not a multiple of 4",
        args.bytes
    );
    ensure!(
        args.sum == SumKind::F32 || args.wire == WireKind::F32,
        "--wire bf16 needs --sum f32: exact sums travel as the integers that they are"
    );
    let workers = args.ranks.workers;
    let reports = args.ranks.conduct(async |ring| {
        let (ints, floats) = ((1, workers as i32), (1.0, workers as f32));
        // A task, as in training.
        let measuring = match (args.sum, args.wire) {
            (SumKind::Exact, _) => spawn(measure::<I32Sum>(ring, args.clone(), ints)),
            (SumKind::F32, WireKind::F32) => spawn(measure::<F32Sum>(ring, args.clone(), floats)),
            (SumKind::F32, WireKind::Bf16) => spawn(measure::<Bf16Sum>(ring, args.clone(), floats)),
        };
        Ok(report(args, measuring.await.context("a rank has panicked")??))
    })?;
    let Some([report, ..]) = reports.as_deref() else {
        return Ok(());
    };
    let sentence = format!(
        "{:.2} ms a sum at the median of {}, {:.2} ms at best: {} bytes over {} workers, {:.0} MB/s",
        report.milliseconds_median,
        report.iterations,
        report.milliseconds_min,
        report.bytes,
        report.workers,
        report.megabytes_per_second
    );
    super::print(report, sentence, args.json)
}

/// Sums a vector of `one`s to `all` again and again, and returns the times of those sums that count.
async fn measure<R: Reduction>(
    ring: Ring,
    args: Args,
    (one, all): (R::Element, R::Element),
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
        workers: args.ranks.workers,
        bytes: args.bytes,
        sum: args.sum.to_string(),
        wire: args.wire.to_string(),
        iterations: args.iterations,
        milliseconds_median: median * 1e3,
        milliseconds_min: times[0].as_secs_f64() * 1e3,
        megabytes_per_second: args.bytes as f64 / median / 1e6,
    }
}
