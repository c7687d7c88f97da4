//! The training loop: the algorithm of a run, free of sockets and of tensors.
//!
//! [`Training::run`] is the whole of it. A step sums what its slots contribute, first on this rank, then around
//! the ring; every rank then holds the same sums, so it applies the same update and takes the same decisions.
//! What happens at an epoch's end is in [`epoch`]; the forward and backward pass is the [`Learner`]'s.
//!
//! Calling order: [`Training::new`], then [`Training::run`] once, on a thread that may block.

pub mod epoch;
pub mod learner;
pub mod optimizer;
pub mod records;
pub mod schedule;
pub mod state;
pub mod sum;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use collective::CollectiveError;
use data::{PictureCache, Plan, StepPlan, TrainLoader};
use model::layout::Layout;
use proto::Recipe;
use tracing::warn;

use self::epoch::{EpochEnd, EpochTotals};
use self::learner::Learner;
use self::schedule::{Rates, Schedule};
use self::state::State;
use self::sum::StepSum;
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
        let sum = StepSum::new(state.parameters.len(), state.buffers.len());
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
        while let Some(step) = self.parts.plan.step(self.state.step) {
            self.sum_slots(&step)?;
            let rates = self.parts.schedule.rates(&step);
            self.apply(&rates)?;
            self.totals.add(&self.sum);
            let stop = self.sum.is_stop_requested();
            self.report_step(&step);

            if step.is_last_of_epoch {
                match self.finish_epoch(&step, &rates)? {
                    EpochEnd::Next => {}
                    EpochEnd::OutOfPatience { best } => return Ok(Ending::OutOfPatience { best }),
                }
            }
            if stop {
                self.save_last();
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Completed)
    }

    /// Leaves in `sum` what all slots of the step add up to, over all ranks.
    fn sum_slots(&mut self, step: &StepPlan) -> Result<(), TrainingError> {
        self.parts
            .learner
            .load(&self.state.parameters, &self.state.buffers);
        self.sum.clear();
        for _ in self.shard(step.slots.len()) {
            // Invariant: the loader was given exactly the slots of this rank, in this order.
            let batch = self.parts.loader.next().expect("a batch for each slot")?;
            assert_eq!(batch.step, step.step, "the loader is at another step");
            self.sum.add_unreadable(batch.unreadable);
            self.sum.add(&self.parts.learner.contribute(&batch));
        }
        if self.parts.stop.load(Ordering::Relaxed) {
            self.sum.request_stop();
        }
        let step = step.step;
        self.parts
            .ring
            .sum(step, self.sum.values_mut())
            .map_err(|source| TrainingError::Ring { step, source })
    }

    /// Applies the summed gradient, or skips the step on every rank alike when it is not finite.
    fn apply(&mut self, rates: &Rates) -> Result<(), TrainingError> {
        let scale = self.sum.images() / self.sum.normaliser();
        scale_all(self.sum.gradient_mut(), scale);
        let norm = global_norm(self.sum.gradient());
        self.state.step += 1;
        if !norm.is_finite() {
            return self.skip();
        }
        let clip = self.parts.recipe.clip_norm;
        if norm > clip {
            scale_all(self.sum.gradient_mut(), (clip / norm) as f32);
        }
        let state = &mut self.state;
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
        state.update_running_statistics(self.sum.statistics(), self.sum.slots(), BATCH_NORM_MOMENTUM);
        state.update_average(self.parts.recipe.ema_decay, self.parts.recipe.ema_tau);
        Ok(())
    }

    fn skip(&mut self) -> Result<(), TrainingError> {
        self.state.nonfinite_run += 1;
        let steps = self.state.nonfinite_run;
        let step = self.state.step - 1;
        let tensor = first_not_finite(&self.layout, self.sum.gradient());
        warn!(
            step,
            in_a_row = steps,
            tensor,
            "gradient is not finite; step skipped on all ranks"
        );
        if steps >= self.parts.recipe.nonfinite_max {
            return Err(TrainingError::NotFinite { step, steps, tensor });
        }
        Ok(())
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

fn first_not_finite(layout: &Layout, gradient: &[f32]) -> String {
    layout
        .parameters
        .iter()
        .find(|tensor| {
            gradient[tensor.range.clone()]
                .iter()
                .any(|value| !value.is_finite())
        })
        .map_or_else(
            || "the sum of all tensors".to_owned(),
            |tensor| tensor.name.clone(),
        )
}

/// Momentum of the running BatchNorm statistics in the published YOLO models.
const BATCH_NORM_MOMENTUM: f32 = 0.03;
