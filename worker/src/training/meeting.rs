//! The meeting at the beginning of a generation: ranks compare where they stand, and who is behind copies the state of
//! who is ahead.
//!
//! The largest step wins. Nothing is voted on: a generation progresses with all of its members or not at all, so whoever
//! is ahead has a state that follows from everybody's. With exact sums, states of one step have equal bits; where they
//! do not (plain sums, or damaged memory), the one that progressed in the newest generation counts, then the one that
//! most ranks have.

use prost::Message;
use proto::{Fingerprint, wire};

/// Where one rank stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Steps applied.
    pub step: u64,
    /// Epochs validated.
    pub epochs: u32,
    /// The newest generation in which it applied a step.
    pub progressed: u64,
    /// Length of its state's image in bytes.
    pub total_bytes: u64,
    /// Digest of its state's image.
    pub digest: Fingerprint,
}

/// What a generation begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The state that counts, as its donors described it.
    pub standing: Standing,
    /// The ranks that have it, in rank order.
    pub donors: Vec<usize>,
    /// The ranks that must copy it, in rank order.
    pub behind: Vec<usize>,
}

impl Standing {
    /// Returns the standing as bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::Standing {
            step: self.step,
            epochs: self.epochs,
            progressed: self.progressed,
            total_bytes: self.total_bytes,
            digest: self.digest.as_bytes().to_vec().into(),
        }
        .encode_to_vec()
    }

    /// Returns the standing that `bytes` hold.
    ///
    /// # Errors
    /// One sentence when they hold none.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let standing = wire::Standing::decode(bytes).map_err(|error| error.to_string())?;
        let digest: [u8; 32] = standing
            .digest
            .as_ref()
            .try_into()
            .map_err(|_| "a digest has 32 bytes".to_owned())?;
        Ok(Self {
            step: standing.step,
            epochs: standing.epochs,
            progressed: standing.progressed,
            total_bytes: standing.total_bytes,
            digest: Fingerprint::from(digest),
        })
    }
}

/// Returns which state counts; the same on every rank. `damaged` ranks are donors only when there is no other.
///
/// # Panics
/// When nobody stands anywhere, or the two lists have different lengths.
pub fn agree(standings: &[Standing], damaged: &[bool]) -> Agreement {
    assert_eq!(standings.len(), damaged.len(), "one flag for each rank");
    let all_damaged = damaged.iter().all(|&damaged| damaged);
    let sound: Vec<usize> = (0..standings.len())
        .filter(|&rank| all_damaged || !damaged[rank])
        .collect();
    let place = |rank: usize| (standings[rank].step, standings[rank].epochs);
    let furthest = sound.iter().map(|&rank| place(rank)).max();
    let furthest = furthest.expect("somebody stands somewhere");
    let ahead: Vec<usize> = sound
        .into_iter()
        .filter(|&rank| place(rank) == furthest)
        .collect();
    let have = |digest: Fingerprint| {
        ahead
            .iter()
            .filter(move |&&rank| standings[rank].digest == digest)
    };
    let chosen = ahead
        .iter()
        .map(|&rank| {
            let digest = standings[rank].digest;
            let newest = have(digest).map(|&rank| standings[rank].progressed).max();
            let most = have(digest).count();
            // The lowest rank of equals.
            ((newest, most, std::cmp::Reverse(rank)), rank)
        })
        .max()
        .map(|(_, rank)| standings[rank]);
    // Invariant: whoever stands furthest is ahead.
    let standing = chosen.expect("somebody is ahead");
    let donors: Vec<usize> = have(standing.digest).copied().collect();
    let behind = (0..standings.len())
        .filter(|rank| !donors.contains(rank))
        .collect();
    Agreement {
        standing,
        donors,
        behind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(step: u64, epochs: u32, progressed: u64, state: &str) -> Standing {
        Standing {
            step,
            epochs,
            progressed,
            total_bytes: 9,
            digest: Fingerprint::of(state.as_bytes()),
        }
    }

    fn donors(standings: &[Standing], damaged: &[bool]) -> (Vec<usize>, Vec<usize>) {
        let agreement = agree(standings, damaged);
        (agreement.donors, agreement.behind)
    }

    #[test]
    fn who_counts() {
        let [a, b] = [standing(5, 0, 1, "a"), standing(5, 0, 1, "b")];
        let ahead = standing(6, 0, 1, "c");
        let validated = standing(5, 1, 1, "d");
        let newer = standing(5, 0, 2, "b");
        let no = |ranks: usize| vec![false; ranks];
        let cases = [
            ("all alike", vec![a, a, a], no(3), (vec![0, 1, 2], vec![])),
            (
                "the largest step",
                vec![a, ahead, a],
                no(3),
                (vec![1], vec![0, 2]),
            ),
            ("then the epoch", vec![a, validated], no(2), (vec![1], vec![0])),
            ("most of equals", vec![a, b, b], no(3), (vec![1, 2], vec![0])),
            ("the lower rank of a tie", vec![b, a], no(2), (vec![0], vec![1])),
            (
                "newest progress before most",
                vec![a, a, newer],
                no(3),
                (vec![2], vec![0, 1]),
            ),
            (
                "a damaged one copies",
                vec![ahead, a],
                vec![true, false],
                (vec![1], vec![0]),
            ),
            (
                "unless all are",
                vec![ahead, a],
                vec![true, true],
                (vec![0], vec![1]),
            ),
        ];
        for (what, standings, damaged, expected) in cases {
            assert_eq!(donors(&standings, &damaged), expected, "{what}");
        }
    }

    #[test]
    fn a_standing_survives_the_ring() {
        let standing = standing(5, 2, 3, "state");
        assert_eq!(Standing::decode(&standing.encode()), Ok(standing));
        assert!(Standing::decode(&[]).is_err());
    }
}
