//! The `worker` program.

use std::process::ExitCode;

use clap::Parser;

/// Trains on this host as part of a run.
#[derive(Parser)]
#[command(name = "worker", version)]
struct Cli {
    #[command(flatten)]
    args: worker::command::Args,
}

fn main() -> ExitCode {
    worker::command::main(Cli::parse().args)
}
