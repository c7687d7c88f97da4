//! `ringmaster`: one program for a person at one machine.
//!
//! # Layout
//!
//! | module | command |
//! |---|---|
//! | [`train`] | a coordinator and worker processes on this machine |
//! | [`val`] | metrics of a weights file on a data set |
//! | [`predict`] | pictures with boxes on them |
//! | [`plot`] | pictures of a run |
//! | [`export`] | a weights file for other runtimes |
//! | [`hash`] | SHA-256 of weights or of a run's state |
//! | [`status`] | where a run stands |
//! | [`doctor`] | whether a cluster can be trusted: hosts, connections, what to mend |
//! | [`checkpoint`] | a checkpoint, now |
//! | [`stop`] | ends a run at a step boundary |
//! | [`health`] | whether a coordinator or worker serves |
//! | [`bench`] | how fast a part is here |
//! | [`certs`] | makes an authority and issues certificates |
//! | `coordinator`, `worker` | the same code as the programs of those names |
//!
//! Results go to standard output, everything else to standard error.

mod bench;
mod certs;
mod checkpoint;
mod doctor;
mod export;
mod hash;
mod health;
mod outputs;
mod plot;
mod predict;
mod remarks;
mod status;
mod stop;
mod train;
mod val;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{anyhow, ensure};
use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use model::weights::{self, Weights};
use model::yolo::MAX_STRIDE;

/// Buffers of segments are a megabyte, and glibc's allocator would take each from the system anew. A worker with libtorch tells it not
/// to (`worker/src/command.rs`), and then what libtorch has freed is there for us, and the other way round: 90 MB less for yolov8n.
#[cfg(not(all(feature = "tch", target_env = "gnu")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains YOLO detectors on one machine or many.
#[derive(Parser)]
#[command(name = "ringmaster", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train on this machine: starts a coordinator and worker processes
    Train(Box<train::Args>),
    /// Measure a weights file: precision, recall, mAP50, mAP50-95
    Val(val::Args),
    /// Find objects in pictures
    Predict(predict::Args),
    /// Draw the pictures of a run: results by epoch, labels, first batches
    Plot(plot::Args),
    /// Write a weights file for other runtimes (ONNX)
    Export(export::Args),
    /// Print the SHA-256 of a weights file or of a run's training state
    Hash(hash::Args),
    /// Show where a run stands
    Status(status::Args),
    /// Look at every host and connection of a cluster: exit code 0 when nothing is wrong
    Doctor(doctor::Args),
    /// Make a checkpoint of a run now, and wait until it is committed
    Checkpoint(checkpoint::Args),
    /// Stop a run at a step boundary, with the last weights saved
    Stop(stop::Args),
    /// Check that a coordinator or worker serves: exit code 0 when it does
    Health(health::Args),
    /// Measure how fast a part is on this machine
    Bench(bench::Args),
    /// Make a certificate authority, and issue certificates
    Certs(certs::Args),
    /// Coordinate workers on other machines; the same as the program `coordinator`
    Coordinator(Box<coordinator::command::Args>),
    /// Work for a coordinator; the same as the program `worker`
    Worker(worker::command::Args),
}

/// Reads a weights file, and names it when it cannot be read.
fn load_weights(path: &Path) -> anyhow::Result<Weights> {
    ensure!(
        path.exists(),
        "there are no weights at {}; give a file that is here, for none is downloaded",
        path.display()
    );
    // The error tells its cause itself.
    weights::load(path).map_err(|error| anyhow!("cannot use the weights {}: {error}", path.display()))
}

/// Returns the image size to compute with: the one asked for, or that of the training.
fn image_size(asked: Option<u32>, weights: &Weights) -> anyhow::Result<u32> {
    let size = asked.unwrap_or(weights.metadata.image_size);
    ensure!(
        size > 0 && size.is_multiple_of(MAX_STRIDE as u32),
        "--imgsz {size} is not a multiple of {MAX_STRIDE}"
    );
    Ok(size)
}

/// Refuses what is no fraction.
fn check_fractions(flags: &[(&str, f32)]) -> anyhow::Result<()> {
    for (flag, value) in flags {
        ensure!(
            (0.0..=1.0).contains(value),
            "{flag} {value} is not between 0 and 1"
        );
    }
    Ok(())
}

/// Refuses classes that the weights do not know.
fn check_classes(classes: Option<&[u32]>, names: &[String]) -> anyhow::Result<()> {
    let unknown = classes
        .unwrap_or_default()
        .iter()
        .find(|&&class| class as usize >= names.len());
    if let Some(class) = unknown {
        anyhow::bail!(
            "--classes {class}: the weights know 0 to {}: {}",
            names.len() - 1,
            names.join(", ")
        );
    }
    Ok(())
}

/// Runs the program and returns its exit code: 0 for success, 1 for a failure, 2 for arguments that cannot be parsed,
/// 75 for a run that was stopped and can be resumed. `coordinator` and `worker` have theirs: see their `main`.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| with_tip(error).exit());
    let result = match cli.command {
        Command::Train(args) => return exit(train::main(*args)),
        Command::Val(args) => val::main(&args),
        Command::Predict(args) => predict::main(&args),
        Command::Plot(args) => plot::main(&args),
        Command::Export(args) => export::main(&args),
        Command::Hash(args) => hash::main(&args),
        Command::Status(args) => status::main(&args),
        Command::Doctor(args) => return exit(doctor::main(&args)),
        Command::Checkpoint(args) => checkpoint::main(&args),
        Command::Stop(args) => stop::main(&args),
        Command::Health(args) => health::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Certs(args) => certs::main(&args),
        Command::Coordinator(args) => return coordinator::command::main(*args),
        Command::Worker(args) => return worker::command::main(args),
    };
    exit(result.map(|()| ExitCode::SUCCESS))
}

/// Adds to an error about an argument as Ultralytics' users write it, `epochs=10`, how it is written here.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => as_flag(argument),
        _ => None,
    };
    if let Some(flag) = flag {
        let tip = format!("write {flag}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Returns `--epochs 10` for `epochs=10`.
fn as_flag(argument: &str) -> Option<String> {
    let (key, value) = argument.split_once('=')?;
    key.starts_with(|first: char| first.is_ascii_alphabetic())
        .then(|| match value.to_lowercase().as_str() {
            "true" => format!("--{key}"),
            "false" => format!("--{key}=false"),
            _ => format!("--{key} {value}"),
        })
}

fn exit(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_without_dashes_are_answered_with_the_flag() {
        for (command, argument, tip) in [
            ("train", "epochs=10", Some("write --epochs 10\n")),
            ("train", "cos_lr=True", Some("write --cos_lr\n")),
            ("train", "single_cls=False", Some("write --single_cls=false\n")),
            ("val", "data=my/data.yaml", Some("write --data my/data.yaml\n")),
            ("predict", "source=a=b.jpg", Some("write --source a=b.jpg\n")),
            ("train", "detect", None),
            ("train", "--epoch=10", None),
        ] {
            let error = Cli::try_parse_from(["ringmaster", command, argument]).err();
            let text = with_tip(error.unwrap()).to_string();
            match tip {
                Some(tip) => assert!(text.contains(tip), "{tip} in: {text}"),
                None => assert!(!text.contains("write --"), "{text}"),
            }
        }
    }
}
