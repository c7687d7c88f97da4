//! The `coordinator` program.

use std::process::ExitCode;

use clap::Parser;

/// Coordinates one training run: waits for the workers, forms the ring, keeps the run directory.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version)]
struct Program {
    #[command(flatten)]
    args: coordinator::command::Args,
}

fn main() -> ExitCode {
    coordinator::command::main(Program::parse().args)
}
