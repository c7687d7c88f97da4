//! The schedule: learning rate per group, momentum and weight decay as pure functions of the step.
//!
//! Rates are evaluated at the last batch of a step, so accumulation over several batches sees the same warm-up
//! as training batch by batch.
//!
//! # Source
//! The published YOLOv8 training recipe: linear or cosine decay over epochs, linear warm-up over batches.

use data::{Plan, StepPlan};
use model::layout::Group;
use proto::{OptimizerKind, Recipe};

use super::optimizer::Optimizer;

/// One value per parameter group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerGroup {
    /// Biases.
    pub bias: f32,
    /// Convolution weights, the only ones that decay.
    pub decay: f32,
    /// BatchNorm weights.
    pub norm: f32,
}

impl PerGroup {
    /// Returns the value of `group`; running statistics are not trained and get zero.
    pub fn of(&self, group: Group) -> f32 {
        match group {
            Group::Bias => self.bias,
            Group::Decay => self.decay,
            Group::Norm => self.norm,
            Group::RunningMean | Group::RunningVariance => 0.0,
        }
    }
}

/// What the optimizer is given at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Learning rates.
    pub lr: PerGroup,
    /// Learning rates in the branch of the head that tells classes.
    pub class_lr: PerGroup,
    /// Momentum of SGD and MuSGD.
    pub momentum: f32,
    /// Weight decay.
    pub weight_decay: PerGroup,
}

/// The resolved schedule of a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The optimizer that the recipe names, or that `auto` chose.
    pub optimizer: Optimizer,
    lr0: f64,
    /// Factor on `lr0` in the branch of the head that tells classes.
    class_boost: f64,
    lrf: f64,
    cosine: bool,
    epochs: f64,
    momentum: f64,
    weight_decay: f64,
    warmup_batches: f64,
    warmup_momentum: f64,
    warmup_bias_lr: f64,
}

impl Schedule {
    /// Resolves the schedule of `recipe` for a dataset of `images` images in `classes` classes.
    ///
    /// `auto` takes AdamW with a learning rate fitted to the number of classes for runs of at most
    /// [`AUTO_ADAMW_ITERATIONS`] steps of the nominal batch, and MuSGD for longer ones.
    pub fn new(recipe: &Recipe, plan: &Plan, images: usize, classes: usize) -> Self {
        let nominal = recipe.nbs.max(recipe.batch) as usize;
        let iterations = images.div_ceil(nominal) * recipe.epochs as usize;
        let (optimizer, lr0, momentum, warmup_bias_lr) = match recipe.optimizer {
            OptimizerKind::Auto if iterations > AUTO_ADAMW_ITERATIONS => {
                // A warm-up ends at the recipe's momentum, also there.
                let momentum = if plan.warmup_batches() > 0 {
                    recipe.momentum
                } else {
                    0.9
                };
                (Optimizer::MuSgd, 0.01, momentum, 0.0)
            }
            OptimizerKind::Auto => (
                Optimizer::AdamW { beta1: 0.9 },
                fitted_learning_rate(classes),
                0.9,
                0.0,
            ),
            OptimizerKind::Sgd => (Optimizer::Sgd, recipe.lr0, recipe.momentum, recipe.warmup_bias_lr),
            OptimizerKind::MuSgd => (
                Optimizer::MuSgd,
                recipe.lr0,
                recipe.momentum,
                recipe.warmup_bias_lr,
            ),
            OptimizerKind::AdamW => (
                Optimizer::AdamW {
                    beta1: recipe.momentum as f32,
                },
                recipe.lr0,
                recipe.momentum,
                recipe.warmup_bias_lr,
            ),
        };
        let batch = f64::from(recipe.batch);
        let nominal_batch = f64::from(recipe.nbs);
        let accumulate = plan.plain_accumulate() as f64;
        Self {
            optimizer,
            lr0,
            class_boost: if optimizer == Optimizer::MuSgd {
                MUSGD_CLASS_BOOST
            } else {
                1.0
            },
            lrf: recipe.lrf,
            cosine: recipe.cos_lr,
            epochs: f64::from(recipe.epochs),
            momentum,
            weight_decay: recipe.weight_decay * batch * accumulate / nominal_batch,
            warmup_batches: plan.warmup_batches() as f64,
            warmup_momentum: recipe.warmup_momentum,
            warmup_bias_lr,
        }
    }

    /// Returns the rates of a step.
    pub fn rates(&self, step: &StepPlan) -> Rates {
        let full = self.lr0 * self.decay_factor(f64::from(step.epoch));
        let batch = step.last_batch as f64;
        let progress = if batch < self.warmup_batches {
            batch / self.warmup_batches
        } else {
            1.0
        };
        let lr = |full: f64| {
            let other = interpolate(0.0, full, progress) as f32;
            PerGroup {
                bias: interpolate(self.warmup_bias_lr, full, progress) as f32,
                decay: other,
                norm: other,
            }
        };
        Rates {
            lr: lr(full),
            class_lr: lr(full * self.class_boost),
            momentum: interpolate(self.warmup_momentum, self.momentum, progress) as f32,
            weight_decay: PerGroup {
                bias: 0.0,
                decay: self.weight_decay as f32,
                norm: 0.0,
            },
        }
    }

    /// Returns the factor on `lr0` in `epoch`: 1 at the start, `lrf` at the end.
    fn decay_factor(&self, epoch: f64) -> f64 {
        let progress = (epoch / self.epochs).min(1.0);
        if self.cosine {
            (1.0 - (progress * std::f64::consts::PI).cos()) / 2.0 * (self.lrf - 1.0) + 1.0
        } else {
            (1.0 - progress) * (1.0 - self.lrf) + self.lrf
        }
    }
}

/// Longest run, in steps of the nominal batch, for which `auto` takes AdamW.
pub const AUTO_ADAMW_ITERATIONS: usize = 10_000;

/// Where MuSGD trains the branch that tells classes, it does so faster, as in Ultralytics 8.4.
const MUSGD_CLASS_BOOST: f64 = 3.0;

/// Returns the learning rate that `auto` gives AdamW: smaller for more classes, rounded to six places.
fn fitted_learning_rate(classes: usize) -> f64 {
    (0.002 * 5.0 / (4.0 + classes as f64) * 1e6).round() / 1e6
}

/// Exact at both ends.
fn interpolate(from: f64, to: f64, progress: f64) -> f64 {
    if progress == 1.0 {
        to
    } else {
        from + (to - from) * progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::plan_config;

    #[test]
    fn weight_decay_is_scaled_by_the_batches_that_a_step_accumulates() {
        // 40 images are 2.5 batches of 16: two, as Python rounds. 64 are 2.67 of 24: three.
        for (batch, nbs, images) in [(16, 64, 64.0), (16, 40, 32.0), (24, 64, 72.0), (128, 64, 128.0)] {
            let recipe = Recipe {
                batch,
                nbs,
                ..Recipe::default()
            };
            let plan = Plan::new(plan_config(&recipe, 1000)).unwrap();
            let schedule = Schedule::new(&recipe, &plan, 1000, 80);
            let expected = 0.0005 * images / f64::from(nbs);
            assert!(
                (schedule.weight_decay - expected).abs() < 1e-12,
                "batch {batch}, nbs {nbs}"
            );
        }
    }
}
