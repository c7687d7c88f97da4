//! The end of the world, and a failing disk, at each single call.

use super::*;
use crate::disk::simulated::{Fault, Honesty, SimulatedDisk, Survival};

/// Makes a journal, appends `count` records one after the other, opens it halfway; counts those that succeeded.
fn write_on(disk: &SimulatedDisk, count: u64) -> (bool, Vec<u64>) {
    let disk_handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut done = Vec::new();
    let Ok(mut journal) = Journal::create_on(Arc::clone(&disk_handle), Path::new("journal")) else {
        return (false, done);
    };
    for step in 0..count {
        if step == count / 2 {
            match Journal::open_on(Arc::clone(&disk_handle), Path::new("journal")) {
                Ok(opened) => journal = opened.journal,
                Err(_) => return (true, done),
            }
        }
        if journal.append(&Record::CheckpointCommitted { step }).is_ok() {
            done.push(step);
        }
    }
    (true, done)
}

fn steps(records: &[Record]) -> Vec<u64> {
    let step = |record: &Record| match record {
        Record::CheckpointCommitted { step } => *step,
        other => panic!("{other:?} was never written"),
    };
    records.iter().map(step).collect()
}

/// Crashes at each call in turn; returns the number of crash points, or what was lost first.
fn crash_everywhere(honesty: Honesty) -> Result<u64, String> {
    const APPENDS: u64 = 6;
    for call in 0.. {
        let disk = SimulatedDisk::lying(honesty);
        disk.strike(Fault::CrashAt(call));
        let (is_made, done) = write_on(&disk, APPENDS);
        if !disk.is_crashed() {
            assert_eq!(done.len() as u64, APPENDS);
            return Ok(call);
        }
        let survivals = (0..20)
            .map(Survival::Some)
            .chain([Survival::Nothing, Survival::Everything]);
        for survival in survivals {
            let what = format!("crash at call {call}, {survival:?}");
            let left: Arc<dyn Disk> = Arc::new(disk.after_crash(survival));
            let mut opened = match Journal::open_on(Arc::clone(&left), Path::new("journal")) {
                Ok(opened) => opened,
                Err(_) if !is_made => continue,
                Err(error) => return Err(format!("{what}: {error}")),
            };
            let found = steps(&opened.records);
            let attempted: Vec<_> = (0..=done.len() as u64).collect();
            if !found.starts_with(&done) || !attempted.starts_with(&found) {
                return Err(format!("{what}: {done:?} were durable, found {found:?}"));
            }
            // Life goes on.
            let next = Record::CheckpointCommitted { step: 99 };
            opened.journal.append(&next).unwrap();
            let again = Journal::open_on(left, Path::new("journal")).unwrap();
            assert_eq!(steps(&again.records), [found, vec![99]].concat(), "{what}");
            assert_eq!(again.damage, None, "{what}");
        }
    }
    unreachable!("a run without a crash ends the loop")
}

#[test]
fn a_crash_at_any_call_loses_no_durable_record() {
    let points = crash_everywhere(Honesty::Honest).unwrap();
    assert!(points > 12, "only {points} crash points");
}

#[test]
fn the_crash_test_notices_missing_syncs() {
    for honesty in [Honesty::IgnoresFileSync, Honesty::IgnoresFolderSync] {
        let lost = crash_everywhere(honesty).unwrap_err();
        println!("{honesty:?}: {lost}");
    }
}

#[test]
fn a_failing_call_leaves_the_journal_as_it_was() {
    for call in 0..40 {
        for fault in [Fault::FailAt(call), Fault::FullFrom(call)] {
            let disk = SimulatedDisk::new();
            disk.strike(fault);
            let (is_made, done) = write_on(&disk, 6);
            disk.strike(Fault::Nothing);
            if !is_made {
                continue;
            }
            let mut opened = Journal::open_on(Arc::new(disk.clone()), Path::new("journal")).unwrap();
            assert_eq!(steps(&opened.records), done, "{fault:?}");
            opened
                .journal
                .append(&Record::CheckpointCommitted { step: 99 })
                .unwrap();
            let again = Journal::open_on(Arc::new(disk), Path::new("journal")).unwrap();
            assert_eq!(steps(&again.records), [done, vec![99]].concat(), "{fault:?}");
        }
    }
}
