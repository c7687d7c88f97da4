//! Where training gets its batches from.

use std::sync::Arc;

use data::{
    AugmentConfig, LoaderConfig, LoaderError, PictureCache, SlotBatch, SlotJob, TrainLoader, ValBatch,
    ValJob, ValLoader, val_batches,
};
use proto::Recipe;

/// Training batches in the order they were asked for.
pub type SlotBatches = Box<dyn Iterator<Item = Result<SlotBatch, LoaderError>>>;

/// Validation batches in the order they were asked for.
pub type ValBatches = Box<dyn Iterator<Item = Result<ValBatch, LoaderError>>>;

/// Slots in the order they will be needed.
pub type SlotJobs = Box<dyn Iterator<Item = SlotJob> + Send>;

/// Makes batches: from pictures, or made up in tests.
pub trait Source {
    /// Starts loading training slots.
    fn slots(&self, jobs: SlotJobs) -> SlotBatches;

    /// Returns all validation batches; the same list on every rank.
    fn validation(&self) -> Vec<ValJob>;

    /// Starts loading validation batches.
    fn validation_batches(&self, jobs: Vec<ValJob>) -> ValBatches;
}

/// Batches from the pictures of a data set, loaded ahead by threads.
pub struct Pictures {
    training: Arc<PictureCache>,
    validation: Arc<PictureCache>,
    augment: AugmentConfig,
    loader: LoaderConfig,
    seed: u64,
    image_size: u32,
    val_batch: usize,
}

impl Pictures {
    /// Returns the batches that a recipe makes of two splits.
    pub fn new(
        recipe: &Recipe,
        augment: AugmentConfig,
        loader: LoaderConfig,
        training: Arc<PictureCache>,
        validation: Arc<PictureCache>,
    ) -> Self {
        Self {
            training,
            validation,
            augment,
            loader,
            seed: recipe.seed,
            image_size: recipe.imgsz,
            val_batch: recipe.micro_batch() as usize,
        }
    }
}

impl Source for Pictures {
    fn slots(&self, jobs: SlotJobs) -> SlotBatches {
        let training = Arc::clone(&self.training);
        Box::new(TrainLoader::start(
            training,
            self.augment.clone(),
            self.seed,
            jobs,
            self.loader,
        ))
    }

    fn validation(&self) -> Vec<ValJob> {
        val_batches(self.validation.dataset(), self.image_size, self.val_batch)
    }

    fn validation_batches(&self, jobs: Vec<ValJob>) -> ValBatches {
        let validation = Arc::clone(&self.validation);
        Box::new(ValLoader::start(validation, jobs.into_iter(), self.loader))
    }
}
