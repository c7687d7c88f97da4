//! Weights files made to do harm: read or refused, and no panic.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::OnceLock;

use model::weights::{self, WeightsError};
use proptest::prelude::*;

/// A whole file of the format with two small tensors: the shortest way to a header that is nearly right.
fn small_file() -> &'static [u8] {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_refused(length in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut file = length.to_le_bytes().to_vec();
        file.extend(bytes);
        prop_assert!(weights::from_bytes(&file).is_err());
    }

    #[test]
    fn damaged_headers_are_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut file = small_file().to_vec();
        for (place, value) in damage {
            let place = place.index(file.len());
            file[place] = value;
        }
        prop_assert!(weights::from_bytes(&file).is_err());
    }
}

#[test]
fn lengths_and_shapes_that_overflow_are_refused() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, 1 << 40, 200 << 20] {
        let mut file = small_file().to_vec();
        file[..8].copy_from_slice(&length.to_le_bytes());
        assert!(
            matches!(weights::from_bytes(&file), Err(WeightsError::Format(_))),
            "{length}"
        );
    }
    let text = String::from_utf8_lossy(small_file()).replace("[2,3]", "[9223372036854775807,9]");
    let mut file = text.into_bytes();
    let header = file.len() - 8 - 28;
    file[..8].copy_from_slice(&(header as u64).to_le_bytes());
    assert!(matches!(weights::from_bytes(&file), Err(WeightsError::Format(_))));
}
