//! A client that means harm: what it can make a coordinator hold, and whether others still get answers.
//!
//! The worst case is plain text, where anybody gets as far as HTTP/2; with certificates an outsider gets no further
//! than a handshake. The attacker has a loopback address of its own, as another host would have.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod attacker;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use security::ConnectionLimits;
use tests::{Cluster, Process};

use crate::attacker::Attacker;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringmaster-under-test");

const MIB: u64 = 1 << 20;

/// What one connection can make a coordinator hold: eight streams with an unfinished message of 256 KiB, the window,
/// a frame, and what the runtime keeps beside.
const BYTES_PER_CONNECTION: u64 = 8 * (256 << 10) + MIB + (64 << 10) + (192 << 10);

/// What a coordinator may grow by without holding anything of an attacker: threads, allocator arenas.
const SLACK_BYTES: u64 = 24 * MIB;

struct Victim {
    cluster: Cluster,
    folder: tempfile::TempDir,
    before: u64,
}

impl Victim {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::coordinator(Path::new(PROGRAM), folder.path(), 2, &[]);
        cluster
            .coordinator
            .wait_for_output("listening on", Duration::from_secs(20));
        let mut victim = Self {
            cluster,
            folder,
            before: 0,
        };
        victim.answers_others();
        victim.before = victim.resident_bytes();
        victim
    }

    fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.cluster.coordinator.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    fn growth(&self) -> u64 {
        self.resident_bytes().saturating_sub(self.before)
    }

    /// Asks for the status from another address, and returns how long the answer took.
    fn answers_others(&self) -> Duration {
        let start = Instant::now();
        let output = self.folder.path().join("status.log");
        let arguments = ["status", "--insecure", "--coordinator", self.cluster.address()];
        let ended = Process::start(Path::new(PROGRAM), &arguments, &output).wait(Duration::from_secs(10));
        assert_eq!(ended.code, Some(0), "{}", ended.output);
        start.elapsed()
    }

    fn report(&self, attack: &str, limit: u64) {
        let (growth, answer) = (self.growth(), self.answers_others());
        println!(
            "{attack}: {:.1} MiB more (limit {} MiB), others answered in {answer:?}",
            growth as f64 / MIB as f64,
            limit / MIB
        );
        assert!(growth <= limit, "{attack}: {growth} bytes, the limit is {limit}");
        assert!(answer < Duration::from_secs(5), "{attack}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_that_say_nothing_are_limited_and_closed() {
    let victim = Victim::start();
    let attacker = Attacker::of(victim.cluster.address());
    let mut silent = Vec::new();
    for index in 0..400 {
        // Nothing, or the first half of what every HTTP/2 connection begins with.
        let hello = if index % 2 == 0 {
            b"".as_slice()
        } else {
            b"PRI * HTTP/2"
        };
        silent.extend(attacker.connect_and_say(hello).await);
    }
    let held = attacker::count_open(&mut silent).await;
    let limit = ConnectionLimits::COORDINATOR.per_address;
    assert!((limit / 2..=limit).contains(&held), "{held} of 400 are held");
    victim.report("400 silent connections", SLACK_BYTES);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(attacker::count_open(&mut silent).await, 0, "closed after 10 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_streams_and_huge_lengths_cost_nothing() {
    let victim = Victim::start();
    let attacker = Attacker::of(victim.cluster.address());
    let refused = attacker.open_streams(10_000).await;
    assert!(refused >= 9_992, "{refused} of 10,000 streams were refused");
    victim.report(&format!("10,000 streams, {refused} of them refused"), SLACK_BYTES);

    let refused = attacker.announce_huge_messages(200).await;
    assert_eq!(refused, 200, "each is refused by its length");
    victim.report("200 messages of 4 GiB, announced", SLACK_BYTES);

    attacker.send_empty_frames(100_000).await;
    victim.report("100,000 empty frames", SLACK_BYTES);

    attacker.send_endless_headers().await;
    victim.report("headers without end", SLACK_BYTES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn unfinished_messages_on_many_connections_are_bounded() {
    let victim = Victim::start();
    let attacker = Attacker::of(victim.cluster.address());
    let connections = 64;
    let held = attacker.hold_messages(connections, 16, 250 << 10).await;
    let limit = connections as u64 * BYTES_PER_CONNECTION + SLACK_BYTES;
    victim.report("64 connections, each with 16 unfinished messages", limit);
    // The attack is real: it does hold something.
    assert!(victim.growth() > 64 * MIB, "{} bytes", victim.growth());
    drop(held);
}
