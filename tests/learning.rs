//! Training learns: a few pictures can be learnt by heart.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::time::Duration;

use tests::{Cluster, write_shapes};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

#[test]
fn eight_pictures_are_learnt_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_shapes(&folder.path().join("eight"), 8)
        .display()
        .to_string();
    let size = [
        "--imgsz",
        "96",
        "--batch",
        "8",
        "--nbs",
        "8",
        "--micro-batch",
        "4",
        "--epochs",
        "120",
    ];
    let rates = [
        "--optimizer",
        "adamw",
        "--lr0",
        "0.002",
        "--momentum",
        "0.9",
        "--warmup-epochs",
        "1",
    ];
    // The pictures as they are, every time.
    let plain = [
        "--mosaic",
        "0",
        "--scale",
        "0",
        "--translate",
        "0",
        "--fliplr",
        "0",
        "--patience",
        "0",
    ];
    let recipe = [&["--data", &data], &size[..], &rates[..], &plain[..]].concat();
    let cluster = Cluster::start(Path::new(PROGRAM), folder.path(), 2, &recipe);
    let (run, _) = cluster.finish(Duration::from_secs(400));
    let map50 = run.results("metrics/mAP50(B)");
    let last = map50.last().copied().unwrap();
    println!("mAP50 on the eight pictures: {last:.3}");
    assert!(last > 0.9, "{map50:?}");
}
