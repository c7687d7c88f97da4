//! What one fault does to a run of real processes: nothing to its result.
//!
//! Every run here is compared with the same run without a fault: one hash for the whole of it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::{Cluster, Process, RunDirectory, steps, unix_seconds};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

/// 40 steps of small pictures, in 4 epochs.
const RECIPE: [&str; 18] = [
    "--data",
    "shapes",
    "--imgsz",
    "32",
    "--epochs",
    "4",
    "--batch",
    "16",
    "--nbs",
    "16",
    "--hash-every",
    "1",
    "--digest-every",
    "5",
    "--checkpoint-every",
    "7",
    "--optimizer",
    "SGD",
];

const DEADLINE: Duration = Duration::from_secs(240);

/// The rows of a run without faults, on one worker.
fn undisturbed() -> &'static [String] {
    static ROWS: OnceLock<Vec<String>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (run, _) = Cluster::start(Path::new(PROGRAM), folder.path(), 1, &RECIPE).finish(DEADLINE);
        run.rows_without_time()
    })
}

fn started(folder: &Path, world_size: usize) -> Cluster {
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder, world_size, &RECIPE);
    wait_for_step(&mut cluster.workers[0], 3);
    cluster
}

/// Waits until a worker has applied so many steps.
fn wait_for_step(worker: &mut Process, step: u64) {
    let start = Instant::now();
    while steps(&worker.output()).last().is_none_or(|line| line.step < step) {
        assert!(worker.is_running(), "{}", worker.output());
        assert!(start.elapsed() < DEADLINE, "no step {step}: {}", worker.output());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for the end of a run that goes well for all that are still there, and checks its result.
fn assert_same_result(cluster: Cluster) -> RunDirectory {
    let (run, _) = cluster.finish(DEADLINE);
    assert_eq!(run.rows_without_time(), undisturbed());
    run
}

#[test]
fn a_killed_worker_costs_nothing_but_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 3);
    cluster.workers.remove(1).kill();
    let run = assert_same_result(cluster);
    assert_eq!(
        (run.count("lost"), run.count("generation")),
        (1, 2),
        "{:?}",
        run.events()
    );
}

#[test]
fn two_of_three_workers_killed_at_the_same_time_cost_nothing_but_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 3);
    let (one, other) = (cluster.workers.remove(2), cluster.workers.remove(0));
    one.signal(Signal::KILL);
    other.signal(Signal::KILL);
    let run = assert_same_result(cluster);
    assert_eq!(run.count("lost"), 2, "{:?}", run.events());
}

#[test]
fn a_worker_that_comes_late_copies_the_state_and_takes_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 1);
    let comes = unix_seconds();
    cluster.add_worker(&[]);
    wait_for_step(&mut cluster.workers[1], 6);
    let first = steps(&cluster.workers[1].output()).remove(0);
    let took = first.time - comes;
    println!("the same bits {took:.2} s after its process was started");
    // Less than 3 s on an idle machine; a step takes longer where tests share the cores.
    assert!(took < 15.0, "{took} s");
    let theirs = steps(&cluster.workers[0].output());
    assert!(theirs.contains(&tests::StepLine {
        time: theirs.iter().find(|line| line.step == first.step).unwrap().time,
        ..first
    }));
    let run = assert_same_result(cluster);
    assert_eq!(run.count("lost"), 0, "{:?}", run.events());
}

#[test]
fn a_frozen_worker_is_taken_off_the_list_and_comes_back_when_it_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 3);
    cluster.workers[1].signal(Signal::STOP);
    let frozen = Instant::now();
    cluster
        .coordinator
        .wait_for_output("was lost: no heartbeat", Duration::from_secs(15));
    println!("evicted after {:.1} s", frozen.elapsed().as_secs_f64());
    cluster.workers[1].signal(Signal::CONT);
    cluster.workers[1].wait_for_output("this worker was taken off the list", Duration::from_secs(10));
    assert_same_result(cluster);
}

#[test]
fn a_worker_at_a_twentieth_of_its_speed_keeps_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = started(folder.path(), 2);
    for _ in 0..40 {
        cluster.workers[1].signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(475));
        cluster.workers[1].signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(25));
    }
    let run = assert_same_result(cluster);
    assert_eq!(
        (run.count("lost"), run.count("generation")),
        (0, 1),
        "{:?}",
        run.events()
    );
}

#[test]
fn a_coordinator_may_die_and_come_back_while_workers_train_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 2);
    cluster.coordinator.signal(Signal::KILL);
    let at = steps(&cluster.workers[0].output()).last().unwrap().step;
    // Training goes on without it.
    wait_for_step(&mut cluster.workers[0], at + 5);
    cluster.restart_coordinator();
    for worker in &mut cluster.workers {
        worker.wait_for_output("the coordinator is back", Duration::from_secs(15));
    }
    let run = assert_same_result(cluster);
    assert_eq!(
        run.count("generation"),
        1,
        "no step was given up: {:?}",
        run.events()
    );
}

#[test]
fn a_stopped_run_goes_on_with_another_number_of_workers_to_the_same_result() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 3);
    wait_for_step(&mut cluster.workers[0], 12);
    cluster.coordinator.signal(Signal::TERM);
    let run = cluster.run_directory().path().display().to_string();
    for ended in cluster.wait(DEADLINE) {
        assert_eq!(ended.code, Some(75), "{}", ended.output);
    }
    let again = folder.path().join("again");
    fs::create_dir(&again).unwrap();
    let mut cluster = Cluster::coordinator(Path::new(PROGRAM), &again, 2, &["--resume", &run]);
    cluster.add_worker(&[]);
    cluster.add_worker(&[]);
    for ended in cluster.wait(DEADLINE) {
        assert_eq!(ended.code, Some(0), "{}", ended.output);
    }
    assert_eq!(RunDirectory::new(run.into()).rows_without_time(), undisturbed());
}

#[test]
fn everybody_killed_at_once_goes_on_from_the_newest_whole_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = started(folder.path(), 2);
    wait_for_step(&mut cluster.workers[0], 18);
    for worker in cluster.workers.drain(..) {
        worker.kill();
    }
    cluster.coordinator.signal(Signal::KILL);
    let run = cluster.run_directory();
    // The newest one is damaged as well: the one before it counts.
    let checkpoints = run.path().join("checkpoints");
    let mut names: Vec<_> = fs::read_dir(&checkpoints)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("step-"))
        .collect();
    names.sort();
    assert!(names.len() >= 2, "{names:?}");
    let shard = checkpoints.join(names.last().unwrap()).join("shard-000.bin");
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();

    cluster.restart_coordinator();
    cluster
        .coordinator
        .wait_for_output("is not used", Duration::from_secs(20));
    cluster.add_worker(&[]);
    let run = assert_same_result(cluster);
    assert!(run.count("notice") > 0, "{:?}", run.events());
}

#[test]
fn a_checkpoint_is_made_when_a_person_asks_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = RECIPE.to_vec();
    recipe.extend(["--save-period", "0"]);
    recipe[15] = "0";
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder.path(), 2, &recipe);
    wait_for_step(&mut cluster.workers[0], 3);
    let arguments = ["checkpoint", "--coordinator", cluster.address(), "--insecure"];
    let asked = Process::start(
        Path::new(PROGRAM),
        &arguments,
        &folder.path().join("checkpoint.log"),
    );
    let ended = asked.wait(Duration::from_secs(60));
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    assert!(ended.output.contains("committed"), "{}", ended.output);
    let (run, _) = cluster.finish(DEADLINE);
    assert_eq!(run.count("checkpoint"), 1, "{:?}", run.events());
}
