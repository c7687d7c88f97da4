//! `manifest.json`: what belongs to a checkpoint, and the digests that show whether it still is what it was.
//!
//! The manifest carries a digest of itself, over its own text with that digest left empty, and is accepted
//! only when its text is exactly the one that this program writes for its content. So no byte of it can change unseen.

use std::fmt::Display;
use std::str::FromStr;

use proto::{Fingerprint, RunId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::header::{SHARDS_MAX, TOTAL_BYTES_MAX};
use super::names;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Version of this file and of the folder's layout.
    format: u32,
    /// Version of the program that wrote it.
    written_by: String,
    #[serde(with = "text")]
    pub(super) run: RunId,
    pub(super) step: u64,
    pub(super) generation: u64,
    #[serde(with = "text")]
    pub(super) recipe_digest: Fingerprint,
    pub(super) total_bytes: u64,
    #[serde(with = "text")]
    pub(super) state_digest: Fingerprint,
    pub(super) shards: Vec<ManifestShard>,
    /// BLAKE3 of this text with an empty string here.
    manifest_blake3: String,
}

/// A shard in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestShard {
    file: String,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    #[serde(with = "text")]
    pub(super) blake3: Fingerprint,
}

/// What a new manifest says.
pub(super) struct ManifestContent {
    pub(super) run: RunId,
    pub(super) step: u64,
    pub(super) generation: u64,
    pub(super) recipe_digest: Fingerprint,
    pub(super) total_bytes: u64,
    pub(super) state_digest: Fingerprint,
    /// Offset, bytes and digest of each shard, in order.
    pub(super) shards: Vec<(u64, u64, Fingerprint)>,
}

impl From<ManifestContent> for Manifest {
    fn from(content: ManifestContent) -> Self {
        let shards = content.shards.into_iter().zip(0..);
        Self {
            format: FORMAT,
            written_by: format!("ringmaster {}", proto::VERSION),
            run: content.run,
            step: content.step,
            generation: content.generation,
            recipe_digest: content.recipe_digest,
            total_bytes: content.total_bytes,
            state_digest: content.state_digest,
            shards: shards
                .map(|((offset, bytes, blake3), shard)| ManifestShard {
                    file: names::shard(shard),
                    offset,
                    bytes,
                    blake3,
                })
                .collect(),
            manifest_blake3: String::new(),
        }
    }
}

impl Manifest {
    /// Returns the text of the file.
    pub(super) fn to_json(&self) -> String {
        let mut sealed = self.clone();
        sealed.manifest_blake3.clear();
        sealed.manifest_blake3 = Fingerprint::of(sealed.text().as_bytes()).to_string();
        sealed.text()
    }

    /// Returns the manifest with this text, or what is wrong with it.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| format!("no manifest: {error}"))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return Err(format!(
                    "format {format} is not known to this version of ringmaster"
                ));
            }
            None => return Err("no manifest: it names no format".into()),
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("no manifest: {error}"))?;
        if manifest.to_json().as_bytes() != bytes {
            return Err("its content does not have its digest".into());
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks that the shards make up the state.
    fn check(&self) -> Result<(), String> {
        if self.shards.is_empty() || self.shards.len() > SHARDS_MAX as usize {
            return Err(format!("{} shards", self.shards.len()));
        }
        let mut next = 0_u64;
        for (shard, number) in self.shards.iter().zip(0..) {
            if shard.file != names::shard(number) || shard.offset != next {
                return Err(format!("shard {number} does not follow those before it"));
            }
            next = next.checked_add(shard.bytes).ok_or("impossible sizes")?;
        }
        if next != self.total_bytes || next == 0 || next > TOTAL_BYTES_MAX {
            return Err(format!(
                "{next} bytes in shards of a state of {} bytes",
                self.total_bytes
            ));
        }
        Ok(())
    }

    fn text(&self) -> String {
        // Invariant: strings and numbers always serialise.
        let mut text = serde_json::to_string_pretty(self).expect("a manifest serialises");
        text.push('\n');
        text
    }
}

/// Ids and digests, as the text that they have everywhere else.
mod text {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

const FORMAT: u32 = 1;

/// Largest manifest that is read: 64 shards of some 200 bytes each take a fifth of it.
pub(super) const MANIFEST_BYTES_MAX: u64 = 64 << 10;
