//! The compute thread: opens data and model, waits for its place in a ring, trains.
//!
//! Tensors stay on one thread from first to last, for a device's settings (libtorch's thread count, a GPU's
//! context) belong to threads. The session talks to it through two one-shot channels.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::{Context, anyhow};
use collective::{Group, Links, PieceSizes};
use data::{LoaderConfig, Plan, SlotJob, TrainLoader};
use proto::{DatasetCard, ModelCard, Recipe};
use tokio::sync::oneshot;
use tracing::info;

use crate::delivery::Delivery;
use crate::prepare::{HostOptions, augment_config, prepare};
use crate::ring::Ring;
use crate::training::{Ending, Parts, Training, TrainingError};

/// What was opened, for the coordinator to compare.
#[derive(Debug)]
pub struct Cards {
    /// The data.
    pub dataset: DatasetCard,
    /// The model.
    pub model: ModelCard,
    /// Steps of the whole run.
    pub steps: u64,
}

/// A place in a ring, and where to report.
pub struct Place {
    /// The ring's members.
    pub group: Group,
    /// The links to the neighbours.
    pub links: Box<dyn Links + Send>,
    /// Takes what training reports.
    pub delivery: Delivery,
}

/// How training ended on this rank.
pub struct Done {
    /// The ending, or what went wrong.
    pub result: Result<Ending, TrainingError>,
    /// Steps done.
    pub step: u64,
    /// Epochs completed.
    pub epochs: u32,
    /// The ring, whose links stay open as long as it lives.
    pub ring: Option<Ring>,
}

/// The compute thread of a worker.
pub struct Compute {
    /// Delivers what was opened, or why not.
    pub cards: oneshot::Receiver<anyhow::Result<Cards>>,
    /// Starts training.
    pub place: oneshot::Sender<Place>,
    /// Delivers the end of training.
    pub done: oneshot::Receiver<anyhow::Result<Done>>,
}

impl Compute {
    /// Starts the thread, which opens data and model at once. It ends when `place` is dropped.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(recipe: Recipe, host: HostOptions, stop: Arc<AtomicBool>) -> std::io::Result<Self> {
        let (cards_sender, cards) = oneshot::channel();
        let (place, place_receiver) = oneshot::channel();
        let (done_sender, done) = oneshot::channel();
        let body = move || compute(&recipe, &host, &stop, cards_sender, place_receiver);
        thread::Builder::new().name("compute".into()).spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panic_error(&panic)));
            // Nobody listens any more when the session has ended.
            let _ = done_sender.send(done);
        })?;
        Ok(Self { cards, place, done })
    }
}

fn compute(
    recipe: &Recipe,
    host: &HostOptions,
    stop: &AtomicBool,
    cards: oneshot::Sender<anyhow::Result<Cards>>,
    place: oneshot::Receiver<Place>,
) -> anyhow::Result<Done> {
    let mut prepared = match prepare(recipe, host) {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = cards.send(Err(error));
            return Err(anyhow!("nothing to train with"));
        }
    };
    let opened = Cards {
        dataset: prepared.dataset_card.clone(),
        model: prepared.model_card.clone(),
        steps: prepared.plan.steps(),
    };
    let _ = cards.send(Ok(opened));
    let mut place = place
        .blocking_recv()
        .context("the session ended before training")?;

    let group = place.group;
    let jobs = slot_jobs(prepared.plan.clone(), prepared.initial.step, group);
    let augment = augment_config(recipe);
    let loader = TrainLoader::start(prepared.training, augment, recipe.seed, jobs, loader_config());
    let parts = Parts {
        recipe,
        plan: prepared.plan,
        schedule: prepared.schedule,
        validation: prepared.validation,
        loader,
        loader_config: loader_config(),
        learner: &mut prepared.learner,
        ring: Ring::new(group, place.links, piece_sizes(recipe)),
        reporter: &mut place.delivery,
        stop,
    };
    let mut training = Training::new(parts, prepared.initial);
    let result = training.run();
    let state = training.state();
    info!(step = state.step, hash = %state.hash().state, "training ended");
    let (step, epochs) = (state.step, training.epochs());
    Ok(Done {
        result,
        step,
        epochs,
        ring: Some(training.into_ring()),
    })
}

/// Returns the slots of this rank, step after step.
fn slot_jobs(plan: Plan, first: u64, group: Group) -> impl Iterator<Item = SlotJob> + Send + 'static {
    (first..)
        .map_while(move |step| plan.step(step))
        .flat_map(move |step| step.jobs(data::shard(step.slots.len(), group.world_size(), group.rank())))
}

/// Returns how the flat vector is cut up to travel, alike on all ranks.
fn piece_sizes(recipe: &Recipe) -> PieceSizes {
    let segment_bytes = PieceSizes::default().segment_bytes();
    // Invariant: a valid recipe has a bucket of 1 to 1024 MiB.
    PieceSizes::new(recipe.bucket_bytes(), segment_bytes).expect("a valid bucket size")
}

/// Returns the size of a loader: one thread ahead of the model, and a few batches ready.
pub fn loader_config() -> LoaderConfig {
    // Invariant: the numbers are not zero.
    let number = |number| NonZeroUsize::new(number).expect("not zero");
    LoaderConfig {
        threads: number(LOADER_THREADS),
        queue: number(LOADER_QUEUE),
    }
}

fn panic_error(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    anyhow!("training panicked, which is a bug: {text}")
}

/// Loading a picture takes about a hundredth of training on it, on the CPU.
const LOADER_THREADS: usize = 1;

/// Batches ready ahead of the model.
const LOADER_QUEUE: usize = 4;
