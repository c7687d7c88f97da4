//! Journals and manifests that somebody else has written: read or refused, without a panic, in bounded memory.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../../tests/mutation.rs"]
mod mutation;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use coordinator::journal::{Journal, JournalError, Opened, Record};
use coordinator::run_directory::checkpoints::{Checkpoints, Newest, ShardHeader};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proto::{Fingerprint, RunId};

use self::mutation::{any_mutations, mutated};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const RUN: RunId = RunId::from_u128(7);
/// What a single record may ask for whatever its length says, and some.
const JOURNAL_MEMORY: usize = 160 << 20;
/// A manifest of at most 64 KiB as values of JSON, and a buffer for shards.
const MANIFEST_MEMORY: usize = 8 << 20;
/// How many times its length: a record of nothing has 14 bytes in the file.
const MEMORY_PER_BYTE: usize = 64;

/// Runs a reader and checks how much memory it took at once.
fn measured<T>(bound: usize, read: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = read();
    let used = MEMORY.peak_usage().saturating_sub(before);
    assert!(used <= bound, "{used} bytes of memory, where {bound} are allowed");
    result
}

fn open_journal(bytes: &[u8]) -> Result<Opened, JournalError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    fs::write(&path, bytes).unwrap();
    let opened = measured(JOURNAL_MEMORY + MEMORY_PER_BYTE * bytes.len(), || {
        Journal::open(&path)
    });
    match &opened {
        Ok(opened) => {
            let damaged = opened.damage.as_ref().map_or(0, |damage| damage.bytes);
            assert!(damaged <= bytes.len() as u64);
        }
        Err(error) => assert!(matches!(error, JournalError::Unknown { .. }), "{error}"),
    }
    opened
}

/// A whole journal with a record of each kind.
fn journal() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path).unwrap();
        for record in records() {
            journal.append(&record).unwrap();
        }
        drop(journal);
        fs::read(path).unwrap()
    })
}

fn records() -> [Record; 6] {
    [
        Record::Created {
            run: RUN,
            world_size: 2,
            recipe_digest: Fingerprint::of(b"recipe"),
        },
        Record::Generation {
            generation: 1,
            members: vec![b"one".to_vec(), Vec::new(), vec![7; 40]],
        },
        Record::CheckpointCommitted { step: 40 },
        Record::Stopped { step: 41 },
        Record::Resumed,
        Record::Ended {
            outcome: "completed".into(),
            reason: "all epochs are done".into(),
        },
    ]
}

/// A frame whose checksum is right, whatever is in it.
fn frame(offset: u64, version: u8, kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let mut hasher = blake3::Hasher::new();
    for part in [&offset.to_le_bytes()[..], &length, &[version, kind], payload] {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    [&length[..], &[version, kind], &digest.as_bytes()[..8], payload].concat()
}

/// A number as records hold it, often one that could be a length.
fn any_number() -> impl Strategy<Value = Vec<u8>> {
    let wide = prop_oneof![
        Just(u64::MAX),
        Just(1 << 60),
        Just(1 << 22),
        Just(5 << 20),
        any::<u64>()
    ];
    prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        any::<u16>().prop_map(|number| [&[251], &number.to_le_bytes()[..]].concat()),
        any::<u32>().prop_map(|number| [&[252], &number.to_le_bytes()[..]].concat()),
        wide.prop_map(|number| [&[253], &number.to_le_bytes()[..]].concat()),
    ]
}

/// A folder of checkpoints with one of two shards.
struct Store {
    _guard: tempfile::TempDir,
    folder: PathBuf,
}

impl Store {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let folder = guard.path().join("checkpoints");
        let step = folder.join("step-000000010");
        fs::create_dir_all(&step).unwrap();
        fs::write(folder.join("last"), "step-000000010\n").unwrap();
        fs::write(step.join("shard-000.bin"), b"first half ").unwrap();
        fs::write(step.join("shard-001.bin"), b"second half").unwrap();
        Self {
            _guard: guard,
            folder,
        }
    }

    fn open(folder: &Path) -> Checkpoints {
        Checkpoints::open(folder.to_owned(), RUN, Fingerprint::of(b"recipe"), 1).unwrap()
    }

    fn manifest(&self) -> PathBuf {
        self.folder.join("step-000000010/manifest.json")
    }

    fn find(&self, manifest: &[u8]) -> Newest {
        fs::write(self.manifest(), manifest).unwrap();
        self.look()
    }

    fn look(&self) -> Newest {
        measured(MANIFEST_MEMORY, || Self::open(&self.folder).newest_whole())
    }
}

/// The manifest that belongs to the store's shards.
fn manifest() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let guard = tempfile::tempdir().unwrap();
        let folder = guard.path().join("checkpoints");
        let store = Store::open(&folder);
        let image = b"first half second half";
        for (shard, range) in [(0, 0..11), (1, 11..22)] {
            let header = ShardHeader {
                step: 10,
                generation: 1,
                shard,
                shards: 2,
                offset: range.start as u64,
                size_bytes: range.len() as u64,
                total_bytes: image.len() as u64,
                blake3: Fingerprint::of(&image[range.clone()]),
                state_digest: Fingerprint::of(image),
            };
            let mut incoming = store.receive(&header).unwrap();
            incoming.write(&image[range]).unwrap();
            incoming.seal().unwrap();
        }
        store.commit(10, 1).unwrap().unwrap();
        fs::read(folder.join("step-000000010/manifest.json")).unwrap()
    })
}

/// A manifest's text after its digest was made to fit again: what somebody writes who means harm.
fn sealed(text: &str) -> Option<String> {
    let key = "\"manifest_blake3\": \"";
    let begin = text.find(key)? + key.len();
    let end = begin + text[begin..].find('"')?;
    let open = format!("{}{}", &text[..begin], &text[end..]);
    let digest = Fingerprint::of(open.as_bytes());
    Some(format!("{}{digest}{}", &text[..begin], &text[end..]))
}

proptest! {
    #[test]
    fn journals_of_any_bytes_are_damaged_from_the_beginning(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let opened = open_journal(&bytes).unwrap();
        prop_assert_eq!(opened.records, vec![]);
        prop_assert_eq!(opened.damage.is_some(), !bytes.is_empty());
    }

    #[test]
    fn damaged_journals_give_the_records_before_the_damage(mutations in any_mutations()) {
        let bytes = mutated(journal(), &mutations);
        let opened = open_journal(&bytes).unwrap();
        let all = records();
        // A frame holds in one place only, so nothing that moved is taken for a record.
        prop_assert!(all.starts_with(&opened.records));
        prop_assert_eq!(opened.records.len() == all.len() && opened.damage.is_none(), bytes == journal());
    }

    #[test]
    fn whole_frames_with_any_content_are_records_or_refused(
        frames in prop::collection::vec(
            (
                prop_oneof![9 => Just(1_u8), 1 => any::<u8>()],
                0..8_u8,
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..60),
                    prop::collection::vec(any_number(), 0..8).prop_map(|numbers| numbers.concat()),
                ],
            ),
            1..6,
        ),
    ) {
        let mut bytes = Vec::new();
        for (version, kind, payload) in &frames {
            bytes.extend(frame(bytes.len() as u64, *version, *kind, payload));
        }
        if let Ok(opened) = open_journal(&bytes) {
            prop_assert_eq!(opened.records.len(), frames.len());
            prop_assert_eq!(opened.damage, None);
        }
    }

    #[test]
    fn manifests_of_any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let found = Store::new().find(&bytes);
        prop_assert!(found.checkpoint.is_none());
        prop_assert!(found.damaged.iter().all(|(_, reason)| reason.starts_with("manifest.json")));
    }

    #[test]
    fn damaged_manifests_are_refused(mutations in any_mutations()) {
        let bytes = mutated(manifest(), &mutations);
        let found = Store::new().find(&bytes);
        prop_assert_eq!(found.checkpoint.is_some(), bytes == manifest());
        prop_assert_eq!(found.damaged.is_empty(), bytes == manifest());
    }

    #[test]
    fn manifests_with_other_numbers_and_a_digest_that_fits_are_refused(
        at in any::<prop::sample::Index>(),
        number in prop_oneof![Just(u64::MAX.to_string()), Just("0".to_owned()), Just("-1".to_owned()), Just("1e400".to_owned()), any::<u64>().prop_map(|number| number.to_string())],
    ) {
        let text = str::from_utf8(manifest()).unwrap();
        // Every number that is a value of its own: behind a colon and a space.
        let places: Vec<usize> = text.match_indices(": ").map(|(place, _)| place + 2).collect();
        let numbers: Vec<usize> = places.into_iter().filter(|&place| text.as_bytes()[place].is_ascii_digit()).collect();
        let begin = numbers[at.index(numbers.len())];
        let end = begin + text[begin..].find(|c: char| !c.is_ascii_digit()).unwrap();
        let changed = format!("{}{number}{}", &text[..begin], &text[end..]);
        let found = Store::new().find(sealed(&changed).unwrap().as_bytes());
        // The one number that nothing on disk can contradict.
        let is_generation = text[..begin].ends_with("\"generation\": ") && number.parse::<u64>().is_ok();
        prop_assert_eq!(found.checkpoint.is_some(), is_generation || changed == text, "{}", changed);
        prop_assert_eq!(found.damaged.is_empty(), found.checkpoint.is_some());
    }
}

#[test]
fn the_frames_and_seals_of_these_tests_are_those_of_the_program() {
    let [created, ..] = records();
    let bytes = journal();
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let (kind, payload) = (bytes[5], &bytes[14..14 + length]);
    assert_eq!(frame(0, 1, kind, payload), bytes[..14 + length]);
    assert_eq!(open_journal(&bytes[..14 + length]).unwrap().records, [created]);
    let text = str::from_utf8(manifest()).unwrap();
    assert_eq!(sealed(text).unwrap(), text);
    assert!(Store::new().find(manifest()).checkpoint.is_some());
}

#[test]
fn long_and_deep_manifests_are_refused_in_little_memory() {
    let store = Store::new();
    for bytes in [
        vec![b'['; 60_000],
        b"[]".repeat(30_000),
        vec![b'1'; 60_000],
        [b"{\"format\": 1, \"shards\": [", &b"{},".repeat(15_000)[..]].concat(),
        [b"[", &b"[],".repeat(20_000)[..], b"0]"].concat(),
    ] {
        let found = store.find(&bytes);
        assert!(found.checkpoint.is_none());
        assert!(!found.damaged.is_empty());
    }
    // Longer than any manifest, and with a hole, so that only reading it takes memory.
    fs::File::create(store.manifest())
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let found = store.look();
    assert!(found.damaged[0].1.contains("larger than"), "{:?}", found.damaged);
}
