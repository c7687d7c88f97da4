//! The end of an epoch: validation over all ranks, the best epoch, patience, weights.

use std::sync::Arc;

use data::{StepPlan, ValLoader, val_batches};
use model::metric::{Metrics, summarise};
use proto::Activity;
use tracing::warn;

use super::records::{self, Record};
use super::schedule::Rates;
use super::state::Best;
use super::sum::Totals;
use super::{Training, TrainingError};
use crate::report::{EpochRecord, StepRecord};

/// Losses and images of the epoch so far.
#[derive(Clone, Debug, Default)]
pub(super) struct EpochTotals {
    losses: [f64; 3],
    steps: u32,
    images: u64,
    unreadable: u64,
    redone: u32,
}

impl EpochTotals {
    pub(super) fn add(&mut self, step: &Totals) {
        for (total, loss) in self.losses.iter_mut().zip(step.losses) {
            *total += loss;
        }
        self.steps += 1;
        self.images += u64::from(step.images);
        self.unreadable += u64::from(step.unreadable);
    }

    pub(super) fn add_redone(&mut self) {
        self.redone += 1;
    }

    fn mean_losses(&self) -> [f64; 3] {
        self.losses.map(|total| total / f64::from(self.steps.max(1)))
    }
}

impl Training<'_> {
    pub(super) fn report_step(&mut self, step: &StepPlan, totals: &Totals) {
        self.parts.reporter.advanced(self.state.step);
        if self.parts.ring.group().rank() == 0 {
            self.parts.reporter.step(StepRecord {
                epoch: step.epoch,
                step: self.state.step,
                losses: self.totals.mean_losses(),
                images: u64::from(totals.images),
            });
        }
    }

    /// Validates the averaged weights and reports the epoch; alike on all ranks.
    pub(super) fn finish_epoch(&mut self, step: &StepPlan, rates: &Rates) -> Result<(), TrainingError> {
        self.parts.reporter.activity(Activity::Validating);
        let (metrics, validation_losses) = self.validate()?;
        self.parts.reporter.activity(Activity::Saving);
        let fitness = metrics.fitness();
        let is_best = self.state.best.is_none_or(|best| fitness > best.fitness);
        if is_best {
            self.state.best = Some(Best {
                fitness,
                epoch: step.epoch,
            });
        }
        let totals = std::mem::take(&mut self.totals);
        if totals.unreadable > 0 {
            warn!(
                images = totals.unreadable,
                "images could not be decoded in this epoch and counted as empty"
            );
        }
        if self.parts.ring.group().rank() == 0 {
            let weights = self.averaged_weights();
            self.parts.reporter.epoch(
                EpochRecord {
                    epoch: step.epoch,
                    step: self.state.step,
                    training_losses: totals.mean_losses(),
                    validation_losses,
                    images: totals.images,
                    redone_steps: totals.redone,
                    hash: self.state.hash(),
                    metrics,
                    is_best,
                    rates: *rates,
                },
                weights,
            );
        }
        self.epochs += 1;
        self.parts.reporter.activity(Activity::Training);
        Ok(())
    }

    /// Returns the best epoch when patience has ended at the end of `epoch`.
    pub(super) fn best_out_of_patience(&self, epoch: u32) -> Option<u32> {
        let (best, patience) = (self.state.best?, self.parts.recipe.early_stop()?);
        (epoch - best.epoch >= patience).then_some(best.epoch)
    }

    /// Sends the averaged weights of an epoch that was not finished.
    pub(super) fn save_last(&mut self) {
        if self.parts.ring.group().rank() == 0 {
            let weights = self.averaged_weights();
            self.parts.reporter.last_weights(weights);
        }
    }

    /// Returns the averaged weights as a weights file.
    fn averaged_weights(&self) -> Vec<u8> {
        let state = &self.state;
        self.parts
            .learner
            .weights(&state.ema_parameters, &state.ema_buffers)
    }

    /// Returns metrics and mean losses over the whole validation set, the same on every rank.
    fn validate(&mut self) -> Result<(Metrics, [f64; 3]), TrainingError> {
        self.parts
            .learner
            .load(&self.state.ema_parameters, &self.state.ema_buffers);
        let recipe = self.parts.recipe;
        let dataset = self.parts.validation.dataset();
        let jobs = val_batches(dataset, recipe.imgsz, recipe.micro_batch() as usize);
        let own = self.shard(jobs.len());
        let jobs = jobs[own].to_vec();
        let mut evaluated = Vec::with_capacity(jobs.len());
        for batch in ValLoader::start(
            Arc::clone(&self.parts.validation),
            jobs.into_iter(),
            self.parts.loader_config,
        ) {
            let batch = batch?;
            let evaluation = self.parts.learner.evaluate(&batch);
            evaluated.push(Record {
                batch: batch.index,
                evaluation,
            });
        }
        let step = self.state.step;
        let blobs = self
            .parts
            .ring
            .gather(step, records::encode(&evaluated))
            .map_err(|source| TrainingError::Ring { step, source })?;
        let mut ranks = Vec::with_capacity(blobs.len());
        for (rank, blob) in blobs.iter().enumerate() {
            ranks.push(records::decode(blob).map_err(|reason| TrainingError::Records { rank, reason })?);
        }
        let evaluations = records::merge(ranks);
        let losses = records::mean_losses(&evaluations);
        let images: Vec<_> = evaluations
            .into_iter()
            .flat_map(|evaluation| evaluation.images)
            .collect();
        Ok((summarise(&images, self.parts.learner.classes()), losses))
    }
}
