//! `ringmaster val`: metrics of a weights file on a data set, with pictures of them.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use coordinator::run_directory::claim;
use data::{Dataset, Limits, PictureCache, Selection, Split, ValLoader, val_batches};
use model::device::open_device;
use model::metric::{ClassMetrics, Metrics, summarise};
use model::nms::NmsConfig;
use serde::Serialize;
use worker::compute::loader_config;
use worker::prepare::detections_kept;
use worker::training::learner::Learner;
use worker::yolo::YoloLearner;

use self::findings::Findings;
use crate::outputs::PlotArgs;
use crate::outputs::curves::draw_validation;
use crate::{check_classes, check_fractions, image_size, load_weights, remarks};

mod findings;

/// Arguments of `val`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Weights file (.safetensors or .pt)
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Data set: data.yaml, a folder in COCO's layout, or `shapes`
    #[arg(long, value_name = "PATH", default_value = data::SHAPES)]
    data: PathBuf,
    /// Split to measure on
    #[arg(long, value_enum, default_value_t)]
    split: SplitName,
    /// Image size in pixels, a multiple of 32 [default: that of the training]
    #[arg(long, value_name = "PIXELS")]
    imgsz: Option<u32>,
    /// Images per batch
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(15))]
    batch: NonZeroUsize,
    /// Lowest score of a detection that counts
    #[arg(long, default_value_t = 0.001)]
    conf: f32,
    /// Overlap above which of two boxes of a class the weaker one is dropped
    #[arg(long, default_value_t = 0.7)]
    iou: f32,
    /// Most detections per image
    #[arg(long, alias = "max_det", default_value_t = 300)]
    max_det: usize,
    /// Only these classes, by number
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    classes: Option<Vec<u32>>,
    /// All objects are one class, for weights that were trained so
    #[arg(long, alias = "single_cls")]
    single_cls: bool,
    /// Also write predictions.json, the detections as COCO's evaluation reads them
    #[arg(long, alias = "save_json")]
    save_json: bool,
    /// Folder that holds the results' folder
    #[arg(long, value_name = "DIR", default_value = coordinator::DEFAULT_PROJECT)]
    project: PathBuf,
    /// Name of the results' folder; a number is added when it is taken
    #[arg(long, default_value = "val")]
    name: String,
    #[command(flatten)]
    plots: PlotArgs,
    /// Device to compute on, as for `worker`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum SplitName {
    #[default]
    Val,
    Test,
    Train,
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Val => Self::Val,
            SplitName::Test => Self::Test,
            SplitName::Train => Self::Train,
        }
    }
}

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    precision: f64,
    recall: f64,
    map50: f64,
    map50_95: f64,
    images: usize,
    instances: usize,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let weights = load_weights(&args.weights)?;
    let image_size = image_size(args.imgsz, &weights)?;
    check_fractions(&[("--conf", args.conf), ("--iou", args.iou)])?;
    if !args.single_cls {
        check_classes(args.classes.as_deref(), &weights.metadata.names)?;
    }
    let dataset = Arc::new(open(args)?);
    remarks::describe(&dataset);
    if let Some(remark) = compare_names(&weights.metadata.names, &dataset.names, &args.data)? {
        eprintln!("{remark}");
    }
    let names = dataset.names.clone();
    let most_objects = dataset.most_objects();
    let max_detections = detections_kept(args.max_det, most_objects);
    if max_detections < most_objects {
        eprintln!(
            "an image has {most_objects} objects, and --max-det keeps {max_detections} detections: recall is capped"
        );
    }
    let device = open_device(&args.device, args.threads)?;
    let nms = NmsConfig {
        confidence: args.conf,
        iou: args.iou,
        max_detections,
        // Of one class, all are wanted.
        classes: args.classes.clone().filter(|_| !args.single_cls),
        ..NmsConfig::validation()
    };
    let mut learner = YoloLearner::new(
        weights.metadata.architecture(),
        names.clone(),
        image_size,
        &device,
    )
    .with_nms(nms);
    learner.load(&weights.state.parameters, &weights.state.buffers);

    let jobs = val_batches(&dataset, image_size, args.batch.get());
    let cache = Arc::new(PictureCache::new(Arc::clone(&dataset), image_size, 0));
    // A folder is made for what goes into it only.
    let folder = (args.plots.are_wanted() || args.save_json)
        .then(|| claim(&args.project, &args.name))
        .transpose()?;
    let drawn_to = folder.as_deref().filter(|_| args.plots.are_wanted());
    let mut findings = Findings::new(Arc::clone(&dataset), args.save_json);
    for batch in ValLoader::start(cache, jobs.into_iter(), loader_config(NonZeroUsize::MIN)) {
        let batch = batch?;
        let found = learner.detect(&batch);
        findings.add(&batch, &found);
        if let Some(folder) = drawn_to {
            findings.draw_batch(folder, &batch, &found)?;
        }
    }
    if let Some(remark) = findings.unreadable_remark() {
        eprintln!("{remark}");
    }
    let images = &findings.images;
    let metrics = summarise(images, names.len());
    let instances = images.iter().map(|image| image.truth_classes.len()).sum();
    if let Some(folder) = drawn_to {
        draw_validation(folder, &names, images, &findings.confusion)?;
    }
    if let (Some(folder), true) = (&folder, args.save_json) {
        write_json(&folder.join("predictions.json"), &findings.results)?;
    }
    if let Some(folder) = &folder {
        eprintln!("results are in {}", folder.display());
    }
    if args.json {
        let report = Report {
            precision: metrics.precision,
            recall: metrics.recall,
            map50: metrics.map50,
            map50_95: metrics.map50_95,
            images: images.len(),
            instances,
        };
        println!("{}", serde_json::to_string(&report).context("cannot write JSON")?);
    } else {
        print_table(&metrics, &names, images.len(), instances);
    }
    Ok(())
}

/// Opens the data as the weights were trained on it.
fn open(args: &Args) -> anyhow::Result<Dataset> {
    let selection = Selection {
        classes: args.classes.clone().unwrap_or_default(),
        single_class: args.single_cls,
        ..Selection::default()
    };
    Ok(Dataset::open(&args.data, args.split.into(), &Limits::default())?.select(&selection)?)
}

/// Compares the classes of the weights with those of the data. Returns what is worth saying where they have other names, which
/// is no reason to refuse them: classes are compared by number, and reported by the names that they have in the data.
fn compare_names(weights: &[String], data: &[String], path: &Path) -> anyhow::Result<Option<String>> {
    ensure!(
        weights.len() == data.len(),
        "{} has the classes {}, the weights were trained on {}",
        path.display(),
        data.join(", "),
        weights.join(", ")
    );
    // Weights without names have their numbers for names.
    let are_named = (weights.iter().enumerate()).any(|(class, name)| *name != class.to_string());
    let other = weights
        .iter()
        .zip(data)
        .position(|(weights, data)| weights != data);
    Ok(other.filter(|_| are_named).map(|class| {
        format!(
            "the weights name classes otherwise than {} (class {class} is {:?} there, {:?} here); they are compared by number \
             and named as in the data",
            path.display(),
            weights[class],
            data[class],
        )
    }))
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let json = serde_json::to_vec(value).context("cannot write JSON")?;
    fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
}

fn print_table(metrics: &Metrics, names: &[String], images: usize, instances: usize) {
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .max("all".len());
    println!(
        "{:>width$} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "class", "images", "instances", "precision", "recall", "mAP50", "mAP50-95"
    );
    let row = |name: &str, instances: u64, [precision, recall, map50, map50_95]: [f64; 4]| {
        println!(
            "{name:>width$} {images:>8} {instances:>10} {precision:>10.4} {recall:>10.4} {map50:>10.4} {map50_95:>10.4}"
        );
    };
    row(
        "all",
        instances as u64,
        [metrics.precision, metrics.recall, metrics.map50, metrics.map50_95],
    );
    for ClassMetrics {
        class,
        truths,
        precision,
        recall,
        ap50,
        ap50_95,
    } in &metrics.per_class
    {
        row(
            &names[*class as usize],
            *truths,
            [*precision, *recall, *ap50, *ap50_95],
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;

    fn compare(weights: &[&str], data: &[&str]) -> anyhow::Result<Option<String>> {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        compare_names(&names(weights), &names(data), Path::new("data.yaml"))
    }

    #[test]
    fn names_may_differ_with_a_word_and_numbers_for_names_without_one() {
        for (weights, data) in [(["a", "b"], ["a", "b"]), (["0", "1"], ["a", "b"])] {
            assert_eq!(compare(&weights, &data).unwrap(), None, "{weights:?}");
        }
        let remark = compare(&["a", "b"], &["a", "c"]).unwrap().unwrap();
        assert!(remark.contains(r#"class 1 is "b" there, "c" here"#), "{remark}");
    }

    #[test]
    fn another_number_of_classes_is_refused() {
        let error = compare(&["0", "1"], &["a"]).unwrap_err().to_string();
        assert!(
            error.contains("has the classes a, the weights were trained on 0, 1"),
            "{error}"
        );
    }
}
