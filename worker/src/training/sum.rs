//! What one step adds up over all slots of all ranks: a single flat vector for a single all-reduce.
//!
//! Behind the gradient and the BatchNorm statistics of the slots ride a small record for each slot, the control
//! word and, for exact sums, a checksum for each bucket: every rank takes the same decision at the same step
//! without a message more. A slot belongs to one rank and all others add zero to its record, so records arrive as
//! they were written, and what is computed from them is computed in slot order, whoever had the slot.
//!
//! A sum is exact (`i32` fixed-point numbers, see [`fixed_point`](super::fixed_point)) or plain `f32`. Plain sums
//! depend on the partition of the slots in their last bits; exact ones do not.

use collective::{CollectiveError, F32Sum, I32Sum};
use model::layout::Layout;
use proto::{SumKind, WireKind};

use super::fixed_point::{self, Exponents, NOT_FINITE};
use super::halved::Halved;
use super::places::{NUMBERS, Places, pack, unpack};
use crate::ring::Ring;

/// What one slot adds to a step.
#[derive(Clone, Debug)]
pub struct Contribution {
    /// Gradient of the un-normalised loss, in parameter order.
    pub gradient: Vec<f32>,
    /// Mean and variance of each BatchNorm over the slot, in buffer order.
    pub statistics: Vec<f32>,
    /// Un-normalised box, class and distribution loss, gains applied.
    pub losses: [f32; 3],
    /// Sum of the target scores.
    pub normaliser: f32,
    /// Images in the slot.
    pub images: u32,
    /// Those of them that could not be decoded and counted as empty.
    pub unreadable: u32,
}

/// The sums of one step.
#[derive(Clone, Debug)]
pub struct StepSum {
    places: Places,
    lanes: Lanes,
    /// Gradient and statistics after [`StepSum::settle`].
    values: Vec<f32>,
    bits: u32,
    /// How plain sums travel, when not as they are.
    halved: Option<Halved>,
}

/// The travelling vector.
#[derive(Clone, Debug)]
enum Lanes {
    Exact(Vec<i32>),
    Plain(Vec<f32>),
}

/// What a step adds up to besides gradient and statistics; the same bits on every rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Totals {
    /// Loss normaliser: the sum of the target scores, at least 1.
    pub normaliser: f32,
    /// Images.
    pub images: u32,
    /// Slots.
    pub slots: u32,
    /// Images that could not be decoded.
    pub unreadable: u32,
    /// Mean box, class and distribution loss.
    pub losses: [f64; 3],
    /// What the ranks asked for.
    pub control: Control,
    /// Slots whose losses or values were not finite.
    pub not_finite: Vec<u32>,
    /// Largest magnitude of each tensor over all slots; empty for plain sums.
    pub magnitudes: Vec<u8>,
}

/// The control word: how many ranks ask for what. One rank contributes zeros and ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// To stop after this step.
    pub stop: u32,
    /// To make a checkpoint after this step.
    pub checkpoint: u32,
    /// To go over to the next generation, whose roster they hold; done when all do.
    pub switch: u32,
    /// To wait with the next checkpoint: their range of the one before is still under way.
    pub busy: u32,
}

/// Why the sums of a step cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// Values of these magnitudes do not fit the exponents.
    DoesNotFit {
        /// Largest magnitude of each tensor over all slots.
        magnitudes: Vec<u8>,
    },
    /// What arrived is not the sum of what was sent.
    Damaged {
        /// The first bucket whose checksum does not fit.
        bucket: usize,
    },
}

impl StepSum {
    /// Returns zero for steps of at most `slots` slots.
    pub fn new(kind: SumKind, layout: &Layout, slots: usize, bucket_bytes: usize) -> Self {
        let places = Places::new(kind, layout, slots, bucket_bytes);
        let length = places.length();
        let lanes = match kind {
            SumKind::Exact => Lanes::Exact(vec![0; length]),
            SumKind::F32 => Lanes::Plain(vec![0.0; length]),
        };
        let values = vec![0.0; places.tensors_end()];
        Self {
            places,
            lanes,
            values,
            bits: fixed_point::bits_for(slots),
            halved: None,
        }
    }

    /// Sets how plain sums travel; exact ones travel as the integers that they are.
    #[must_use]
    pub fn travelling_as(mut self, wire: WireKind, layout: &Layout) -> Self {
        self.halved = (wire == WireKind::Bf16).then(|| Halved::new(layout));
        self
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        match &mut self.lanes {
            Lanes::Exact(lanes) => lanes.fill(0),
            Lanes::Plain(lanes) => lanes.fill(0.0),
        }
    }

    /// Adds slot `index` of the step.
    pub fn add(&mut self, index: u32, slot: &Contribution, exponents: &Exponents) {
        let numbers = [
            slot.normaliser,
            slot.losses[0],
            slot.losses[1],
            slot.losses[2],
            slot.images as f32,
            slot.unreadable as f32,
        ];
        let record = self.places.record(index as usize);
        let boundary = self.places.parameters;
        match &mut self.lanes {
            Lanes::Plain(lanes) => {
                add_plain(&mut lanes[..boundary], &slot.gradient);
                add_plain(&mut lanes[boundary..self.places.tensors_end()], &slot.statistics);
                lanes[record][..NUMBERS].copy_from_slice(&numbers);
            }
            Lanes::Exact(lanes) => {
                let mut magnitudes = Vec::with_capacity(self.places.tensors.len());
                for (tensor, range) in self.places.tensors.iter().enumerate() {
                    let values = match range.start.checked_sub(boundary) {
                        None => &slot.gradient[range.clone()],
                        Some(start) => &slot.statistics[start..range.end - boundary],
                    };
                    let magnitude = fixed_point::magnitude(values);
                    let exponent = exponents.of(tensor);
                    // One that does not fit makes the step be redone, whatever its sum would be.
                    if magnitude <= exponent {
                        fixed_point::add(&mut lanes[range.clone()], values, exponent, self.bits);
                    }
                    magnitudes.push(magnitude);
                }
                let record = &mut lanes[record];
                for (lane, number) in record.iter_mut().zip(numbers) {
                    *lane = number.to_bits() as i32;
                }
                pack(&magnitudes, &mut record[NUMBERS..]);
            }
        }
    }

    /// Sets what this rank asks for.
    pub fn set_control(&mut self, control: Control) {
        let values = [control.stop, control.checkpoint, control.switch, control.busy];
        for (lane, value) in self.places.control().zip(values) {
            match &mut self.lanes {
                Lanes::Exact(lanes) => lanes[lane] = value as i32,
                Lanes::Plain(lanes) => lanes[lane] = value as f32,
            }
        }
    }

    /// Replaces this rank's sums by those over all ranks.
    ///
    /// # Errors
    /// When the ring breaks; the sums are then lost.
    pub async fn exchange(&mut self, step: u64, ring: &mut Ring) -> Result<(), CollectiveError> {
        match &mut self.lanes {
            Lanes::Exact(lanes) => {
                let (payload, checks) = lanes.split_at_mut(self.places.checks().start);
                checks.copy_from_slice(&fixed_point::checksums(payload, &self.places.buckets));
                ring.sum::<I32Sum>(step, lanes).await
            }
            Lanes::Plain(lanes) => match &mut self.halved {
                Some(halved) => halved.exchange(step, ring, lanes).await,
                None => ring.sum::<F32Sum>(step, lanes).await,
            },
        }
    }

    /// Checks the sums over all ranks and returns the totals of a step of `slots` slots; then
    /// [`gradient`](Self::gradient) and [`statistics`](Self::statistics) are those of the step.
    ///
    /// # Errors
    /// When the step must be redone: alike on every rank that holds the same sums.
    pub fn settle(&mut self, slots: usize, exponents: &Exponents) -> Result<Totals, Unsettled> {
        let magnitudes = match &self.lanes {
            Lanes::Plain(lanes) => {
                self.values.copy_from_slice(&lanes[..self.places.tensors_end()]);
                Vec::new()
            }
            Lanes::Exact(lanes) => {
                let (payload, checks) = lanes.split_at(self.places.checks().start);
                let expected = fixed_point::checksums(payload, &self.places.buckets);
                if let Some(bucket) = checks
                    .iter()
                    .zip(expected)
                    .position(|(&sent, arrived)| sent != arrived)
                {
                    return Err(Unsettled::Damaged { bucket });
                }
                let magnitudes = self.magnitudes(lanes, slots);
                if !magnitudes.contains(&NOT_FINITE) {
                    if !exponents.hold(&magnitudes) {
                        return Err(Unsettled::DoesNotFit { magnitudes });
                    }
                    for (tensor, range) in self.places.tensors.iter().enumerate() {
                        let values = &mut self.values[range.clone()];
                        fixed_point::decode(&lanes[range.clone()], values, exponents.of(tensor), self.bits);
                    }
                }
                magnitudes
            }
        };
        Ok(self.totals(slots, magnitudes))
    }

    /// Returns the summed gradient.
    pub fn gradient_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.places.parameters]
    }

    /// Returns the summed gradient.
    pub fn gradient(&self) -> &[f32] {
        &self.values[..self.places.parameters]
    }

    /// Returns the summed BatchNorm statistics.
    pub fn statistics(&self) -> &[f32] {
        &self.values[self.places.parameters..]
    }

    fn magnitudes(&self, lanes: &[i32], slots: usize) -> Vec<u8> {
        let mut largest = vec![0; self.places.tensors.len()];
        for slot in 0..slots {
            let packed = &lanes[self.places.record(slot)][NUMBERS..];
            for (largest, magnitude) in largest.iter_mut().zip(unpack(packed)) {
                *largest = magnitude.max(*largest);
            }
        }
        largest
    }

    /// Adds up the records in slot order.
    fn totals(&self, slots: usize, magnitudes: Vec<u8>) -> Totals {
        let mut sums = [0.0_f64; NUMBERS];
        let mut not_finite = Vec::new();
        for slot in 0..slots {
            let record = self.places.record(slot);
            let mut is_finite = true;
            for (position, sum) in sums.iter_mut().enumerate() {
                let number = f64::from(match &self.lanes {
                    Lanes::Exact(lanes) => f32::from_bits(lanes[record.start + position] as u32),
                    Lanes::Plain(lanes) => lanes[record.start + position],
                });
                is_finite &= number.is_finite();
                *sum += number;
            }
            if let Lanes::Exact(lanes) = &self.lanes {
                is_finite &= !unpack(&lanes[record][NUMBERS..]).any(|magnitude| magnitude == NOT_FINITE);
            }
            if !is_finite {
                not_finite.push(slot as u32);
            }
        }
        let [normaliser, box_loss, cls_loss, dfl_loss, images, unreadable] = sums;
        let control = self.places.control();
        let asked = |lane: usize| match &self.lanes {
            Lanes::Exact(lanes) => lanes[control.start + lane] as u32,
            Lanes::Plain(lanes) => lanes[control.start + lane] as u32,
        };
        let normaliser = normaliser.max(1.0);
        Totals {
            normaliser: normaliser as f32,
            images: images as u32,
            slots: slots as u32,
            unreadable: unreadable as u32,
            losses: [box_loss, cls_loss, dfl_loss].map(|loss| loss / normaliser),
            control: Control {
                stop: asked(0),
                checkpoint: asked(1),
                switch: asked(2),
                busy: asked(3),
            },
            not_finite,
            magnitudes,
        }
    }
}

fn add_plain(into: &mut [f32], values: &[f32]) {
    assert_eq!(into.len(), values.len(), "a contribution has the layout's length");
    for (sum, value) in into.iter_mut().zip(values) {
        *sum += value;
    }
}

#[cfg(test)]
#[path = "sum_tests.rs"]
mod tests;
