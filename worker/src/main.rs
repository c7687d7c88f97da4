//! The `worker` program.

use std::process::ExitCode;

use clap::Parser;

/// Buffers of segments are a megabyte, and glibc's allocator would take each from the system anew. Where libtorch computes, it is
/// told not to, and what one of them has freed is there for the other.
#[cfg(not(all(feature = "tch", target_env = "gnu")))]
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
