//! Loading for training: slots in, augmented batches out.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    LoaderConfig, LoaderError, PictureCache, check_samples,
    ordered::{OrderedPool, Outcome},
};
use crate::{
    augment::{AugmentConfig, Augmenter, SampleRequest, TargetBox},
    dataset::SampleId,
    plan::StepPlan,
};

/// Makes the batches of slots, ahead of the consumer and in the order of the jobs.
///
/// A batch depends on its job, the dataset, the augmentation and the seed, and on nothing else. Dropping the loader stops
/// its threads.
pub struct TrainLoader {
    pool: OrderedPool<SlotJob, SlotBatch>,
}

/// A slot to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotJob {
    /// Step of the slot.
    pub step: u64,
    /// Epoch of the step.
    pub epoch: u32,
    /// Number of the slot in its step.
    pub slot: u32,
    /// Samples of the slot.
    pub samples: Vec<SampleId>,
    /// Whether pictures are mixed: mosaic, mixup, cutmix.
    pub mosaic: bool,
    /// Side of the network input in pixels.
    pub image_size: u32,
}

/// A slot, loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotBatch {
    /// Step of the slot.
    pub step: u64,
    /// Epoch of the step.
    pub epoch: u32,
    /// Number of the slot in its step.
    pub slot: u32,
    /// Side of the network input in pixels.
    pub size: u32,
    /// `[B, 3, size, size]`, RGB.
    pub images: Vec<u8>,
    /// What is to be found, per image.
    pub targets: Vec<Vec<TargetBox>>,
    /// Samples of the slot, one per image.
    pub samples: Vec<SampleId>,
    /// Number of files that could not be decoded and were replaced by an empty background.
    pub unreadable: u32,
}

impl StepPlan {
    /// The jobs of a rank's shard of the step's slots.
    ///
    /// # Panics
    /// When the shard reaches past the step's slots.
    pub fn jobs(&self, shard: Range<usize>) -> Vec<SlotJob> {
        let job = |slot: &crate::plan::Slot| SlotJob {
            step: self.step,
            epoch: self.epoch,
            slot: slot.index,
            samples: slot.samples.clone(),
            mosaic: self.mosaic,
            image_size: self.image_size,
        };
        self.slots[shard].iter().map(job).collect()
    }
}

impl TrainLoader {
    /// Starts the threads.
    pub fn start(
        cache: Arc<PictureCache>,
        augment: AugmentConfig,
        seed: u64,
        jobs: impl Iterator<Item = SlotJob> + Send + 'static,
        config: LoaderConfig,
    ) -> Self {
        let worker = || {
            let cache = Arc::clone(&cache);
            let mut augmenter = Augmenter::new(augment.clone(), seed);
            move |job: SlotJob, stop: &AtomicBool| load(&cache, &mut augmenter, job, stop)
        };
        Self {
            pool: OrderedPool::start(jobs, config, worker),
        }
    }
}

impl Iterator for TrainLoader {
    type Item = Result<SlotBatch, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pool.next()
    }
}

fn load(
    cache: &PictureCache,
    augmenter: &mut Augmenter,
    job: SlotJob,
    stop: &AtomicBool,
) -> Outcome<SlotBatch> {
    if let Err(error) = check_samples(cache, &job.samples) {
        return Some(Err(error));
    }
    let side = job.image_size as usize;
    let image_len = 3 * side * side;
    let mut images = vec![0; job.samples.len() * image_len];
    let mut targets = Vec::with_capacity(job.samples.len());
    let mut unreadable = 0;
    for (&sample, pixels) in job.samples.iter().zip(images.chunks_exact_mut(image_len)) {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let request = SampleRequest {
            epoch: job.epoch,
            sample,
            mosaic: job.mosaic,
            image_size: job.image_size,
        };
        let (boxes, missing) = augmenter.render(cache, request, pixels);
        targets.push(boxes);
        unreadable += missing;
    }
    let SlotJob {
        step,
        epoch,
        slot,
        samples,
        image_size: size,
        ..
    } = job;
    Some(Ok(SlotBatch {
        step,
        epoch,
        slot,
        size,
        images,
        targets,
        samples,
        unreadable,
    }))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{Dataset, Limits, Plan, PlanConfig, SHAPES, Split, shard};

    fn cache(limit_bytes: u64) -> Arc<PictureCache> {
        let dataset = Dataset::open(SHAPES, Split::Train, &Limits::default()).unwrap();
        Arc::new(PictureCache::new(Arc::new(dataset), 64, limit_bytes))
    }

    fn config(threads: usize, queue: usize) -> LoaderConfig {
        LoaderConfig {
            threads: NonZeroUsize::new(threads).unwrap(),
            queue: NonZeroUsize::new(queue).unwrap(),
        }
    }

    fn plan() -> Plan {
        Plan::new(PlanConfig {
            dataset_len: 160,
            batch: 16,
            micro_batch: 5,
            nominal_batch: 32,
            epochs: 2,
            warmup_epochs: 0.0,
            seed: 9,
            close_mosaic: 1,
            image_size: 64,
            multi_scale: 0.0,
        })
        .unwrap()
    }

    fn jobs(plan: &Plan, world_size: usize, rank: usize) -> impl Iterator<Item = SlotJob> + Send + 'static {
        let plan = plan.clone();
        (0..plan.steps())
            .filter_map(move |step| plan.step(step))
            .flat_map(move |step| step.jobs(shard(step.slots.len(), world_size, rank)))
    }

    fn all(threads: usize, queue: usize, limit_bytes: u64) -> Vec<SlotBatch> {
        let loader = TrainLoader::start(
            cache(limit_bytes),
            AugmentConfig::default(),
            9,
            jobs(&plan(), 1, 0),
            config(threads, queue),
        );
        loader.map(Result::unwrap).collect()
    }

    #[test]
    fn batches_depend_neither_on_threads_nor_on_the_cache() {
        let one = all(1, 1, 0);
        assert_eq!(one.len(), 2 * 10 * 4);
        assert!(one == all(4, 7, 1 << 30));
        assert_ne!(one[0].images, one[40].images, "epochs differ");
    }

    #[test]
    fn ranks_together_load_what_one_rank_loads() {
        let one = all(2, 4, 1 << 30);
        let mut three: Vec<SlotBatch> = (0..3)
            .flat_map(|rank| {
                let jobs = jobs(&plan(), 3, rank);
                TrainLoader::start(cache(0), AugmentConfig::default(), 9, jobs, config(2, 3))
                    .map(Result::unwrap)
            })
            .collect();
        three.sort_by_key(|batch| (batch.step, batch.slot));
        assert!(one == three);
    }

    #[test]
    fn a_batch_holds_what_its_job_asks_for() {
        let plan = plan();
        let asked: Vec<_> = jobs(&plan, 1, 0).collect();
        for (job, batch) in asked.iter().zip(all(2, 4, 1 << 30)) {
            assert_eq!(
                (job.step, job.slot, job.epoch, &job.samples),
                (batch.step, batch.slot, batch.epoch, &batch.samples)
            );
            assert_eq!(batch.images.len(), batch.samples.len() * 3 * 64 * 64);
            assert_eq!(batch.targets.len(), batch.samples.len());
            assert_eq!(batch.unreadable, 0);
        }
    }

    #[test]
    fn an_unknown_sample_is_an_error() {
        let mut job = jobs(&plan(), 1, 0).next().unwrap();
        job.samples[0] = SampleId(160);
        let mut loader = TrainLoader::start(
            cache(0),
            AugmentConfig::default(),
            0,
            std::iter::once(job),
            config(1, 1),
        );
        assert_eq!(
            loader.next(),
            Some(Err(LoaderError::UnknownSample {
                sample: SampleId(160),
                len: 160
            }))
        );
        assert_eq!(loader.next(), None);
    }
}
