//! Clusters of real processes for tests: started, watched with a deadline, ended by id, read back from files.
//!
//! Nothing here knows how training works; tests see what a user sees: exit codes, output, and the run directory.

mod cluster;
mod log;
mod pictures;
mod process;
mod run;

pub use cluster::Cluster;
pub use log::{StepLine, steps, unix_seconds};
pub use pictures::write_shapes;
pub use process::{Ended, Process};
pub use run::RunDirectory;
