//! Damages of every kind: opening gives exactly the whole records before the damage.

use proptest::prelude::*;

use super::*;

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
