//! Measures how many training pictures per second a loader makes:
//! `cargo run --release -p data --example throughput -- DATA IMAGE_SIZE THREADS`.

use std::{env, error::Error, num::NonZeroUsize, sync::Arc, time::Instant};

use data::{
    AugmentConfig, Dataset, Limits, LoaderConfig, PictureCache, SampleId, SlotJob, Split, TrainLoader,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, image_size, threads] = arguments.as_slice() else {
        return Err("usage: throughput DATA IMAGE_SIZE THREADS".into());
    };
    let image_size: u32 = image_size.parse()?;
    let threads: NonZeroUsize = threads.parse()?;
    let started = Instant::now();
    let dataset = Arc::new(Dataset::open(path, Split::Train, &Limits::default())?);
    println!(
        "open: {:.2} s, {}",
        started.elapsed().as_secs_f64(),
        dataset.description()
    );
    let cache = Arc::new(PictureCache::new(Arc::clone(&dataset), image_size, 4 << 30));
    for (name, mosaic, epochs) in [
        ("cold mosaic", true, 1),
        ("warm mosaic", true, 5),
        ("warm letterbox", false, 5),
    ] {
        let samples: Vec<SampleId> = (0..dataset.len() as u32).map(SampleId).collect();
        let jobs = (0..epochs).flat_map(move |epoch| {
            let slots: Vec<_> = samples.chunks(8).map(<[SampleId]>::to_vec).collect();
            slots.into_iter().map(move |samples| SlotJob {
                step: 0,
                epoch,
                slot: 0,
                samples,
                mosaic,
                image_size,
            })
        });
        let config = LoaderConfig {
            threads,
            queue: threads.saturating_mul(NonZeroUsize::MIN.saturating_add(1)),
        };
        let started = Instant::now();
        let loader = TrainLoader::start(Arc::clone(&cache), AugmentConfig::default(), 0, jobs, config);
        let mut images = 0;
        for batch in loader {
            images += batch?.samples.len();
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{name}: {:.0} images/s with {threads} threads",
            images as f64 / seconds
        );
    }
    Ok(())
}
