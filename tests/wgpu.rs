//! The graphics API's backend trains what the CPU trains: two workers on one GPU, or on Mesa's software Vulkan.

#![cfg(feature = "wgpu")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::time::Duration;

use tests::{Cluster, RunDirectory, write_shapes};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

/// Software Vulkan takes half a minute for a step.
const DEADLINE: Duration = Duration::from_secs(900);

#[test]
fn two_workers_on_the_gpu_lose_what_they_lose_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_shapes(&folder.path().join("pictures"), 4)
        .display()
        .to_string();
    // Two steps of two slots of two pictures; plain sums, for the devices round differently anyway.
    let recipe = [
        "--data", &data, "--imgsz", "64", "--epochs", "2", "--batch", "4", "--nbs", "4",
    ];
    let recipe = [&recipe[..], &["--micro-batch", "2", "--sum", "f32"]].concat();
    let train = |name: &str, device: &[&str]| {
        let folder = folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut cluster = Cluster::coordinator(Path::new(PROGRAM), &folder, 2, &recipe);
        cluster.add_worker(device);
        cluster.add_worker(device);
        cluster.finish(DEADLINE).0
    };
    let cpu = train("cpu", &["--device", "cpu"]);
    let gpu = train("gpu", &["--gpu", "0"]);
    for part in ["box", "cls", "dfl"] {
        assert_close(&cpu, &gpu, &format!("train/{part}_loss"));
        assert_close(&cpu, &gpu, &format!("val/{part}_loss"));
    }
    let log = std::fs::read_to_string(folder.path().join("gpu/worker-0.log")).unwrap();
    let opened = log
        .lines()
        .find(|line| line.contains("opened data and model"))
        .unwrap();
    assert!(
        opened.contains("Cube") || opened.contains("Wgpu"),
        "not on the graphics API: {opened}"
    );
}

fn assert_close(cpu: &RunDirectory, gpu: &RunDirectory, column: &str) {
    let (cpu, gpu) = (cpu.results(column), gpu.results(column));
    assert_eq!((cpu.len(), gpu.len()), (2, 2), "two epochs");
    for (expected, found) in cpu.into_iter().zip(gpu) {
        let difference = (found - expected).abs() / expected.abs().max(1.0);
        println!("{column}: {expected} on the CPU, {found} on the GPU");
        assert!(
            difference < 1e-3,
            "{column}: {expected} on the CPU, {found} on the GPU"
        );
    }
}
