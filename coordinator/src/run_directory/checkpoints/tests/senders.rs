//! Senders that repeat themselves, contradict themselves or each other, give up, or are late.

use super::*;

#[test]
fn uploads_and_commits_may_be_repeated() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 2);
    let image = image(10, 40);
    let headers = headers(10, 1, &image, 2);
    upload(&store, &headers[0], &image).unwrap();
    upload(&store, &headers[0], &image).unwrap();
    assert!(store.commit(10, 1).unwrap().is_none());
    // Two uploads of one shard at once; the second is still under way when the checkpoint is committed.
    let mut second = store.receive(&headers[1]).unwrap();
    upload(&store, &headers[1], &image).unwrap();
    let first = store.commit(10, 1).unwrap().unwrap();
    assert!(first.is_new);
    second.write(&image[20..]).unwrap();
    second.seal().unwrap();
    upload(&store, &headers[1], &image).unwrap();
    let again = store.commit(10, 1).unwrap().unwrap();
    assert!(!again.is_new);
    assert_eq!(whole_image(&again.checkpoint), image);
    // The same in a later process.
    let later = open(&folder, 2);
    assert!(!later.commit(10, 1).unwrap().unwrap().is_new);
    let committed = save(&later, 10, &image, 2).unwrap();
    assert!(!committed.is_new);
    assert_eq!(names_in(&folder), ["last", "step-000000010"]);
    assert_eq!(
        names_in(&folder.join("step-000000010")),
        ["manifest.json", "shard-000.bin", "shard-001.bin"]
    );
}

#[test]
fn a_whole_checkpoint_is_never_replaced_but_a_damaged_one_is() {
    let (_guard, folder) = temporary();
    let (first, other) = (image(10, 40), image(11, 40));
    save(&open(&folder, 2), 10, &first, 2).unwrap();
    let kept = save(&open(&folder, 2), 10, &other, 4).unwrap();
    assert!(!kept.is_new);
    assert_eq!(whole_image(&kept.checkpoint), first);
    std::fs::write(folder.join("step-000000010/shard-001.bin"), b"damage").unwrap();
    let replaced = save(&open(&folder, 2), 10, &other, 4).unwrap();
    assert!(replaced.is_new);
    assert_eq!(
        whole_image(&open(&folder, 2).newest_whole().checkpoint.unwrap()),
        other
    );
    assert_eq!(names_in(&folder), ["last", "step-000000010"]);
}

#[test]
fn headers_out_of_bounds_are_refused_and_make_nothing() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 1);
    let good = headers(10, 1, &image(10, 40), 2)[1];
    let bad = [
        ShardHeader { shards: 0, ..good },
        ShardHeader { shards: 65, ..good },
        ShardHeader { shard: 2, ..good },
        ShardHeader { offset: 21, ..good },
        ShardHeader {
            offset: u64::MAX,
            ..good
        },
        ShardHeader {
            size_bytes: u64::MAX,
            ..good
        },
        ShardHeader {
            total_bytes: 0,
            offset: 0,
            size_bytes: 0,
            ..good
        },
        ShardHeader {
            total_bytes: TOTAL_BYTES_MAX + 1,
            ..good
        },
    ];
    for header in bad {
        let refused = store.receive(&header).unwrap_err();
        assert!(matches!(refused, CheckpointError::BadHeader { .. }), "{refused}");
    }
    assert!(names_in(&folder).is_empty());
    store.receive(&good).unwrap();
    let refused = store.receive(&ShardHeader { shards: 3, ..good }).unwrap_err();
    assert!(
        refused.to_string().contains("3 shards, but other ranks say 2"),
        "{refused}"
    );
}

#[test]
fn other_bytes_than_announced_are_refused_and_leave_no_file() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 1);
    let image = image(10, 40);
    let header = headers(10, 1, &image, 2)[0];
    let send = |bytes: &[u8]| {
        let mut incoming = store.receive(&header)?;
        incoming.write(bytes)?;
        incoming.seal()
    };
    for bytes in [&image[..19], &image[..21], &image[20..40]] {
        let refused = send(bytes).unwrap_err();
        assert!(matches!(refused, CheckpointError::Corrupt { .. }), "{refused}");
    }
    let pending = folder.join(".pending-000000010-1");
    assert!(names_in(&pending).is_empty());
    send(&image[..20]).unwrap();
    // Bytes are checked even where they are not kept.
    assert!(matches!(
        send(&image[20..40]),
        Err(CheckpointError::Corrupt { .. })
    ));
    assert_eq!(names_in(&pending), ["shard-000.bin"]);
    let other = Fingerprint::of(b"other");
    let conflict = store
        .receive(&ShardHeader {
            blake3: other,
            ..header
        })
        .unwrap_err();
    assert!(
        matches!(conflict, CheckpointError::Conflict { shard: 0, .. }),
        "{conflict}"
    );
}

#[test]
fn ranks_that_differ_are_named_and_end_the_checkpoint() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 2);
    save(&store, 5, &image(5, 40), 2).unwrap();
    let image = image(10, 40);
    let odd = Fingerprint::of(b"odd");
    for (different, expected) in [
        (vec![1], "rank 1 differs from that of rank 0, 2, 3 and 4"),
        (vec![0, 3], "rank 0 and 3 differs from that of rank 1, 2 and 4"),
        (vec![0, 1, 2], "rank 3 and 4 differs from that of rank 0, 1 and 2"),
    ] {
        for header in &mut headers(10, 1, &image, 5) {
            if different.contains(&header.shard) {
                header.state_digest = odd;
            }
            upload(&store, header, &image).unwrap();
        }
        let refused = store.commit(10, 1).unwrap_err();
        assert!(refused.to_string().ends_with(expected), "{refused}");
        assert_eq!(names_in(&folder), ["last", "step-000000005"]);
        assert!(store.commit(10, 1).unwrap().is_none());
    }
    assert!(save(&store, 10, &image, 5).unwrap().is_new);
}

#[test]
fn shards_with_a_gap_or_an_overlap_end_the_checkpoint() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 2);
    let image = image(10, 40);
    let cases = [
        ([(0, 10), (11, 29)], (1, 11, 10)),
        ([(0, 10), (9, 31)], (1, 9, 10)),
        ([(20, 20), (0, 20)], (0, 20, 0)),
        ([(0, 10), (10, 29)], (2, 40, 39)),
    ];
    for (ranges, expected) in cases {
        for (header, (offset, size_bytes)) in headers(10, 1, &image, 2).iter_mut().zip(ranges) {
            let (from, to) = (offset as usize, (offset + size_bytes) as usize);
            *header = ShardHeader {
                offset,
                size_bytes,
                blake3: Fingerprint::of(&image[from..to]),
                ..*header
            };
            upload(&store, header, &image).unwrap();
        }
        match store.commit(10, 1) {
            Err(CheckpointError::Gap {
                shard,
                offset,
                expected: next,
                ..
            }) => {
                assert_eq!((shard, offset, next), expected);
            }
            other => panic!("{ranges:?}: {other:?}"),
        }
        assert!(names_in(&folder).is_empty());
    }
}

#[test]
fn a_generation_that_ends_takes_its_unfinished_checkpoints_with_it() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 2);
    let image = image(10, 40);
    let old = headers(10, 1, &image, 2);
    upload(&store, &old[0], &image).unwrap();
    let mut late = store.receive(&old[1]).unwrap();
    late.write(&image[20..]).unwrap();
    let new = headers(10, 2, &image, 2);
    upload(&store, &new[0], &image).unwrap();
    store.abort_other_than(2);
    assert_eq!(names_in(&folder), [".pending-000000010-2"]);
    let refused = late.seal().unwrap_err();
    assert!(matches!(refused, CheckpointError::Aborted { .. }), "{refused}");
    assert!(store.commit(10, 1).unwrap().is_none());
    upload(&store, &new[1], &image).unwrap();
    assert_eq!(store.commit(10, 2).unwrap().unwrap().checkpoint.generation(), 2);
    upload(&store, &headers(20, 2, &image, 2)[0], &image).unwrap();
    store.abort(20, 2);
    assert_eq!(names_in(&folder), ["last", "step-000000010"]);
}

#[test]
fn what_is_late_neither_takes_a_place_nor_moves_last_back() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 3);
    let (early, late) = (image(10, 40), image(20, 40));
    upload(&store, &headers(10, 1, &early, 2)[0], &early).unwrap();
    save(&store, 20, &late, 2).unwrap();
    upload(&store, &headers(10, 1, &early, 2)[1], &early).unwrap();
    assert!(store.commit(10, 1).unwrap().is_none());
    save(&store, 30, &image(30, 40), 2).unwrap();
    for store in [store, open(&folder, 3)] {
        assert!(!store.commit(20, 1).unwrap().unwrap().is_new);
        assert_eq!(store.newest_whole().checkpoint.unwrap().step(), 30);
    }
    assert_eq!(names_in(&folder), ["last", "step-000000020", "step-000000030"]);
}

#[test]
fn only_so_many_checkpoints_come_in_at_once() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 2);
    let first = |step| headers(step, 1, &image(step, 40), 2)[0];
    for step in 2..2 + PENDING_MAX as u64 {
        upload(&store, &first(step), &image(step, 40)).unwrap();
    }
    let refused = store.receive(&first(1)).unwrap_err();
    assert!(
        matches!(refused, CheckpointError::TooManyPending { step: 1 }),
        "{refused}"
    );
    // A newer one takes the place of the oldest, and one that completes makes room.
    upload(&store, &first(9), &image(9, 40)).unwrap();
    let refused = store.receive(&headers(2, 1, &image(2, 40), 2)[1]).unwrap_err();
    assert!(
        matches!(refused, CheckpointError::TooManyPending { step: 2 }),
        "{refused}"
    );
    let image = image(4, 40);
    upload(&store, &headers(4, 1, &image, 2)[1], &image).unwrap();
    store.commit(4, 1).unwrap().unwrap();
    store.receive(&first(10)).unwrap();
    // What a process leaves unfinished, the next one removes.
    open(&folder, 2);
    assert_eq!(names_in(&folder), ["last", "step-000000004"]);
}

#[test]
fn ranks_that_upload_at_the_same_time_make_one_checkpoint() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 2);
    for step in 1..=12 {
        let image = image(step, 400);
        let committed: Vec<_> = std::thread::scope(|scope| {
            // Each rank uploads twice, as one whose first reply was lost.
            let headers = headers(step, 1, &image, 8);
            let ranks: Vec<_> = headers.iter().chain(&headers).copied().collect();
            let threads = ranks.into_iter().map(|header| {
                let (store, image) = (store.clone(), &image);
                scope.spawn(move || {
                    upload(&store, &header, image).unwrap();
                    store.commit(step, 1).unwrap()
                })
            });
            let threads: Vec<_> = threads.collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(
            committed.iter().filter(|committed| committed.is_new).count(),
            1,
            "step {step}"
        );
        assert_eq!(whole_image(&store.newest_whole().checkpoint.unwrap()), image);
        assert_eq!(names_in(&folder.join(names::step(step))).len(), 9);
    }
    assert_eq!(names_in(&folder), ["last", "step-000000011", "step-000000012"]);
}
