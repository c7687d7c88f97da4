//! The end of an epoch: validation over all ranks, the best epoch, patience, weights.
//!
//! It belongs to the state like a step does: a rank that is lost in the middle of it leaves the others with an epoch
//! that is not validated yet, and the next generation begins with that.

use data::StepPlan;
use model::metric::{Metrics, summarise};
use proto::Activity;
use tracing::warn;

use super::records::{self, Record};
use super::state::Best;
use super::sum::Totals;
use super::{Training, TrainingError};
use crate::report::{EpochRecord, StepRecord};

impl Training<'_> {
    pub(super) fn report_step(&mut self, step: &StepPlan, totals: &Totals) {
        self.parts.reporter.advanced(self.state.step);
        if self.parts.ring.group().rank() == 0 {
            self.parts.reporter.step(StepRecord {
                epoch: step.epoch,
                step: self.state.step,
                losses: self.state.progress.mean_losses(),
                images: u64::from(totals.images),
            });
        }
    }

    /// Returns the last step of an epoch that is trained but not validated.
    pub(super) fn unvalidated_epoch(&self) -> Option<StepPlan> {
        let last = self.parts.plan.step(self.state.step.checked_sub(1)?)?;
        (last.is_last_of_epoch && self.state.epochs <= last.epoch).then_some(last)
    }

    /// Validates the averaged weights and reports the epoch; alike on all ranks.
    pub(super) async fn finish_epoch(&mut self, last: &StepPlan) -> Result<(), TrainingError> {
        self.parts.reporter.activity(Activity::Validating);
        let (metrics, validation_losses) = self.validate().await?;
        self.parts.reporter.activity(Activity::Saving);
        let this = Best {
            fitness: metrics.fitness(),
            epoch: last.epoch,
        };
        let (is_best, best) = compared(self.state.best, this);
        self.state.best = Some(best);
        self.state.epochs = last.epoch + 1;
        let progress = std::mem::take(&mut self.state.progress);
        if progress.unreadable > 0 {
            warn!(
                images = progress.unreadable,
                "images could not be decoded in this epoch and counted as empty"
            );
        }
        let record = EpochRecord {
            epoch: last.epoch,
            step: self.state.step,
            training_losses: progress.mean_losses(),
            validation_losses,
            images: progress.images,
            redone_steps: progress.redone,
            hash: self.state.hash(),
            metrics,
            is_best,
            rates: self.parts.schedule.rates(last),
        };
        let weights = self.averaged_weights();
        self.parts.reporter.epoch(record, weights);
        self.parts.reporter.activity(Activity::Training);
        let period = self.parts.recipe.save_period;
        if period > 0 && self.state.epochs.is_multiple_of(period) {
            self.checkpoint_when_free();
        }
        Ok(())
    }

    /// Returns the best epoch, the first of equal ones, when patience has ended.
    pub(super) fn best_out_of_patience(&self) -> Option<u32> {
        let (best, patience) = (self.state.best?, self.parts.recipe.early_stop()?);
        (self.state.epochs > best.epoch + patience).then_some(best.epoch)
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
        self.parts
            .learner
            .weights(&self.state.ema_parameters, &self.state.ema_buffers)
    }

    /// Returns metrics and mean losses over the whole validation set, the same on every rank.
    async fn validate(&mut self) -> Result<(Metrics, [f64; 3]), TrainingError> {
        self.parts
            .learner
            .load(&self.state.ema_parameters, &self.state.ema_buffers);
        let jobs = self.parts.source.validation();
        let own = self.shard(jobs.len());
        let jobs = jobs[own].to_vec();
        let mut evaluated = Vec::with_capacity(jobs.len());
        let mut batches = self.parts.source.validation_batches(jobs);
        let slots_at_once = self.parts.learner.slots_at_once().get();
        loop {
            let together: Vec<_> = batches.by_ref().take(slots_at_once).collect::<Result<_, _>>()?;
            if together.is_empty() {
                break;
            }
            let evaluations = self.parts.learner.evaluate(&together);
            self.parts.reporter.worked();
            let records = together.iter().zip(evaluations);
            evaluated.extend(records.map(|(batch, evaluation)| Record {
                batch: batch.index,
                evaluation,
            }));
        }
        let step = self.state.step;
        let blobs = self
            .parts
            .ring
            .gather(step, records::encode(&evaluated))
            .await
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

/// Returns whether the weights of this epoch become the best ones, and the epoch that patience counts from after it.
///
/// Weights that are as good as the best take their place, for they have learnt for longer. Patience waits for better ones, and does
/// not begin while nothing is found at all.
///
/// # Source
/// Ultralytics 8.4.190.
fn compared(best: Option<Best>, this: Best) -> (bool, Best) {
    let Some(best) = best else {
        return (true, this);
    };
    let is_best = this.fitness >= best.fitness;
    let counts_anew = this.fitness > best.fitness || best.fitness == 0.0;
    (is_best, if counts_anew { this } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_as_good_as_the_best_is_saved_as_it_and_does_not_renew_patience() {
        // Fitness, whether the weights are the best ones, and where patience counts from, epoch by epoch.
        let cases = [
            (0.0, true, 0),
            (0.0, true, 1),
            (0.3, true, 2),
            (0.2, false, 2),
            (0.3, true, 2),
            (0.4, true, 5),
            (0.0, false, 5),
        ];
        let mut best = None;
        for (epoch, (fitness, is_best, counts_from)) in (0..).zip(cases) {
            let (is_saved, next) = compared(best, Best { fitness, epoch });
            assert_eq!((is_saved, next.epoch), (is_best, counts_from), "epoch {epoch}");
            best = Some(next);
        }
        assert_eq!(best.unwrap().fitness, 0.4);
    }
}
