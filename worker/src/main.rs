//! The `worker` program.

use std::process::ExitCode;

use clap::Parser;

/// Buffers of segments are a megabyte, and glibc's allocator would take each from the system anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
