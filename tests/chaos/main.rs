//! The soak: real processes on real training, killed, frozen, drained and replaced at random moments, the coordinator
//! too. The result is that of an undisturbed run, bit for bit, after every single step.
//!
//! `RINGMASTER_FAULTS` sets the number of faults (100 for the record), `RINGMASTER_SEED` the schedule.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod faults;
mod figures;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::{Cluster, steps};

use self::faults::{Fault, Schedule};
use self::figures::Figures;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

const WORKERS: usize = 4;

fn recipe(epochs: &str) -> Vec<&str> {
    [
        &[
            "--data", "shapes", "--imgsz", "32", "--epochs", epochs, "--batch", "16", "--nbs", "16",
        ][..],
        &[
            "--hash-every",
            "1",
            "--digest-every",
            "5",
            "--checkpoint-every",
            "20",
            "--optimizer",
            "SGD",
        ][..],
        &["--patience", "0"][..],
    ]
    .concat()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn a_run_full_of_faults_ends_with_the_bits_of_an_undisturbed_one() {
    let faults = number("RINGMASTER_FAULTS", 8);
    let seed = number("RINGMASTER_SEED", 1);
    println!("RINGMASTER_FAULTS={faults} RINGMASTER_SEED={seed} cargo test --release --test chaos");
    // A fault every two seconds; an epoch of ten steps takes well over one, faults and all.
    let epochs = 4 + faults * 3 / 2;
    let all_steps = 10 * epochs;
    let epochs = epochs.to_string();

    let folder = tempfile::tempdir().unwrap();
    let undisturbed = folder.path().join("undisturbed");
    std::fs::create_dir(&undisturbed).unwrap();
    let cluster = Cluster::start(Path::new(PROGRAM), &undisturbed, 1, &recipe(&epochs));
    let deadline = Duration::from_secs(120 + 30 * faults);
    let expected: BTreeMap<u64, String> = {
        let mut cluster = cluster;
        while cluster.coordinator.is_running() {
            sleep(Duration::from_millis(50));
        }
        let log = cluster.worker_logs().remove(0);
        cluster.finish(deadline);
        steps(&log)
            .into_iter()
            .map(|line| (line.step, line.hash))
            .collect()
    };
    assert!(expected.keys().copied().eq(1..=all_steps), "{expected:?}");

    let disturbed = folder.path().join("disturbed");
    std::fs::create_dir(&disturbed).unwrap();
    let mut cluster = Cluster::start(Path::new(PROGRAM), &disturbed, WORKERS, &recipe(&epochs));
    cluster
        .coordinator
        .wait_for_output("epoch 1/", Duration::from_secs(120));
    let mut figures = Figures::default();
    let mut schedule = Schedule::new(seed);
    let start = Instant::now();
    while figures.faults() < faults && cluster.coordinator.is_running() {
        sleep(schedule.pause());
        if !cluster.coordinator.is_running() {
            break;
        }
        let fault = schedule.next();
        figures.injected(fault);
        inject(&mut cluster, fault, &mut schedule);
    }
    println!(
        "{} faults in {:.0} s",
        figures.faults(),
        start.elapsed().as_secs_f64()
    );
    let run = cluster.run_directory();
    while cluster.coordinator.is_running() {
        assert!(start.elapsed() < deadline, "{}", cluster.coordinator.output());
        sleep(Duration::from_millis(50));
    }
    let logs = cluster.worker_logs();
    let output = cluster.coordinator.output();
    assert!(output.contains("run completed"), "{output}");

    for (number, log) in logs.iter().enumerate() {
        let lines = steps(log);
        for line in &lines {
            assert_eq!(
                expected.get(&line.step),
                Some(&line.hash),
                "worker {number}, step {}",
                line.step
            );
        }
        for pair in lines.windows(2) {
            assert!(
                pair[0].step < pair[1].step,
                "worker {number} applied a step twice: {pair:?}"
            );
        }
    }
    let all: BTreeMap<u64, String> = logs
        .iter()
        .flat_map(|log| steps(log))
        .map(|line| (line.step, line.hash))
        .collect();
    assert_eq!(all, expected, "every step was applied, with the same bits");
    assert!(figures.faults() >= faults, "the run ended before its faults");
    figures.print(&logs, &run.events());
}

fn inject(cluster: &mut Cluster, fault: Fault, schedule: &mut Schedule) {
    use rustix::process::Signal;
    cluster.workers.retain_mut(tests::Process::is_running);
    let victim = schedule.pick(cluster.workers.len());
    match fault {
        Fault::KillWorker => {
            cluster.workers.remove(victim).kill();
            cluster.add_worker(&[]);
        }
        Fault::DrainWorker => {
            cluster.workers[victim].signal(Signal::TERM);
            cluster.add_worker(&[]);
        }
        Fault::FreezeWorker => {
            let silent = |cluster: &Cluster| {
                cluster
                    .coordinator
                    .output()
                    .matches("was lost: no heartbeat")
                    .count()
            };
            let before = silent(cluster);
            cluster.workers[victim].signal(Signal::STOP);
            let frozen = Instant::now();
            while silent(cluster) == before && cluster.coordinator.is_running() {
                assert!(
                    frozen.elapsed() < Duration::from_secs(15),
                    "a frozen worker is taken off the list"
                );
                sleep(Duration::from_millis(20));
            }
            sleep(schedule.pause());
            cluster.workers[victim].signal(Signal::CONT);
        }
        Fault::KillCoordinator => {
            cluster.coordinator.signal(Signal::KILL);
            while cluster.coordinator.is_running() {
                sleep(Duration::from_millis(5));
            }
            sleep(schedule.pause());
            cluster.restart_coordinator();
        }
    }
}
