//! What happens when nothing goes wrong, or only a sender does.

use std::io::Read;

use super::*;

#[test]
fn a_checkpoint_comes_back_byte_for_byte_and_older_ones_go() {
    let (_guard, folder) = temporary();
    let store = open(&folder, 2);
    for step in [10, 20, 30] {
        let committed = save(&store, step, &image(step, 50), 3).unwrap();
        assert!(committed.is_new);
        assert_eq!(committed.pruned, if step == 30 { vec![10] } else { vec![] });
        assert!(committed.unpruned.is_empty());
    }
    assert_eq!(names_in(&folder), ["last", "step-000000020", "step-000000030"]);
    assert_eq!(
        names_in(&folder.join("step-000000030")),
        ["manifest.json", "shard-000.bin", "shard-001.bin", "shard-002.bin"]
    );
    assert_eq!(
        std::fs::read_to_string(folder.join("last")).unwrap(),
        "step-000000030\n"
    );
    let newest = open(&folder, 2).newest_whole();
    assert!(newest.damaged.is_empty());
    let checkpoint = newest.checkpoint.unwrap();
    assert_eq!((checkpoint.step(), checkpoint.generation()), (30, 1));
    assert_eq!(checkpoint.state_digest(), Fingerprint::of(&image(30, 50)));
    assert_eq!(whole_image(&checkpoint), image(30, 50));
}

#[test]
fn any_range_can_be_read_across_shards_and_none_beyond() {
    let (_guard, folder) = temporary();
    let image = image(1, 23);
    // More shards than some ranges have bytes, and empty shards.
    let checkpoint = save(&open(&folder, 1), 1, &image, 30).unwrap().checkpoint;
    for from in 0..=23 {
        for to in from..=23 {
            let range = checkpoint.read_range(from as u64, (to - from) as u64).unwrap();
            assert_eq!(range, image[from..to]);
        }
    }
    for (offset, bytes) in [(0, 24), (23, 1), (24, 0), (u64::MAX, 1), (1, u64::MAX)] {
        assert!(
            checkpoint.read_range(offset, bytes).is_err(),
            "{bytes} at {offset}"
        );
    }
    let mut byte_wise = Vec::new();
    let mut reader = checkpoint.reader(3, 17).unwrap();
    let mut byte = [0];
    while reader.read(&mut byte).unwrap() == 1 {
        byte_wise.push(byte[0]);
    }
    assert_eq!(byte_wise, image[3..20]);
}
