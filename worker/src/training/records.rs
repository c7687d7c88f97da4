//! Validation records: what ranks gather over the ring so that each computes the same metrics.
//!
//! Batches are fixed by the data set and dealt to the ranks; records carry the batch's index, so that the merged
//! order, and with it every sum, is that of one worker. The only user of `bincode` in this crate: version 2
//! is unmaintained (RUSTSEC-2025-0141) and stays behind these two functions.

use bytes::Bytes;
use model::metric::ImageEvidence;
use serde::{Deserialize, Serialize};

/// What one validation batch gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Un-normalised box, class and distribution loss.
    pub losses: [f32; 3],
    /// Sum of the target scores.
    pub normaliser: f32,
    /// The evidence of each image.
    pub images: Vec<ImageEvidence>,
}

/// An evaluation and the batch it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Index of the batch in the data set's fixed list.
    pub batch: u32,
    /// What it gave.
    pub evaluation: Evaluation,
}

/// Returns the records as bytes.
pub fn encode(records: &[Record]) -> Bytes {
    // Invariant: plain data in memory always encodes.
    bincode::serde::encode_to_vec(records, bincode::config::standard())
        .expect("records encode")
        .into()
}

/// Returns the records in `bytes`.
///
/// # Errors
/// A sentence when the bytes are no records, or more than records.
pub fn decode(bytes: &[u8]) -> Result<Vec<Record>, String> {
    // The limit keeps a damaged length from asking for memory.
    let config = bincode::config::standard().with_limit::<DECODE_LIMIT_BYTES>();
    let (records, used) =
        bincode::serde::decode_from_slice(bytes, config).map_err(|error| error.to_string())?;
    if used != bytes.len() {
        return Err(format!("{} bytes follow the records", bytes.len() - used));
    }
    Ok(records)
}

/// Merges the records of all ranks into the order of the batches.
pub fn merge(ranks: Vec<Vec<Record>>) -> Vec<Evaluation> {
    let mut records: Vec<Record> = ranks.into_iter().flatten().collect();
    records.sort_by_key(|record| record.batch);
    records.into_iter().map(|record| record.evaluation).collect()
}

/// Returns the mean over the batches of their normalised box, class and distribution loss.
pub fn mean_losses(evaluations: &[Evaluation]) -> [f64; 3] {
    let mut means = [0.0; 3];
    for evaluation in evaluations {
        for (mean, loss) in means.iter_mut().zip(evaluation.losses) {
            *mean += f64::from(loss) / f64::from(evaluation.normaliser.max(1.0));
        }
    }
    means.map(|sum| sum / evaluations.len().max(1) as f64)
}

/// Largest set of records that is read.
const DECODE_LIMIT_BYTES: usize = collective::MAX_BLOB_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(batch: u32) -> Record {
        let losses = [batch as f32, 1.0, 2.0];
        Record {
            batch,
            evaluation: Evaluation {
                losses,
                normaliser: 2.0,
                images: Vec::new(),
            },
        }
    }

    #[test]
    fn records_come_back_and_damage_is_refused() {
        let records = vec![record(3), record(7)];
        let bytes = encode(&records);
        assert_eq!(decode(&bytes).unwrap(), records);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(
            decode(&[&bytes[..], &[0]].concat())
                .unwrap_err()
                .contains("1 bytes follow")
        );
    }

    #[test]
    fn merged_order_does_not_depend_on_who_evaluated() {
        let one = merge(vec![vec![record(0), record(1), record(2), record(3)]]);
        let many = merge(vec![
            vec![record(2), record(3)],
            vec![],
            vec![record(0), record(1)],
        ]);
        assert_eq!(one, many);
        assert_eq!(mean_losses(&one), [0.75, 0.5, 1.0]);
    }
}
