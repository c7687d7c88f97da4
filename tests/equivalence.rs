//! The same training at any world size: ranks hold the same bits, and more workers change nothing but the time.

use std::path::Path;
use std::time::Duration;

use tests::{Cluster, RunDirectory};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

/// Ten steps of one epoch of the built-in set, small enough for a test.
const TEN_STEPS: [&str; 10] =
    ["--data", "shapes", "--imgsz", "64", "--epochs", "1", "--batch", "16", "--nbs", "16"];

const DEADLINE: Duration = Duration::from_secs(300);

fn train(folder: &Path, world_size: usize, recipe: &[&str]) -> (RunDirectory, Vec<String>) {
    std::fs::create_dir_all(folder).unwrap();
    let (run, ended) = Cluster::start(Path::new(PROGRAM), folder, world_size, recipe).finish(DEADLINE);
    let digests = ended[1..].iter().map(|worker| field(&worker.output, "digest")).collect();
    (run, digests)
}

/// Returns the value of the last `name=value` in a log.
fn field(log: &str, name: &str) -> String {
    let pattern = format!("{name}=");
    let (_, rest) = log.rsplit_once(&pattern).expect("the field is logged");
    rest.chars().take_while(|c| c.is_ascii_alphanumeric()).collect()
}

#[test]
fn after_ten_steps_all_ranks_hold_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (_, digests) = train(folder.path(), 3, &TEN_STEPS);
    assert_eq!(digests.len(), 3);
    assert!(!digests[0].is_empty());
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn two_workers_train_what_one_worker_trains() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, _) = train(&folder.path().join("one"), 1, &TEN_STEPS);
    let (shared, _) = train(&folder.path().join("two"), 2, &TEN_STEPS);
    let (alone, shared) = (alone.last_weights().state, shared.last_weights().state);
    let difference = relative_difference(&alone.parameters, &shared.parameters);
    println!("relative difference of the parameters: {difference:.2e}");
    assert!(difference < 1e-4);
    assert!(relative_difference(&alone.buffers, &shared.buffers) < 1e-4);

    // The measure can fail: another seed is far away.
    let other = [&TEN_STEPS[..], &["--seed", "1"]].concat();
    let (other, _) = train(&folder.path().join("other"), 1, &other);
    assert!(relative_difference(&alone.parameters, &other.last_weights().state.parameters) > 1e-2);
}

#[test]
fn validation_does_not_depend_on_the_world_size() {
    let folder = tempfile::tempdir().unwrap();
    let common = ["--data", "shapes", "--imgsz", "96", "--batch", "16", "--nbs", "16"];
    let useful = [&common[..], &["--epochs", "12", "--close-mosaic", "4"]].concat();
    let (trained, _) = train(&folder.path().join("trained"), 2, &useful);
    let weights = trained.path().join("weights/best.safetensors").display().to_string();
    // Rates so small that all world sizes validate the same weights.
    let still = ["--optimizer", "sgd", "--lr0", "1e-12", "--warmup-bias-lr", "0", "--weights", &weights];
    let recipe = [&common[..], &still, &["--epochs", "1"]].concat();
    let columns = [
        "metrics/precision(B)",
        "metrics/recall(B)",
        "metrics/mAP50(B)",
        "metrics/mAP50-95(B)",
        "val/box_loss",
        "val/cls_loss",
        "val/dfl_loss",
    ];
    let results: Vec<Vec<f64>> = (1..=3)
        .map(|world_size| {
            let (run, _) = train(&folder.path().join(world_size.to_string()), world_size, &recipe);
            columns.iter().flat_map(|column| run.results(column)).collect()
        })
        .collect();
    assert!(results[0][2] > 0.3, "the weights detect something: {:?}", results[0]);
    assert_eq!(results[0], results[1], "one worker and two");
    assert_eq!(results[0], results[2], "one worker and three");
}
