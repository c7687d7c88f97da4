//! What one run of the coordinator is told: resolved and validated.

use std::path::PathBuf;

use proto::{Recipe, RecipeError};
use security::Security;

use crate::membership::Timing;

/// The configuration of a run.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// All hyper-parameters, valid and resolved.
    pub recipe: Recipe,
    /// Number of workers that the run starts with.
    pub world_size: usize,
    /// Folder that holds the run directories.
    pub project: PathBuf,
    /// Name of the run directory; a number is added when it is taken.
    pub name: String,
    /// Directory of the run to take over, instead of beginning a new one; `recipe` is then that run's.
    pub resume: Option<PathBuf>,
    /// Whether workers of an earlier coordinator of the run are known to be gone.
    pub workers_are_gone: bool,
    /// Number of workers that the run goes on with at least.
    pub min_world_size: usize,
    /// Number of checkpoints that are kept.
    pub keep: usize,
    /// How long to wait for what.
    pub timing: Timing,
    /// Who may connect; only this machine unless set.
    pub security: Security,
}

impl CoordinatorConfig {
    /// Makes a configuration with the default place and timing.
    ///
    /// # Errors
    /// When a value of the recipe is out of range, or it has too few slots for this many workers.
    pub fn new(recipe: Recipe, world_size: usize) -> Result<Self, RecipeError> {
        recipe.validate()?;
        recipe.check_world_size(world_size)?;
        Ok(Self {
            recipe: recipe.resolved(),
            world_size,
            project: PathBuf::from(DEFAULT_PROJECT),
            name: DEFAULT_NAME.to_owned(),
            resume: None,
            workers_are_gone: false,
            min_world_size: 1,
            keep: DEFAULT_KEEP,
            timing: Timing::default(),
            security: Security::loopback(),
        })
    }
}

/// The folder for run directories, beside the working directory as users of Ultralytics expect it.
pub const DEFAULT_PROJECT: &str = "runs";

/// The newest checkpoint, and one more in case its files are damaged.
pub const DEFAULT_KEEP: usize = 2;

/// The name of a run that was not named.
pub const DEFAULT_NAME: &str = "train";
