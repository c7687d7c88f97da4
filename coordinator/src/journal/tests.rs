//! Damages of every kind: opening gives exactly the whole records before the damage.

use std::fs;

use proptest::prelude::*;
use proto::{Fingerprint, RunId};

use super::*;
use crate::disk::simulated::{Fault, Honesty, SimulatedDisk, Survival};

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
fn truncation_at_every_byte_leaves_the_whole_records() {
    let records = one_of_each();
    let (_folder, path, bytes, ends) = written(&records);
    for length in 0..=bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let opened = Journal::open(&path).unwrap();
        let whole = ends.iter().filter(|&&end| end <= length).count();
        assert_eq!(opened.records, records[..whole], "cut to {length} bytes");
        let end = if whole == 0 { 0 } else { ends[whole - 1] };
        match opened.damage {
            None => assert_eq!(length, end, "unseen damage"),
            Some(damage) => assert_eq!((damage.offset, damage.bytes), (end as u64, (length - end) as u64)),
        }
    }
}

#[test]
fn every_single_flipped_bit_is_seen_and_hides_what_follows() {
    let records = one_of_each();
    let (_folder, path, bytes, ends) = written(&records);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        let opened = Journal::open(&path).unwrap();
        let whole = ends.iter().filter(|&&end| end <= bit / 8).count();
        assert_eq!(opened.records, records[..whole], "bit {bit}");
        let begin = if whole == 0 { 0 } else { ends[whole - 1] };
        assert_eq!(opened.damage.expect("seen").offset, begin as u64, "bit {bit}");
    }
}

#[test]
fn a_damaged_tail_is_kept_beside_and_cut_off_before_the_next_record() {
    let records = one_of_each();
    let (folder, path, bytes, ends) = written(&records);
    for number in 1..=2 {
        let mut flipped = bytes.clone();
        flipped[ends[1] + 3] ^= 0x40;
        fs::write(&path, &flipped).unwrap();
        let mut opened = Journal::open(&path).unwrap();
        let said = opened.damage.take().unwrap().to_string();
        assert!(said.contains("the length of a record is impossible"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), flipped, "opening changes nothing");
        opened.journal.append(&Record::Resumed).unwrap();
        opened
            .journal
            .append(&Record::CheckpointCommitted { step: 5 })
            .unwrap();
        drop(opened);
        let kept = path.with_file_name(format!("journal.damaged-{number}"));
        assert_eq!(fs::read(kept).unwrap(), flipped[ends[1]..]);
        let again = Journal::open(&path).unwrap();
        assert_eq!(again.damage, None);
        assert_eq!(again.records[..2], records[..2]);
        assert_eq!(
            again.records[2..],
            [Record::Resumed, Record::CheckpointCommitted { step: 5 }]
        );
    }
    assert_eq!(
        names_in(folder.path()),
        ["journal", "journal.damaged-1", "journal.damaged-2"]
    );
}

#[test]
fn a_whole_record_of_a_newer_program_is_refused_and_not_cut_off() {
    let (_folder, path, bytes, ends) = written(&one_of_each());
    let offset = ends[1] as u64;
    let unknown_kind = frame::encode(offset, 99, b"news").unwrap();
    let wrong_content = frame::encode(offset, 3, b"").unwrap();
    for frame in [unknown_kind, wrong_content] {
        let newer = [&bytes[..ends[1]], &frame].concat();
        fs::write(&path, &newer).unwrap();
        let refused = Journal::open(&path).unwrap_err();
        assert!(
            matches!(refused, JournalError::Unknown { offset: at, .. } if at == offset),
            "{refused}"
        );
        assert_eq!(fs::read(&path).unwrap(), newer);
    }
}

#[test]
fn a_frame_at_another_place_is_damage() {
    let (_folder, path, bytes, ends) = written(&one_of_each());
    // The third record, whole, a second time.
    fs::write(&path, [&bytes[..ends[2]], &bytes[ends[1]..ends[2]]].concat()).unwrap();
    let opened = Journal::open(&path).unwrap();
    assert_eq!(opened.records, one_of_each()[..3]);
    assert_eq!(opened.damage.unwrap().offset, ends[2] as u64);
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

fn any_record() -> impl Strategy<Value = Record> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        (any::<u128>(), any::<u32>(), any::<[u8; 32]>()).prop_map(|(run, world_size, digest)| {
            Record::Created {
                run: RunId::from_u128(run),
                world_size,
                recipe_digest: digest.into(),
            }
        }),
        (any::<u64>(), prop::collection::vec(bytes(), 0..9))
            .prop_map(|(generation, members)| Record::Generation { generation, members }),
        any::<u64>().prop_map(|step| Record::CheckpointCommitted { step }),
        any::<u64>().prop_map(|step| Record::Stopped { step }),
        Just(Record::Resumed),
        (".{0,30}", ".{0,30}").prop_map(|(outcome, reason)| Record::Ended { outcome, reason }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_records_come_back_and_random_damage_hides_only_what_follows(
        records in prop::collection::vec(any_record(), 1..12),
        at in any::<prop::sample::Index>(),
        junk in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let (_folder, path, bytes, ends) = written(&records);
        let opened = Journal::open(&path).unwrap();
        prop_assert_eq!(&opened.records, &records);
        drop(opened);

        let at = at.index(bytes.len());
        let mut damaged = bytes.clone();
        for (byte, junk) in damaged[at..].iter_mut().zip(&junk) {
            *byte = *junk;
        }
        fs::write(&path, &damaged).unwrap();
        let opened = Journal::open(&path).unwrap();
        let first_changed = bytes.iter().zip(&damaged).position(|(before, after)| before != after);
        let intact = first_changed.unwrap_or(bytes.len());
        let whole = ends.iter().filter(|&&end| end <= intact).count();
        prop_assert_eq!(&opened.records, &records[..whole]);
        prop_assert_eq!(opened.damage.is_some(), first_changed.is_some());
    }

    #[test]
    fn any_bytes_at_all_open_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_folder, path, ..) = written(&[]);
        fs::write(&path, &bytes).unwrap();
        let opened = Journal::open(&path).unwrap();
        prop_assert_eq!(opened.records, vec![]);
        prop_assert_eq!(opened.damage.is_some(), !bytes.is_empty());
    }
}
