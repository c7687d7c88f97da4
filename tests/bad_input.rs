//! Bad input gives one clear sentence and an exit code, and leaves nothing half-written.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::{Cluster, Ended, Process, write_shapes};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

/// Arguments that would train quickly if the rest were right.
const SMALL: [&str; 6] = ["--imgsz", "64", "--epochs", "1", "--batch", "8"];

fn ringmaster(folder: &Path, arguments: &[&str]) -> Ended {
    Process::start(Path::new(PROGRAM), arguments, &folder.join("output.log")).wait(Duration::from_secs(120))
}

fn train(folder: &Path, arguments: &[&str]) -> Ended {
    let project = folder.join("runs").display().to_string();
    let arguments = [
        &["train", "--device", "cpu", "--project", &project],
        &SMALL[..],
        arguments,
    ]
    .concat();
    ringmaster(folder, &arguments)
}

/// Asserts a failure whose last line holds all of `words`, and that no run was begun.
fn assert_refused(folder: &Path, ended: &Ended, words: &[&str]) {
    assert!(
        matches!(ended.code, Some(1 | 2)),
        "exit code {:?}:\n{}",
        ended.code,
        ended.output
    );
    let sentence = ended
        .output
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect::<Vec<_>>();
    assert_eq!(sentence.len(), 1, "one sentence:\n{}", ended.output);
    for word in words {
        assert!(sentence[0].contains(word), "{word:?} is not in: {}", sentence[0]);
    }
    assert!(!folder.join("runs").exists(), "a run directory was left behind");
}

fn data_yaml(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("data.yaml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_data_yaml_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let ended = train(folder.path(), &["--data", "nowhere/data.yaml"]);
    assert_refused(folder.path(), &ended, &["nowhere/data.yaml"]);
}

#[test]
fn folders_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = data_yaml(
        folder.path(),
        "path: .\ntrain: photos\nval: photos\nnames: [cell]\n",
    );
    let ended = train(folder.path(), &["--data", &yaml.display().to_string()]);
    assert_refused(folder.path(), &ended, &["photos"]);

    let yaml = write_shapes(folder.path(), 2);
    fs::remove_dir_all(folder.path().join("labels")).unwrap();
    let ended = train(folder.path(), &["--data", &yaml.display().to_string()]);
    assert_refused(folder.path(), &ended, &["labels"]);
}

#[test]
fn bad_label_rows_skip_the_image_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = write_shapes(folder.path(), 12).display().to_string();
    let rows = [
        "9 0.5 0.5 0.1 0.1",
        "0 0.5 0.5 0.1",
        "0 NaN 0.5 0.1 0.1",
        "0 1.5 0.5 0.1 0.1",
    ];
    for (index, row) in rows.iter().enumerate() {
        fs::write(
            folder.path().join(format!("labels/{index:03}.txt")),
            format!("0 0.5 0.5 0.2 0.2\n{row}\n"),
        )
        .unwrap();
    }
    let ended = train(folder.path(), &["--data", &yaml]);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    assert!(
        ended.output.contains("8 train images (4 skipped)"),
        "{}",
        ended.output
    );
    let log = fs::read_to_string(folder.path().join("runs/train/logs/worker-0.log")).unwrap();
    for index in 0..rows.len() {
        for words in [&log, &ended.output] {
            assert!(
                words.contains(&format!("{index:03}.txt:2:")),
                "file and line of label {index}:\n{words}"
            );
        }
    }
}

#[test]
fn nothing_left_to_train_on() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = write_shapes(folder.path(), 2).display().to_string();
    for index in 0..2 {
        fs::write(
            folder.path().join(format!("labels/{index:03}.txt")),
            "9 0.5 0.5 0.1 0.1\n",
        )
        .unwrap();
    }
    let ended = train(folder.path(), &["--data", &yaml]);
    assert_refused(folder.path(), &ended, &["000.txt"]);
}

#[test]
fn a_truncated_picture_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = write_shapes(folder.path(), 9).display().to_string();
    let picture = folder.path().join("images/000.png");
    let content = fs::read(&picture).unwrap();
    fs::write(&picture, &content[..content.len() / 2]).unwrap();
    let ended = train(folder.path(), &["--data", &yaml]);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    assert!(
        ended.output.contains("8 train images (1 skipped)"),
        "{}",
        ended.output
    );
}

#[test]
fn recipes_with_unknown_keys_or_wild_values() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("recipe.toml");
    let path = recipe.display().to_string();
    fs::write(&recipe, "epochs = 1\nlearning_rate = 0.1\n").unwrap();
    assert_refused(
        folder.path(),
        &train(folder.path(), &["--config", &path]),
        &["learning_rate"],
    );
    assert_refused(
        folder.path(),
        &train(folder.path(), &["--lr0", "50"]),
        &["lr0", "50"],
    );
    assert_refused(
        folder.path(),
        &train(folder.path(), &["--model", "yolov9z"]),
        &["yolov9z", "yolov8n"],
    );
    assert_refused(
        folder.path(),
        &train(folder.path(), &["--workers", "9", "--micro-batch", "4"]),
        &["--micro-batch"],
    );
}

#[test]
fn habits_from_ultralytics_that_mean_something_else_here() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("runs").display().to_string();
    let train = ["train", "--device", "cpu", "--project", &project];
    for (arguments, sentence) in [
        (["--cache", "ram"], "--cache takes a folder"),
        (["--batch", "-1"], "give a number of images"),
        (["--save-period", "-2"], "give a number of epochs"),
        (["--freeze", "23"], "cannot freeze 23 layers"),
        (["--workers", "8"], "each is a process that trains"),
    ] {
        let ended = ringmaster(folder.path(), &[&train[..], &arguments].concat());
        assert_refused(folder.path(), &ended, &[sentence]);
    }
    let ended = ringmaster(folder.path(), &[&train[..], &["epochs=10"]].concat());
    assert_refused(folder.path(), &ended, &["epochs=10"]);
    assert!(ended.output.contains("write --epochs 10"), "{}", ended.output);
}

#[test]
fn a_device_that_is_not_there_or_not_compiled_in() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("runs").display().to_string();
    let refused = |device: &str| {
        ringmaster(
            folder.path(),
            &["train", "--device", device, "--project", &project],
        )
    };
    assert_refused(folder.path(), &refused("quantum:0"), &["quantum:0", "cpu"]);
    assert_refused(folder.path(), &refused("cuda:7"), &["cuda:7"]);
    if !cfg!(feature = "tch") {
        assert_refused(folder.path(), &refused("cpu:tch"), &["--features tch"]);
    }
}

#[test]
fn weights_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.safetensors");
    fs::write(&bad, b"not weights").unwrap();
    let path = bad.display().to_string();
    let ended = ringmaster(folder.path(), &["val", "--weights", &path]);
    assert_refused(folder.path(), &ended, &["bad.safetensors"]);
    assert_refused(
        folder.path(),
        &train(folder.path(), &["--weights", &path]),
        &["bad.safetensors"],
    );
}

#[test]
fn a_port_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let project = folder.path().join("runs").display().to_string();
    let arguments = [
        "coordinator",
        "--insecure",
        "--world-size",
        "1",
        "--listen",
        &address,
        "--project",
        &project,
    ];
    assert_refused(
        folder.path(),
        &ringmaster(folder.path(), &arguments),
        &[&address, "in use"],
    );
}

#[test]
fn a_coordinator_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "worker",
        "--insecure",
        "--coordinator",
        "127.0.0.1:9",
        "--join-timeout",
        "2",
        "--device",
        "cpu",
    ];
    let ended = ringmaster(folder.path(), &arguments);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(
        ended.output.contains("no coordinator at 127.0.0.1:9 within 2 s"),
        "{}",
        ended.output
    );
    assert!(ended.waited < Duration::from_secs(8));
}

#[test]
fn plain_text_that_is_not_asked_for_or_would_leave_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = ["coordinator", "--world-size", "1"];
    let worker = ["worker", "--device", "cpu", "--join-timeout", "2"];
    // An address of the documentation range: nobody is there, and nobody is asked.
    let remote = ["--coordinator", "192.0.2.1:50051"];
    let cases: [(Vec<&str>, &str); 5] = [
        (coordinator.to_vec(), "--certs"),
        ([&worker[..], &remote].concat(), "--certs"),
        (
            [&coordinator[..], &["--insecure", "--listen", "0.0.0.0:0"]].concat(),
            "--insecure-network",
        ),
        (
            [
                &worker[..],
                &[
                    "--coordinator",
                    "127.0.0.1:9",
                    "--insecure",
                    "--listen",
                    "0.0.0.0:0",
                ],
            ]
            .concat(),
            "--insecure-network",
        ),
        (
            ["status", "--insecure", "--coordinator", "192.0.2.1:50051"].to_vec(),
            "--insecure-network",
        ),
    ];
    for (arguments, help) in cases {
        let ended = ringmaster(folder.path(), &arguments);
        assert!(
            ended.code.is_some_and(|code| code > 0),
            "{arguments:?}: {}",
            ended.output
        );
        assert!(ended.output.contains(help), "{arguments:?}: {}", ended.output);
        assert!(ended.waited < Duration::from_secs(5), "{arguments:?}");
    }
}

#[test]
fn a_worker_with_other_data_is_told_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let one = write_shapes(&folder.path().join("one"), 16).display().to_string();
    let other = write_shapes(&folder.path().join("other"), 17)
        .display()
        .to_string();
    let recipe = [&["--data", &one], &SMALL[..]].concat();
    let mut cluster = Cluster::coordinator(Path::new(PROGRAM), folder.path(), 2, &recipe);
    cluster.add_worker(&[]);
    cluster.workers[0].wait_for_output("joined", Duration::from_secs(60));
    cluster.add_worker(&["--data", &other]);
    let refused = cluster.workers.remove(1).wait(Duration::from_secs(60));
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert!(
        refused
            .output
            .contains("17 training images where the first worker has 16"),
        "{}",
        refused.output
    );
    // The run goes on waiting for a worker that fits.
    cluster.add_worker(&[]);
    cluster.finish(Duration::from_secs(120));
}

#[cfg(feature = "tch")]
#[test]
fn a_worker_with_other_arithmetic_is_refused_when_sums_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = [&["--data", "shapes"], &SMALL[..]].concat();
    let mut cluster = Cluster::coordinator(Path::new(PROGRAM), folder.path(), 2, &recipe);
    cluster.add_worker(&["--device", "cpu:tch"]);
    cluster.workers[0].wait_for_output("joined", Duration::from_secs(60));
    cluster.add_worker(&["--device", "cpu:flex"]);
    let refused = cluster.workers.remove(1).wait(Duration::from_secs(60));
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert!(
        refused
            .output
            .contains("exact sums and MuSGD need the same arithmetic"),
        "{}",
        refused.output
    );

    cluster.add_worker(&["--device", "cpu:tch"]);
    cluster.finish(Duration::from_secs(120));
}
