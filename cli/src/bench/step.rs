//! `ringmaster bench step`: how many images a second a training step takes, without loading any.
//!
//! Each rank runs the training loop itself: forward, loss, backward, sum over the ring, update, moving average. Only its
//! pictures are made up, once, and stay in memory.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use data::{Plan, SlotBatch, SlotJob, TargetBox, ValJob};
use model::device::open_device;
use proto::{Activity, OptimizerKind, Recipe, StateDigest, SumKind, WireKind};
use serde::{Deserialize, Serialize};
use worker::prepare::plan_config;
use worker::replica::{Fetch, Offers, Peers, Replica};
use worker::report::{EpochRecord, Reporter, ShardRecord, StepRecord};
use worker::ring::Ring;
use worker::signals::Signals;
use worker::training::learner::Learner;
use worker::training::schedule::Schedule;
use worker::training::source::{SlotBatches, SlotJobs, Source, ValBatches};
use worker::training::state::State;
use worker::training::{Parts, Training};
use worker::yolo::YoloLearner;

use super::ranks::Ranks;

/// Arguments of `bench step`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ranks: Ranks,
    /// Model
    #[arg(long, value_name = "MODEL", default_value = "yolov8n")]
    model: String,
    /// Image size in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 320, value_parser = clap::value_parser!(u32).range(32..=4096))]
    imgsz: u32,
    /// Images of a step, over all workers
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Images of a slot; the default is that of training
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    micro_batch: Option<u32>,
    /// Device, as `train` takes it
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads each worker computes with
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    threads: NonZeroUsize,
    /// How gradients are added up: exact (as integers) or f32
    #[arg(long, value_name = "KIND", default_value = "exact")]
    sum: SumKind,
    /// How f32 sums travel: f32 or bf16
    #[arg(long, value_name = "KIND", default_value = "f32")]
    wire: WireKind,
    /// Steps that are timed, after a quarter as many that are not
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    steps: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a rank measured.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    workers: u64,
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
    /// Most memory that a rank's process had, in megabytes; absent where the system does not tell.
    peak_megabytes: Option<f64>,
}

pub(super) fn main(args: &Args) -> anyhow::Result<()> {
    let reports = args.ranks.conduct(async |ring| train(args, ring).await)?;
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

async fn train(args: &Args, ring: Ring) -> anyhow::Result<Report> {
    let warm_up = args.steps.div_ceil(4);
    let recipe = recipe(args);
    recipe.validate()?;
    let device = open_device(&args.device, Some(args.threads))?;
    let names = (0..CLASSES).map(|class| class.to_string()).collect();
    let mut learner = YoloLearner::new(recipe.model.parse()?, names, recipe.imgsz, &device);
    // One step more, for the stop that ends them takes effect in the next, and one that never ends the epoch.
    let images = (warm_up + args.steps + 2) as usize * recipe.batch as usize;
    let plan = Plan::new(plan_config(&recipe, images))?;
    let schedule = Schedule::new(&recipe, &plan, images, CLASSES);
    let layout = learner.layout();
    let tensors = layout.parameters.len() + layout.buffers.len();
    let flat = learner.yolo().initial_state(recipe.seed);
    let mut state = State::new(flat, schedule.optimizer.moments(), tensors);
    let signals = Signals::default();
    let mut clock = Clock {
        signals: &signals,
        counted: warm_up..=warm_up + args.steps,
        ends: Vec::new(),
    };
    let group = *ring.group();
    let parts = Parts {
        recipe: &recipe,
        plan: &plan,
        schedule: &schedule,
        source: &MadeUp,
        learner: &mut learner,
        ring,
        replica: Replica {
            generation: group.generation(),
            damaged: vec![false; group.world_size()],
            checkpoint_step: None,
            peers: Arc::new(Nobody),
            offers: Offers::default(),
        },
        reporter: &mut clock,
        signals: &signals,
    };
    let mut progressed = 0;
    Training::new(parts, &mut state, &mut progressed).run().await?;
    let mut times: Vec<_> = clock.ends.windows(2).map(|pair| pair[1] - pair[0]).collect();
    times.sort();
    ensure!(!times.is_empty(), "no step was timed");
    let median = times[times.len() / 2].as_secs_f64();
    Ok(Report {
        workers: args.ranks.workers,
        micro_batch: recipe.micro_batch(),
        model: recipe.model,
        imgsz: args.imgsz,
        batch: args.batch,
        threads: args.threads.get(),
        sum: args.sum.to_string(),
        wire: args.wire.to_string(),
        steps: args.steps,
        images_per_second: f64::from(args.batch) / median,
        milliseconds_median: median * 1e3,
        peak_megabytes: peak_bytes().ok().map(|bytes| bytes as f64 / 1e6),
    })
}

/// One epoch of full batches, an update each.
fn recipe(args: &Args) -> Recipe {
    Recipe {
        model: args.model.clone(),
        imgsz: args.imgsz,
        batch: args.batch,
        micro_batch: args.micro_batch,
        nbs: args.batch,
        epochs: 1,
        warmup_epochs: 0.0,
        optimizer: OptimizerKind::Sgd,
        // Little is learnt, so that a step costs at the end what it did at the beginning.
        lr0: 1e-4,
        sum: args.sum,
        wire: args.wire,
        digest_every: 0,
        save_period: 0,
        ..Recipe::default()
    }
}

/// Pictures of noise with some boxes.
struct MadeUp;

impl Source for MadeUp {
    fn slots(&self, jobs: SlotJobs) -> SlotBatches {
        // By their number of images: slots of a run differ in nothing else.
        let mut resident = BTreeMap::new();
        Box::new(jobs.map(move |job| {
            let batch = resident
                .entry(job.samples.len())
                .or_insert_with(|| made_up(&job))
                .clone();
            Ok(SlotBatch {
                step: job.step,
                epoch: job.epoch,
                slot: job.slot,
                samples: job.samples,
                ..batch
            })
        }))
    }

    fn validation(&self) -> Vec<ValJob> {
        Vec::new()
    }

    fn validation_batches(&self, _jobs: Vec<ValJob>) -> ValBatches {
        Box::new(std::iter::empty())
    }
}

fn made_up(job: &SlotJob) -> SlotBatch {
    let side = job.image_size as usize;
    let count = job.samples.len();
    // A linear congruence is noise enough.
    let mut noise = 1_u32;
    let mut next = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    };
    let images = (0..count * 3 * side * side).map(|_| next()).collect();
    let mut place = || f32::from(next()) / 255.0 * 0.7 * side as f32;
    let mut boxes = |_| {
        (0..BOXES)
            .map(|number| {
                let (left, top, size) = (place(), place(), 0.3 * side as f32);
                TargetBox {
                    class: number * 7 % CLASSES as u32,
                    xyxy: [left, top, left + size, top + size],
                }
            })
            .collect()
    };
    SlotBatch {
        step: job.step,
        epoch: job.epoch,
        slot: job.slot,
        size: job.image_size,
        images,
        targets: (0..count).map(&mut boxes).collect(),
        samples: job.samples.clone(),
        unreadable: 0,
    }
}

/// Notes when steps end, and asks to stop after the last that counts.
struct Clock<'a> {
    signals: &'a Signals,
    /// The last step of the warm-up, and those that count.
    counted: RangeInclusive<u64>,
    ends: Vec<Instant>,
}

impl Reporter for Clock<'_> {
    fn activity(&mut self, _activity: Activity) {}

    fn worked(&mut self) {}

    fn advanced(&mut self, step: u64) {
        if self.counted.contains(&step) {
            self.ends.push(Instant::now());
        }
        if step == *self.counted.end() {
            self.signals.stop();
        }
    }

    fn digest(&mut self, _digest: StateDigest) {}

    fn step(&mut self, _record: StepRecord) {}

    fn epoch(&mut self, _record: EpochRecord, _weights: Vec<u8>) {}

    fn last_weights(&mut self, _weights: Vec<u8>) {}

    fn checkpoint(&mut self, _shard: ShardRecord) {}

    fn is_range_under_way(&self) -> bool {
        false
    }
}

/// All ranks begin alike, so nobody copies a state.
struct Nobody;

impl Peers for Nobody {
    fn fetch(&self, _rank: usize, _range: Range<u64>) -> Fetch<'_> {
        Box::pin(async { Err("a benchmark has no states to copy".to_owned()) })
    }

    fn checkpoint(&self, _range: Range<u64>) -> Fetch<'_> {
        Box::pin(async { Err("a benchmark has no checkpoints".to_owned()) })
    }
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

/// As many as COCO has.
const CLASSES: usize = 80;

/// About as many as a picture of COCO has.
const BOXES: u32 = 8;
