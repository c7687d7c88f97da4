//! What one step adds up over all slots of all ranks: a single flat vector for a single all-reduce.
//!
//! Behind the gradient and the BatchNorm statistics of the slots ride a small record for each slot, the control
//! word and, for exact sums, a checksum for each bucket: every rank takes the same decision at the same step
//! without a message more. A slot belongs to one rank and all others add zero to its record, so records arrive as
//! they were written, and what is computed from them is computed in slot order, whoever had the slot.
//!
//! A sum is exact (`i32` fixed-point numbers, see [`fixed_point`](super::fixed_point)) or plain `f32`. Plain sums
//! depend on the partition of the slots in their last bits; exact ones do not.

use std::mem;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;

use collective::{Bf16Sum, CollectiveError, F32Sum, I32Sum, LinkError, Neighbour};
use model::layout::Layout;
use proto::{SumKind, WireKind};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::adder::Adder;
use super::feed::{Arrival, Contribution, Control};
use super::fixed_point::{self, Exponents, NOT_FINITE};
use super::places::{NUMBERS, Places, unpack};
use super::threads::{on_threads, tensors_mut};
use crate::ring::Ring;

/// The sums of one step.
#[derive(Clone, Debug)]
pub struct StepSum {
    places: Arc<Places>,
    lanes: Lanes,
    /// So many of the first plain lanes travel as bfloat16; 0 when all travel as they are.
    bf16_lanes: usize,
    /// Gradient and statistics after [`StepSum::settle`].
    values: Vec<f32>,
    bits: u32,
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
        let places = Arc::new(Places::new(kind, layout, slots, bucket_bytes));
        let length = places.length();
        let lanes = match kind {
            SumKind::Exact => Lanes::Exact(vec![0; length]),
            SumKind::F32 => Lanes::Plain(vec![0.0; length]),
        };
        let values = vec![0.0; places.tensors_end()];
        Self {
            lanes,
            bf16_lanes: 0,
            values,
            places,
            bits: fixed_point::bits_for(slots),
        }
    }

    /// Sets how kernels of plain sums travel. Scales and biases of batch normalisation, running statistics, slot records and the
    /// control word are few and count more: they travel as they are, and so does all of an exact sum.
    #[must_use]
    pub fn travelling_as(mut self, wire: WireKind) -> Self {
        self.bf16_lanes = match wire {
            WireKind::F32 => 0,
            WireKind::Bf16 => self.places.kernels,
        };
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
        let mut adder = self.adder(1, exponents);
        match &mut self.lanes {
            Lanes::Exact(lanes) => adder.add_slot(lanes, index, slot),
            Lanes::Plain(lanes) => adder.add_slot(lanes, index, slot),
        }
    }

    /// Adds what `arriving` brings of so many slots, and replaces this rank's sums by those over all ranks. Buckets travel as
    /// soon as their gradients have arrived.
    ///
    /// A task of the current runtime does this, beside what the caller does next; in a runtime of one thread, while the caller awaits it. The
    /// task takes the sums with it: they are lost when what is returned is dropped, which ends it, and of no use when `arriving` ends
    /// before the control word came. The ring must have no other operation until then.
    ///
    /// # Errors
    /// When the ring breaks, or the runtime ends.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn exchange<'a>(
        &'a mut self,
        step: u64,
        slots: usize,
        ring: &Ring,
        arriving: UnboundedReceiver<Option<Arrival>>,
        exponents: &Exponents,
    ) -> impl Future<Output = Result<(), CollectiveError>> + use<'a> {
        let lanes = mem::replace(&mut self.lanes, Lanes::Plain(Vec::new()));
        let adder = self.adder(slots, exponents);
        let travelling = tokio::spawn(travel(
            lanes,
            self.bf16_lanes,
            adder,
            step,
            ring.clone(),
            arriving,
        ));
        let travelling = AbortOnDropHandle::new(travelling);
        async move {
            let (lanes, travelled) = match travelling.await.map_err(JoinError::try_into_panic) {
                Ok(back) => back,
                Err(Ok(panic)) => resume_unwind(panic),
                Err(Err(_cancelled)) => {
                    let neighbour = Neighbour::Left;
                    return Err(LinkError::Closed { neighbour }.into());
                }
            };
            self.lanes = lanes;
            travelled
        }
    }

    fn adder(&self, slots: usize, exponents: &Exponents) -> Adder {
        Adder::new(Arc::clone(&self.places), slots, exponents.clone(), self.bits)
    }

    /// Checks the sums over all ranks and returns the totals of a step of `slots` slots; then
    /// [`gradient`](Self::gradient) and [`statistics`](Self::statistics) are those of the step.
    ///
    /// # Errors
    /// When the step must be redone: alike on every rank that holds the same sums.
    pub fn settle(
        &mut self,
        slots: usize,
        exponents: &Exponents,
        threads: NonZeroUsize,
    ) -> Result<Totals, Unsettled> {
        let magnitudes = match &self.lanes {
            Lanes::Plain(lanes) => {
                for (tensor, range) in self.places.tensors.iter().enumerate() {
                    self.values[self.places.values[tensor].clone()].copy_from_slice(&lanes[range.clone()]);
                }
                Vec::new()
            }
            Lanes::Exact(lanes) => {
                let (payload, checks) = lanes.split_at(self.places.checks().start);
                let arrived = |bucket: &Range<usize>| fixed_point::checksum(&payload[bucket.clone()]);
                if let Some(bucket) = (checks.iter().zip(&self.places.buckets))
                    .position(|(&sent, bucket)| sent != arrived(bucket))
                {
                    return Err(Unsettled::Damaged { bucket });
                }
                let magnitudes = self.magnitudes(lanes, slots);
                if !magnitudes.contains(&NOT_FINITE) {
                    if !exponents.hold(&magnitudes) {
                        return Err(Unsettled::DoesNotFit { magnitudes });
                    }
                    let lengths = self.places.values.iter().map(|range| range.len());
                    let tensors = tensors_mut(&mut self.values, lengths).into_iter().enumerate();
                    on_threads(
                        threads,
                        tensors.collect(),
                        |(_, values)| values.len(),
                        |(tensor, values)| {
                            let lanes = &lanes[self.places.tensors[tensor].clone()];
                            fixed_point::decode(lanes, values, exponents.of(tensor), self.bits);
                        },
                    );
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

/// Adds what arrives, sums over the ring, and gives the lanes back.
async fn travel(
    mut lanes: Lanes,
    bf16_lanes: usize,
    mut adder: Adder,
    step: u64,
    ring: Ring,
    mut arriving: UnboundedReceiver<Option<Arrival>>,
) -> (Lanes, Result<(), CollectiveError>) {
    let finished = match &mut lanes {
        Lanes::Exact(lanes) => {
            let take = |arrival, lanes: &mut [i32]| adder.take(arrival, lanes);
            ring.sum_arriving::<I32Sum, _>(step, lanes.len(), lanes, &mut arriving, take)
                .await
        }
        Lanes::Plain(lanes) if bf16_lanes == 0 => {
            let take = |arrival, lanes: &mut [f32]| adder.take(arrival, lanes);
            ring.sum_arriving::<F32Sum, _>(step, lanes.len(), lanes, &mut arriving, take)
                .await
        }
        Lanes::Plain(lanes) => {
            let take = |arrival, lanes: &mut [f32]| adder.take(arrival, lanes);
            let kernels = ring.sum_arriving::<Bf16Sum, _>(step, bf16_lanes, lanes, &mut arriving, take);
            match kernels.await {
                Ok(true) => ring
                    .sum::<F32Sum>(step, &mut lanes[bf16_lanes..])
                    .await
                    .map(|()| true),
                unfinished => unfinished,
            }
        }
    };
    (lanes, finished.map(drop))
}

#[cfg(test)]
#[path = "sum_tests.rs"]
mod tests;
