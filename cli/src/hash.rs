//! `ringmaster hash`: SHA-256 of a weights file, or of the training state at the end of a run's last epoch.
//!
//! The hash of a weights file is that of its values, not of its bytes: parameters, then buffers, in layout order. It
//! is the same as the `ema` hash of the run that wrote it, at that epoch.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;
use worker::training::state::{hash_of, hash_of_weights};

use crate::load_weights;

/// Arguments of `hash`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Weights file, or a run's folder
    #[arg(value_name = "FILE|RUN")]
    path: PathBuf,
}

/// The event of an epoch, as far as it is needed here.
#[derive(Deserialize)]
struct Epoch {
    epoch: u32,
    step: u64,
    hash: Hashes,
}

#[derive(Deserialize)]
struct Hashes {
    parameters: String,
    buffers: String,
    optimizer: String,
    ema: String,
    state: String,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    if args.path.is_dir() {
        print_run(&args.path)
    } else {
        print_file(&args.path)
    }
}

fn print_file(path: &Path) -> anyhow::Result<()> {
    let state = load_weights(path)?.state;
    print("parameters", hash_of(&[&state.parameters]));
    print("buffers", hash_of(&[&state.buffers]));
    print("together", hash_of_weights(&state.parameters, &state.buffers));
    Ok(())
}

fn print_run(run: &Path) -> anyhow::Result<()> {
    let path = run.join("events.jsonl");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let last = text
        .lines()
        .rev()
        .find(|line| line.contains("\"event\":\"epoch\""));
    ensure!(last.is_some(), "{} holds no finished epoch yet", run.display());
    let epoch: Epoch = serde_json::from_str(last.unwrap_or_default())
        .with_context(|| format!("the last epoch in {} cannot be read", path.display()))?;
    println!("epoch      {}", epoch.epoch);
    println!("step       {}", epoch.step);
    let Hashes {
        parameters,
        buffers,
        optimizer,
        ema,
        state,
    } = &epoch.hash;
    for (part, hash) in [
        ("parameters", parameters),
        ("buffers", buffers),
        ("optimizer", optimizer),
        ("ema", ema),
        ("state", state),
    ] {
        print(part, hash);
    }
    Ok(())
}

fn print(part: &str, hash: impl std::fmt::Display) {
    println!("{part:<10} {hash}");
}
