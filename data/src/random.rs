//! Random numbers fixed by a key.
//!
//! Every draw of this crate comes from a ChaCha8 stream whose seed is the key itself: a purpose and three numbers,
//! such as (run seed, epoch, sample). So a sample looks the same whoever loads it, in whatever order. The ranges are
//! written out here instead of taken from `rand`, whose sampling algorithms may change between versions.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// A stream of random numbers that depends on nothing but its key.
pub(crate) struct KeyedRandom(ChaCha8Rng);

/// What a stream is for; streams of different purposes never overlap.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The order of the samples of an epoch.
    Order = 1,
    /// The augmentation of a sample.
    Augment = 2,
    /// The content of a drawn picture.
    Scene = 3,
    /// The size of the network input at a step.
    Size = 4,
}

impl KeyedRandom {
    pub(crate) fn new(purpose: Purpose, key: [u64; 3]) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(purpose as u64).to_le_bytes());
        for (bytes, word) in seed[8..].chunks_exact_mut(8).zip(key) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in `[low, high)`.
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number in `0..bound`; its bias is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// True with the given probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_give_equal_streams_and_other_keys_other_streams() {
        let draw = |purpose, key| KeyedRandom::new(purpose, key).unit();
        let base = draw(Purpose::Order, [1, 2, 3]);
        assert_eq!(base, draw(Purpose::Order, [1, 2, 3]));
        for (purpose, key) in [
            (Purpose::Augment, [1, 2, 3]),
            (Purpose::Order, [2, 2, 3]),
            (Purpose::Order, [1, 3, 3]),
            (Purpose::Order, [1, 2, 4]),
        ] {
            assert_ne!(base, draw(purpose, key));
        }
    }

    #[test]
    fn ranges_hold_and_are_filled() {
        let mut random = KeyedRandom::new(Purpose::Scene, [7, 0, 0]);
        let mut seen = [0usize; 5];
        for _ in 0..5000 {
            assert!((-2.0..3.0).contains(&random.uniform(-2.0, 3.0)));
            seen[random.below(5)] += 1;
        }
        assert!(seen.iter().all(|&count| (900..1100).contains(&count)), "{seen:?}");
    }
}
