//! `ringmaster export`: a weights file for other runtimes.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use model::onnx::{OPSETS, OnnxConfig, export};

use crate::load_weights;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Weights file (.safetensors or .pt)
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Format to write
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Image size in pixels, a multiple of 32 [default: that of the training]
    #[arg(long, value_name = "PIXELS")]
    imgsz: Option<u32>,
    /// Version of the ONNX operators, 13 to 21
    #[arg(long, default_value_t = OnnxConfig::default().opset)]
    opset: u32,
    /// File to write [default: beside the weights, ending in .onnx]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Format {
    #[default]
    Onnx,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let weights = load_weights(&args.weights)?;
    let config = OnnxConfig {
        image_size: args.imgsz,
        opset: args.opset,
    };
    let bytes = match args.format {
        Format::Onnx => export(&weights, &config)
            .with_context(|| format!("cannot export (--imgsz takes multiples of 32, --opset {OPSETS:?})"))?,
    };
    let path = (args.output.clone()).unwrap_or_else(|| args.weights.with_extension("onnx"));
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}
