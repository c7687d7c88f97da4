//! `ringmaster bench step`: how many images a second a training step takes, without loading any.
//!
//! Each rank runs the training loop itself: forward, loss, backward, sum over the ring, update, moving average. Only its
//! pictures are made up, once, and stay in memory. The loop is [bare], or [guarded] by a coordinator as in training.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use data::Plan;
use model::device::{open_device, share_out};
use model::kind::ModelKind;
use proto::{OptimizerKind, Recipe, SumKind, WireKind};
use serde::{Deserialize, Serialize};
use worker::prepare::plan_config;
use worker::training::learner::Learner;
use worker::training::schedule::Schedule;
use worker::training::state::State;
use worker::yolo::YoloLearner;

use super::made_up::CLASSES;
use super::ranks::Ranks;
use super::{bare, guarded};

/// Arguments of `bench step`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) ranks: Ranks,
    /// As in training: with a coordinator, heartbeats, and digests of the state, over Unix sockets
    #[arg(long, conflicts_with = "tcp")]
    pub(super) guarded: bool,
    /// Steps between two checkpoints of a guarded run; 0 for none
    #[arg(long, value_name = "STEPS", default_value_t = 0, requires = "guarded")]
    checkpoint_every: u32,
    /// The coordinator of a guarded rank: only used by the benchmark itself
    #[arg(long, hide = true)]
    pub(super) coordinator: Option<String>,
    /// Model
    #[arg(long, value_name = "MODEL", default_value = "yolov8n")]
    model: String,
    /// Image size in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 320, value_parser = clap::value_parser!(u32).range(32..=4096))]
    imgsz: u32,
    /// Images of a step, over all workers
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Images of a slot; by default a worker has a slot for each thread
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    micro_batch: Option<u32>,
    /// Device, as `train` takes it
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
    /// Threads each worker computes with
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    pub(super) threads: NonZeroUsize,
    /// How gradients are added up: exact (as integers) or f32
    #[arg(long, value_name = "KIND", default_value = "exact")]
    sum: SumKind,
    /// How f32 sums travel: f32 or bf16
    #[arg(long, value_name = "KIND", default_value = "f32")]
    wire: WireKind,
    /// Steps that are timed, after a quarter as many that are not
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(super) steps: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a rank measured.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    workers: u64,
    guarded: bool,
    model: String,
    imgsz: u32,
    batch: u32,
    micro_batch: u32,
    threads: usize,
    sum: String,
    wire: String,
    steps: u64,
    /// Of all workers together, at the median step.
    images_per_second: f64,
    milliseconds_median: f64,
    milliseconds_mean: f64,
    /// Most memory that a rank's process had, in megabytes; absent where the system does not tell.
    peak_megabytes: Option<f64>,
}

pub(super) fn main(args: &Args) -> anyhow::Result<()> {
    let reports = match args.guarded {
        true => guarded::conduct(args)?,
        false => args.ranks.conduct(async |ring| bare::train(args, ring).await)?,
    };
    let Some(mut reports) = reports else {
        return Ok(());
    };
    // Rank 0's times, for all ranks end a step together, and the largest process.
    let peak = |report: &Report| report.peak_megabytes.unwrap_or_default();
    reports[0].peak_megabytes = reports
        .iter()
        .map(peak)
        .reduce(f64::max)
        .filter(|&peak| peak > 0.0);
    let report = &reports[0];
    let sentence = format!(
        "{:.2} images/s, {:.1} ms a step at the median of {}: {} images of {} pixels over {} workers, at most {:.0} MB each",
        report.images_per_second,
        report.milliseconds_median,
        report.steps,
        report.batch,
        report.imgsz,
        report.workers,
        report.peak_megabytes.unwrap_or(f64::NAN),
    );
    super::print(report, sentence, args.json)
}

/// What the loop runs with.
pub(super) struct Equipment {
    pub(super) recipe: Recipe,
    pub(super) learner: YoloLearner,
    pub(super) plan: Plan,
    pub(super) schedule: Schedule,
    pub(super) state: State,
}

impl Equipment {
    pub(super) fn open(args: &Args) -> anyhow::Result<Self> {
        let recipe = recipe(args);
        recipe.validate()?;
        let device = open_device(&args.device, Some(args.threads))?;
        let at_once = share_out(&device, args.threads, recipe.slots() as usize);
        let names = (0..CLASSES).map(|class| class.to_string()).collect();
        let architecture = recipe.model.parse::<ModelKind>()?.with_classes(CLASSES);
        let learner =
            YoloLearner::new(architecture, names, recipe.imgsz, &device).with_slots_at_once(at_once);
        let images = images(args);
        let plan = Plan::new(plan_config(&recipe, images))?;
        let schedule = Schedule::new(&recipe, &plan, images, CLASSES);
        let layout = learner.layout();
        let tensors = layout.parameters.len() + layout.buffers.len();
        let flat = learner.yolo().initial_state(recipe.seed);
        let state = State::new(flat, schedule.optimizer.moments(), tensors);
        Ok(Self {
            recipe,
            learner,
            plan,
            schedule,
            state,
        })
    }
}

/// Returns how many steps come before those that are timed.
pub(super) fn warm_up(args: &Args) -> u64 {
    args.steps.div_ceil(4)
}

/// Returns the images of the epoch: of all steps until the last timed one, of one more, in which a bare run's stop takes effect,
/// and of one that it never reaches, so that it ends no epoch.
pub(super) fn images(args: &Args) -> usize {
    (warm_up(args) + args.steps + 2) as usize * args.batch as usize
}

/// Returns what a rank tells of the moments at which the timed steps began, and the last ended.
pub(super) fn report(args: &Args, moments: &[Instant]) -> anyhow::Result<Report> {
    let mut times: Vec<_> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
    times.sort();
    ensure!(!times.is_empty(), "no step was timed");
    let median = times[times.len() / 2].as_secs_f64();
    Ok(Report {
        workers: args.ranks.workers,
        guarded: args.guarded,
        micro_batch: recipe(args).micro_batch(),
        model: args.model.clone(),
        imgsz: args.imgsz,
        batch: args.batch,
        threads: args.threads.get(),
        sum: args.sum.to_string(),
        wire: args.wire.to_string(),
        steps: args.steps,
        images_per_second: f64::from(args.batch) / median,
        milliseconds_median: median * 1e3,
        milliseconds_mean: times.iter().sum::<Duration>().as_secs_f64() / times.len() as f64 * 1e3,
        peak_megabytes: peak_bytes().ok().map(|bytes| bytes as f64 / 1e6),
    })
}

/// One epoch of full batches, an update each.
pub(super) fn recipe(args: &Args) -> Recipe {
    Recipe {
        model: args.model.clone(),
        imgsz: args.imgsz,
        batch: args.batch,
        micro_batch: Some(args.micro_batch.unwrap_or_else(|| share_of_a_thread(args))),
        nbs: args.batch,
        epochs: 1,
        warmup_epochs: 0.0,
        optimizer: OptimizerKind::Sgd,
        // Little is learnt, so that a step costs at the end what it did at the beginning.
        lr0: 1e-4,
        sum: args.sum,
        wire: args.wire,
        digest_every: if args.guarded {
            Recipe::default().digest_every
        } else {
            0
        },
        checkpoint_every: args.checkpoint_every,
        save_period: 0,
        ..args.ranks.recipe()
    }
}

fn share_of_a_thread(args: &Args) -> u32 {
    let threads = args.ranks.workers.saturating_mul(args.threads.get() as u64);
    args.batch
        .div_ceil(u32::try_from(threads).unwrap_or(u32::MAX))
        .max(1)
}

/// Most memory that this process had, as Linux counts it.
fn peak_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no VmHWM")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}
