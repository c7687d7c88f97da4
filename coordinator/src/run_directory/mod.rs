//! The run directory: everything that a run leaves behind.
//!
//! ```text
//! runs/train/
//!   recipe.toml      the resolved recipe
//!   results.csv      one row per epoch, with the column names that Ultralytics writes
//!   events.jsonl     one JSON object per event
//!   journal          what a coordinator must know that takes the run over
//!   weights/         last.safetensors, best.safetensors
//!   checkpoints/     whole training states, see [`checkpoints`]
//! ```
//!
//! A directory belongs to one run: it is made with `mkdir`, which fails when it exists, so two coordinators
//! never share one.

pub mod checkpoints;

mod events;
mod results;
mod weights;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::Recipe;
use thiserror::Error;

pub(crate) use self::events::EventLog;
pub(crate) use self::results::Results;
pub(crate) use self::weights::Weights;

/// A run directory that was made for this run.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    path: PathBuf,
}

/// Why there is no run directory.
#[derive(Debug, Error)]
pub enum RunDirectoryError {
    /// The name is no plain file name.
    #[error("{name:?} is not a name for a run: use a plain name without path separators")]
    BadName {
        /// The name.
        name: String,
    },
    /// Too many runs of one name.
    #[error("{} and its numbered successors up to {DIRECTORIES_MAX} are taken: choose another --name", path.display())]
    AllTaken {
        /// The first of them.
        path: PathBuf,
    },
    /// There is no run here.
    #[error("{} holds no run that could be resumed: {reason}", path.display())]
    NoRun {
        /// Where it was looked for.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The system refused.
    #[error("cannot create {}: {cause}", path.display())]
    Create {
        /// What was to be created.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl RunDirectory {
    /// Makes `project/name`, or `project/name2`, `name3`, ... when that is taken, and writes the recipe into it.
    ///
    /// # Errors
    /// When the name is not a plain file name, or the system refuses.
    pub fn create(project: &Path, name: &str, recipe: &Recipe) -> Result<Self, RunDirectoryError> {
        let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']);
        if !is_plain {
            return Err(RunDirectoryError::BadName {
                name: name.to_owned(),
            });
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            |cause| RunDirectoryError::Create { path, cause }
        };
        let path = claim(project, name)?;
        let weights = path.join(WEIGHTS);
        fs::create_dir(&weights).map_err(failed(&weights))?;
        let recipe_file = path.join(RECIPE);
        write_new(&recipe_file, recipe.to_toml().as_bytes()).map_err(failed(&recipe_file))?;
        Ok(Self { path })
    }

    /// Opens the directory of a run that an earlier coordinator has begun, and reads its recipe.
    ///
    /// # Errors
    /// When there is no such directory, or its recipe cannot be read.
    pub fn open(path: &Path) -> Result<(Self, Recipe), RunDirectoryError> {
        let no_run = |reason: String| RunDirectoryError::NoRun {
            path: path.to_owned(),
            reason,
        };
        let file = path.join(RECIPE);
        let text =
            fs::read_to_string(&file).map_err(|error| no_run(format!("{}: {error}", file.display())))?;
        let recipe = Recipe::from_toml(&text).map_err(|error| no_run(error.to_string()))?;
        let directory = Self {
            path: path.to_owned(),
        };
        Ok((directory, recipe))
    }

    /// Whether a run was begun in the directory at `path`.
    pub fn is_begun(path: &Path) -> bool {
        path.join(JOURNAL).exists()
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the last weights, which exist once an epoch was saved.
    pub fn last_weights(&self) -> PathBuf {
        self.path.join(WEIGHTS).join(weights::LAST)
    }

    /// Path of the best weights, which exist once an epoch was saved.
    pub fn best_weights(&self) -> PathBuf {
        self.path.join(WEIGHTS).join(weights::BEST)
    }

    /// Opens or makes `results.csv`, and returns the last epoch in it and its time.
    pub(crate) fn results(&self) -> io::Result<(Results, u32, Duration)> {
        Results::open(&self.path.join("results.csv"))
    }

    pub(crate) fn events(&self) -> io::Result<EventLog> {
        EventLog::open(&self.path.join("events.jsonl"))
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    pub(crate) fn weights(&self) -> Weights {
        Weights::new(self.path.join(WEIGHTS))
    }
}

/// Makes the folder `project/name`, or `project/name2`, `name3`, ... when that is taken, and returns its path.
///
/// # Errors
/// When the system refuses, or too many are taken.
pub fn claim(project: &Path, name: &str) -> Result<PathBuf, RunDirectoryError> {
    fs::create_dir_all(project).map_err(|cause| RunDirectoryError::Create {
        path: project.to_owned(),
        cause,
    })?;
    for number in 1..=DIRECTORIES_MAX {
        let path = if number == 1 {
            project.join(name)
        } else {
            project.join(format!("{name}{number}"))
        };
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(RunDirectoryError::Create { path, cause }),
        }
    }
    Err(RunDirectoryError::AllTaken {
        path: project.join(name),
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

const RECIPE: &str = "recipe.toml";
const WEIGHTS: &str = "weights";
const JOURNAL: &str = "journal";
const CHECKPOINTS: &str = "checkpoints";

/// Somebody who has more runs of one name wants another name.
const DIRECTORIES_MAX: u32 = 9999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_gets_a_number_and_nothing_is_overwritten() {
        let project = tempfile::tempdir().unwrap();
        let recipe = Recipe::default().resolved();
        let names: Vec<_> = (0..3)
            .map(|_| {
                let directory = RunDirectory::create(project.path(), "train", &recipe).unwrap();
                directory.path().file_name().unwrap().to_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(names, ["train", "train2", "train3"]);
        let text = fs::read_to_string(project.path().join("train2/recipe.toml")).unwrap();
        assert_eq!(Recipe::from_toml(&text), Ok(recipe));
    }

    #[test]
    fn a_name_cannot_leave_the_project() {
        let project = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "a/b", "../a", "a\\b", "a\0"] {
            let made = RunDirectory::create(project.path(), name, &Recipe::default());
            assert!(matches!(made, Err(RunDirectoryError::BadName { .. })), "{name:?}");
        }
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
    }
}
