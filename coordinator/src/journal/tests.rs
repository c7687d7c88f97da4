//! Damages of every kind: opening gives exactly the whole records before the damage.

use std::fs;

use proto::{Fingerprint, RunId};

use super::*;

/// One record of each kind.
pub(super) fn one_of_each() -> Vec<Record> {
    vec![
        Record::Created {
            run: RunId::from_u128(7),
            world_size: 2,
            recipe_digest: Fingerprint::of(b"recipe"),
        },
        Record::Generation {
            generation: 1,
            members: vec![b"one".to_vec(), Vec::new(), vec![0; 300]],
        },
        Record::CheckpointCommitted { step: 40 },
        Record::Stopped { step: u64::MAX },
        Record::Resumed,
        Record::Ended {
            outcome: "completed".into(),
            reason: "all epochs are done".into(),
        },
    ]
}

#[test]
fn what_was_appended_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut journal = Journal::create(&path).unwrap();
    let records = one_of_each();
    for record in &records[..3] {
        journal.append(record).unwrap();
    }
    drop(journal);
    let mut opened = Journal::open(&path).unwrap();
    assert_eq!(opened.records, records[..3]);
    assert_eq!(opened.damage, None);
    for record in &records[3..] {
        opened.journal.append(record).unwrap();
    }
    drop(opened);
    assert_eq!(Journal::open(&path).unwrap().records, records);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
