//! The compute thread: opens data and model, then takes one place in a ring after the other, and trains in it.
//!
//! The model is loaded on this thread, for a device's settings (a GPU's context) belong to threads, and the state stays here:
//! it outlives every generation. Slots that are computed side by side have threads of their own for that long.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use anyhow::anyhow;
use collective::{Group, PieceSizes};
use data::{LoaderConfig, Plan};
use proto::{DatasetCard, Generation, ModelCard, Recipe};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug, info};

use crate::delivery::Delivery;
use crate::outbox::Outbox;
use crate::prepare::{HostOptions, prepare};
use crate::pulse::Pulse;
use crate::replica::Replica;
use crate::ring::Ring;
use crate::ring::links::RingLinks;
use crate::signals::Signals;
use crate::training::learner::Learner;
use crate::training::schedule::Schedule;
use crate::training::source::Source;
use crate::training::state::State;
use crate::training::{Ending, Parts, Training, TrainingError};

/// What was opened, for the coordinator to compare.
#[derive(Clone, Debug)]
pub struct Cards {
    /// The data.
    pub dataset: DatasetCard,
    /// The model.
    pub model: ModelCard,
    /// Steps of the whole run.
    pub steps: u64,
}

/// A place in the ring of a generation.
pub struct Place {
    /// The ring's members.
    pub group: Group,
    /// The links to the neighbours.
    pub links: RingLinks,
    /// Where states come from and go to.
    pub replica: Replica,
}

/// What the compute thread tells.
pub enum Notice {
    /// Data and model are open.
    Opened(Cards),
    /// It can do no more; nothing follows.
    Failed(anyhow::Error),
    /// Training in a generation has ended.
    Left(Left),
}

/// The end of training in a generation.
pub struct Left {
    /// The generation.
    pub generation: Generation,
    /// How it ended, or what went wrong.
    pub result: Result<Ending, TrainingError>,
    /// Steps done.
    pub step: u64,
    /// Epochs validated.
    pub epochs: u32,
    /// The ring, whose links stay open as long as it lives.
    pub ring: Ring,
}

/// The session's ends of what connects it with the compute thread.
pub struct Ports {
    /// Where places go.
    pub places: mpsc::Sender<Place>,
    /// Where notices come from.
    pub notices: mpsc::Receiver<Notice>,
}

/// The compute thread's ends.
pub struct Desk {
    places: mpsc::Receiver<Place>,
    notices: mpsc::Sender<Notice>,
    /// Requests to training.
    pub signals: Arc<Signals>,
    /// Signs of life.
    pub pulse: Arc<Pulse>,
    /// What is to be delivered.
    pub outbox: Arc<Outbox>,
}

impl Desk {
    /// Returns where an engine that can do no more says why.
    pub fn last_words(&self) -> mpsc::Sender<Notice> {
        self.notices.clone()
    }
}

/// Connects a session and what computes for it.
pub fn connect(signals: &Arc<Signals>, pulse: &Arc<Pulse>, outbox: &Arc<Outbox>) -> (Ports, Desk) {
    let (places, places_receiver) = mpsc::channel(PLACES_CAPACITY);
    let (notices_sender, notices) = mpsc::channel(NOTICES_CAPACITY);
    let ports = Ports { places, notices };
    let desk = Desk {
        places: places_receiver,
        notices: notices_sender,
        signals: Arc::clone(signals),
        pulse: Arc::clone(pulse),
        outbox: Arc::clone(outbox),
    };
    (ports, desk)
}

/// Whatever opens a run and computes for it: a thread with a model, or a stand-in for it in tests.
pub trait Engine: Send + Sync {
    /// Starts to open what the recipe names and to take places; returns at once.
    ///
    /// # Errors
    /// When the system has no thread left.
    fn start(&self, recipe: Recipe, desk: Desk) -> std::io::Result<()>;
}

impl Engine for HostOptions {
    fn start(&self, recipe: Recipe, desk: Desk) -> std::io::Result<()> {
        let (host, runtime) = (self.clone(), Handle::current());
        let last_words = desk.last_words();
        thread::Builder::new().name("compute".into()).spawn(move || {
            let body = || compute(&recipe, &host, &runtime, desk);
            let error = match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(panic) => panic_error(&*panic),
            };
            // Nobody listens any more when the session has ended.
            let _ = last_words.blocking_send(Notice::Failed(error));
        })?;
        Ok(())
    }
}

fn compute(recipe: &Recipe, host: &HostOptions, runtime: &Handle, desk: Desk) -> anyhow::Result<()> {
    let mut prepared = prepare(recipe, host)?;
    let opened = Opened {
        recipe,
        cards: Cards {
            dataset: prepared.dataset_card.clone(),
            model: prepared.model_card.clone(),
            steps: prepared.plan.steps(),
        },
        plan: &prepared.plan,
        schedule: &prepared.schedule,
        source: &prepared.source,
        learner: &mut prepared.learner,
        threads: host.thread_count(),
    };
    runtime.block_on(work(opened, prepared.initial, desk));
    Ok(())
}

/// Everything that was opened for a run.
pub struct Opened<'a> {
    /// The hyper-parameters.
    pub recipe: &'a Recipe,
    /// What the coordinator compares.
    pub cards: Cards,
    /// The data plan.
    pub plan: &'a Plan,
    /// Rates and optimizer.
    pub schedule: &'a Schedule,
    /// Makes batches.
    pub source: &'a dyn Source,
    /// What computes.
    pub learner: &'a mut dyn Learner,
    /// Threads of this process.
    pub threads: NonZeroUsize,
}

/// Takes one place after the other and trains in it, from `state` on, until nobody offers a place any more.
pub async fn work(opened: Opened<'_>, mut state: State, mut desk: Desk) {
    let mut delivery = Delivery::new(
        Arc::clone(&desk.outbox),
        Arc::clone(&desk.pulse),
        opened.cards.steps,
    );
    let mut progressed = 0;
    if desk.notices.send(Notice::Opened(opened.cards)).await.is_err() {
        return;
    }
    while let Some(place) = desk.places.recv().await {
        let generation = place.group.generation();
        debug!(%generation, "training takes its place");
        let parts = Parts {
            recipe: opened.recipe,
            plan: opened.plan,
            schedule: opened.schedule,
            source: opened.source,
            learner: &mut *opened.learner,
            threads: opened.threads,
            ring: Ring::new(
                place.group,
                place.links,
                piece_sizes(opened.recipe),
                Arc::clone(&desk.pulse),
            ),
            replica: place.replica,
            reporter: &mut delivery,
            signals: &desk.signals,
        };
        let mut training = Training::new(parts, &mut state, &mut progressed);
        let result = training.run().await;
        let ring = training.into_ring();
        desk.pulse.set_activity(proto::Activity::Waiting);
        desk.pulse.wait_for_left(false);
        info!(%generation, step = state.step, "training left the generation");
        if matches!(
            result,
            Ok(Ending::Completed | Ending::OutOfPatience { .. } | Ending::Stopped)
        ) {
            info!(step = state.step, hash = %state.hash().state, "training ended");
        }
        let left = Left {
            generation,
            result,
            step: state.step,
            epochs: state.epochs,
            ring,
        };
        if desk.notices.send(Notice::Left(left)).await.is_err() {
            return;
        }
    }
}

/// Returns how the flat vector is cut up to travel, alike on all ranks.
fn piece_sizes(recipe: &Recipe) -> PieceSizes {
    let segment_bytes = PieceSizes::default().segment_bytes();
    // Invariant: a valid recipe has a bucket of 1 to 1024 MiB.
    PieceSizes::new(recipe.bucket_bytes(), segment_bytes).expect("a valid bucket size")
}

/// Returns the size of a loader for a model that takes so many batches at once: one thread ahead of it for every few, and those that
/// come next ready.
pub fn loader_config(batches_at_once: NonZeroUsize) -> LoaderConfig {
    let threads = batches_at_once.get().div_ceil(BATCHES_A_LOADER_THREAD);
    LoaderConfig {
        threads: NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN),
        queue: batches_at_once.saturating_add(LOADER_QUEUE),
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

/// One place is taken while the next may be offered already.
const PLACES_CAPACITY: usize = 4;

/// One notice for each place, and two about the beginning and the end.
const NOTICES_CAPACITY: usize = 8;

/// Loading a picture takes about a hundredth of training on it, on one core of a CPU, and never more than a tenth.
const BATCHES_A_LOADER_THREAD: usize = 8;

/// Batches ready ahead of those that the model takes next.
const LOADER_QUEUE: usize = 3;
