//! `ringmaster plot`: draws the pictures of a run, while it goes on or later, on any machine.

use std::path::PathBuf;
use std::sync::Arc;

use coordinator::RunDirectory;
use data::{Dataset, Limits, Split};
use proto::Recipe;
use worker::prepare::selection;

use crate::outputs::run::{draw_data, draw_results};

/// Arguments of `plot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run's folder
    run: PathBuf,
    /// Where its data set lies on this machine [default: where the recipe says]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    draw_results(&args.run)?;
    println!("{}", args.run.join("results.png").display());
    // Results are drawn without the data, which may be on other machines only.
    let drawn = RunDirectory::open(&args.run)
        .map_err(anyhow::Error::from)
        .and_then(|(_, recipe)| {
            let data = args.data.clone().unwrap_or_else(|| PathBuf::from(&recipe.data));
            draw_data(&args.run, &recipe, &training_set(&recipe, &data)?)
        });
    match (drawn, &args.data) {
        (Ok(()), _) => println!("{}", args.run.join("labels.jpg").display()),
        (Err(error), Some(_)) => return Err(error),
        (Err(error), None) => eprintln!("labels and training batches are not drawn: {error:#}; give --data"),
    }
    Ok(())
}

fn training_set(recipe: &Recipe, data: &std::path::Path) -> anyhow::Result<Arc<Dataset>> {
    let dataset = Dataset::open(data, Split::Train, &Limits::default())?;
    Ok(Arc::new(dataset.select(&selection(recipe))?))
}
