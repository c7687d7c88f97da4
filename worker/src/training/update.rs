//! What a step does to the state: the update by its summed gradient, or nothing when that is not finite.

use data::StepPlan;
use model::layout::{Layout, TensorSpec};
use tracing::{info, warn};

use super::clip::{clipped, global_norm, scale_all};
use super::fixed_point::NOT_FINITE;
use super::optimizer::Inputs;
use super::schedule::Rates;
use super::sum::Totals;
use super::{Training, TrainingError};

/// What became of a step's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Applied,
    /// It was not finite.
    Skipped,
}

impl Training<'_> {
    /// Applies the summed gradient, or skips the step on every rank alike when it is not finite.
    pub(super) fn apply(
        &mut self,
        step: &StepPlan,
        totals: &Totals,
        rates: &Rates,
    ) -> Result<Update, TrainingError> {
        let mean = f64::from(totals.images) / f64::from(totals.normaliser);
        let norm = mean * global_norm(self.sum.gradient());
        self.state.step += 1;
        let are_statistics_finite = self.sum.statistics().iter().all(|value| value.is_finite());
        if !norm.is_finite() || !are_statistics_finite || totals.magnitudes.contains(&NOT_FINITE) {
            return self.skip(step, totals);
        }
        scale_all(
            self.sum.gradient_mut(),
            (mean * clipped(norm, self.parts.recipe.clip_norm)) as f32,
            self.threads,
        );
        let state = &mut *self.state;
        let held = state.hold(self.parts.learner.frozen());
        state.nonfinite_run = 0;
        state.updates += 1;
        self.parts.schedule.optimizer.update(
            &self.layout,
            &mut state.parameters,
            &mut state.moments,
            &Inputs {
                gradient: self.sum.gradient(),
                rates,
                update: state.updates,
                orthogonalise: &|matrix, shape| self.parts.learner.orthogonalise(matrix, shape),
                threads: self.threads,
            },
        );
        state.update_running_statistics(
            self.sum.statistics(),
            totals.slots,
            step.batches(),
            BATCH_NORM_MOMENTUM,
        );
        state.update_average(
            self.parts.recipe.ema_decay,
            self.parts.recipe.ema_tau,
            self.threads,
        );
        state.restore(&held);
        state.exponents.settle(step.step, &totals.magnitudes);
        let every = u64::from(self.parts.recipe.hash_every);
        if every > 0 && state.step.is_multiple_of(every) {
            let generation = self.parts.ring.group().generation();
            info!(step = state.step, %generation, hash = %state.hash().state, "state");
        }
        Ok(Update::Applied)
    }

    fn skip(&mut self, step: &StepPlan, totals: &Totals) -> Result<Update, TrainingError> {
        self.state.nonfinite_run += 1;
        let steps = self.state.nonfinite_run;
        let tensor = first_not_finite(&self.layout, self.sum.gradient(), &totals.magnitudes);
        let samples = samples_of(step, &totals.not_finite);
        let step = step.step;
        warn!(
            step,
            in_a_row = steps,
            tensor,
            samples,
            "gradient is not finite; step skipped on all ranks"
        );
        if steps >= self.parts.recipe.nonfinite_max {
            return Err(TrainingError::NotFinite {
                step,
                steps,
                tensor,
                samples,
            });
        }
        Ok(Update::Skipped)
    }
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

/// Names the samples of some slots of a step, the first few of many.
fn samples_of(step: &StepPlan, slots: &[u32]) -> String {
    let mut names: Vec<String> = step
        .slots
        .iter()
        .filter(|slot| slots.contains(&slot.index))
        .flat_map(|slot| &slot.samples)
        .map(|sample| sample.0.to_string())
        .collect();
    if names.is_empty() {
        return "no single slot".to_owned();
    }
    let rest = names.len().saturating_sub(SAMPLES_SHOWN);
    names.truncate(SAMPLES_SHOWN);
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    format!("samples {}{more}", names.join(", "))
}

/// Momentum of the running BatchNorm statistics in the published YOLO models.
const BATCH_NORM_MOMENTUM: f32 = 0.03;

/// So many samples are named; a slot may have sixteen.
const SAMPLES_SHOWN: usize = 16;
