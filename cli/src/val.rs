//! `ringmaster val`: metrics of a weights file on a data set.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use data::{Dataset, Limits, PictureCache, Split, ValLoader, val_batches};
use model::device::open_device;
use model::metric::{ClassMetrics, Metrics, summarise};
use model::nms::NmsConfig;
use serde::Serialize;
use worker::compute::loader_config;
use worker::training::learner::Learner;
use worker::yolo::YoloLearner;

use crate::{image_size, load_weights};

/// Arguments of `val`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Weights file (.safetensors or .pt)
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Data set: data.yaml, a folder in COCO's layout, or `shapes`
    #[arg(long, value_name = "PATH", default_value = data::SHAPES)]
    data: PathBuf,
    /// Split to measure on
    #[arg(long, value_enum, default_value_t)]
    split: SplitName,
    /// Image size in pixels, a multiple of 32 [default: that of the training]
    #[arg(long, value_name = "PIXELS")]
    imgsz: Option<u32>,
    /// Images per batch
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(15))]
    batch: NonZeroUsize,
    /// Overlap above which of two boxes of a class the weaker one is dropped
    #[arg(long, default_value_t = 0.7)]
    iou: f32,
    /// Most detections per image
    #[arg(long, default_value_t = 300)]
    max_det: usize,
    /// Device to compute on, as for `worker`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum SplitName {
    #[default]
    Val,
    Test,
    Train,
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Val => Self::Val,
            SplitName::Test => Self::Test,
            SplitName::Train => Self::Train,
        }
    }
}

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    precision: f64,
    recall: f64,
    map50: f64,
    map50_95: f64,
    images: usize,
    instances: usize,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let weights = load_weights(&args.weights)?;
    let names = weights.metadata.names.clone();
    let image_size = image_size(args.imgsz, &weights)?;
    let dataset = Arc::new(Dataset::open(&args.data, args.split.into(), &Limits::default())?);
    ensure!(
        dataset.names == names,
        "{} has the classes {}, the weights were trained on {}",
        args.data.display(),
        dataset.names.join(", "),
        names.join(", ")
    );
    let device = open_device(&args.device, args.threads)?;
    let nms = NmsConfig {
        iou: args.iou,
        max_detections: args.max_det,
        ..NmsConfig::validation()
    };
    let mut learner =
        YoloLearner::new(weights.metadata.kind, names.clone(), image_size, &device).with_nms(nms);
    learner.load(&weights.state.parameters, &weights.state.buffers);

    let jobs = val_batches(&dataset, image_size, args.batch.get());
    let cache = Arc::new(PictureCache::new(Arc::clone(&dataset), image_size, 0));
    let mut images = Vec::with_capacity(dataset.len());
    for batch in ValLoader::start(cache, jobs.into_iter(), loader_config()) {
        images.extend(learner.evaluate(&batch?).images);
    }
    let metrics = summarise(&images, names.len());
    let instances = images.iter().map(|image| image.truth_classes.len()).sum();
    if args.json {
        let report = Report {
            precision: metrics.precision,
            recall: metrics.recall,
            map50: metrics.map50,
            map50_95: metrics.map50_95,
            images: images.len(),
            instances,
        };
        println!("{}", serde_json::to_string(&report).context("cannot write JSON")?);
    } else {
        print_table(&metrics, &names, images.len(), instances);
    }
    Ok(())
}

fn print_table(metrics: &Metrics, names: &[String], images: usize, instances: usize) {
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .max("all".len());
    println!(
        "{:>width$} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "class", "images", "instances", "precision", "recall", "mAP50", "mAP50-95"
    );
    let row = |name: &str, instances: u64, [precision, recall, map50, map50_95]: [f64; 4]| {
        println!(
            "{name:>width$} {images:>8} {instances:>10} {precision:>10.4} {recall:>10.4} {map50:>10.4} {map50_95:>10.4}"
        );
    };
    row(
        "all",
        instances as u64,
        [metrics.precision, metrics.recall, metrics.map50, metrics.map50_95],
    );
    for ClassMetrics {
        class,
        truths,
        precision,
        recall,
        ap50,
        ap50_95,
    } in &metrics.per_class
    {
        row(
            &names[*class as usize],
            *truths,
            [*precision, *recall, *ap50, *ap50_95],
        );
    }
}
