//! Certificates that are replaced while a cluster trains: nobody notices, and the new ones are in use.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use security::authority::{Authority, Order};
use security::{Identity, Role};
use tests::{Cluster, Ended, Process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");
const RECIPE: [&str; 10] = [
    "--imgsz",
    "64",
    "--epochs",
    "3",
    "--batch",
    "16",
    "--nbs",
    "16",
    "--hash-every",
    "4",
];
const DAY: Duration = Duration::from_secs(24 * 3600);
const HOSTS: [(Role, &str); 4] = [
    (Role::Coordinator, "coordinator"),
    (Role::Worker, "worker-0"),
    (Role::Worker, "worker-1"),
    (Role::Operator, "operator"),
];

/// Issues every host a certificate, in place of the one that it has.
fn issue(authority: &Authority, folder: &Path) {
    for (role, name) in HOSTS {
        let order = Order {
            identity: Identity::new(role, name).unwrap(),
            hosts: vec!["localhost".into(), "127.0.0.1".into()],
            from: SystemTime::now() - Duration::from_secs(1),
            lifetime: DAY,
        };
        authority
            .issue(&order)
            .unwrap()
            .write(&folder.join(name))
            .unwrap();
    }
}

fn status(folder: &Path, certificates: &str, cluster: &Cluster) -> Ended {
    let certs = folder.join(certificates).display().to_string();
    let arguments = ["status", "--certs", &certs, "--coordinator", cluster.address()];
    Process::start(Path::new(PROGRAM), &arguments, &folder.join("status.log")).wait(Duration::from_secs(10))
}

fn last_hash(output: &str) -> &str {
    let line = output
        .lines()
        .rfind(|line| line.contains("training ended"))
        .unwrap();
    line.rsplit_once("hash=").unwrap().1.trim()
}

#[test]
fn certificates_are_replaced_in_a_running_cluster_without_losing_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let authority = |name| Authority::init(&path.join(name), name, SystemTime::now(), DAY).unwrap();
    // Of another authority, so that whoever goes on with the old certificates cannot talk to those with new ones.
    let (old, new) = (authority("old"), authority("new"));
    issue(&old, path);
    let mut cluster = Cluster::secured_coordinator(Path::new(PROGRAM), path, 2, &RECIPE, path);
    for _ in 0..2 {
        cluster.add_worker(&[]);
    }
    cluster.workers[0].wait_for_output("state step=4", Duration::from_secs(60));
    let asked = status(path, "operator", &cluster);
    assert_eq!(asked.code, Some(0), "{}", asked.output);
    fs::rename(path.join("operator"), path.join("operator-before")).unwrap();

    issue(&new, path);
    let asked = status(path, "operator", &cluster);
    assert_eq!(asked.code, Some(0), "{}", asked.output);
    assert!(asked.output.contains("running"), "{}", asked.output);
    let refused = status(path, "operator-before", &cluster);
    assert_eq!(refused.code, Some(1), "{}", refused.output);

    let (_, ended) = cluster.finish(Duration::from_secs(120));
    assert!(
        ended[0].output.contains("the certificate was read again"),
        "{}",
        ended[0].output
    );
    let hashes: Vec<_> = ended[1..]
        .iter()
        .map(|worker| last_hash(&worker.output))
        .collect();
    assert_eq!(hashes[0], hashes[1]);

    // The same run in plain text and without any incident: the same bits, so no step was lost or repeated.
    let plain = path.join("plain");
    fs::create_dir(&plain).unwrap();
    let (_, calm) = Cluster::start(Path::new(PROGRAM), &plain, 2, &RECIPE).finish(Duration::from_secs(120));
    assert_eq!(last_hash(&calm[1].output), hashes[0]);
}
