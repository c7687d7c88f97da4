//! The training state: a step number and a few flat vectors.
//!
//! Everything that training changes is here, in layout order, on the host: a copy of it is a replica, a hash of
//! it is an identity, a range of it is a shard. The step number is also the data cursor.

use std::num::NonZeroUsize;

use model::frozen::Frozen;
use model::layout::FlatState;
use multiversion::multiversion;
use proto::{Fingerprint, StateHash};
use sha2::{Digest, Sha256};

use super::fixed_point::Exponents;
use super::threads::{on_threads, parts, parts_mut};

/// The whole training state of a rank.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Steps done, applied or skipped: the next step to compute.
    pub step: u64,
    /// Updates applied; smaller than `step` when steps were skipped as not finite.
    pub updates: u64,
    /// Steps in a row that were skipped as not finite.
    pub nonfinite_run: u32,
    /// Trainable tensors.
    pub parameters: Vec<f32>,
    /// BatchNorm running statistics.
    pub buffers: Vec<f32>,
    /// The optimizer's moments, each as long as `parameters`.
    pub moments: Vec<Vec<f32>>,
    /// Block exponents of the parameters' gradients, then of the buffers' statistics, for exact sums.
    pub exponents: Exponents,
    /// Moving average of `parameters`.
    pub ema_parameters: Vec<f32>,
    /// Moving average of `buffers`.
    pub ema_buffers: Vec<f32>,
    /// Best fitness so far, and the epoch that patience counts from.
    pub best: Option<Best>,
    /// Epochs validated.
    pub epochs: u32,
    /// What the epoch in progress adds up to.
    pub progress: EpochProgress,
}

/// Losses and images of the epoch so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EpochProgress {
    /// Box, class and distribution loss, summed over the steps.
    pub losses: [f64; 3],
    /// Steps applied.
    pub steps: u32,
    /// Images.
    pub images: u64,
    /// Images that could not be decoded.
    pub unreadable: u64,
    /// Steps computed again because their sums could not be used.
    pub redone: u32,
}

/// The best epoch so far: of equal ones the first, but the last while all of them are zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// Its fitness.
    pub fitness: f64,
    /// The epoch, counted from zero.
    pub epoch: u32,
}

impl EpochProgress {
    /// Takes in an applied step.
    pub fn add(&mut self, losses: [f64; 3], images: u32, unreadable: u32) {
        for (total, loss) in self.losses.iter_mut().zip(losses) {
            *total += loss;
        }
        self.steps += 1;
        self.images += u64::from(images);
        self.unreadable += u64::from(unreadable);
    }

    /// Returns the mean losses of the steps so far.
    pub fn mean_losses(&self) -> [f64; 3] {
        self.losses.map(|total| total / f64::from(self.steps.max(1)))
    }
}

impl State {
    /// Returns the state before the first step, for an optimizer with so many moments and a layout of so many tensors.
    pub fn new(initial: FlatState, moments: usize, tensors: usize) -> Self {
        let FlatState { parameters, buffers } = initial;
        Self {
            step: 0,
            updates: 0,
            nonfinite_run: 0,
            exponents: Exponents::new(tensors),
            moments: vec![vec![0.0; parameters.len()]; moments],
            ema_parameters: parameters.clone(),
            ema_buffers: buffers.clone(),
            parameters,
            buffers,
            best: None,
            epochs: 0,
            progress: EpochProgress::default(),
        }
    }

    /// Returns all vectors, in the order of the image.
    pub fn vectors(&self) -> Vec<&[f32]> {
        let ema = [&self.ema_parameters[..], &self.ema_buffers];
        let moments = self.moments.iter().map(Vec::as_slice);
        [&self.parameters[..], &self.buffers]
            .into_iter()
            .chain(moments)
            .chain(ema)
            .collect()
    }

    /// Returns all vectors to write to, in the order of the image.
    pub fn vectors_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        [&mut self.parameters, &mut self.buffers]
            .into_iter()
            .chain(&mut self.moments)
            .chain([&mut self.ema_parameters, &mut self.ema_buffers])
    }

    /// Returns the SHA-256 of all that steps change, and of its parts: equal hashes mean equal bits. What is noted at the end of an
    /// epoch (the best one, epochs done, losses so far) is not among it.
    pub fn hash(&self) -> StateHash {
        let parameters = hash_of(&[&self.parameters]);
        let buffers = hash_of(&[&self.buffers]);
        let ema = hash_of_weights(&self.ema_parameters, &self.ema_buffers);
        let mut optimizer = Sha256::new();
        for moment in &self.moments {
            optimizer.update(bytemuck::cast_slice(moment));
        }
        optimizer.update(self.exponents.to_bytes());
        let optimizer = digest(optimizer);
        let mut state = Sha256::new();
        for part in [parameters, buffers, optimizer, ema] {
            state.update(part.as_bytes());
        }
        for number in [self.step, self.updates, u64::from(self.nonfinite_run)] {
            state.update(number.to_le_bytes());
        }
        StateHash {
            parameters,
            buffers,
            optimizer,
            ema,
            state: digest(state),
        }
    }

    /// Returns a copy of what is frozen, to be put back after an update: decay and averages would change its last bits.
    pub fn hold(&self, frozen: Frozen) -> FlatState {
        FlatState {
            parameters: self.parameters[..frozen.parameters].to_vec(),
            buffers: self.buffers[..frozen.buffers].to_vec(),
        }
    }

    /// Puts back what was held, in the averages too; its moments are zero.
    pub fn restore(&mut self, held: &FlatState) {
        let FlatState { parameters, buffers } = held;
        for values in [&mut self.parameters, &mut self.ema_parameters] {
            values[..parameters.len()].copy_from_slice(parameters);
        }
        for values in [&mut self.buffers, &mut self.ema_buffers] {
            values[..buffers.len()].copy_from_slice(buffers);
        }
        for moment in &mut self.moments {
            moment[..parameters.len()].fill(0.0);
        }
    }

    /// Moves the average towards the current parameters and buffers.
    ///
    /// The decay ramps up as `decay * (1 - exp(-updates / tau))`, so that early averages follow quickly.
    pub fn update_average(&mut self, decay: f64, tau: f64, threads: NonZeroUsize) {
        let decay = (decay * (1.0 - (-(self.updates as f64) / tau).exp())) as f32;
        let parameters = parts_mut(threads, &mut self.ema_parameters).zip(parts(threads, &self.parameters));
        on_threads(
            threads,
            parameters.collect(),
            |(ema, _)| ema.len(),
            |(ema, current)| average(ema, current, decay),
        );
        average(&mut self.ema_buffers, &self.buffers, decay);
    }

    /// Updates the running statistics with the mean statistics of a step's slots.
    ///
    /// `slot_sums` holds the sum over `slots` slots of each slot's mean and variance, in buffer order. The running
    /// value keeps `(1 - momentum)^batches` of itself, as if it had been updated once for each batch of the step: how fast
    /// it follows does not depend on how small the slots are.
    pub fn update_running_statistics(&mut self, slot_sums: &[f32], slots: u32, batches: u64, momentum: f32) {
        let keep = (1.0 - momentum).powf(batches as f32);
        for (running, sum) in self.buffers.iter_mut().zip(slot_sums) {
            *running = keep * *running + (1.0 - keep) * (sum / slots as f32);
        }
    }
}

/// Returns the SHA-256 of a weights file's values: parameters, then buffers, in layout order.
pub fn hash_of_weights(parameters: &[f32], buffers: &[f32]) -> Fingerprint {
    hash_of(&[parameters, buffers])
}

/// Returns the SHA-256 of the little-endian bytes of the values, one vector behind the other.
pub fn hash_of(vectors: &[&[f32]]) -> Fingerprint {
    let mut hasher = Sha256::new();
    for vector in vectors {
        hasher.update(bytemuck::cast_slice(vector));
    }
    digest(hasher)
}

fn digest(hasher: Sha256) -> Fingerprint {
    Fingerprint::from(<[u8; 32]>::from(hasher.finalize()))
}

#[multiversion(targets = "simd")]
fn average(ema: &mut [f32], current: &[f32], decay: f32) {
    for (ema, &current) in ema.iter_mut().zip(current) {
        *ema = decay * *ema + (1.0 - decay) * current;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(
            FlatState {
                parameters: vec![1.0, 2.0],
                buffers: vec![0.0, 1.0],
            },
            2,
            3,
        )
    }

    #[test]
    fn a_single_flipped_bit_changes_the_hash_and_its_part() {
        let reference = state();
        let mut other = reference.clone();
        assert_eq!(reference.hash(), other.hash());
        other.moments[1][0] = f32::from_bits(1);
        assert_ne!(reference.hash().state, other.hash().state);
        assert_eq!(reference.hash().ema, other.hash().ema);
    }

    #[test]
    fn running_statistics_move_as_if_updated_once_per_batch() {
        let mut at_once = state();
        at_once.update_running_statistics(&[24.0, 36.0], 12, 3, 0.03);
        let mut one_by_one = state();
        for _ in 0..3 {
            one_by_one.update_running_statistics(&[2.0, 3.0], 1, 1, 0.03);
        }
        for (a, b) in at_once.buffers.iter().zip(&one_by_one.buffers) {
            assert!((a - b).abs() < 1e-6, "{a} against {b}");
        }
    }

    #[test]
    fn what_is_held_keeps_its_bits_through_an_update() {
        let mut state = state();
        let frozen = Frozen {
            layers: 1,
            parameters: 1,
            buffers: 1,
        };
        let held = state.hold(frozen);
        for moment in &mut state.moments {
            moment.fill(0.5);
        }
        state.parameters = vec![7.0, 8.0];
        state.updates = 5;
        state.update_running_statistics(&[6.0, 9.0], 3, 1, 0.03);
        state.update_average(0.9, 2.0, NonZeroUsize::MIN);
        state.restore(&held);
        assert_eq!(state.parameters, [1.0, 8.0]);
        assert_eq!(state.ema_parameters[0], 1.0);
        assert_ne!(state.ema_parameters[1], 2.0);
        assert_eq!((state.buffers[0], state.ema_buffers[0]), (0.0, 0.0));
        assert_ne!(state.buffers[1], 1.0);
        assert!(state.moments.iter().all(|moment| moment == &[0.0, 0.5]));
    }

    #[test]
    fn the_average_follows_quickly_at_first() {
        let mut state = state();
        state.parameters = vec![3.0, 2.0];
        state.updates = 1;
        state.update_average(0.9999, 2000.0, NonZeroUsize::MIN);
        let decay = 0.9999 * (1.0 - (-1.0_f64 / 2000.0).exp());
        assert!((f64::from(state.ema_parameters[0]) - (decay + (1.0 - decay) * 3.0)).abs() < 1e-6);
    }
}
