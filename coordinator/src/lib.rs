//! The coordinator of a run: who is in, in which ring order, what it has reached, and how it ends.
//!
//! It waits until all workers are there, announces the ring, watches over its members, and keeps the run
//! directory. It computes nothing: it depends on neither `burn`, the model nor the data.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`membership`] | the pure state machine behind every decision |
//! | `shared`, `service` | the async shell: one mutex, one timer, the gRPC services |
//! | `recorder`, [`run_directory`], [`journal`] | everything that is written down |
//! | [`journal`], `disk` | what outlives a coordinator, and the file system calls behind it |
//! | [`run()`] | one run from start to end |
//! | [`recipe_args`], [`console`], [`command`] | the command line, shared with `ringmaster` |
//!
//! # Examples
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use coordinator::{CoordinatorConfig, Shutdown, listen, run};
//!
//! let listener = listen(([127, 0, 0, 1], 0).into()).await?;
//! let config = CoordinatorConfig::new(proto::Recipe::default(), 2)?;
//! let (progress, mut news) = tokio::sync::mpsc::channel(64);
//! tokio::spawn(async move { while news.recv().await.is_some() {} });
//! let summary = run(listener, config, progress, Shutdown::on_signals()?).await?;
//! println!("{}", summary.verdict);
//! # Ok(())
//! # }
//! ```

pub mod command;
pub mod console;
pub mod journal;
pub mod membership;
pub mod recipe_args;
pub mod run_directory;

mod arrivals;
mod config;
mod disk;
mod listen;
mod past;
mod progress;
mod recorder;
mod run;
mod service;
mod shared;
mod shutdown;

pub use config::{CoordinatorConfig, DEFAULT_KEEP, DEFAULT_NAME, DEFAULT_PROJECT};
pub use listen::{ListenError, listen};
pub use past::HomeError;
pub use progress::Progress;
pub use recipe_args::RecipeArgs;
pub use run::{RunError, RunSummary, run};
pub use run_directory::RunDirectory;
pub use shutdown::Shutdown;
