//! The training loop: the algorithm of a run, free of sockets and of tensors.
//!
//! [`Training::run`] is the whole of it. A step sums what its slots contribute, first on this rank, then around
//! the ring; every rank then holds the same sums, so it applies the same update and takes the same decisions.
//! What happens at an epoch's end is in [`epoch`]; the forward and backward pass is the [`Learner`]'s.
//!
//! Calling order: [`Training::new`], then [`Training::run`] once, on a thread that may block.

pub mod epoch;
pub mod fixed_point;
pub mod learner;
pub mod optimizer;
mod places;
pub mod records;
pub mod schedule;
pub mod state;
pub mod sum;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use collective::CollectiveError;
use data::{LoaderConfig, PictureCache, Plan, SlotBatch, StepPlan, TrainLoader};
use model::layout::{Layout, TensorSpec};
use proto::{Activity, Recipe};
use tracing::{debug, info, warn};

use self::epoch::EpochTotals;
use self::fixed_point::NOT_FINITE;
use self::learner::Learner;
use self::schedule::{Rates, Schedule};
use self::state::State;
use self::sum::{StepSum, Totals, Unsettled};
use crate::report::Reporter;
use crate::ring::Ring;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs were done.
    Completed,
    /// No better epoch for `patience` epochs.
    OutOfPatience {
        /// The best epoch, counted from zero.
        best: u32,
    },
    /// A process was asked to stop; all ranks stopped after the same step.
    Stopped,
}

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The ring broke.
    #[error("the ring broke at step {step}: {source}")]
    Ring {
        /// The step that was not applied.
        step: u64,
        /// What the ring reported.
        source: CollectiveError,
    },
    /// Gradients stayed infinite or not a number.
    #[error(
        "the gradient was not finite for {steps} steps in a row, at last in {tensor} at step {step}; \
         lower --lr0 or look at the labels"
    )]
    NotFinite {
        /// The last step.
        step: u64,
        /// How many in a row.
        steps: u32,
        /// The first tensor with such a value.
        tensor: String,
    },
    /// A step was computed again and again without a usable sum.
    #[error("the sums of step {step} were not usable in {attempts} attempts, at last: {reason}")]
    Unsettled {
        /// The step that was not applied.
        step: u64,
        /// How often it was computed.
        attempts: u32,
        /// What was wrong with the last sum.
        reason: String,
    },
    /// A batch could not be loaded.
    #[error("cannot load a batch: {0}")]
    Loader(#[from] data::LoaderError),
    /// A peer sent validation records that cannot be read.
    #[error("rank {rank} sent validation records that cannot be read: {reason}")]
    Records {
        /// The sender.
        rank: usize,
        /// What was wrong.
        reason: String,
    },
}

/// What became of a step's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Update {
    Applied,
    /// It was not finite.
    Skipped,
}

/// What a run is given.
pub struct Parts<'a> {
    /// The hyper-parameters.
    pub recipe: &'a Recipe,
    /// The data plan.
    pub plan: Plan,
    /// Rates and optimizer.
    pub schedule: Schedule,
    /// The validation images.
    pub validation: Arc<PictureCache>,
    /// Delivers this rank's slots in the order of the plan.
    pub loader: TrainLoader,
    /// Threads and queue of the validation's loader.
    pub loader_config: LoaderConfig,
    /// What computes.
    pub learner: &'a mut dyn Learner,
    /// The peers.
    pub ring: Ring,
    /// Where progress and weights go.
    pub reporter: &'a mut dyn Reporter,
    /// Set when this process is asked to stop.
    pub stop: &'a AtomicBool,
}

/// A run in progress on this rank.
pub struct Training<'a> {
    parts: Parts<'a>,
    layout: Layout,
    state: State,
    sum: StepSum,
    totals: EpochTotals,
    epochs: u32,
}

impl<'a> Training<'a> {
    /// Returns the run at `state`.
    pub fn new(parts: Parts<'a>, state: State) -> Self {
        let layout = parts.learner.layout().clone();
        let recipe = parts.recipe;
        let sum = StepSum::new(recipe.sum, &layout, parts.plan.slots_max(), recipe.bucket_bytes());
        Self {
            parts,
            layout,
            state,
            sum,
            totals: EpochTotals::default(),
            epochs: 0,
        }
    }

    /// Returns how many epochs were validated.
    pub fn epochs(&self) -> u32 {
        self.epochs
    }

    /// Returns the state, which is whole between steps.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Ends the run's hold on the ring.
    pub fn into_ring(self) -> Ring {
        self.parts.ring
    }

    /// Trains until the plan ends, patience ends, or somebody asks to stop.
    ///
    /// # Errors
    /// When the ring breaks or gradients stay infinite; the state is then that of the last applied step.
    pub fn run(&mut self) -> Result<Ending, TrainingError> {
        self.parts.reporter.activity(Activity::Training);
        while let Some(step) = self.parts.plan.step(self.state.step) {
            let totals = self.sum_slots(&step)?;
            let rates = self.parts.schedule.rates(&step);
            if self.apply(&totals, &rates)? == Update::Applied {
                self.totals.add(&totals);
            }
            self.report_step(&step, &totals);

            if step.is_last_of_epoch {
                self.finish_epoch(&step, &rates)?;
                if let Some(best) = self.best_out_of_patience(step.epoch) {
                    return Ok(Ending::OutOfPatience { best });
                }
            }
            if totals.is_stop_requested {
                if !step.is_last_of_epoch {
                    self.save_last();
                }
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Completed)
    }

    /// Leaves in `sum` what all slots of the step add up to over all ranks, and returns the totals.
    ///
    /// A step whose sums cannot be used is computed again: on every rank alike, for all hold the same sums. Where only
    /// one rank's memory was damaged, it alone asks for the step again, and the ring ends the run.
    fn sum_slots(&mut self, step: &StepPlan) -> Result<Totals, TrainingError> {
        self.parts
            .learner
            .load(&self.state.parameters, &self.state.buffers);
        let own = self.shard(step.slots.len()).len();
        let mut batches = Vec::with_capacity(own);
        let mut reason = String::new();
        for _ in 0..ATTEMPTS_MAX {
            self.sum.clear();
            for index in 0..own {
                if batches.len() == index {
                    batches.push(self.next_batch(step)?);
                }
                let contribution = self.parts.learner.contribute(&batches[index]);
                self.sum
                    .add(batches[index].slot, &contribution, &self.state.exponents);
            }
            if self.parts.stop.load(Ordering::Relaxed) {
                self.sum.request_stop();
            }
            let exchanged = self.sum.exchange(step.step, &mut self.parts.ring);
            exchanged.map_err(|source| TrainingError::Ring {
                step: step.step,
                source,
            })?;
            match self.sum.settle(step.slots.len(), &self.state.exponents) {
                Ok(totals) => return Ok(totals),
                Err(unsettled) => reason = self.resolve(step.step, unsettled),
            }
            self.totals.add_redone();
        }
        Err(TrainingError::Unsettled {
            step: step.step,
            attempts: ATTEMPTS_MAX,
            reason,
        })
    }

    fn next_batch(&mut self, step: &StepPlan) -> Result<SlotBatch, TrainingError> {
        // Invariant: the loader was given exactly the slots of this rank, in this order.
        let batch = self.parts.loader.next().expect("a batch for each slot")?;
        assert_eq!(batch.step, step.step, "the loader is at another step");
        Ok(batch)
    }

    /// Makes the next attempt possible, and says what was wrong.
    fn resolve(&mut self, step: u64, unsettled: Unsettled) -> String {
        match unsettled {
            Unsettled::DoesNotFit { magnitudes } => {
                for (index, &magnitude) in magnitudes.iter().enumerate() {
                    let exponent = self.state.exponents.of(index);
                    if magnitude > exponent {
                        let specs = self.layout.parameters.iter().chain(&self.layout.buffers);
                        let tensor = specs.map(|tensor| tensor.name.as_str()).nth(index);
                        debug!(
                            step,
                            tensor, magnitude, exponent, "does not fit; the step is computed again"
                        );
                    }
                }
                self.state.exponents.raise(&magnitudes);
                "a gradient does not fit its exponent".to_owned()
            }
            Unsettled::Damaged { bucket } => {
                warn!(
                    step,
                    bucket, "a sum was damaged on its way; the step is computed again"
                );
                format!("bucket {bucket} is not the sum of what was sent")
            }
        }
    }

    /// Applies the summed gradient, or skips the step on every rank alike when it is not finite.
    fn apply(&mut self, totals: &Totals, rates: &Rates) -> Result<Update, TrainingError> {
        scale_all(self.sum.gradient_mut(), totals.images as f32 / totals.normaliser);
        let norm = global_norm(self.sum.gradient());
        let step = self.state.step;
        self.state.step += 1;
        let are_statistics_finite = self.sum.statistics().iter().all(|value| value.is_finite());
        if !norm.is_finite() || !are_statistics_finite || totals.magnitudes.contains(&NOT_FINITE) {
            return self.skip(&totals.magnitudes);
        }
        let clip = self.parts.recipe.clip_norm;
        if norm > clip {
            scale_all(self.sum.gradient_mut(), (clip / norm) as f32);
        }
        let state = &mut self.state;
        let held = state.hold(self.parts.learner.frozen());
        state.nonfinite_run = 0;
        state.updates += 1;
        self.parts.schedule.optimizer.update(
            &self.layout,
            &mut state.parameters,
            &mut state.moments,
            self.sum.gradient(),
            rates,
            state.updates,
        );
        state.update_running_statistics(self.sum.statistics(), totals.slots as f32, BATCH_NORM_MOMENTUM);
        state.update_average(self.parts.recipe.ema_decay, self.parts.recipe.ema_tau);
        state.restore(&held);
        state.exponents.settle(step, &totals.magnitudes);
        let every = u64::from(self.parts.recipe.hash_every);
        if every > 0 && state.step.is_multiple_of(every) {
            info!(step = state.step, hash = %state.hash().state, "state");
        }
        Ok(Update::Applied)
    }

    fn skip(&mut self, magnitudes: &[u8]) -> Result<Update, TrainingError> {
        self.state.nonfinite_run += 1;
        let steps = self.state.nonfinite_run;
        let step = self.state.step - 1;
        let tensor = first_not_finite(&self.layout, self.sum.gradient(), magnitudes);
        warn!(
            step,
            in_a_row = steps,
            tensor,
            "gradient is not finite; step skipped on all ranks"
        );
        if steps >= self.parts.recipe.nonfinite_max {
            return Err(TrainingError::NotFinite { step, steps, tensor });
        }
        Ok(Update::Skipped)
    }

    /// Returns this rank's share of `items` things that are dealt in order.
    fn shard(&self, items: usize) -> Range<usize> {
        let group = self.parts.ring.group();
        data::shard(items, group.world_size(), group.rank())
    }
}

fn scale_all(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}

/// Returns the Euclidean norm over all tensors, summed in `f64` in layout order.
fn global_norm(gradient: &[f32]) -> f64 {
    gradient
        .chunks(4096)
        .map(|chunk| chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>())
        .sum::<f64>()
        .sqrt()
}

/// Returns the name of the first tensor with a value that is not finite: by its magnitude for exact sums, whose
/// values are then not decoded, by its values otherwise.
fn first_not_finite(layout: &Layout, gradient: &[f32], magnitudes: &[u8]) -> String {
    let is_not_finite = |(index, tensor): &(usize, &TensorSpec)| match magnitudes.get(*index) {
        Some(&magnitude) => magnitude == NOT_FINITE,
        None => gradient[tensor.range.clone()]
            .iter()
            .any(|value| !value.is_finite()),
    };
    let first = layout.parameters.iter().enumerate().find(is_not_finite);
    first.map_or_else(
        || "the statistics or the norm".to_owned(),
        |(_, tensor)| tensor.name.clone(),
    )
}

/// Momentum of the running BatchNorm statistics in the published YOLO models.
const BATCH_NORM_MOMENTUM: f32 = 0.03;

/// A step is computed again once for each surprise; more than these in one step is no surprise any more.
const ATTEMPTS_MAX: u32 = 4;
