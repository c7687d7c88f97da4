//! The commands around a run: `val`, `predict`, `hash`, `status`, and recipes from a file.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::{Cluster, Process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

/// Runs a command that is expected to succeed and returns what it wrote.
fn ringmaster(folder: &Path, arguments: &[&str]) -> String {
    let output = folder.join("output.log");
    let ended = Process::start(Path::new(PROGRAM), arguments, &output).wait(Duration::from_secs(180));
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    ended.output
}

/// Returns what stands behind a word at the start of a line.
fn value(text: &str, word: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.starts_with(word))
        .expect("the word is there");
    line.split_whitespace().nth(1).expect("a value").to_owned()
}

#[test]
fn a_run_from_a_recipe_file_can_be_measured_hashed_and_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(
        folder.path().join("recipe.toml"),
        "imgsz = 96\nepochs = 8\nbatch = 16\nnbs = 16\nclose_mosaic = 4\n",
    )
    .unwrap();
    // A flag wins over the file.
    let (recipe, project) = (path("recipe.toml"), path("runs"));
    let train = [
        "train",
        "--workers",
        "2",
        "--device",
        "cpu",
        "--config",
        &recipe,
        "--epochs",
        "10",
    ];
    ringmaster(folder.path(), &[&train[..], &["--project", &project]].concat());
    let (run, weights) = (path("runs/train"), path("runs/train/weights/best.safetensors"));
    assert!(
        fs::read_to_string(folder.path().join("runs/train/recipe.toml"))
            .unwrap()
            .contains("epochs = 10")
    );

    let hashes = ringmaster(folder.path(), &["hash", &run]);
    let results = fs::read_to_string(folder.path().join("runs/train/results.csv")).unwrap();
    assert_eq!(results.lines().count(), 11);
    assert!(
        results.trim_end().ends_with(&value(&hashes, "state")),
        "the hash of the last row of results.csv"
    );
    let last = ringmaster(
        folder.path(),
        &["hash", &path("runs/train/weights/last.safetensors")],
    );
    assert_eq!(value(&last, "together"), value(&hashes, "ema"));

    let json = ringmaster(
        folder.path(),
        &[
            "val",
            "--weights",
            &weights,
            "--json",
            "--no-plots",
            "--device",
            "cpu",
            "--project",
            &project,
        ],
    );
    let json: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    for key in ["precision", "recall", "map50", "map50_95"] {
        let figure = json[key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&figure), "{key} is {figure}");
    }
    assert!(json["map50"].as_f64().unwrap() > 0.1, "{json}");
    assert!(!folder.path().join("runs/val").exists(), "nothing was asked for");
    let table = ringmaster(
        folder.path(),
        &[
            "val",
            "--weights",
            &weights,
            "--device",
            "cpu",
            "--project",
            &project,
        ],
    );
    assert!(
        ["circle", "square", "triangle", "cross"]
            .iter()
            .all(|name| table.contains(name)),
        "{table}"
    );

    let predict = [
        "predict",
        "--weights",
        &weights,
        "--source",
        "shapes",
        "--save-json",
        "--device",
        "cpu",
    ];
    ringmaster(
        folder.path(),
        &[&predict[..], &["--conf", "0.05", "--project", &project]].concat(),
    );
    let found = fs::read_to_string(folder.path().join("runs/predict/detections.json")).unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 48);
    let detections = |picture: &Value| picture["detections"].as_array().unwrap().len();
    assert!(found.as_array().unwrap().iter().map(detections).sum::<usize>() > 0);
    assert!(folder.path().join("runs/predict/shapes-047.png").is_file());
}

#[test]
fn the_status_of_a_run_names_its_members() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = [
        "--data", "shapes", "--imgsz", "64", "--epochs", "5000", "--batch", "16",
    ];
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder.path(), 2, &recipe);
    cluster
        .coordinator
        .wait_for_output("epoch 1/", Duration::from_secs(120));
    let status = ringmaster(
        folder.path(),
        &["status", "--insecure", "--coordinator", cluster.address()],
    );
    assert!(status.contains("running, generation 1"), "{status}");
    assert!(status.contains("rank 0") && status.contains("rank 1"), "{status}");
    cluster.coordinator.signal(Signal::TERM);
    cluster.wait(Duration::from_secs(60));
}
