//! The sampling plan: which samples a step trains on, as a pure function of the step number.
//!
//! Nothing about the order of the data is stored in a checkpoint: a state at step `k` has seen exactly the samples of
//! the steps before `k`. An epoch's order depends on `(seed, epoch)`; batches are cut from it in order, steps close over
//! whole batches, slots are cut from batches. The world size appears nowhere but in [`shard`], which deals the slots of
//! a step to ranks.
//!
//! Steps of the warm-up, where the number of batches per step still grows, are counted out once; later steps have a
//! closed form, so a plan stays small for any number of epochs.
//!
//! # Source
//! The accumulation rule is the one that users of Ultralytics know (nominal batch, warm-up from 1). Unlike there, an
//! epoch is a whole number of steps: what is left of one joins its last step, or is a step of its own from half a step
//! on. Over many batches the number of updates is the same but for rounding; where an epoch has fewer batches than a step
//! accumulates, each epoch is an update of its own, and there are more of them. In 100 epochs with a batch of 16 and a
//! nominal batch of 64 (Ultralytics 8.4.190):
//!
//! | batches in an epoch | 1 | 2 | 3 | 5 | 13 |
//! |---|---|---|---|---|---|
//! | updates there | 25 | 51 | 77 | 128 | 334 |
//! | updates here | 100 | 101 | 103 | 105 | 310 |

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    dataset::SampleId,
    random::{KeyedRandom, Purpose},
};

/// What a plan depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanConfig {
    /// Number of samples of the training set.
    pub dataset_len: usize,
    /// Samples of one batch, over all ranks.
    pub batch: usize,
    /// Samples of one slot; a batch's last slot may be shorter.
    pub micro_batch: usize,
    /// Samples that one step should hold after the warm-up (`nbs`); batches are accumulated up to it.
    pub nominal_batch: usize,
    /// Number of passes over the data.
    pub epochs: u32,
    /// Length of the warm-up in epochs; 0 means none.
    pub warmup_epochs: f64,
    /// The run's seed.
    pub seed: u64,
    /// Number of last epochs that train without mosaic.
    pub close_mosaic: u32,
    /// Side of the network input in pixels.
    pub image_size: u32,
    /// By which fraction that side changes from step to step, up or down; below 1.
    pub multi_scale: f64,
}

/// The plan of a run; see the module's documentation.
#[derive(Clone, Debug)]
pub struct Plan {
    config: PlanConfig,
    /// First batch of each step in the epochs that the warm-up touches.
    warmup_steps: Vec<u64>,
    /// Number of those epochs.
    warmup_span: u32,
    /// The order of the epoch asked for last. A memo only: it never changes an answer.
    memo: Arc<Mutex<Option<EpochOrder>>>,
}

/// One step: the samples of one optimizer update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPlan {
    /// Number of the step, from 0.
    pub step: u64,
    /// Epoch of all samples of the step, from 0.
    pub epoch: u32,
    /// First batch of the step, counted over the whole run: what schedules count in.
    pub first_batch: u64,
    /// Last batch of the step (inclusive), counted over the whole run.
    pub last_batch: u64,
    /// Whether the epoch ends with this step.
    pub is_last_of_epoch: bool,
    /// The slots in order; every sample of the step is in exactly one of them.
    pub slots: Vec<Slot>,
    /// Whether pictures are mixed in this epoch: mosaic, mixup, cutmix.
    pub mosaic: bool,
    /// Side of the network input in pixels, all slots of the step alike.
    pub image_size: u32,
}

impl StepPlan {
    /// Number of batches that the step covers, at least one.
    pub fn batches(&self) -> u64 {
        self.last_batch + 1 - self.first_batch
    }
}

/// A micro-batch of a step: the unit of work that is handed to ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of the slot within its step, from 0.
    pub index: u32,
    /// Its samples, at least one and at most `micro_batch`.
    pub samples: Vec<SampleId>,
}

/// A plan that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A number that has to be positive is zero.
    #[error("the plan needs {field} to be at least 1")]
    Zero {
        /// Name of the field of [`PlanConfig`].
        field: &'static str,
    },
    /// The range of sizes reaches nothing, or is not a number.
    #[error("multi_scale is {value}, it must be a number of at least 0 and below 1")]
    MultiScale {
        /// The value given.
        value: f64,
    },
    /// The warm-up is negative or not a number.
    #[error("warmup_epochs is {value}, it must be a number of at least 0")]
    Warmup {
        /// The value given.
        value: f64,
    },
    /// The dataset has more samples than sample ids.
    #[error("the dataset has {len} samples, at most {limit} can be numbered", limit = u32::MAX)]
    TooManySamples {
        /// Number of samples.
        len: usize,
    },
}

impl Plan {
    /// Makes the plan.
    ///
    /// # Errors
    /// When a size is zero or the warm-up is not a number of at least 0.
    pub fn new(config: PlanConfig) -> Result<Self, PlanError> {
        check(&config)?;
        let mut plan = Self {
            config,
            warmup_steps: Vec::new(),
            warmup_span: 0,
            memo: Arc::default(),
        };
        let per_epoch = plan.batches_per_epoch();
        let touched = plan.warmup_batches().div_ceil(per_epoch);
        plan.warmup_span = touched.min(u64::from(plan.config.epochs)) as u32;
        let mut first = 0;
        for batch in 0..u64::from(plan.warmup_span) * per_epoch {
            let left = per_epoch - 1 - batch % per_epoch;
            if closes(batch + 1 - first, left, plan.accumulate(batch)) {
                plan.warmup_steps.push(first);
                first = batch + 1;
            }
        }
        Ok(plan)
    }

    /// What the plan was made of.
    pub fn config(&self) -> &PlanConfig {
        &self.config
    }

    /// Number of steps of the run.
    pub fn steps(&self) -> u64 {
        let plain_epochs = u64::from(self.config.epochs - self.warmup_span);
        self.warmup_steps.len() as u64 + plain_epochs * self.plain_steps_per_epoch()
    }

    /// The steps of an epoch; empty past the last epoch.
    pub fn steps_of_epoch(&self, epoch: u32) -> Range<u64> {
        let start = |epoch: u32| {
            if epoch < self.warmup_span {
                let batch = u64::from(epoch) * self.batches_per_epoch();
                self.warmup_steps.partition_point(|&first| first < batch) as u64
            } else {
                let plain = u64::from(epoch.min(self.config.epochs) - self.warmup_span);
                self.warmup_steps.len() as u64 + plain * self.plain_steps_per_epoch()
            }
        };
        start(epoch)..start(epoch.saturating_add(1))
    }

    /// Number of steps of an epoch; fewer samples per step in the warm-up mean more steps.
    pub fn steps_per_epoch(&self, epoch: u32) -> u64 {
        let steps = self.steps_of_epoch(epoch);
        steps.end - steps.start
    }

    /// Number of batches of every epoch; the last one may be short.
    pub fn batches_per_epoch(&self) -> u64 {
        self.config.dataset_len.div_ceil(self.config.batch) as u64
    }

    /// Number of batches of the run.
    pub fn batches(&self) -> u64 {
        u64::from(self.config.epochs) * self.batches_per_epoch()
    }

    /// Length of the warm-up in batches, 0 where there is none; at least the last epoch trains without.
    ///
    /// # Source
    /// Ultralytics 8.4; releases before it warmed up for at least 100 batches, however short the epochs.
    pub fn warmup_batches(&self) -> u64 {
        let longest = f64::from(self.config.epochs - 1);
        let batches = self.config.warmup_epochs.min(longest) * self.batches_per_epoch() as f64;
        batches.round_ties_even() as u64
    }

    /// Number of batches after which a step closes at this batch, unless the rest of the epoch joins it: grows over the
    /// warm-up, from 1 to [`Plan::plain_accumulate`].
    pub fn accumulate(&self, batch: u64) -> u64 {
        let (warmup, plain) = (self.warmup_batches(), self.plain_accumulate());
        if batch >= warmup {
            return plain;
        }
        let batches = 1.0 + (plain - 1) as f64 * (batch as f64 / warmup as f64);
        batches.round_ties_even() as u64
    }

    /// Number of batches after which a step closes when the warm-up is over, at least one: the nominal batch, in whole batches.
    pub fn plain_accumulate(&self) -> u64 {
        let batches = self.config.nominal_batch as f64 / self.config.batch as f64;
        (batches.round_ties_even() as u64).max(1)
    }

    /// Most slots that a step of this run can have.
    pub fn slots_max(&self) -> usize {
        let per_epoch = self.batches_per_epoch();
        let in_warmup = (0..self.warmup_steps.len() as u64).filter_map(|step| self.batches_of_step(step));
        let last_plain = per_epoch - (self.plain_steps_per_epoch() - 1) * self.plain_accumulate();
        let plain = last_plain.max(self.plain_accumulate()).min(per_epoch);
        let batches = in_warmup.fold(plain, |most, step| most.max(step.end - step.start));
        batches as usize * self.config.batch.div_ceil(self.config.micro_batch)
    }

    /// The plan of a step, or `None` past the end of the run.
    pub fn step(&self, step: u64) -> Option<StepPlan> {
        let batches = self.batches_of_step(step)?;
        let per_epoch = self.batches_per_epoch();
        let epoch = (batches.start / per_epoch) as u32;
        let order = self.order(epoch);
        let mut slots = Vec::new();
        for batch in batches.clone() {
            let start = (batch % per_epoch) as usize * self.config.batch;
            let end = (start + self.config.batch).min(order.len());
            for samples in order[start..end].chunks(self.config.micro_batch) {
                slots.push(Slot {
                    index: slots.len() as u32,
                    samples: samples.to_vec(),
                });
            }
        }
        Some(StepPlan {
            step,
            epoch,
            first_batch: batches.start,
            last_batch: batches.end - 1,
            is_last_of_epoch: batches.end % per_epoch == 0,
            slots,
            mosaic: epoch < self.config.epochs.saturating_sub(self.config.close_mosaic),
            image_size: self.image_size(step),
        })
    }

    /// Side of the network input at a step: a multiple of the stride within the range that `multi_scale` gives.
    ///
    /// # Source
    /// The sizes and their odds are those of Ultralytics 8.4, which draws one for each batch.
    fn image_size(&self, step: u64) -> u32 {
        let PlanConfig {
            image_size,
            multi_scale,
            seed,
            ..
        } = self.config;
        if multi_scale == 0.0 {
            return image_size;
        }
        let side = f64::from(image_size);
        let low = ((side * (1.0 - multi_scale)) as usize).max(STRIDE);
        let high = (side * (1.0 + multi_scale)) as usize + STRIDE;
        let mut random = KeyedRandom::new(Purpose::Size, [seed, step, 0]);
        let drawn = low + random.below(high - low);
        (drawn / STRIDE * STRIDE) as u32
    }

    /// The batches of a step, counted over the whole run.
    fn batches_of_step(&self, step: u64) -> Option<Range<u64>> {
        if step >= self.steps() {
            return None;
        }
        let per_epoch = self.batches_per_epoch();
        let warmup_steps = self.warmup_steps.len() as u64;
        if step < warmup_steps {
            let end_of_warmup = u64::from(self.warmup_span) * per_epoch;
            let start = self.warmup_steps[step as usize];
            let end = self.warmup_steps.get(step as usize + 1).copied();
            return Some(start..end.unwrap_or(end_of_warmup));
        }
        let plain = step - warmup_steps;
        let steps_per_epoch = self.plain_steps_per_epoch();
        let epoch_start = (u64::from(self.warmup_span) + plain / steps_per_epoch) * per_epoch;
        let accumulate = self.plain_accumulate();
        let of_epoch = plain % steps_per_epoch;
        let start = epoch_start + of_epoch * accumulate;
        let is_last = of_epoch + 1 == steps_per_epoch;
        Some(
            start..if is_last {
                epoch_start + per_epoch
            } else {
                start + accumulate
            },
        )
    }

    /// Number of steps of an epoch that the warm-up does not touch.
    fn plain_steps_per_epoch(&self) -> u64 {
        let (batches, accumulate) = (self.batches_per_epoch(), self.plain_accumulate());
        let rest = batches % accumulate;
        (batches / accumulate + u64::from(is_a_step(rest, accumulate))).max(1)
    }

    /// The shuffled samples of an epoch.
    fn order(&self, epoch: u32) -> Arc<[SampleId]> {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = memo.as_ref().filter(|known| known.epoch == epoch) {
            return Arc::clone(&known.samples);
        }
        let samples = shuffled(self.config.dataset_len, self.config.seed, epoch);
        *memo = Some(EpochOrder {
            epoch,
            samples: Arc::clone(&samples),
        });
        samples
    }
}

impl StepPlan {
    /// Number of samples of the step.
    pub fn samples(&self) -> usize {
        self.slots.iter().map(|slot| slot.samples.len()).sum()
    }
}

/// Whether a step closes after a batch: it holds `held` batches, and `left` follow in the epoch.
fn closes(held: u64, left: u64, accumulate: u64) -> bool {
    left == 0 || (held >= accumulate && is_a_step(left, accumulate))
}

/// Whether so many batches at an epoch's end are a step of their own.
fn is_a_step(batches: u64, accumulate: u64) -> bool {
    2 * batches >= accumulate
}

/// The slots of a rank: contiguous, and sizes differ by at most one.
///
/// # Panics
/// When `rank` is not below `world_size`.
pub fn shard(slots: usize, world_size: usize, rank: usize) -> Range<usize> {
    assert!(rank < world_size, "rank {rank} of a world of {world_size}");
    slots * rank / world_size..slots * (rank + 1) / world_size
}

#[derive(Debug)]
struct EpochOrder {
    epoch: u32,
    samples: Arc<[SampleId]>,
}

/// All sample ids in the order of an epoch: Fisher and Yates' shuffle from a keyed stream.
fn shuffled(len: usize, seed: u64, epoch: u32) -> Arc<[SampleId]> {
    let mut random = KeyedRandom::new(Purpose::Order, [seed, u64::from(epoch), 0]);
    let mut samples: Vec<SampleId> = (0..len as u32).map(SampleId).collect();
    for last in (1..len).rev() {
        samples.swap(last, random.below(last + 1));
    }
    samples.into()
}

fn check(config: &PlanConfig) -> Result<(), PlanError> {
    for (field, value) in [
        ("dataset_len", config.dataset_len),
        ("batch", config.batch),
        ("micro_batch", config.micro_batch),
        ("nominal_batch", config.nominal_batch),
        ("epochs", config.epochs as usize),
        ("image_size", config.image_size as usize),
    ] {
        if value == 0 {
            return Err(PlanError::Zero { field });
        }
    }
    if u32::try_from(config.dataset_len).is_err() {
        return Err(PlanError::TooManySamples {
            len: config.dataset_len,
        });
    }
    if !(0.0..1.0).contains(&config.multi_scale) {
        return Err(PlanError::MultiScale {
            value: config.multi_scale,
        });
    }
    if !config.warmup_epochs.is_finite() || config.warmup_epochs < 0.0 {
        return Err(PlanError::Warmup {
            value: config.warmup_epochs,
        });
    }
    Ok(())
}

/// The network's coarsest cell in pixels.
const STRIDE: usize = 32;

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
