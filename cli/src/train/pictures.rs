//! The pictures beside a run's results. They never make a run fail: what cannot be drawn is a line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use data::Dataset;
use proto::Recipe;

use crate::outputs::run::{draw_data, draw_results};

/// Draws labels and the first batches while the workers start, and the results after the run.
pub(super) struct Pictures {
    recipe: Recipe,
    training_set: Arc<Dataset>,
    begun: Option<Begun>,
}

struct Begun {
    directory: PathBuf,
    /// Ends after a few dozen pictures.
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Pictures {
    /// Returns none yet.
    pub(super) fn new(recipe: &Recipe, training_set: Arc<Dataset>) -> Self {
        Self {
            recipe: recipe.clone(),
            training_set,
            begun: None,
        }
    }

    /// Begins to draw into the run's directory.
    pub(super) fn begin(&mut self, directory: &Path) {
        let (recipe, training_set) = (self.recipe.clone(), Arc::clone(&self.training_set));
        let folder = directory.to_owned();
        self.begun = Some(Begun {
            directory: directory.to_owned(),
            thread: thread::spawn(move || draw_data(&folder, &recipe, &training_set)),
        });
    }

    /// Waits for what was begun and draws the results. Says on standard error what could not be drawn.
    pub(super) fn finish(self) {
        let Some(Begun { directory, thread }) = self.begun else {
            return;
        };
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("labels and training batches are not drawn: {error:#}"),
            Err(_) => {
                eprintln!("labels and training batches are not drawn: drawing panicked, which is a bug")
            }
        }
        if let Err(error) = draw_results(&directory) {
            eprintln!("results.png is not drawn: {error:#}");
        }
    }
}
