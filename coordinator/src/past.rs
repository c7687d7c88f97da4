//! What a coordinator takes over from earlier ones: the run directory, its journal, its newest whole checkpoint.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use proto::{Candidate, RunId, wire};
use thiserror::Error;

use crate::config::CoordinatorConfig;
use crate::journal::{Journal, JournalError, Opened, Record};
use crate::membership::Past;
use crate::run_directory::checkpoints::{Checkpoint, Checkpoints};
use crate::run_directory::{EventLog, Results, RunDirectory, RunDirectoryError};

/// Everything of a run that is on disk, open.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) run: RunId,
    pub(crate) directory: RunDirectory,
    pub(crate) journal: Journal,
    pub(crate) results: Results,
    pub(crate) events: EventLog,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) newest: Option<Checkpoint>,
    pub(crate) past: Past,
    /// What a person should know: damage that was found.
    pub(crate) notices: Vec<String>,
}

/// Why a run cannot be begun or taken over.
#[derive(Debug, Error)]
pub enum HomeError {
    /// There is no directory, or none can be made.
    #[error(transparent)]
    Directory(#[from] RunDirectoryError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal says that nothing is left to be done.
    #[error("the run in {} has ended: {outcome}: {reason}", path.display())]
    Ended {
        /// The run directory.
        path: PathBuf,
        /// How it ended, in one word: that of an [`Outcome`](proto::Outcome).
        outcome: String,
        /// Why, in a sentence.
        reason: String,
    },
    /// The journal does not belong to the recipe.
    #[error("{} was changed since the run began; put it back, or begin a new run", path.display())]
    RecipeChanged {
        /// The recipe file.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("cannot write to {}: {cause}", path.display())]
    Write {
        /// The run directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl Home {
    /// Makes a new run directory, or opens that of the run to take over.
    pub(crate) fn open(config: &CoordinatorConfig) -> Result<Self, HomeError> {
        match &config.resume {
            None => {
                let directory = RunDirectory::create(&config.project, &config.name, &config.recipe)?;
                Self::begin(directory, config)
            }
            Some(path) => {
                let (directory, _recipe) = RunDirectory::open(path)?;
                Self::take_over(directory, config)
            }
        }
    }

    fn begin(directory: RunDirectory, config: &CoordinatorConfig) -> Result<Self, HomeError> {
        let run = RunId::random();
        let written = || -> io::Result<Journal> {
            let mut journal = Journal::create(&directory.journal())?;
            journal.append(&Record::Created {
                run,
                world_size: config.world_size as u32,
                recipe_digest: config.recipe.digest(),
            })?;
            Ok(journal)
        };
        let journal = written().map_err(failed(&directory))?;
        Self::with_files(run, directory, journal, Past::default(), config)
    }

    fn take_over(directory: RunDirectory, config: &CoordinatorConfig) -> Result<Self, HomeError> {
        let Opened {
            mut journal,
            records,
            damage,
        } = Journal::open(&directory.journal())?;
        let path = directory.path().to_owned();
        let mut run = None;
        let mut past = Past::default();
        for record in records {
            match record {
                Record::Created {
                    run: id,
                    recipe_digest,
                    ..
                } => {
                    if recipe_digest != config.recipe.digest() {
                        return Err(HomeError::RecipeChanged {
                            path: path.join("recipe.toml"),
                        });
                    }
                    run = Some(id);
                }
                Record::Generation { generation, members } => {
                    past.generation = generation;
                    past.members = candidates(&members);
                    past.is_at_work = !config.workers_are_gone;
                }
                Record::Stopped { .. } => past.is_at_work = false,
                Record::CheckpointCommitted { .. } => {}
                Record::Resumed => past.takeovers += 1,
                Record::Ended { outcome, reason } => {
                    return Err(HomeError::Ended {
                        path,
                        outcome,
                        reason,
                    });
                }
            }
        }
        past.takeovers += 1;
        let run = run.ok_or_else(|| RunDirectoryError::NoRun {
            path,
            reason: "its journal does not say which run it is".to_owned(),
        })?;
        journal.append(&Record::Resumed).map_err(failed(&directory))?;
        let mut home = Self::with_files(run, directory, journal, past, config)?;
        home.notices.extend(damage.map(|damage| damage.to_string()));
        Ok(home)
    }

    fn with_files(
        run: RunId,
        directory: RunDirectory,
        journal: Journal,
        mut past: Past,
        config: &CoordinatorConfig,
    ) -> Result<Self, HomeError> {
        let open = || -> io::Result<_> {
            let checkpoints =
                Checkpoints::open(directory.checkpoints(), run, config.recipe.digest(), config.keep)?;
            Ok((checkpoints, directory.results()?, directory.events()?))
        };
        let (checkpoints, (results, epoch, elapsed), events) = open().map_err(failed(&directory))?;
        let found = checkpoints.newest_whole();
        let notices = found
            .damaged
            .iter()
            .map(|(path, reason)| format!("{} is not used: {reason}", path.display()))
            .collect();
        past.checkpoint_step = found.checkpoint.as_ref().map(Checkpoint::step);
        past.recorded_epochs = epoch;
        past.elapsed = if epoch > 0 { elapsed } else { Duration::ZERO };
        Ok(Self {
            run,
            directory,
            journal,
            results,
            events,
            checkpoints,
            newest: found.checkpoint,
            past,
            notices,
        })
    }
}

/// Returns the members of a generation as they described themselves; none when one cannot be read.
fn candidates(members: &[Vec<u8>]) -> Vec<Candidate> {
    let parse = |bytes: &Vec<u8>| Candidate::try_from(wire::JoinRequest::decode(&bytes[..]).ok()?).ok();
    members
        .iter()
        .map(parse)
        .collect::<Option<_>>()
        .unwrap_or_default()
}

fn failed(directory: &RunDirectory) -> impl Fn(io::Error) -> HomeError + use<> {
    let path = directory.path().to_owned();
    move |cause| HomeError::Write {
        path: path.clone(),
        cause,
    }
}
