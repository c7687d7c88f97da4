//! How a run, or one worker's part in it, ends before its time: on request, with everything saved.

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

/// A clean stop takes a step and an upload; no time is promised for them.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// `EX_TEMPFAIL`: the run can be resumed.
const RESUMABLE: Option<i32> = Some(75);

fn started(folder: &Path, world_size: usize) -> Cluster {
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder, world_size, &LONG);
    cluster
        .coordinator
        .wait_for_output("epoch 1/", Duration::from_secs(120));
    cluster
}

fn assert_stopped_well(cluster: Cluster) {
    let run = cluster.run_directory();
    for ended in cluster.wait(STOP_DEADLINE) {
        assert_eq!(ended.code, RESUMABLE, "{}", ended.output);
        assert!(ended.output.contains("stopped"), "{}", ended.output);
    }
    let weights = run.last_weights();
    assert!(weights.state.parameters.iter().all(|value| value.is_finite()));
    assert!(run.count("checkpoint") > 0, "{:?}", run.events());
}

#[test]
fn an_interrupted_coordinator_stops_the_run_with_a_checkpoint_and_the_last_weights_saved() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = started(folder.path(), 2);
    cluster.coordinator.signal(Signal::INT);
    assert_stopped_well(cluster);
}

#[test]
fn a_terminated_worker_hands_over_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 3);
    let drained = cluster.workers.remove(1);
    drained.signal(Signal::TERM);
    let ended = drained.wait(STOP_DEADLINE);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    assert!(ended.output.contains("handed over"), "{}", ended.output);
    cluster
        .coordinator
        .wait_for_output("generation 2 begins: rank 0", Duration::from_secs(10));
    for worker in &mut cluster.workers {
        worker.wait_for_output("generation=2", Duration::from_secs(10));
        assert!(!worker.output().contains("broke"), "{}", worker.output());
    }
    let run = cluster.run_directory();
    assert_eq!(run.count("lost"), 0, "{:?}", run.events());
    cluster.coordinator.signal(Signal::INT);
    assert_stopped_well(cluster);
}

#[test]
fn the_last_worker_leaves_a_checkpoint_and_the_run_waits_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 1);
    let last = cluster.workers.remove(0);
    last.signal(Signal::TERM);
    let ended = last.wait(STOP_DEADLINE);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    cluster
        .coordinator
        .wait_for_output("waiting for 1 more worker", Duration::from_secs(15));
    cluster.add_worker(&[]);
    cluster.workers[0].wait_for_output("state loaded from the checkpoint", Duration::from_secs(60));
    cluster.coordinator.signal(Signal::INT);
    assert_stopped_well(cluster);
}

#[test]
fn workers_that_wait_for_a_coordinator_for_too_long_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::coordinator(Path::new(PROGRAM), folder.path(), 1, &LONG);
    cluster.add_worker(&["--orphan-timeout", "2"]);
    cluster
        .coordinator
        .wait_for_output("epoch 1/", Duration::from_secs(120));
    cluster.coordinator.kill();
    let ended = cluster.workers.remove(0).wait(Duration::from_secs(20));
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(ended.output.contains("was away for too long"), "{}", ended.output);
}

#[test]
fn an_interrupted_train_stops_its_workers_and_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("runs").display().to_string();
    let arguments = [&["train", "--workers", "2", "--project", &project], &LONG[..]].concat();
    let mut train = Process::start(Path::new(PROGRAM), &arguments, &folder.path().join("train.log"));
    train.wait_for_output("epoch 1/", Duration::from_secs(120));
    train.signal(Signal::INT);
    let ended = train.wait(STOP_DEADLINE);
    assert_eq!(ended.code, RESUMABLE, "{}", ended.output);
    let run = folder.path().join("runs/train");
    RunDirectory::new(run.clone()).last_weights();

    let run = run.display().to_string();
    let arguments = ["train", "--workers", "1", "--resume", &run];
    let mut train = Process::start(Path::new(PROGRAM), &arguments, &folder.path().join("again.log"));
    train.wait_for_output("resuming from the checkpoint of step", Duration::from_secs(60));
    train.wait_for_output("generation 2 begins", Duration::from_secs(60));
    train.wait_for_output("epoch ", Duration::from_secs(60));
    train.signal(Signal::INT);
    let ended = train.wait(STOP_DEADLINE);
    assert_eq!(ended.code, RESUMABLE, "{}", ended.output);
}

#[test]
fn a_coordinator_that_is_started_again_after_the_end_tells_of_it_and_of_its_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let short = ["--imgsz", "64", "--epochs", "1", "--batch", "8"];
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder.path(), 1, &short);
    let restart = |cluster: &mut Cluster| {
        cluster.restart_coordinator();
        let again = std::mem::replace(&mut cluster.coordinator, idle(folder.path()));
        again.wait(STOP_DEADLINE)
    };
    let first = std::mem::replace(&mut cluster.coordinator, idle(folder.path()));
    assert_eq!(first.wait(Duration::from_secs(120)).code, Some(0));
    let rows = cluster.run_directory().events().len();
    for _ in 0..2 {
        let again = restart(&mut cluster);
        assert_eq!(again.code, Some(0), "{}", again.output);
        assert!(again.output.contains("has ended: completed"), "{}", again.output);
        assert!(again.output.contains("best.safetensors"), "{}", again.output);
    }
    assert_eq!(cluster.run_directory().events().len(), rows, "nothing was added");
}

#[test]
fn a_lingering_coordinator_lingers_again_when_it_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let short = ["--imgsz", "64", "--epochs", "1", "--batch", "8", "--linger"];
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder.path(), 1, &short);
    for number in 0..2 {
        cluster
            .coordinator
            .wait_for_output("staying until asked to stop", Duration::from_secs(120));
        cluster.coordinator.signal(Signal::TERM);
        let ended = std::mem::replace(&mut cluster.coordinator, idle(folder.path())).wait(STOP_DEADLINE);
        assert_eq!(ended.code, Some(0), "{number}: {}", ended.output);
        cluster.restart_coordinator();
    }
}

#[test]
fn a_lingering_coordinator_stays_when_an_operator_has_stopped_its_run_and_goes_on_with_it_when_started_again()
{
    let folder = tempfile::tempdir().unwrap();
    let lingering = [&LONG[..], &["--linger"]].concat();
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder.path(), 1, &lingering);
    cluster
        .coordinator
        .wait_for_output("epoch 1/", Duration::from_secs(120));
    let arguments = ["stop", "--coordinator", cluster.address(), "--insecure"];
    let asked = Process::start(Path::new(PROGRAM), &arguments, &folder.path().join("stop.log"));
    assert_eq!(asked.wait(STOP_DEADLINE).code, Some(0));
    let worker = cluster.workers.remove(0).wait(STOP_DEADLINE);
    assert_eq!(worker.code, RESUMABLE, "{}", worker.output);
    cluster
        .coordinator
        .wait_for_output("staying until asked to stop", STOP_DEADLINE);
    cluster.coordinator.signal(Signal::TERM);
    let ended = std::mem::replace(&mut cluster.coordinator, idle(folder.path())).wait(STOP_DEADLINE);
    assert_eq!(ended.code, RESUMABLE, "{}", ended.output);

    cluster.restart_coordinator();
    cluster
        .coordinator
        .wait_for_output("resuming from the checkpoint of step", STOP_DEADLINE);
    cluster.add_worker(&["--drained-exit-code", "3"]);
    cluster.coordinator.wait_for_output("epoch ", STOP_DEADLINE);
    let drained = cluster.workers.remove(0);
    drained.signal(Signal::TERM);
    let drained = drained.wait(STOP_DEADLINE);
    assert_eq!(drained.code, Some(3), "{}", drained.output);
    // Asked by a signal, it does not stay.
    cluster.coordinator.signal(Signal::TERM);
    let ended = cluster.coordinator.wait(STOP_DEADLINE);
    assert_eq!(ended.code, RESUMABLE, "{}", ended.output);
    assert!(!ended.output.contains("staying"), "{}", ended.output);
}

#[test]
fn a_worker_that_is_asked_to_end_before_there_is_a_coordinator_ends_as_one_that_has_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let arguments = [
        "worker",
        "--insecure",
        "--coordinator",
        &address,
        "--drained-exit-code",
        "3",
    ];
    let mut worker = Process::start(Path::new(PROGRAM), &arguments, &folder.path().join("worker.log"));
    worker.wait_for_output("no coordinator", Duration::from_secs(30));
    worker.signal(Signal::TERM);
    let ended = worker.wait(STOP_DEADLINE);
    assert_eq!(ended.code, Some(3), "{}", ended.output);
}

#[test]
fn a_run_that_failed_is_told_with_its_exit_code_when_it_is_taken_over_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let lonely = [
        "--imgsz",
        "64",
        "--epochs",
        "1",
        "--batch",
        "8",
        "--join-timeout",
        "1",
    ];
    let mut cluster = Cluster::coordinator(Path::new(PROGRAM), folder.path(), 1, &lonely);
    let first = std::mem::replace(&mut cluster.coordinator, idle(folder.path())).wait(STOP_DEADLINE);
    assert_eq!(first.code, Some(1), "{}", first.output);
    cluster.restart_coordinator();
    let again = std::mem::replace(&mut cluster.coordinator, idle(folder.path())).wait(STOP_DEADLINE);
    assert_eq!(again.code, Some(1), "{}", again.output);
    assert!(again.output.contains("has ended: failed: "), "{}", again.output);
}

/// Stands where a process was that is waited for.
fn idle(folder: &Path) -> Process {
    Process::start(Path::new("true"), &[], &folder.join("idle.log"))
}
