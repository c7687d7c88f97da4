//! The journal in use, under damage, and in crashes.

mod crash;
mod damage;

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
            members: vec![b"one".to_vec(), Vec::new(), vec![7; 40]],
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

/// A folder, the path of a journal in it with these records, its bytes, and where each record ends.
fn written(records: &[Record]) -> (tempfile::TempDir, PathBuf, Vec<u8>, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut journal = Journal::create(&path).unwrap();
    let mut ends = Vec::new();
    for record in records {
        journal.append(record).unwrap();
        ends.push(fs::metadata(&path).unwrap().len() as usize);
    }
    drop(journal);
    let bytes = fs::read(&path).unwrap();
    (folder, path, bytes, ends)
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_appended_comes_back() {
    let records = one_of_each();
    let (folder, path, ..) = written(&records[..3]);
    let mut opened = Journal::open(&path).unwrap();
    assert_eq!(opened.records, records[..3]);
    assert_eq!(opened.damage, None);
    for record in &records[3..] {
        opened.journal.append(record).unwrap();
    }
    drop(opened);
    assert_eq!(Journal::open(&path).unwrap().records, records);
    assert_eq!(names_in(folder.path()), ["journal"]);
}

#[test]
fn a_journal_has_one_owner_and_is_never_made_twice() {
    let (_folder, path, ..) = written(&one_of_each());
    let opened = Journal::open(&path).unwrap();
    let refused = Journal::open(&path).unwrap_err();
    assert!(matches!(refused, JournalError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("another coordinator"));
    assert_eq!(
        Journal::create(&path).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    drop(opened);
    assert_eq!(Journal::open(&path).unwrap().records, one_of_each());
    let missing = Journal::open(&path.with_file_name("other")).unwrap_err();
    assert!(matches!(missing, JournalError::Io { .. }), "{missing}");
}

#[test]
fn a_record_over_the_limit_is_refused_and_leaves_no_trace() {
    let (_folder, path, bytes, _) = written(&one_of_each());
    let mut journal = Journal::open(&path).unwrap().journal;
    let large = Record::Generation {
        generation: 1,
        members: vec![vec![0; frame::PAYLOAD_BYTES_MAX]],
    };
    assert_eq!(
        journal.append(&large).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
    // The worst for the decoder's count: members without bytes.
    let many = Record::Generation {
        generation: 2,
        members: vec![Vec::new(); frame::PAYLOAD_BYTES_MAX - 16],
    };
    journal.append(&many).unwrap();
    drop(journal);
    assert_eq!(Journal::open(&path).unwrap().records.last(), Some(&many));
}
