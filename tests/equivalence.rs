//! The same training at any world size: with exact sums the same bits, with plain sums nearly.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::time::Duration;

use tests::{Cluster, RunDirectory};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

/// The built-in set, small enough for a test: ten steps an epoch, mosaic on.
const SMALL: [&str; 8] = [
    "--data", "shapes", "--imgsz", "64", "--batch", "16", "--nbs", "16",
];

const DEADLINE: Duration = Duration::from_secs(400);

fn train(folder: &Path, world_size: usize, recipe: &[&str]) -> (RunDirectory, Vec<String>) {
    std::fs::create_dir_all(folder).unwrap();
    let recipe = [&SMALL[..], recipe].concat();
    let (run, ended) = Cluster::start(Path::new(PROGRAM), folder, world_size, &recipe).finish(DEADLINE);
    let hashes = ended[1..]
        .iter()
        .map(|worker| field(&worker.output, "hash"))
        .collect();
    (run, hashes)
}

/// Ten steps at a low rate: one epoch has no warm-up, and at the full rate what rounding changes grows a hundredfold in ten.
const ONE_EPOCH: [&str; 6] = ["--epochs", "1", "--optimizer", "adamw", "--lr0", "0.0001"];

/// Returns the value of the last `name=value` in a log.
fn field(log: &str, name: &str) -> String {
    let pattern = format!("{name}=");
    let (_, rest) = log.rsplit_once(&pattern).expect("the field is logged");
    rest.chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// Returns the distance of two vectors as a fraction of the length of the first.
fn relative_difference(one: &[f32], other: &[f32]) -> f64 {
    let square = |value: f64| value * value;
    let distance: f64 = one
        .iter()
        .zip(other)
        .map(|(&a, &b)| square(f64::from(a) - f64::from(b)))
        .sum();
    let length: f64 = one.iter().map(|&a| square(f64::from(a))).sum();
    (distance / length).sqrt()
}

/// Trains fifty steps with one to four workers and asserts one hash on all ranks of all of them, and equal results.
fn assert_one_hash(recipe: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let recipe = [&["--epochs", "5", "--close-mosaic", "1"], recipe].concat();
    let mut first: Option<(String, Vec<String>)> = None;
    for world_size in 1..=4 {
        let (run, hashes) = train(&folder.path().join(world_size.to_string()), world_size, &recipe);
        assert_eq!(hashes.len(), world_size);
        let results = run.rows_without_time();
        assert_eq!(results.len(), 5, "five epochs of ten steps");
        let (hash, expected) = first.get_or_insert_with(|| (hashes[0].clone(), results.clone()));
        println!("{world_size} workers: {hashes:?}");
        assert!(
            hash.len() == 64 && hashes.iter().all(|found| found == hash),
            "{hashes:?} instead of {hash}"
        );
        // Losses, metrics, rates and the hash of each epoch, and with the metrics the choice of the best one.
        assert_eq!(results, *expected, "results of {world_size} workers");
    }
}

#[test]
fn fifty_steps_of_adamw_have_one_hash_at_any_world_size() {
    assert_one_hash(&["--optimizer", "adamw", "--lr0", "0.001", "--momentum", "0.9"]);
}

#[test]
fn fifty_steps_of_sgd_have_one_hash_at_any_world_size() {
    assert_one_hash(&["--optimizer", "sgd", "--lr0", "0.01"]);
}

#[cfg(feature = "tch")]
#[test]
fn slots_side_by_side_have_the_hash_of_slots_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = [&SMALL[..], &["--epochs", "1", "--close-mosaic", "0"]].concat();
    // A batch has four slots.
    let hashes: Vec<String> = ["1", "2", "3", "4"]
        .map(|threads| {
            let folder = folder.path().join(threads);
            std::fs::create_dir_all(&folder).unwrap();
            let mut cluster = Cluster::coordinator(Path::new(PROGRAM), &folder, 1, &recipe);
            cluster.add_worker(&["--device", "cpu:tch", "--threads", threads]);
            let (_, ended) = cluster.finish(DEADLINE);
            field(&ended[1].output, "hash")
        })
        .to_vec();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

#[test]
fn after_ten_steps_of_plain_sums_all_ranks_hold_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (_, hashes) = train(folder.path(), 3, &["--epochs", "1", "--sum", "f32"]);
    assert_eq!(hashes.len(), 3);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

#[test]
fn with_plain_sums_two_workers_train_nearly_what_one_worker_trains() {
    let folder = tempfile::tempdir().unwrap();
    let plain = [&ONE_EPOCH[..], &["--sum", "f32"]].concat();
    let (alone, _) = train(&folder.path().join("one"), 1, &plain);
    let (shared, _) = train(&folder.path().join("two"), 2, &plain);
    let (alone, shared) = (alone.last_weights().state, shared.last_weights().state);
    let difference = relative_difference(&alone.parameters, &shared.parameters);
    println!("relative difference of the parameters: {difference:.2e}");
    assert!(difference < 1e-4);
    assert!(relative_difference(&alone.buffers, &shared.buffers) < 1e-4);

    // The measure can fail: another seed is far away.
    let other = [&ONE_EPOCH[..], &["--seed", "1"]].concat();
    let (other, _) = train(&folder.path().join("other"), 1, &other);
    assert!(relative_difference(&alone.parameters, &other.last_weights().state.parameters) > 1e-2);
}

#[test]
fn exact_sums_train_nearly_what_plain_sums_train() {
    let folder = tempfile::tempdir().unwrap();
    let (exact, _) = train(&folder.path().join("exact"), 1, &ONE_EPOCH);
    let plain = [&ONE_EPOCH[..], &["--sum", "f32"]].concat();
    let (plain, _) = train(&folder.path().join("plain"), 1, &plain);
    let (exact, plain) = (exact.last_weights().state, plain.last_weights().state);
    let difference = relative_difference(&plain.parameters, &exact.parameters);
    println!("relative difference of the parameters: {difference:.2e}");
    assert!(difference > 0.0 && difference < 1e-4, "{difference}");
}

#[test]
fn validation_does_not_depend_on_the_world_size() {
    let folder = tempfile::tempdir().unwrap();
    let useful = ["--epochs", "12", "--close-mosaic", "4"];
    let (trained, _) = train(&folder.path().join("trained"), 2, &useful);
    let weights = trained
        .path()
        .join("weights/best.safetensors")
        .display()
        .to_string();
    let recipe = [&ONE_EPOCH[..], &["--weights", &weights]].concat();
    let results: Vec<_> = (1..=3)
        .map(|world_size| {
            let (run, _) = train(&folder.path().join(world_size.to_string()), world_size, &recipe);
            assert!(
                run.results("metrics/mAP50(B)")[0] > 0.1,
                "the weights detect something"
            );
            run.rows_without_time()
        })
        .collect();
    assert_eq!(results[0], results[1], "one worker and two");
    assert_eq!(results[0], results[2], "one worker and three");
}
