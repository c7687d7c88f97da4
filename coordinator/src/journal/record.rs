//! What the journal records, and the bytes of it.
//!
//! The one user of `bincode` in this crate: version 2 is unmaintained (RUSTSEC-2025-0141) and stays behind
//! [`Record::encode`] and [`Record::decode`]. Each kind of record has a number that is never given to another
//! kind, so that an older program refuses a newer record rather than misread it.

use proto::{Fingerprint, RunId};

/// One fact that outlives the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The run was made.
    Created {
        /// Its id.
        run: RunId,
        /// Number of workers that it waits for.
        world_size: u32,
        /// Digest of its recipe.
        recipe_digest: Fingerprint,
    },
    /// A generation, durable before it is announced.
    Generation {
        /// Its number.
        generation: u64,
        /// Its members in ring order, each an encoded `proto::wire::JoinRequest`.
        members: Vec<Vec<u8>>,
    },
    /// The checkpoint of this step is whole and in place.
    CheckpointCommitted {
        /// The step.
        step: u64,
    },
    /// The run was stopped on request; it can be resumed.
    Stopped {
        /// The last applied step.
        step: u64,
    },
    /// A coordinator opened the journal again.
    Resumed,
    /// The run is over and cannot be resumed.
    Ended {
        /// How it ended, in one word.
        outcome: String,
        /// Why, in a sentence.
        reason: String,
    },
}

impl Record {
    /// Returns the number of its kind, and its bytes.
    pub(super) fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Created {
                run,
                world_size,
                recipe_digest,
            } => (
                CREATED,
                bytes((run.to_string(), world_size, recipe_digest.as_bytes())),
            ),
            Self::Generation { generation, members } => (GENERATION, bytes((generation, members))),
            Self::CheckpointCommitted { step } => (CHECKPOINT_COMMITTED, bytes(step)),
            Self::Stopped { step } => (STOPPED, bytes(step)),
            Self::Resumed => (RESUMED, Vec::new()),
            Self::Ended { outcome, reason } => (ENDED, bytes((outcome, reason))),
        }
    }

    /// Returns the record of this kind with these bytes, or what does not fit.
    pub(super) fn decode(kind: u8, payload: &[u8]) -> Result<Self, String> {
        Ok(match kind {
            CREATED => {
                let (run, world_size, digest): (String, u32, [u8; 32]) = value(payload)?;
                Self::Created {
                    run: run.parse().map_err(|error| format!("{error}"))?,
                    world_size,
                    recipe_digest: digest.into(),
                }
            }
            GENERATION => {
                let (generation, members) = value(payload)?;
                Self::Generation { generation, members }
            }
            CHECKPOINT_COMMITTED => Self::CheckpointCommitted {
                step: value(payload)?,
            },
            STOPPED => Self::Stopped {
                step: value(payload)?,
            },
            RESUMED => {
                let () = value(payload)?;
                Self::Resumed
            }
            ENDED => {
                let (outcome, reason) = value(payload)?;
                Self::Ended { outcome, reason }
            }
            other => return Err(format!("kind {other} of record is not known")),
        })
    }
}

fn bytes(value: impl bincode::Encode) -> Vec<u8> {
    // Invariant: plain data in memory always encodes.
    bincode::encode_to_vec(value, bincode::config::standard()).expect("a record encodes")
}

fn value<T: bincode::Decode<()>>(payload: &[u8]) -> Result<T, String> {
    // The limit keeps a length inside the record from asking for memory.
    let config = bincode::config::standard().with_limit::<DECODE_LIMIT_BYTES>();
    let (value, used) = bincode::decode_from_slice(payload, config).map_err(|error| error.to_string())?;
    if used != payload.len() {
        return Err(format!(
            "{} bytes follow the record's content",
            payload.len() - used
        ));
    }
    Ok(value)
}

const CREATED: u8 = 1;
const GENERATION: u8 = 2;
const CHECKPOINT_COMMITTED: u8 = 3;
const STOPPED: u8 = 4;
const RESUMED: u8 = 5;
const ENDED: u8 = 6;

/// bincode counts the memory of what it decodes: a member without bytes takes one byte here and 24 there.
const DECODE_LIMIT_BYTES: usize = 32 * super::frame::PAYLOAD_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_comes_back_and_no_bytes_may_follow() {
        for record in super::super::tests::one_of_each() {
            let (kind, mut payload) = record.encode();
            assert_eq!(Record::decode(kind, &payload), Ok(record));
            payload.push(0);
            assert!(
                Record::decode(kind, &payload)
                    .unwrap_err()
                    .contains("1 bytes follow")
            );
        }
        assert!(Record::decode(99, &[]).is_err());
    }

    #[test]
    fn a_length_inside_a_record_cannot_ask_for_memory() {
        // 2^60 members, in 9 bytes.
        let mut payload = vec![0, 253];
        payload.extend_from_slice(&(1_u64 << 60).to_le_bytes());
        assert!(Record::decode(GENERATION, &payload).is_err());
    }
}
