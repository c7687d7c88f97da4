//! The optimizer: SGD with Nesterov momentum and AdamW, as loops over the flat state.
//!
//! It runs on the host, after the all-reduce, on every rank alike. A step touches each tensor once, in layout
//! order, with the learning rate and weight decay of the tensor's group, and knows nothing of devices or ranks.
//!
//! # Source
//! SGD: Sutskever et al. 2013, in the form without dampening that PyTorch's `torch.optim.SGD` documents.
//! AdamW: Loshchilov & Hutter 2019, algorithm 2, with decoupled decay.

use model::layout::Layout;

use super::schedule::Rates;

/// An optimizer with its settings; the moments it needs live in the state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// SGD with Nesterov momentum; the momentum comes from the schedule.
    Sgd,
    /// AdamW; `beta1` takes the place of the momentum and is not warmed up.
    AdamW {
        /// Decay of the first moment.
        beta1: f32,
    },
}

impl Optimizer {
    /// Returns how many flat vectors of the size of the parameters the optimizer keeps.
    pub fn moments(self) -> usize {
        match self {
            Self::Sgd => 1,
            Self::AdamW { .. } => 2,
        }
    }

    /// Returns the name that recipes and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::AdamW { .. } => "adamw",
        }
    }

    /// Updates `parameters` and `moments` with `gradient`; `update` counts applied updates, this one included.
    ///
    /// # Panics
    /// When the vectors do not have the layout's length.
    pub fn update(
        self,
        layout: &Layout,
        parameters: &mut [f32],
        moments: &mut [Vec<f32>],
        gradient: &[f32],
        rates: &Rates,
        update: u64,
    ) {
        assert_eq!(
            parameters.len(),
            gradient.len(),
            "gradient and parameters differ in length"
        );
        assert_eq!(moments.len(), self.moments(), "moments of another optimizer");
        for tensor in &layout.parameters {
            let range = tensor.range.clone();
            let lr = rates.lr.of(tensor.group);
            let decay = rates.weight_decay.of(tensor.group);
            match (self, &mut *moments) {
                (Self::Sgd, [velocity]) => sgd(
                    &mut parameters[range.clone()],
                    &mut velocity[range.clone()],
                    &gradient[range],
                    lr,
                    decay,
                    rates.momentum,
                ),
                (Self::AdamW { beta1 }, [first, second]) => adamw(
                    &mut parameters[range.clone()],
                    &mut first[range.clone()],
                    &mut second[range.clone()],
                    &gradient[range],
                    &AdamStep::new(lr, decay, beta1, update),
                ),
                _ => unreachable!("the number of moments was checked"),
            }
        }
    }
}

fn sgd(parameters: &mut [f32], velocity: &mut [f32], gradient: &[f32], lr: f32, decay: f32, momentum: f32) {
    for ((p, v), &g) in parameters.iter_mut().zip(velocity).zip(gradient) {
        let g = g + decay * *p;
        *v = momentum * *v + g;
        *p -= lr * (g + momentum * *v);
    }
}

/// The constants of one AdamW update of one tensor.
struct AdamStep {
    keep: f32,
    beta1: f32,
    step_size: f32,
    correction2_sqrt: f32,
}

impl AdamStep {
    fn new(lr: f32, decay: f32, beta1: f32, update: u64) -> Self {
        let update = update as f64;
        let correction1 = 1.0 - f64::from(beta1).powf(update);
        let correction2 = 1.0 - f64::from(BETA2).powf(update);
        Self {
            keep: 1.0 - lr * decay,
            beta1,
            step_size: (f64::from(lr) / correction1) as f32,
            correction2_sqrt: correction2.sqrt() as f32,
        }
    }
}

fn adamw(parameters: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], step: &AdamStep) {
    for (((p, m), v), &g) in parameters.iter_mut().zip(first).zip(second).zip(gradient) {
        *m = step.beta1 * *m + (1.0 - step.beta1) * g;
        *v = BETA2 * *v + (1.0 - BETA2) * g * g;
        let denominator = v.sqrt() / step.correction2_sqrt + EPSILON;
        *p = *p * step.keep - step.step_size * *m / denominator;
    }
}

/// Decay of AdamW's second moment: the published default.
const BETA2: f32 = 0.999;
/// Keeps AdamW's division finite: the published default.
const EPSILON: f32 = 1e-8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference values computed by hand in `f64` from the published update rules.
    #[test]
    fn sgd_follows_nesterov_without_dampening() {
        let (mut p, mut v) = (vec![1.0_f32], vec![0.0_f32]);
        sgd(&mut p, &mut v, &[0.5], 0.1, 0.01, 0.9);
        // g = 0.5 + 0.01; v = 0.51; p = 1 - 0.1 * (0.51 + 0.9 * 0.51)
        assert!((v[0] - 0.51).abs() < 1e-7);
        assert!((p[0] - 0.9031).abs() < 1e-6);
        sgd(&mut p, &mut v, &[0.5], 0.1, 0.01, 0.9);
        let g = 0.5 + 0.01 * 0.9031;
        let velocity = 0.9 * 0.51 + g;
        assert!((p[0] - (0.9031 - 0.1 * (g + 0.9 * velocity))).abs() < 1e-6);
    }

    #[test]
    fn the_first_adamw_update_moves_by_the_learning_rate() {
        let (mut p, mut m, mut v) = (vec![1.0_f32, -1.0], vec![0.0_f32; 2], vec![0.0_f32; 2]);
        let step = AdamStep::new(0.01, 0.1, 0.9, 1);
        adamw(&mut p, &mut m, &mut v, &[3.0, -0.002], &step);
        // Bias correction makes the first step lr * sign(g), after the decay 1 - lr * wd.
        assert!((p[0] - (0.999 - 0.01)).abs() < 1e-6, "{}", p[0]);
        assert!((p[1] - (-0.999 + 0.01)).abs() < 1e-6, "{}", p[1]);
    }
}
