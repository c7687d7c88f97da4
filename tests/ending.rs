//! How a run ends before its time: on request with the weights saved, or because a worker is lost.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tests::{Cluster, Process, RunDirectory};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

/// More epochs than anybody waits for.
const LONG: [&str; 10] = [
    "--data", "shapes", "--imgsz", "64", "--epochs", "5000", "--batch", "16", "--nbs", "16",
];

/// The time in which every process must be gone after a loss.
const PROMISE: Duration = Duration::from_secs(10);

/// A clean stop takes a step and an upload; no time is promised for them.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

fn started(folder: &Path, world_size: usize) -> Cluster {
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder, world_size, &LONG);
    cluster
        .coordinator
        .wait_for_output("epoch 1/", Duration::from_secs(120));
    cluster
}

/// Returns the rank of a worker by its log.
fn rank(worker: &Process) -> u32 {
    let output = worker.output();
    let (_, rest) = output
        .split_once("training begins rank=")
        .expect("the worker has a rank");
    rest.split(' ')
        .next()
        .and_then(|rank| rank.parse().ok())
        .expect("a number")
}

fn assert_stopped_well(cluster: Cluster) {
    let run = cluster.run_directory();
    for ended in cluster.wait(STOP_DEADLINE) {
        assert_eq!(ended.code, Some(0), "{}", ended.output);
        assert!(ended.output.contains("stopped"), "{}", ended.output);
    }
    let weights = run.last_weights();
    assert!(weights.state.parameters.iter().all(|value| value.is_finite()));
}

#[test]
fn an_interrupted_coordinator_stops_the_run_with_the_last_weights_saved() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = started(folder.path(), 2);
    cluster.coordinator.signal(Signal::INT);
    assert_stopped_well(cluster);
}

#[test]
fn a_terminated_worker_stops_the_run_with_the_last_weights_saved() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = started(folder.path(), 3);
    cluster.workers[1].signal(Signal::TERM);
    assert_stopped_well(cluster);
}

#[test]
fn a_killed_worker_ends_the_run_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = started(folder.path(), 3);
    let name = format!("rank {} on host", rank(&cluster.workers[2]));
    cluster.workers[2].signal(Signal::KILL);
    let mut ended = cluster.wait(PROMISE);
    let killed = ended.remove(3);
    assert_eq!(killed.code, None);
    for process in ended {
        assert_eq!(process.code, Some(1), "{}", process.output);
        let sentence = process.output.lines().last().unwrap_or_default();
        assert!(
            sentence.contains(&name) && sentence.contains("was lost"),
            "{name} is not in: {sentence}"
        );
    }
}

#[test]
fn a_frozen_worker_ends_the_run_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 2);
    let frozen = cluster.workers.remove(1);
    frozen.signal(Signal::STOP);
    for process in cluster.wait(PROMISE) {
        assert_eq!(process.code, Some(1), "{}", process.output);
        assert!(
            process.output.contains("was lost: no heartbeat"),
            "{}",
            process.output
        );
    }
}

#[test]
fn a_killed_coordinator_ends_its_workers() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = started(folder.path(), 2);
    cluster.coordinator.signal(Signal::KILL);
    for process in cluster.wait(PROMISE).drain(1..) {
        assert_eq!(process.code, Some(1), "{}", process.output);
        assert!(
            process.output.contains("lost the coordinator"),
            "{}",
            process.output
        );
    }
}

#[test]
fn a_frozen_coordinator_ends_its_workers() {
    let folder = tempfile::tempdir().unwrap();
    let Cluster {
        coordinator, workers, ..
    } = started(folder.path(), 2);
    coordinator.signal(Signal::STOP);
    for worker in workers {
        let ended = worker.wait(PROMISE);
        assert_eq!(ended.code, Some(1), "{}", ended.output);
        assert!(ended.output.contains("lost the coordinator"), "{}", ended.output);
    }
}

#[test]
fn an_interrupted_train_stops_its_workers_and_saves_the_last_weights() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("runs").display().to_string();
    let arguments = [&["train", "--workers", "2", "--project", &project], &LONG[..]].concat();
    let mut train = Process::start(Path::new(PROGRAM), &arguments, &folder.path().join("train.log"));
    train.wait_for_output("epoch 1/", Duration::from_secs(120));
    train.signal(Signal::INT);
    let ended = train.wait(STOP_DEADLINE);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    RunDirectory::new(folder.path().join("runs/train")).last_weights();
}
