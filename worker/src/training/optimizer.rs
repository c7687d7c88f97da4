//! The optimizer: SGD with Nesterov momentum, AdamW and MuSGD, as loops over the flat state.
//!
//! It runs on the host, after the all-reduce, on every rank alike. Each tensor has the learning rate and weight decay of its
//! group; nothing here knows of devices or ranks. MuSGD leaves one part, the orthogonalised update, to the learner.
//!
//! # Source
//! SGD: Sutskever et al. 2013, in the form without dampening that PyTorch's `torch.optim.SGD` documents.
//! AdamW: Loshchilov & Hutter 2019, algorithm 2, with decoupled decay.
//! MuSGD: Jordan et al. 2024 (Muon) and SGD one after the other, in the proportions that Ultralytics 8.4 takes.

use std::num::NonZeroUsize;

use model::layout::{Layout, TensorSpec};
use multiversion::multiversion;

use super::schedule::Rates;
use super::threads::{on_threads, tensors_mut};

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
    /// SGD, and before it for each matrix and each kernel of a convolution an orthogonalised update of its own momentum.
    MuSgd,
}

/// Gives a matrix of `[rows, columns]` with all singular values near 1.
pub type Orthogonalise<'a> = dyn Fn(&[f32], [usize; 2]) -> Vec<f32> + 'a;

/// What an update is made from.
pub struct Inputs<'a> {
    /// In the order of the parameters.
    pub gradient: &'a [f32],
    /// The rates of the step.
    pub rates: &'a Rates,
    /// Number of applied updates, this one included.
    pub update: u64,
    /// For the optimizers that need it.
    pub orthogonalise: &'a Orthogonalise<'a>,
    /// Threads that the update may use.
    pub threads: NonZeroUsize,
}

impl Optimizer {
    /// Returns how many flat vectors of the size of the parameters the optimizer keeps.
    pub fn moments(self) -> usize {
        match self {
            Self::Sgd => 1,
            Self::AdamW { .. } | Self::MuSgd => 2,
        }
    }

    /// Returns the name that recipes and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::AdamW { .. } => "adamw",
            Self::MuSgd => "musgd",
        }
    }

    /// Updates `parameters` and `moments`.
    ///
    /// # Panics
    /// When the vectors do not have the layout's length.
    pub fn update(
        self,
        layout: &Layout,
        parameters: &mut [f32],
        moments: &mut [Vec<f32>],
        inputs: &Inputs<'_>,
    ) {
        let Inputs {
            gradient,
            rates,
            update,
            threads,
            ..
        } = *inputs;
        assert_eq!(
            parameters.len(),
            gradient.len(),
            "gradient and parameters differ in length"
        );
        assert_eq!(moments.len(), self.moments(), "moments of another optimizer");
        let class_branch = layout.class_branch();
        let lr_of = |tensor: &TensorSpec| match class_branch.as_deref() {
            Some(branch) if tensor.name.starts_with(branch) => rates.class_lr.of(tensor.group),
            _ => rates.lr.of(tensor.group),
        };
        if let (Self::MuSgd, [_, momentum]) = (self, &mut *moments) {
            for tensor in &layout.parameters {
                muon(tensor, parameters, momentum, lr_of(tensor), inputs);
            }
        }
        let lengths = || layout.parameters.iter().map(|tensor| tensor.range.len());
        let moments = moments
            .iter_mut()
            .map(|moment| tensors_mut(moment, lengths()).into_iter());
        let mut moments: Vec<_> = moments.collect();
        let tensors: Vec<_> = (layout.parameters.iter())
            .zip(tensors_mut(parameters, lengths()))
            .map(|(tensor, values)| {
                (
                    tensor,
                    values,
                    moments.iter_mut().filter_map(Iterator::next).collect(),
                )
            })
            .collect();
        on_threads(
            threads,
            tensors,
            |(tensor, ..)| tensor.range.len(),
            |(tensor, values, mut moments): (&TensorSpec, &mut [f32], Vec<&mut [f32]>)| {
                let (gradient, lr) = (&gradient[tensor.range.clone()], lr_of(tensor));
                let decay = rates.weight_decay.of(tensor.group);
                match (self, &mut moments[..]) {
                    (Self::AdamW { beta1 }, [first, second]) => {
                        adamw(
                            values,
                            first,
                            second,
                            gradient,
                            &AdamStep::new(lr, decay, beta1, update),
                        );
                    }
                    (_, [velocity, ..]) => sgd(values, velocity, gradient, lr, decay, rates.momentum),
                    _ => unreachable!("the number of moments was checked"),
                }
            },
        );
    }
}

/// Moves a matrix, or the kernel of a convolution, along the orthogonalised average of its gradients.
fn muon(tensor: &TensorSpec, parameters: &mut [f32], momentum: &mut [f32], lr: f32, inputs: &Inputs<'_>) {
    let [rows, rest @ ..] = &*tensor.shape else {
        return;
    };
    if rest.is_empty() {
        return;
    }
    let range = tensor.range.clone();
    let gradient = &inputs.gradient[range.clone()];
    let matrix = nesterov_average(&mut momentum[range.clone()], gradient, inputs.rates.momentum);
    let update = (inputs.orthogonalise)(&matrix, [*rows, rest.iter().product()]);
    let step = lr * MUON_PART;
    (parameters[range].iter_mut().zip(&update)).for_each(|(p, u)| *p -= step * u);
}

#[multiversion(targets = "simd")]
fn sgd(parameters: &mut [f32], velocity: &mut [f32], gradient: &[f32], lr: f32, decay: f32, momentum: f32) {
    for ((p, v), &g) in parameters.iter_mut().zip(velocity).zip(gradient) {
        let g = g + decay * *p;
        *v = momentum * *v + g;
        *p -= lr * (g + momentum * *v);
    }
}

/// Takes the gradient into a moving average of it, and returns that average one gradient ahead.
fn nesterov_average(average: &mut [f32], gradient: &[f32], beta: f32) -> Vec<f32> {
    let ahead = average.iter_mut().zip(gradient).map(|(m, &g)| {
        *m = beta * *m + (1.0 - beta) * g;
        beta * *m + (1.0 - beta) * g
    });
    ahead.collect()
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

#[multiversion(targets = "simd")]
fn adamw(parameters: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], step: &AdamStep) {
    for (((p, m), v), &g) in parameters.iter_mut().zip(first).zip(second).zip(gradient) {
        *m = step.beta1 * *m + (1.0 - step.beta1) * g;
        *v = BETA2 * *v + (1.0 - BETA2) * g * g;
        let denominator = v.sqrt() / step.correction2_sqrt + EPSILON;
        *p = *p * step.keep - step.step_size * *m / denominator;
    }
}

/// How far MuSGD goes along the orthogonalised update, against the whole way of SGD: 0.2 in Ultralytics 8.4.
const MUON_PART: f32 = 0.2;
/// Decay of AdamW's second moment: the published default.
const BETA2: f32 = 0.999;
/// Keeps AdamW's division finite: the published default.
const EPSILON: f32 = 1e-8;

#[cfg(test)]
mod tests {
    use model::layout::{Group, Initial};

    use super::super::schedule::PerGroup;
    use super::*;

    fn of_all(rate: f32) -> PerGroup {
        PerGroup {
            bias: rate,
            decay: rate,
            norm: rate,
        }
    }

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

    /// Both parts of an update by hand: the kernel also moves along the orthogonalised average, all else as with SGD, and
    /// the branch of classes three times as fast.
    #[test]
    fn musgd_is_sgd_and_for_kernels_an_orthogonalised_step_before_it() {
        let spec = |name: &str, range: std::ops::Range<usize>, shape: &[usize], group| TensorSpec {
            name: name.into(),
            range,
            shape: shape.into(),
            group,
            initial: Initial::Constant(0.0),
        };
        let layout = Layout {
            parameters: vec![
                spec("model.0.conv.weight", 0..4, &[2, 2, 1, 1], Group::Decay),
                spec("model.0.bn.bias", 4..5, &[1], Group::Bias),
                spec("model.1.cv3.0.bias", 5..6, &[1], Group::Bias),
            ],
            ..Layout::default()
        };
        let rates = Rates {
            lr: of_all(0.1),
            class_lr: of_all(0.3),
            momentum: 0.9,
            weight_decay: PerGroup {
                decay: 0.5,
                ..of_all(0.0)
            },
        };
        let mut parameters = vec![1.0; 6];
        let mut moments = vec![vec![0.0; 6]; 2];
        let seen = std::cell::RefCell::new(Vec::new());
        let orthogonalise = |matrix: &[f32], shape: [usize; 2]| {
            seen.borrow_mut().push((matrix.to_vec(), shape));
            vec![1.0, 0.0, 0.0, -1.0]
        };
        Optimizer::MuSgd.update(
            &layout,
            &mut parameters,
            &mut moments,
            &Inputs {
                gradient: &[1.0; 6],
                rates: &rates,
                update: 1,
                orthogonalise: &orthogonalise,
                threads: NonZeroUsize::MIN,
            },
        );
        // m = 0.1 g; ahead = 0.9 m + 0.1 g = 0.19
        let [(matrix, shape)] = &seen.borrow()[..] else {
            panic!("one kernel: {seen:?}");
        };
        assert_eq!(*shape, [2, 2]);
        assert!(
            matrix.iter().all(|value| (value - 0.19).abs() < 1e-6),
            "{matrix:?}"
        );
        // p = 1 -+ 0.02; g' = 1 + 0.5 p; v = g'; p -= 0.1 * 1.9 g'
        let moved = |muon: f32| {
            let p = 1.0 - 0.02 * muon;
            p - 0.1 * 1.9 * (1.0 + 0.5 * p)
        };
        let expected = [
            moved(1.0),
            moved(0.0),
            moved(0.0),
            moved(-1.0),
            1.0 - 0.19,
            1.0 - 0.57,
        ];
        for (got, expected) in parameters.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{parameters:?}");
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let spec = |range: std::ops::Range<usize>| TensorSpec {
            name: format!("model.{}.conv.weight", range.start),
            shape: vec![range.len()],
            range,
            group: Group::Decay,
            initial: Initial::Constant(0.0),
        };
        let layout = Layout {
            parameters: vec![spec(0..40), spec(40..41), spec(41..100), spec(100..137)],
            ..Layout::default()
        };
        let wave = |step: usize| (0..137).map(move |place| ((place * 7 + step) as f32).sin());
        let rates = Rates {
            lr: of_all(0.1),
            class_lr: of_all(0.3),
            momentum: 0.9,
            weight_decay: of_all(0.01),
        };
        for optimizer in [Optimizer::Sgd, Optimizer::AdamW { beta1: 0.9 }] {
            let updated = |threads: usize| {
                let mut parameters: Vec<f32> = wave(0).collect();
                let mut moments = vec![vec![0.0; 137]; optimizer.moments()];
                for step in 1..4 {
                    let inputs = Inputs {
                        gradient: &wave(step).collect::<Vec<_>>(),
                        rates: &rates,
                        update: step as u64,
                        orthogonalise: &|_, _| unreachable!("only MuSGD does"),
                        threads: NonZeroUsize::new(threads).unwrap(),
                    };
                    optimizer.update(&layout, &mut parameters, &mut moments, &inputs);
                }
                (parameters, moments)
            };
            let alone = updated(1);
            assert!(
                alone
                    .0
                    .iter()
                    .zip(wave(0))
                    .all(|(after, before)| *after != before)
            );
            assert_eq!(updated(3), alone);
        }
    }
}
