//! What a run leaves behind, as tests read it.

use std::fs;
use std::path::{Path, PathBuf};

use model::weights::{self, Weights};

/// A run directory.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Returns the run directory at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the last weights.
    ///
    /// # Panics
    /// When there are none, or they cannot be read.
    pub fn last_weights(&self) -> Weights {
        weights::load(&self.path.join("weights/last.safetensors")).expect("whole weights")
    }

    /// Returns column `name` of `results.csv`, one number an epoch.
    ///
    /// # Panics
    /// When there is no such column, or it holds no numbers.
    pub fn results(&self, name: &str) -> Vec<f64> {
        let text = fs::read_to_string(self.path.join("results.csv")).expect("results.csv");
        let mut lines = text
            .lines()
            .map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
        let header = lines.next().expect("a header");
        let column = header
            .iter()
            .position(|&column| column == name)
            .expect("the column");
        lines
            .map(|line| line[column].parse().expect("a number"))
            .collect()
    }

    /// Returns all events, one JSON object each.
    ///
    /// # Panics
    /// When there is no event log, or it holds something else.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path.join("events.jsonl")).expect("events.jsonl");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("an event"))
            .collect()
    }

    /// Returns the number of events of a kind.
    pub fn count(&self, event: &str) -> usize {
        self.events()
            .iter()
            .filter(|logged| logged["event"] == event)
            .count()
    }

    /// Returns the rows of `results.csv` without its second column, the time.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn rows_without_time(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path.join("results.csv")).expect("results.csv");
        let without_time = |line: &str| {
            let values = line.split(',').enumerate().filter(|(column, _)| *column != 1);
            values.map(|(_, value)| value).collect::<Vec<_>>().join(",")
        };
        text.lines().skip(1).map(without_time).collect()
    }
}
