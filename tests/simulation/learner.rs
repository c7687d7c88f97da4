//! A tiny learner: a quadratic, whose gradient is a sum over samples, with running statistics like those of a network.

use std::io;
use std::num::NonZeroUsize;

use data::{LoaderError, Plan, SampleId, SlotBatch, SlotJob, ValBatch, ValJob};
use model::layout::{FlatState, Group, Initial, Layout, TensorSpec};
use proto::{DatasetCard, Fingerprint, ModelCard, Recipe};
use worker::compute::{Cards, Desk, Engine, Opened, work};
use worker::prepare::plan_config;
use worker::training::feed::Contribution;
use worker::training::learner::{Learner, Slot};
use worker::training::records::Evaluation;
use worker::training::schedule::Schedule;
use worker::training::source::{SlotBatches, SlotJobs, Source, ValBatches};
use worker::training::state::State;

use crate::history::{Fact, History};

/// Samples of the data set.
pub(crate) const SAMPLES: usize = 40;

/// Starts quadratics on one host, and notes what they compute.
pub(crate) struct Quadratic {
    pub(crate) host: String,
    pub(crate) history: History,
}

impl Engine for Quadratic {
    fn start(&self, recipe: Recipe, desk: Desk) -> io::Result<()> {
        let bowl = Bowl::new(self.host.clone(), self.history.clone());
        tokio::task::spawn_local(compute(recipe, bowl, desk));
        Ok(())
    }
}

async fn compute(recipe: Recipe, mut bowl: Bowl, desk: Desk) {
    let plan = Plan::new(plan_config(&recipe, SAMPLES)).expect("a plan");
    let schedule = Schedule::new(&recipe, &plan, SAMPLES, 1);
    let layout = bowl.layout().clone();
    let initial = FlatState {
        parameters: vec![0.5; layout.parameters_len()],
        buffers: vec![1.0; layout.buffers_len()],
    };
    let tensors = layout.parameters.len() + layout.buffers.len();
    let state = State::new(initial, schedule.optimizer.moments(), tensors);
    let opened = Opened {
        recipe: &recipe,
        cards: Cards {
            dataset: DatasetCard {
                fingerprint: Fingerprint::of(b"numbers"),
                train_images: SAMPLES as u64,
                val_images: VAL_BATCHES.into(),
                class_names: vec!["number".into()],
            },
            model: ModelCard {
                layout_digest: Fingerprint::of(b"bowl"),
                description: "a quadratic".into(),
                arithmetic: String::new(),
            },
            steps: plan.steps(),
        },
        plan: &plan,
        schedule: &schedule,
        source: &Numbers,
        learner: &mut bowl,
        threads: NonZeroUsize::MIN,
    };
    work(opened, state, desk).await;
}

/// Batches without pictures: a sample is its number.
struct Numbers;

impl Source for Numbers {
    fn slots(&self, jobs: SlotJobs) -> SlotBatches {
        Box::new(jobs.map(batch))
    }

    fn validation(&self) -> Vec<ValJob> {
        let job = |index| ValJob {
            index,
            samples: vec![SampleId(index)],
            width: 32,
            height: 32,
            image_size: 32,
        };
        (0..VAL_BATCHES).map(job).collect()
    }

    fn validation_batches(&self, jobs: Vec<ValJob>) -> ValBatches {
        let batch = |job: ValJob| {
            Ok(ValBatch {
                index: job.index,
                width: job.width,
                height: job.height,
                images: Vec::new(),
                samples: job.samples,
                letterboxes: Vec::new(),
                truth: Vec::new(),
                unreadable: 0,
            })
        };
        Box::new(jobs.into_iter().map(batch))
    }
}

fn batch(job: SlotJob) -> Result<SlotBatch, LoaderError> {
    Ok(SlotBatch {
        step: job.step,
        epoch: job.epoch,
        slot: job.slot,
        size: job.image_size,
        images: Vec::new(),
        targets: Vec::new(),
        samples: job.samples,
        unreadable: 0,
    })
}

/// The loss is the squared distance of the parameters from each sample's own point.
struct Bowl {
    host: String,
    history: History,
    layout: Layout,
    parameters: Vec<f32>,
}

impl Bowl {
    fn new(host: String, history: History) -> Self {
        Self {
            host,
            history,
            layout: layout(),
            parameters: Vec::new(),
        }
    }

    /// Returns the losses of one sample, the same three times.
    fn loss(&self, sample: SampleId) -> f32 {
        let parameters = self.parameters.iter().enumerate();
        parameters
            .map(|(index, value)| (value - point(sample, index)).powi(2) / 2.0)
            .sum()
    }

    /// Returns what a slot adds to its step.
    fn contribution(&self, batch: &SlotBatch) -> Contribution {
        let contributed = Fact::Contributed {
            step: batch.step,
            slot: batch.slot,
            samples: batch.samples.iter().map(|sample| sample.0).collect(),
        };
        self.history.note(&self.host, contributed);
        let samples = batch.samples.len() as f32;
        let over_samples =
            |of: &dyn Fn(SampleId) -> f32| -> f32 { batch.samples.iter().map(|&sample| of(sample)).sum() };
        let gradient = self.parameters.iter().enumerate();
        let gradient = gradient
            .map(|(index, &value)| over_samples(&|sample| value - point(sample, index)))
            .collect();
        let mean = |index| over_samples(&|sample| point(sample, index)) / samples;
        let statistics = (0..self.layout.buffers_len()).map(mean).collect();
        Contribution {
            gradient,
            statistics,
            losses: [over_samples(&|sample| self.loss(sample)); 3],
            normaliser: samples,
            images: batch.samples.len() as u32,
            unreadable: 0,
        }
    }
}

impl Learner for Bowl {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn classes(&self) -> usize {
        1
    }

    /// Two on every other host: that they are given together must not matter.
    fn slots_at_once(&self) -> NonZeroUsize {
        let number = self.host.bytes().next_back().unwrap_or_default() % 2 + 1;
        NonZeroUsize::new(number.into()).unwrap_or(NonZeroUsize::MIN)
    }

    fn load(&mut self, parameters: &[f32], _buffers: &[f32]) {
        self.parameters = parameters.to_vec();
    }

    fn contribute(&mut self, slots: &[Slot<'_>]) -> Vec<Contribution> {
        slots.iter().map(|slot| self.contribution(slot.batch)).collect()
    }

    fn evaluate(&mut self, batches: &[ValBatch]) -> Vec<Evaluation> {
        let evaluation = |batch: &ValBatch| Evaluation {
            losses: [batch.samples.iter().map(|&sample| self.loss(sample)).sum(); 3],
            normaliser: batch.samples.len() as f32,
            images: Vec::new(),
        };
        batches.iter().map(evaluation).collect()
    }

    fn orthogonalise(&self, _: &[f32], _: [usize; 2]) -> Vec<f32> {
        unreachable!("the recipe of simulations takes SGD")
    }

    fn weights(&self, parameters: &[f32], buffers: &[f32]) -> Vec<u8> {
        let values = parameters.iter().chain(buffers);
        values.flat_map(|value| value.to_le_bytes()).collect()
    }
}

/// Coordinate `index` of a sample's point.
fn point(sample: SampleId, index: usize) -> f32 {
    ((sample.0 as usize * 31 + index * 17) % 97) as f32 / 97.0
}

fn layout() -> Layout {
    Layout {
        parameters: tensors(&[
            ("weight", 48, Group::Decay),
            ("scale", 8, Group::Norm),
            ("bias", 9, Group::Bias),
        ]),
        buffers: tensors(&[
            ("running_mean", 8, Group::RunningMean),
            ("running_var", 8, Group::RunningVariance),
        ]),
        constants: Vec::new(),
    }
}

/// Returns tensors one behind the other.
fn tensors(list: &[(&str, usize, Group)]) -> Vec<TensorSpec> {
    let mut begin = 0;
    let mut tensor = |&(name, length, group): &(&str, usize, Group)| {
        let range = begin..begin + length;
        begin = range.end;
        TensorSpec {
            name: name.to_owned(),
            range,
            shape: vec![length],
            group,
            initial: Initial::Constant(1.0),
        }
    };
    list.iter().map(&mut tensor).collect()
}

const VAL_BATCHES: u32 = 3;
