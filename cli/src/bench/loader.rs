//! `ringmaster bench loader`: how many training pictures a second the loader makes.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use data::{
    AugmentConfig, Dataset, Limits, LoaderConfig, PictureCache, SampleId, SlotJob, Split, TrainLoader,
};
use serde::Serialize;
use worker::prepare::{CACHE_BYTES, shared_in};

/// Arguments of `bench loader`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data set: data.yaml, a folder in COCO's layout, or `shapes`
    #[arg(long, value_name = "PATH", default_value = data::SHAPES)]
    data: PathBuf,
    /// Image size in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 640)]
    imgsz: u32,
    /// Images per batch
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(15))]
    batch: NonZeroUsize,
    /// Threads of the loader
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    threads: NonZeroUsize,
    /// Passes over the training set
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    epochs: NonZeroUsize,
    /// Megabytes of decoded pictures that are kept; the default is what a worker keeps
    #[arg(long, value_name = "MB", default_value_t = CACHE_BYTES >> 20)]
    cache_mb: u64,
    /// Folder in which decoded pictures are shared with other processes, instead
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    images: usize,
    imgsz: u32,
    batch: usize,
    threads: usize,
    seconds: f64,
    images_per_second: f64,
    /// Of each thread.
    images_per_second_per_core: f64,
}

pub(super) fn main(args: &Args) -> anyhow::Result<()> {
    let dataset = Arc::new(Dataset::open(&args.data, Split::Train, &Limits::default())?);
    let report = measure(args, &dataset)?;
    let sentence = format!(
        "{:.1} images/s a core, {:.1} images/s with {} threads: {} images of {} pixels in {:.2} s",
        report.images_per_second_per_core,
        report.images_per_second,
        report.threads,
        report.images,
        report.imgsz,
        report.seconds
    );
    super::print(&report, sentence, args.json)
}

fn measure(args: &Args, dataset: &Arc<Dataset>) -> anyhow::Result<Report> {
    let cache = PictureCache::new(Arc::clone(dataset), args.imgsz, args.cache_mb << 20);
    let cache = match &args.cache {
        Some(folder) => shared_in(cache, folder)?,
        None => cache,
    };
    let samples: Vec<SampleId> = (0..dataset.len() as u32).map(SampleId).collect();
    let (batch, image_size) = (args.batch.get(), args.imgsz);
    let jobs = (0..args.epochs.get() as u32).flat_map(move |epoch| {
        let batches: Vec<Vec<SampleId>> = samples.chunks(batch).map(<[SampleId]>::to_vec).collect();
        batches.into_iter().map(move |samples| SlotJob {
            step: 0,
            epoch,
            slot: 0,
            samples,
            mosaic: true,
            image_size,
        })
    });
    let config = LoaderConfig {
        threads: args.threads,
        queue: args.threads.saturating_add(1),
    };
    let started = Instant::now();
    let loader = TrainLoader::start(Arc::new(cache), AugmentConfig::default(), 0, jobs, config);
    let mut images = 0;
    for batch in loader {
        images += batch?.samples.len();
    }
    let seconds = started.elapsed().as_secs_f64();
    let threads = args.threads.get();
    let images_per_second = images as f64 / seconds;
    Ok(Report {
        images,
        imgsz: args.imgsz,
        batch,
        threads,
        seconds,
        images_per_second,
        images_per_second_per_core: images_per_second / threads as f64,
    })
}
