//! What can be wrong with a recipe, in one sentence each.

use thiserror::Error;

/// Why a recipe is refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RecipeError {
    /// A value outside its range.
    #[error("recipe value {key} = {value} is out of range: allowed is {allowed}")]
    OutOfRange {
        /// Its key in the recipe file.
        key: &'static str,
        /// The value.
        value: String,
        /// The allowed values, in words.
        allowed: String,
    },
    /// A key that does not exist.
    #[error("unknown recipe key `{key}`{}", hint(nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The file is not TOML, or a value has another type.
    #[error("line {line} of the recipe: {reason}")]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// An `args.yaml` that is no YAML.
    #[error("no args.yaml: {reason}")]
    ArgsSyntax {
        /// What the parser says.
        reason: String,
    },
    /// Keys of an `args.yaml` that would change the training, or that nobody knows here.
    #[error("these keys of args.yaml cannot be had here, leave them out or at their default: {}", keys.join(", "))]
    ArgsRefused {
        /// Each with its value, and the reason where it is not plain.
        keys: Vec<String>,
    },
    /// No such number of workers.
    #[error("a run has 1 to {} workers, not {world_size}", crate::MAX_WORLD_SIZE)]
    WorldSize {
        /// The number asked for.
        world_size: usize,
    },
    /// Some workers would have nothing to do.
    #[error(
        "{world_size} workers cannot share a batch of {batch} in {slots} slots of {micro_batch} images: set {}, \
         or take fewer workers, for each is a process that trains, none that only loads pictures",
        remedy(*world_size, *batch)
    )]
    TooFewSlots {
        /// Number of workers.
        world_size: usize,
        /// Number of slots of a full batch.
        slots: u32,
        /// Images in a batch.
        batch: u32,
        /// Images in a slot.
        micro_batch: u32,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |key| format!(", did you mean `{key}`?"))
}

fn remedy(world_size: usize, batch: u32) -> String {
    if world_size > batch as usize {
        format!("--batch {world_size} --micro-batch 1 or more")
    } else {
        format!("--micro-batch {}", batch as usize / world_size)
    }
}
