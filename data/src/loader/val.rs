//! Loading for validation: a fixed list of batches, each with its own rectangle.
//!
//! Samples are sorted by aspect ratio and cut into batches once; the batches are dealt to ranks as they are. So what the
//! network sees, and with it every metric, does not depend on the world size.
//!
//! # Source
//! Same rectangles as Ultralytics' rectangular validation: sides are multiples of the stride of 32, half a stride is
//! added to each before rounding up.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    LoaderConfig, LoaderError, PictureCache, check_samples,
    ordered::{OrderedPool, Outcome},
};
use crate::{
    augment::TargetBox,
    dataset::{Dataset, SampleId},
    letterbox::{Letterbox, place},
    picture::write_planes,
};

/// Makes validation batches, ahead of the consumer and in the order of the jobs.
pub struct ValLoader {
    pool: OrderedPool<ValJob, ValBatch>,
}

/// A validation batch to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValJob {
    /// Number of the batch in the whole list.
    pub index: u32,
    /// Samples of the batch.
    pub samples: Vec<SampleId>,
    /// Width of the network input in pixels.
    pub width: u32,
    /// Height of the network input in pixels.
    pub height: u32,
    /// Long side to which pictures are resized, in pixels.
    pub image_size: u32,
}

/// A validation batch, loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct ValBatch {
    /// Number of the batch in the whole list.
    pub index: u32,
    /// Width of the network input in pixels.
    pub width: u32,
    /// Height of the network input in pixels.
    pub height: u32,
    /// `[B, 3, height, width]`, RGB.
    pub images: Vec<u8>,
    /// Samples of the batch, one per image.
    pub samples: Vec<SampleId>,
    /// How each picture lies in the network input.
    pub letterboxes: Vec<Letterbox>,
    /// What is in each picture.
    pub truth: Vec<Vec<TruthBox>>,
    /// Number of files that could not be decoded and were replaced by an empty background. Their truth is kept: what
    /// was not seen was not found.
    pub unreadable: u32,
}

/// An object of the dataset.
///
/// # Shapes
/// `xyxy`, pixels of the original picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruthBox {
    /// Class, an index into the dataset's names.
    pub class: u32,
    /// Left, top, right, bottom.
    pub xyxy: [f32; 4],
    /// Whether it stands for a crowd; see [`Label::crowd`](crate::Label::crowd).
    pub crowd: bool,
}

/// The validation batches of a dataset; a pure function of the arguments.
///
/// # Panics
/// When `image_size` or `batch` is zero.
pub fn val_batches(dataset: &Dataset, image_size: u32, batch: usize) -> Vec<ValJob> {
    assert!(
        image_size > 0 && batch > 0,
        "an image size and a batch of at least 1"
    );
    let aspect = |id: &SampleId| {
        let sample = dataset.sample(*id);
        f64::from(sample.height) / f64::from(sample.width)
    };
    let mut samples: Vec<SampleId> = (0..dataset.len() as u32).map(SampleId).collect();
    // Stable: equal aspects stay in the order of the dataset.
    samples.sort_by(|a, b| aspect(a).total_cmp(&aspect(b)));
    let job = |(index, samples): (u32, &[SampleId])| {
        let lowest = samples.iter().map(aspect).fold(f64::INFINITY, f64::min);
        let highest = samples.iter().map(aspect).fold(0.0, f64::max);
        let (height, width) = if highest < 1.0 {
            (highest, 1.0)
        } else if lowest > 1.0 {
            (1.0, 1.0 / lowest)
        } else {
            (1.0, 1.0)
        };
        let padded = |side: f64| {
            (side * f64::from(image_size) / f64::from(STRIDE) + PAD_STRIDES).ceil() as u32 * STRIDE
        };
        ValJob {
            index,
            samples: samples.to_vec(),
            width: padded(width),
            height: padded(height),
            image_size,
        }
    };
    (0..).zip(samples.chunks(batch)).map(job).collect()
}

impl ValLoader {
    /// Starts the threads.
    pub fn start(
        cache: Arc<PictureCache>,
        jobs: impl Iterator<Item = ValJob> + Send + 'static,
        config: LoaderConfig,
    ) -> Self {
        let worker = || {
            let cache = Arc::clone(&cache);
            move |job: ValJob, stop: &AtomicBool| load(&cache, job, stop)
        };
        Self {
            pool: OrderedPool::start(jobs, config, worker),
        }
    }
}

impl Iterator for ValLoader {
    type Item = Result<ValBatch, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pool.next()
    }
}

impl ValBatch {
    /// The truth without crowds, in pixels of the network input: what a loss takes.
    pub fn targets(&self) -> Vec<Vec<TargetBox>> {
        let target = |letterbox: &Letterbox, truth: &TruthBox| TargetBox {
            class: truth.class,
            xyxy: letterbox.to_input(truth.xyxy),
        };
        let per_image = self.letterboxes.iter().zip(&self.truth);
        per_image
            .map(|(letterbox, truth)| {
                truth
                    .iter()
                    .filter(|truth| !truth.crowd)
                    .map(|truth| target(letterbox, truth))
                    .collect()
            })
            .collect()
    }
}

fn load(cache: &PictureCache, job: ValJob, stop: &AtomicBool) -> Outcome<ValBatch> {
    if let Err(error) = check_samples(cache, &job.samples) {
        return Some(Err(error));
    }
    let ValJob {
        index,
        samples,
        width,
        height,
        image_size,
    } = job;
    let image_len = 3 * width as usize * height as usize;
    let mut images = vec![0; samples.len() * image_len];
    let mut letterboxes = Vec::with_capacity(samples.len());
    let mut truth = Vec::with_capacity(samples.len());
    let mut unreadable = 0;
    for (&id, planes) in samples.iter().zip(images.chunks_exact_mut(image_len)) {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let sample = cache.dataset().sample(id);
        let loaded = cache.get(id, image_size);
        let (canvas, letterbox) = place(&loaded.picture, (sample.width, sample.height), width, height);
        write_planes(&canvas.rgb, planes);
        letterboxes.push(letterbox);
        let size = (sample.width as f32, sample.height as f32);
        let labels = sample.labels.iter();
        truth.push(
            labels
                .map(|label| TruthBox {
                    class: label.class,
                    xyxy: label.xyxy(size.0, size.1),
                    crowd: label.crowd,
                })
                .collect(),
        );
        unreadable += u32::from(loaded.is_unreadable);
    }
    Some(Ok(ValBatch {
        index,
        width,
        height,
        images,
        samples,
        letterboxes,
        truth,
        unreadable,
    }))
}

/// The network's coarsest cell in pixels.
const STRIDE: u32 = 32;
/// Added to each side, in strides: a margin around every picture.
const PAD_STRIDES: f64 = 0.5;

#[cfg(test)]
#[path = "val_tests.rs"]
mod tests;
