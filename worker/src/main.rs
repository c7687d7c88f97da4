//! The `worker` program.

use std::process::ExitCode;

use clap::Parser;

/// Buffers of segments are a megabyte, and glibc's allocator would take each from the system anew. A worker with libtorch tells it not
/// to (`worker/src/command.rs`), and then what libtorch has freed is there for us, and the other way round: 90 MB less for yolov8n.
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
