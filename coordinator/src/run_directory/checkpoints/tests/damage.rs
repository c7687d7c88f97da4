//! Damage to files of checkpoints that were whole: it is seen, said, and the next older one is used.

use std::fs;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

const STEPS: [u64; 3] = [10, 20, 30];

/// A store with three checkpoints of two shards.
fn three() -> (tempfile::TempDir, PathBuf) {
    let (guard, folder) = temporary();
    let store = open(&folder, 3);
    for step in STEPS {
        save(&store, step, &image(step, 40), 2).unwrap();
    }
    (guard, folder)
}

#[test]
fn every_flipped_bit_of_every_file_falls_back_to_the_older_one() {
    let (_guard, folder) = three();
    let store = open(&folder, 3);
    let newest = folder.join("step-000000030");
    let mut flips = 0;
    for name in names_in(&newest) {
        let path = newest.join(&name);
        let bytes = fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            let found = store.newest_whole();
            let what = format!("bit {bit} of {name}");
            assert_eq!(found.checkpoint.expect(&what).step(), 20, "{what}");
            let [(damaged, reason)] = &found.damaged[..] else {
                panic!("{what}: {:?}", found.damaged);
            };
            assert_eq!(*damaged, newest, "{what}");
            assert!(reason.starts_with(&name), "{what}: {reason}");
            flips += 1;
        }
        fs::write(&path, &bytes).unwrap();
    }
    println!("{flips} flipped bits");
    assert!(store.newest_whole().damaged.is_empty());
}

#[test]
fn every_flipped_bit_of_a_single_checkpoint_is_a_refusal_with_its_reason() {
    let (_guard, folder) = temporary();
    save(&open(&folder, 1), 10, &image(10, 40), 2).unwrap();
    let only = folder.join("step-000000010");
    for name in names_in(&only) {
        let path = only.join(&name);
        let bytes = fs::read(&path).unwrap();
        for byte in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            let found = open(&folder, 1).newest_whole();
            assert!(found.checkpoint.is_none(), "byte {byte} of {name}");
            assert_eq!(found.damaged.len(), 1);
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn every_flipped_bit_of_last_still_finds_the_newest_and_says_so() {
    let (_guard, folder) = three();
    let path = folder.join("last");
    let bytes = fs::read(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        let found = open(&folder, 3).newest_whole();
        let step = found.checkpoint.unwrap().step();
        // One flip makes it name step 20 or 10, which are whole, or a step that does not exist.
        if found.damaged.is_empty() {
            assert_eq!(flipped, format!("step-{step:09}\n").as_bytes(), "bit {bit}");
        } else {
            assert_eq!(step, 30, "bit {bit}");
        }
    }
    for odd in [
        &b""[..],
        b"../../etc/passwd\n",
        b"step-000000030",
        b"step-30\n",
        &[0xff; 4000],
    ] {
        fs::write(&path, odd).unwrap();
        let found = open(&folder, 3).newest_whole();
        assert_eq!(found.checkpoint.unwrap().step(), 30);
        assert_eq!(found.damaged[0].0, path);
    }
    fs::remove_file(&path).unwrap();
    let found = open(&folder, 3).newest_whole();
    assert_eq!(found.checkpoint.unwrap().step(), 30);
    assert_eq!(found.damaged, [(path, "it is missing".to_owned())]);
}

#[test]
fn checkpoints_of_another_run_recipe_or_step_are_refused() {
    let (_guard, folder) = three();
    let other_run = Checkpoints::open(folder.clone(), RunId::from_u128(8), recipe(), 3).unwrap();
    let other_recipe = Checkpoints::open(folder.clone(), RUN, Fingerprint::of(b"other"), 3).unwrap();
    for (store, said) in [(other_run, "it belongs to run"), (other_recipe, "another recipe")] {
        let found = store.newest_whole();
        assert!(found.checkpoint.is_none());
        assert_eq!(found.damaged.len(), 3);
        assert!(
            found.damaged.iter().all(|(_, reason)| reason.contains(said)),
            "{:?}",
            found.damaged
        );
    }
    fs::rename(folder.join("step-000000020"), folder.join("step-000000040")).unwrap();
    fs::write(folder.join("last"), "step-000000040\n").unwrap();
    let found = open(&folder, 3).newest_whole();
    assert_eq!(found.checkpoint.unwrap().step(), 30);
    assert!(
        found.damaged[0].1.contains("checkpoint of step 20"),
        "{:?}",
        found.damaged
    );
}

#[test]
fn a_damaged_checkpoint_does_not_count_as_kept_and_goes_with_the_next() {
    let (_guard, folder) = three();
    fs::write(folder.join("step-000000030/manifest.json"), "{}").unwrap();
    let store = open(&folder, 2);
    assert_eq!(store.newest_whole().checkpoint.unwrap().step(), 20);
    // Resumed from 20, with the damaged 30 still ahead.
    let committed = save(&store, 25, &image(25, 40), 2).unwrap();
    assert_eq!(committed.pruned, [30, 10]);
    assert_eq!(names_in(&folder), ["last", "step-000000020", "step-000000025"]);
    let found = open(&folder, 2).newest_whole();
    assert_eq!((found.checkpoint.unwrap().step(), found.damaged.len()), (25, 0));
}

#[test]
fn a_shard_that_is_cut_after_it_was_verified_is_an_error_of_the_reader() {
    let (_guard, folder) = three();
    let checkpoint = open(&folder, 3).newest_whole().checkpoint.unwrap();
    fs::write(folder.join("step-000000030/shard-001.bin"), b"").unwrap();
    assert_eq!(checkpoint.read_range(0, 20).unwrap(), image(30, 40)[..20]);
    assert_eq!(
        checkpoint.read_range(0, 40).unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

/// One thing that can happen to a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Append(Vec<u8>),
    Replace(Vec<u8>),
    Remove,
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..50);
    prop_oneof![
        (any::<prop::sample::Index>(), 1..=255_u8).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        bytes().prop_map(Damage::Append),
        bytes().prop_map(Damage::Replace),
        Just(Damage::Remove),
    ]
}

impl Damage {
    fn strike(&self, path: &Path) {
        let Ok(mut bytes) = fs::read(path) else { return };
        match self {
            Self::Flip(at, mask) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
            Self::Flip(..) => {}
            Self::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Self::Append(more) => bytes.extend(more),
            Self::Replace(other) => bytes.clone_from(other),
            Self::Remove => return fs::remove_file(path).unwrap(),
        }
        fs::write(path, bytes).unwrap();
    }
}

/// All files of the store with their bytes.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = vec![folder.join("last")];
    for step in STEPS {
        let folder = folder.join(names::step(step));
        files.extend(["manifest.json", "shard-000.bin", "shard-001.bin"].map(|name| folder.join(name)));
    }
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap_or_default()))
        .collect()
}

proptest! {
    #[test]
    fn loading_gives_a_whole_checkpoint_or_a_clear_refusal(
        damages in prop::collection::vec((0..10_usize, any_damage()), 0..6),
    ) {
        // Saving syncs dozens of files: once is enough for all cases.
        static SAVED: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
        let saved = SAVED.get_or_init(|| {
            let (_guard, folder) = three();
            let files = files(&folder).into_iter();
            files.map(|(path, bytes)| (path.strip_prefix(&folder).unwrap().to_owned(), bytes)).collect()
        });
        let (_guard, folder) = temporary();
        for step in STEPS {
            fs::create_dir_all(folder.join(names::step(step))).unwrap();
        }
        let before: Vec<_> = saved.iter().map(|(path, bytes)| (folder.join(path), bytes.clone())).collect();
        for (path, bytes) in &before {
            fs::write(path, bytes).unwrap();
        }
        for (file, damage) in &damages {
            damage.strike(&before[*file].0);
        }
        let intact = |step: u64| {
            let prefix = folder.join(names::step(step));
            before
                .iter()
                .filter(|(path, _)| path.starts_with(&prefix))
                .all(|(path, bytes)| fs::read(path).ok().as_ref() == Some(bytes))
        };
        let whole: Vec<u64> = STEPS.into_iter().filter(|&step| intact(step)).collect();
        let last = fs::read_to_string(folder.join("last")).unwrap_or_default();
        let named = whole.iter().copied().find(|&step| last == format!("{}\n", names::step(step)));
        let found = open(&folder, 3).newest_whole();
        prop_assert_eq!(found.checkpoint.as_ref().map(Checkpoint::step), named.or_else(|| whole.last().copied()));
        if let Some(checkpoint) = &found.checkpoint {
            prop_assert_eq!(whole_image(checkpoint), image(checkpoint.step(), 40));
        }
        let is_as_before = files(&folder) == before;
        prop_assert!(!found.damaged.is_empty() || is_as_before || found.checkpoint.is_some());
        prop_assert!(found.damaged.iter().all(|(_, reason)| !reason.is_empty()));
        prop_assert_eq!(found.checkpoint.is_none(), whole.is_empty());
    }
}
