//! `ringmaster bench`: how fast a part is on this machine.

mod allreduce;
mod bare;
mod guarded;
mod loader;
mod made_up;
mod ranks;
mod step;

use anyhow::Context;
use serde::Serialize;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Summing a vector over worker processes of this machine, as a training step does with its gradient
    #[command(name = "allreduce")]
    AllReduce(allreduce::Args),
    /// Decoding, mosaic, affine, colours: training pictures a second, beginning with nothing in memory
    Loader(loader::Args),
    /// A training step over worker processes of this machine: forward, loss, backward, sum, update, on made-up pictures
    Step(step::Args),
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::AllReduce(args) => allreduce::main(args),
        What::Loader(args) => loader::main(args),
        What::Step(args) => step::main(args),
    }
}

/// Prints what was measured: as one JSON object, or as a sentence.
fn print(report: &impl Serialize, sentence: String, json: bool) -> anyhow::Result<()> {
    let text = if json {
        serde_json::to_string(report).context("cannot write JSON")?
    } else {
        sentence
    };
    println!("{text}");
    Ok(())
}
