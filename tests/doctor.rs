//! `ringmaster doctor` on clusters that are well, and on such that are not.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use security::authority::{Authority, Order};
use security::{Identity, Role};
use serde_json::Value;
use tests::{Cluster, Ended, Process, write_shapes};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");
/// Trains for longer than any test takes.
const RECIPE: [&str; 8] = [
    "--imgsz", "64", "--epochs", "1000", "--batch", "16", "--nbs", "16",
];
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn doctor(folder: &Path, address: &str, more: &[&str]) -> Ended {
    // A machine that runs tests may have little room left.
    let arguments = [
        &[
            "doctor",
            "--coordinator",
            address,
            "--min-free",
            "0",
            "--transfer",
            "16",
        ],
        more,
    ]
    .concat();
    Process::start(Path::new(PROGRAM), &arguments, &folder.join("doctor.log")).wait(Duration::from_secs(120))
}

fn json(ended: &Ended) -> Value {
    let start = ended.output.find('{').expect("an object");
    serde_json::from_str(&ended.output[start..]).unwrap()
}

/// The sentences about what is wrong.
fn problems(found: &Value) -> Vec<&str> {
    let problems = found["problems"].as_array().unwrap().iter();
    problems
        .map(|problem| problem["problem"].as_str().unwrap())
        .collect()
}

fn wait_until_training(cluster: &mut Cluster) {
    for worker in &mut cluster.workers {
        worker.wait_for_output("training begins", DEADLINE);
    }
}

#[test]
fn a_healthy_cluster_is_told_so_in_a_table_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder.path(), 3, &RECIPE);
    wait_until_training(&mut cluster);
    let table = doctor(folder.path(), cluster.address(), &["--insecure"]);
    assert_eq!(table.code, Some(0), "{}", table.output);
    for text in [
        "all is well",
        "worker 2 -> worker 0",
        "worker 1 -> coordinator",
        "yolov8n",
    ] {
        assert!(table.output.contains(text), "{text:?} in\n{}", table.output);
    }

    let ended = doctor(folder.path(), cluster.address(), &["--insecure", "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let found = json(&ended);
    assert_eq!(found["ok"], true);
    assert_eq!(problems(&found), Vec::<&str>::new());
    assert_eq!(found["phase"], "running");
    let workers = found["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 3);
    for worker in workers {
        assert_eq!(
            worker["opened"]["dataset"], workers[0]["opened"]["dataset"],
            "{worker}"
        );
        assert_eq!(worker["look"]["version"], found["version"]);
        assert!(worker["look"]["free_bytes"].as_u64().unwrap() > 0);
        assert!(worker["look"]["clock_ahead_seconds"].as_f64().unwrap().abs() < 1.0);
    }
    let edges = found["edges"].as_array().unwrap();
    assert_eq!(edges.len(), 6);
    for edge in edges {
        assert!(edge["round_trip_seconds"].as_f64().unwrap() > 0.0, "{edge}");
        // Within a machine, whatever else it does.
        assert!(edge["bytes_per_second"].as_u64().unwrap() > 1_000_000, "{edge}");
    }
    // Nobody was harmed.
    assert!(cluster.workers.iter_mut().all(Process::is_running));
    assert_eq!(cluster.run_directory().count("lost"), 0);
}

#[test]
fn too_little_room_for_the_run_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(Path::new(PROGRAM), folder.path(), 1, &RECIPE);
    wait_until_training(&mut cluster);
    let more = ["--insecure", "--json"];
    let arguments = [
        &[
            "doctor",
            "--coordinator",
            cluster.address(),
            "--min-free",
            "1000000",
        ],
        &more[..],
    ]
    .concat();
    let log = folder.path().join("doctor.log");
    let ended = Process::start(Path::new(PROGRAM), &arguments, &log).wait(DEADLINE);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    let found = json(&ended);
    let [problem] = problems(&found)[..] else {
        panic!("{}", ended.output)
    };
    assert!(
        problem.contains("coordinator on") && problem.contains("free disk"),
        "{problem}"
    );
}

#[test]
fn a_worker_with_another_data_set_is_named_and_so_is_who_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::coordinator(Path::new(PROGRAM), folder.path(), 3, &RECIPE);
    for number in 0..2 {
        cluster.add_worker(&[]);
        cluster.workers[number].wait_for_output("joined the run", DEADLINE);
    }
    let data = folder.path().join("other");
    fs::create_dir(&data).unwrap();
    let other = write_shapes(&data, 8).display().to_string();
    cluster.add_worker(&["--data", &other]);
    let refused = cluster.workers.remove(2).wait(DEADLINE);
    assert_eq!(refused.code, Some(1), "{}", refused.output);

    let ended = doctor(folder.path(), cluster.address(), &["--insecure", "--json"]);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    let found = json(&ended);
    assert_eq!(found["ok"], false);
    let [refused, missing] = problems(&found)[..] else {
        panic!("{}", ended.output)
    };
    assert!(
        refused.contains("was refused") && refused.contains("8 training images where"),
        "{refused}"
    );
    assert_eq!(missing, "2 of 3 workers have joined");
    // The two that wait for the third have been looked at before generation 1.
    let edges = found["edges"].as_array().unwrap();
    assert_eq!(edges.len(), 4, "{}", ended.output);
    assert!(
        edges.iter().all(|edge| edge["failure"].is_null()),
        "{}",
        ended.output
    );

    // Once a worker with the right data has taken the place, the refused one is only a note.
    cluster.add_worker(&[]);
    wait_until_training(&mut cluster);
    let ended = doctor(folder.path(), cluster.address(), &["--insecure"]);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    assert!(ended.output.contains("note: a worker on"), "{}", ended.output);
}

#[test]
fn a_frozen_worker_and_a_dead_one_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::coordinator(Path::new(PROGRAM), folder.path(), 3, &RECIPE);
    for number in 0..2 {
        cluster.add_worker(&[]);
        cluster.workers[number].wait_for_output("joined the run", DEADLINE);
    }
    cluster.workers[1].signal(Signal::STOP);
    let ended = doctor(folder.path(), cluster.address(), &["--insecure"]);
    cluster.workers[1].signal(Signal::CONT);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(
        ended.output.contains("problem: worker 1, worker on") && ended.output.contains("cannot be reached"),
        "{}",
        ended.output
    );

    cluster.workers.remove(1).kill();
    // The coordinator sees the end of a process at once, and it is then one of the missing.
    let begin = Instant::now();
    let ended = loop {
        let ended = doctor(folder.path(), cluster.address(), &["--insecure"]);
        if ended.output.contains("1 of 3 workers have joined") {
            break ended;
        }
        assert!(begin.elapsed() < DEADLINE, "{}", ended.output);
    };
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(
        ended.output.contains("start 2 more: worker --coordinator"),
        "{}",
        ended.output
    );
    assert!(cluster.workers[0].is_running());
}

#[test]
fn a_coordinator_that_is_not_there_is_said_so_in_both_forms() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let ended = doctor(folder.path(), &address, &["--insecure"]);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    let sentence = format!("problem: no coordinator at {address}: ");
    assert!(ended.output.contains(&sentence), "{}", ended.output);

    let ended = doctor(folder.path(), &address, &["--insecure", "--json"]);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    let found = json(&ended);
    assert_eq!(found["ok"], false);
    assert_eq!(problems(&found).len(), 1);
}

#[test]
fn behind_certificates_an_operator_looks_at_everything_and_a_worker_at_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let authority = Authority::init(&path.join("ca"), "tests", SystemTime::now(), DAY).unwrap();
    for (role, name) in [
        (Role::Coordinator, "coordinator"),
        (Role::Worker, "worker-0"),
        (Role::Worker, "worker-1"),
        (Role::Operator, "operator"),
    ] {
        let order = Order {
            identity: Identity::new(role, name).unwrap(),
            hosts: vec!["localhost".into(), "127.0.0.1".into()],
            from: SystemTime::now() - Duration::from_secs(1),
            lifetime: DAY,
        };
        authority.issue(&order).unwrap().write(&path.join(name)).unwrap();
    }
    let mut cluster = Cluster::secured_coordinator(Path::new(PROGRAM), path, 2, &RECIPE, path);
    for _ in 0..2 {
        cluster.add_worker(&[]);
    }
    wait_until_training(&mut cluster);
    let certs = |name: &str| path.join(name).display().to_string();
    let ended = doctor(
        path,
        cluster.address(),
        &["--certs", &certs("operator"), "--json"],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let found = json(&ended);
    assert_eq!(found["edges"].as_array().unwrap().len(), 4);

    let ended = doctor(path, cluster.address(), &["--certs", &certs("worker-0")]);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(ended.output.contains("may not call"), "{}", ended.output);
}
