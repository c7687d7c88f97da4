//! The control plane and the ring in a simulated network, where machines crash and links break as the seed says.
//!
//! ```sh
//! cargo test --release --test simulation                            # 200 seeds
//! RINGMASTER_SEEDS=5000 cargo test --release --test simulation      # more of them
//! RINGMASTER_SEED=17 cargo test --release --test simulation -- --nocapture
//! ```
//!
//! Faults, latencies and the order in which messages arrive follow from the seed. Not from it: which branch of a `select!`
//! is looked at first when several are ready, and the ids of processes; so a failure may need some attempts to come again.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod faults;
mod history;
mod invariants;
mod learner;
mod log;
mod network;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use data::Plan;
use worker::prepare::plan_config;

use crate::faults::{Fault, Planned};
use crate::history::Fact;
use crate::invariants::{Measure, check};
use crate::world::{Outcome, recipe, run};

/// Returns the run of a single worker that nothing happens to.
fn measure() -> Measure {
    let outcome = run(0, 1, &[]);
    let applied = outcome.history.iter().filter_map(|entry| match &entry.fact {
        Fact::Applied { hash, .. } => Some(hash.clone()),
        _ => None,
    });
    let plan = Plan::new(plan_config(&recipe(), learner::SAMPLES)).unwrap();
    let hashes: Vec<String> = applied.collect();
    assert_eq!(hashes.len() as u64, plan.steps(), "{}", outcome.lines.join("\n"));
    Measure { plan, hashes }
}

/// Runs a seed; returns what was broken, with all that helps to understand it.
fn seed(seed: u64, measure: &Measure) -> Result<Outcome, String> {
    let workers = 3 + seed as usize % 2;
    let faults = faults::faults(seed, workers);
    let outcome = run(seed, workers, &faults);
    check(&outcome, measure).map_err(|broken| {
        let planned: Vec<String> = faults.iter().map(ToString::to_string).collect();
        format!(
            "seed {seed}, {workers} workers:\n{}\nfaults:\n{}\nRINGMASTER_SEED={seed} cargo test --release --test simulation -- --nocapture",
            broken.join("\n"),
            planned.join("\n"),
        )
    })?;
    Ok(outcome)
}

#[test]
fn a_run_through_any_faults_ends_with_the_bits_of_an_undisturbed_one() {
    let measure = measure();
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(only) = number("RINGMASTER_SEED") {
        let workers = 3 + only as usize % 2;
        let outcome = run(only, workers, &faults::faults(only, workers));
        println!("{}", outcome.lines.join("\n"));
        for entry in &outcome.history {
            println!("{entry}");
        }
        let checked = check(&outcome, &measure);
        assert!(checked.is_ok(), "{}", checked.unwrap_err().join("\n"));
        return;
    }
    let seeds = number("RINGMASTER_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let (broken, began) = (Mutex::new(Vec::new()), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    match seed(number, &measure) {
                        Ok(outcome) => {
                            began.fetch_add(outcome.began as u64, Ordering::Relaxed);
                        }
                        Err(report) => {
                            println!("{report}\n");
                            broken.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                        }
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{seeds} seeds, {} faults, {} broken",
        began.into_inner(),
        broken.len()
    );
    assert!(broken.is_empty(), "seeds {broken:?}");
}

/// All members train on, out of the coordinator's sight; what it still sees is a newcomer.
#[test]
fn members_out_of_sight_and_a_newcomer_do_not_both_progress() {
    let planned = |fault, from: u64, until: u64| Planned {
        fault,
        from: Duration::from_millis(from),
        until: Duration::from_millis(until),
    };
    let faults = [
        planned(Fault::Split(0), 300, 9_000),
        planned(Fault::Join, 400, 5_200),
    ];
    let outcome = run(1, 3, &faults);
    let checked = check(&outcome, &measure());
    assert!(
        checked.is_ok(),
        "{}\n{}",
        outcome.lines.join("\n"),
        checked.unwrap_err().join("\n")
    );
}

/// Enough to meet each pair of faults a few times.
const SEEDS: u64 = 200;
