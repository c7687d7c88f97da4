//! Pictures that are made up once and stay in memory.

use std::collections::BTreeMap;

use data::{SlotBatch, SlotJob, TargetBox, ValJob};
use worker::training::source::{SlotBatches, SlotJobs, Source, ValBatches};

/// Pictures of noise with some boxes.
pub(super) struct MadeUp;

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

/// As many as COCO has.
pub(super) const CLASSES: usize = 80;

/// About as many as a picture of COCO has.
const BOXES: u32 = 8;
