//! The arrows between crates that must not be: pure crates stay pure, the coordinator stays small.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::process::Command;

/// Crate, and packages that must not be anywhere below it; with a star the family too: `burn*` is also burn-tensor.
const FORBIDDEN: [(&str, &[&str]); 9] = [
    (
        "collective",
        &[
            "tokio*",
            "tonic*",
            "prost*",
            "burn*",
            "rand*",
            "data",
            "model",
            "proto",
            "coordinator",
            "worker",
        ],
    ),
    (
        "data",
        &[
            "burn*",
            "tokio*",
            "tonic*",
            "collective",
            "model",
            "proto",
            "coordinator",
            "worker",
        ],
    ),
    (
        "model",
        &[
            "tokio*",
            "tonic*",
            "collective",
            "data",
            "proto",
            "coordinator",
            "worker",
        ],
    ),
    (
        "proto",
        &[
            "burn*",
            "rustls*",
            "tokio-rustls",
            "rcgen",
            "data",
            "model",
            "security",
            "coordinator",
            "worker",
        ],
    ),
    (
        "plots",
        &[
            "burn*",
            "tokio*",
            "serde*",
            "collective",
            "data",
            "model",
            "proto",
            "coordinator",
            "worker",
        ],
    ),
    ("security", &["burn*", "data", "model", "coordinator", "worker"]),
    ("probe", &["burn*", "data", "model", "coordinator", "worker"]),
    ("coordinator", &["burn*", "data", "model", "worker"]),
    ("worker", &["coordinator", "cli"]),
];

fn packages_below(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["--package", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_crate_reaches_what_it_must_not_know() {
    for (package, forbidden) in FORBIDDEN {
        let below = packages_below(package);
        for name in forbidden {
            let is_there = below.iter().any(|found| match name.strip_suffix('*') {
                Some(family) => found == family || found.starts_with(&format!("{family}-")),
                None => found == name,
            });
            assert!(!is_there, "{package} depends on {name}");
        }
    }
}

#[test]
fn the_check_sees_dependencies_that_are_there() {
    let below = packages_below("worker");
    for name in ["burn", "tonic", "tokio", "collective", "data", "model", "proto"] {
        assert!(
            below.iter().any(|found| found == name),
            "worker should depend on {name}"
        );
    }
}
