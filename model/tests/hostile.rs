//! Weights files made to do harm: read or refused, without a panic, and with memory in proportion to their length.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../../tests/mutation.rs"]
mod mutation;
mod pickle;

use std::io::{Cursor, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use model::weights::{self, Weights, WeightsError};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use self::mutation::{any_mutations, mutated};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What reading a file may need beside its length: the layouts of all known models, to find the one that fits.
const MEMORY_BASE: usize = 64 << 20;
/// How many times its length: an operation of one byte makes a value.
const MEMORY_PER_BYTE: usize = 400;

/// Reads a file and checks how much memory that took at once.
fn read(file: &[u8]) -> Result<Weights, WeightsError> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = weights::from_bytes(file);
    let used = MEMORY.peak_usage().saturating_sub(before);
    let bound = MEMORY_BASE + MEMORY_PER_BYTE * file.len();
    assert!(
        used <= bound,
        "{used} bytes of memory for a file of {}",
        file.len()
    );
    if let Err(error) = &result {
        assert!(!error.to_string().is_empty());
    }
    result
}

/// A whole safetensors file with two small tensors: the shortest way to a header that is nearly right.
fn small_safetensors() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let header = concat!(
            r#"{"__metadata__":{"ringmaster":"{\"model\":\"yolov8n\",\"names\":[\"a\"],\"image_size\":64}"},"#,
            r#""model.0.conv.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"#,
            r#""model.22.cv3.0.2.bias":{"dtype":"F32","shape":[1],"data_offsets":[24,28]}}"#
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 28]);
        bytes
    })
}

/// A checkpoint with this pickle and this one storage, as PyTorch packs it.
fn checkpoint(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [
        ("a/data.pkl", pickle),
        ("a/byteorder", b"little"),
        ("a/data/0", storage),
    ] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A state dict of two tensors that are views of one storage: all parts of a description, in few bytes.
fn small_pickle() -> Vec<u8> {
    pickle::state_dict(&[
        ("model.0.conv.weight", "FloatStorage", &[2, 3]),
        ("model.22.cv3.0.2.bias", "HalfStorage", &[1]),
    ])
}

proptest! {
    #[test]
    fn any_bytes_are_refused(length in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
        let file = [&length.to_le_bytes()[..], &bytes].concat();
        prop_assert!(read(&file).is_err());
        let file = [b"PK\x03\x04", &bytes[..]].concat();
        prop_assert!(read(&file).is_err());
    }

    #[test]
    fn damaged_safetensors_are_refused(mutations in any_mutations()) {
        prop_assert!(read(&mutated(small_safetensors(), &mutations)).is_err());
    }

    #[test]
    fn headers_of_any_text_are_refused(
        text in r#"([\[\]{}:,"]|"__metadata__"|"shape"|"dtype"|"data_offsets"|"F32"|"a"|[0-9]{1,20}|-1){0,40}"#,
    ) {
        let file = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        prop_assert!(read(&file).is_err());
    }

    #[test]
    fn damaged_archives_are_refused(mutations in any_mutations()) {
        let file = checkpoint(&small_pickle(), &[0; 24]);
        prop_assert!(read(&mutated(&file, &mutations)).is_err());
    }

    #[test]
    fn damaged_pickles_in_whole_archives_are_refused(mutations in any_mutations()) {
        let pickle = mutated(&small_pickle(), &mutations);
        prop_assert!(read(&checkpoint(&pickle, &[0; 24])).is_err());
    }

    #[test]
    fn pickles_of_any_operations_are_refused(operations in pickle::any_operations()) {
        let pickle = [b"\x80\x02", &operations.concat()[..], b"."].concat();
        prop_assert!(read(&checkpoint(&pickle, &[0; 24])).is_err());
    }
}

#[test]
fn lengths_and_shapes_that_overflow_are_refused() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, 1 << 40, 200 << 20] {
        let mut file = small_safetensors().to_vec();
        file[..8].copy_from_slice(&length.to_le_bytes());
        assert!(matches!(read(&file), Err(WeightsError::Format(_))), "{length}");
    }
    let text = String::from_utf8_lossy(small_safetensors()).replace("[2,3]", "[9223372036854775807,9]");
    let mut file = text.into_bytes();
    let header = file.len() - 8 - 28;
    file[..8].copy_from_slice(&(header as u64).to_le_bytes());
    assert!(matches!(read(&file), Err(WeightsError::Format(_))));
}

/// Files of some hundred kilobytes that ask for gigabytes, or for hours.
#[test]
fn checkpoints_that_say_one_thing_many_times_are_refused_at_once() {
    let many = 20_000;
    let long = "n".repeat(100_000);
    let name = |index: usize| format!("{index}");
    let names: Vec<String> = (0..many).map(name).collect();
    let shared: Vec<(&str, &str, &[i64])> = names
        .iter()
        .map(|name| (name.as_str(), "FloatStorage", &[100_000][..]))
        .collect();
    let storage = vec![0; 400_000];
    let bombs = [
        (
            "tensors that are all the same storage",
            pickle::state_dict(&shared),
        ),
        ("tensors of one long name", pickle::repeated_name(&long, many)),
        ("tensors of one long shape", pickle::repeated_shape(100_000, many)),
        ("classes of one long name", pickle::class_names(&long, many)),
        (
            "a head of more classes than there are",
            pickle::state_dict(&[
                ("model.22.cv3.0.2.bias", "LongStorage", &[1 << 26]),
                ("model.23.cv3.0.2.bias", "LongStorage", &[1 << 26]),
            ]),
        ),
        ("modules with many attributes", pickle::module_of_itself(200_000)),
        ("nothing but values", [&[b']'; 3 << 20][..], b"."].concat()),
    ];
    for (what, pickle) in bombs {
        let begin = Instant::now();
        let refused = read(&checkpoint(&pickle, &storage)).expect_err(what);
        let seconds = begin.elapsed();
        assert!(seconds < Duration::from_secs(10), "{what}: {seconds:?}");
        println!("{what}: {seconds:?}: {:.80}", refused.to_string());
    }
}
