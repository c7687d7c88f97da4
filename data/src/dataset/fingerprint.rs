//! The fingerprint by which workers agree that they see the same data.
//!
//! Covers class names, and for every sample its relative name, file size, image size and labels. It does not cover
//! pixels or modification times: files are copied between hosts, and reading every byte of a large dataset takes minutes.

use super::{Dataset, ImageSource, synthetic};

pub(super) fn of(dataset: &Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN);
    text(&mut hasher, dataset.split.name());
    number(&mut hasher, dataset.names.len() as u64);
    for name in &dataset.names {
        text(&mut hasher, name);
    }
    number(&mut hasher, dataset.samples.len() as u64);
    for sample in &dataset.samples {
        text(&mut hasher, &sample.name);
        // A drawn picture has no file: the version of the artist stands for its content.
        number(
            &mut hasher,
            match sample.source {
                ImageSource::File(_) => sample.bytes,
                ImageSource::Drawn(_) => synthetic::VERSION,
            },
        );
        number(&mut hasher, u64::from(sample.width));
        number(&mut hasher, u64::from(sample.height));
        number(&mut hasher, sample.labels.len() as u64);
        for label in &sample.labels {
            number(&mut hasher, u64::from(label.class) << 1 | u64::from(label.crowd));
            for value in label.bounds {
                hasher.update(&value.to_bits().to_le_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn number(hasher: &mut blake3::Hasher, value: u64) {
    hasher.update(&value.to_le_bytes());
}

/// Its length comes first, so that neighbouring texts cannot be confused.
fn text(hasher: &mut blake3::Hasher, value: &str) {
    number(hasher, value.len() as u64);
    hasher.update(value.as_bytes());
}

/// Changes whenever what is covered changes.
const DOMAIN: &[u8] = b"ringmaster dataset 1";
