//! The end of the world, and a failing disk, at each single call.
//!
//! After a crash at any call, with nothing, everything or some of what was not synced: a checkpoint whose commit
//! returned is there, or the one that was being committed; it is whole; every folder that looks like a checkpoint is
//! one; and saving works again.

use super::*;
use crate::disk::simulated::{Fault, Honesty, SimulatedDisk, Survival};

const STEPS: [u64; 4] = [10, 20, 30, 40];

fn open_on(disk: &SimulatedDisk, keep: usize) -> io::Result<Checkpoints> {
    Checkpoints::open_on(
        Arc::new(disk.clone()),
        PathBuf::from("checkpoints"),
        RUN,
        recipe(),
        keep,
    )
}

fn bytes_at(step: u64) -> Vec<u8> {
    image(step, 37)
}

/// Opens the store and saves all steps; returns those whose commit returned, and the first error.
fn save_all(disk: &SimulatedDisk, keep: usize) -> (Vec<u64>, Option<String>) {
    let mut committed = Vec::new();
    let store = match open_on(disk, keep) {
        Ok(store) => store,
        Err(error) => return (committed, Some(error.to_string())),
    };
    let mut failure = None;
    for step in STEPS {
        // One whose generation ends: a crash may hit its removal.
        let _ = upload(&store, &headers(step, 0, &bytes_at(step), 2)[0], &bytes_at(step));
        store.abort_other_than(1);
        match save(&store, step, &bytes_at(step), 2) {
            Ok(_) => committed.push(step),
            Err(error) => failure = failure.or_else(|| Some(error.to_string())),
        }
        if disk.is_crashed() {
            break;
        }
    }
    (committed, failure)
}

/// Checks what is found by a process that starts now.
fn check(disk: &SimulatedDisk, keep: usize, committed: &[u64]) -> Result<(), String> {
    let store = open_on(disk, keep).map_err(|error| format!("cannot open: {error}"))?;
    let newest = store.newest_whole();
    let found = newest.checkpoint.as_ref().map(Checkpoint::step);
    let next = STEPS
        .iter()
        .copied()
        .find(|step| committed.last().is_none_or(|last| step > last));
    if found != committed.last().copied() && found != next {
        return Err(format!(
            "{committed:?} were committed, found {found:?}, {:?}",
            newest.damaged
        ));
    }
    // Between the first checkpoint and `last` a crash leaves no `last`; it never names what is not there.
    let is_first = |(path, _): &(PathBuf, String)| committed.is_empty() && path.ends_with(names::LAST);
    if !newest.damaged.iter().all(is_first) {
        return Err(format!("damaged: {:?}", newest.damaged));
    }
    if let Some(checkpoint) = newest.checkpoint
        && whole_image(&checkpoint) != bytes_at(checkpoint.step())
    {
        return Err(format!(
            "other bytes in the checkpoint of step {}",
            checkpoint.step()
        ));
    }
    let steps = store.steps().unwrap();
    for &step in &steps {
        store
            .verify(step)
            .map_err(|reason| format!("step {step} looks like a checkpoint: {reason}"))?;
    }
    // The checkpoints before the newest are there as well, as far as they are kept.
    let kept = committed.iter().rev().take(keep - 1);
    if let Some(lost) = kept.clone().find(|step| !steps.contains(step)) {
        return Err(format!("step {lost} was committed and is gone; found {steps:?}"));
    }
    let names = disk.list(Path::new("checkpoints")).unwrap();
    if let Some(left) = names
        .iter()
        .find(|name| name.as_encoded_bytes().starts_with(b"."))
    {
        return Err(format!("{left:?} is left behind"));
    }
    Ok(())
}

/// Life goes on: the next step can be saved, and is found.
fn check_progress(disk: &SimulatedDisk, keep: usize) {
    let store = open_on(disk, keep).unwrap();
    save(&store, 50, &bytes_at(50), 3).unwrap();
    let newest = open_on(disk, keep).unwrap().newest_whole();
    assert!(newest.damaged.is_empty());
    assert_eq!(whole_image(&newest.checkpoint.unwrap()), bytes_at(50));
}

fn survivals() -> impl Iterator<Item = Survival> {
    [Survival::Nothing, Survival::Everything]
        .into_iter()
        .chain((0..24).map(Survival::Some))
}

/// Crashes at each call in turn; returns the number of crash points, or what was lost first.
fn crash_everywhere(honesty: Honesty, keep: usize) -> Result<u64, String> {
    for call in 0.. {
        let disk = SimulatedDisk::lying(honesty);
        disk.strike(Fault::CrashAt(call));
        let (committed, _) = save_all(&disk, keep);
        if !disk.is_crashed() {
            assert_eq!(committed, STEPS);
            return Ok(call);
        }
        for survival in survivals() {
            let left = disk.after_crash(survival);
            check(&left, keep, &committed)
                .map_err(|what| format!("crash at call {call}, {survival:?}: {what}"))?;
            check_progress(&left, keep);
        }
    }
    unreachable!("a run without a crash ends the loop")
}

#[test]
fn a_crash_at_any_call_leaves_the_checkpoint_before_or_the_new_one() {
    for keep in 1..=3 {
        let points = crash_everywhere(Honesty::Honest, keep).unwrap();
        println!(
            "keep {keep}: {points} crash points, {} outcomes of each",
            survivals().count()
        );
        assert!(points > 100, "only {points} crash points");
    }
}

#[test]
fn the_crash_test_notices_missing_syncs() {
    for honesty in [Honesty::IgnoresFileSync, Honesty::IgnoresFolderSync] {
        let lost = crash_everywhere(honesty, 1).unwrap_err();
        println!("{honesty:?}: {lost}");
    }
}

#[test]
fn a_crash_while_a_crash_is_cleaned_up_does_no_harm() {
    let mut outcomes = 0;
    for call in 0.. {
        let disk = SimulatedDisk::new();
        disk.strike(Fault::CrashAt(call));
        let (committed, _) = save_all(&disk, 2);
        if !disk.is_crashed() {
            break;
        }
        for survival in survivals() {
            for second in 0.. {
                let left = disk.after_crash(survival);
                left.strike(Fault::CrashAt(second));
                let _ = open_on(&left, 2);
                if !left.is_crashed() {
                    break;
                }
                let left = left.after_crash(survival);
                check(&left, 2, &committed)
                    .unwrap_or_else(|what| panic!("{call}, {second}, {survival:?}: {what}"));
                outcomes += 1;
            }
        }
    }
    println!("{outcomes} outcomes of two crashes");
    assert!(outcomes > 1000);
}

#[test]
fn a_failing_call_or_a_full_disk_costs_one_checkpoint_and_is_told() {
    for call in 0.. {
        let mut was_struck = false;
        for fault in [Fault::FailAt(call), Fault::FullFrom(call)] {
            let disk = SimulatedDisk::new();
            disk.strike(fault);
            let (committed, failure) = save_all(&disk, 2);
            was_struck |= disk.calls() > call;
            if committed.len() < STEPS.len() {
                let failure = failure.unwrap_or_else(|| panic!("{fault:?}: nothing is told"));
                let cause = match fault {
                    Fault::FullFrom(_) => "no space left on device",
                    _ => "input/output error",
                };
                assert!(failure.contains(cause), "{fault:?}: {failure}");
            }
            if let Fault::FailAt(_) = fault {
                // Each step is saved by the same process after one that failed.
                assert!(
                    committed.is_empty() || committed.len() >= STEPS.len() - 1,
                    "{fault:?}: {committed:?}"
                );
            }
            disk.strike(Fault::Nothing);
            // One that failed late may be whole, and the next one then follows it.
            let store = open_on(&disk, 2).unwrap();
            let newest = store.newest_whole();
            if let Some(&last) = committed.last() {
                let checkpoint = newest.checkpoint.expect("one was committed");
                assert!(checkpoint.step() >= last, "{fault:?}");
                assert_eq!(whole_image(&checkpoint), bytes_at(checkpoint.step()), "{fault:?}");
            }
            for step in store.steps().unwrap() {
                store
                    .verify(step)
                    .unwrap_or_else(|reason| panic!("{fault:?}: step {step}: {reason}"));
            }
            check_progress(&disk, 2);
        }
        if !was_struck {
            println!("{call} failing calls");
            return;
        }
    }
}
