//! What one step adds up over all slots of all ranks: a single flat vector for a single all-reduce.
//!
//! Behind the gradient and the BatchNorm statistics of the slots ride a small record for each slot, the control
//! word and, for exact sums, a checksum for each bucket: every rank takes the same decision at the same step
//! without a message more. A slot belongs to one rank and all others add zero to its record, so records arrive as
//! they were written, and what is computed from them is computed in slot order, whoever had the slot.
//!
//! A sum is exact (`i32` fixed-point numbers, see [`fixed_point`](super::fixed_point)) or plain `f32`. Plain sums
//! depend on the partition of the slots in their last bits; exact ones do not.

use std::collections::BTreeMap;
use std::ops::Range;

use collective::{CollectiveError, F32Sum, I32Sum};
use model::layout::Layout;
use model::outlet::Outlet;
use proto::{SumKind, WireKind};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::fixed_point::{self, Exponents, NOT_FINITE};
use super::halved::Halved;
use super::places::{NUMBERS, Places, pack, unpack};
use crate::ring::Ring;

/// What one slot adds to a step.
#[derive(Clone, Debug)]
pub struct Contribution {
    /// Gradient of the un-normalised loss, in parameter order; empty where its tensors were handed on before.
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

/// What the last slots of a rank add while they are computed, each slot in this order.
#[derive(Debug)]
pub enum Arrival {
    /// The finished gradient of one parameter tensor; there may be none.
    Gradient {
        /// Index of the slot in the step.
        slot: u32,
        /// Position in the layout.
        tensor: usize,
        /// The gradient.
        values: Vec<f32>,
    },
    /// Everything else of a slot, by its index in the step; a rank without slots has none.
    Slot(u32, Contribution),
    /// What the rank asks for: the end.
    Control(Control),
}

/// The end of what a rank computes for a step: what it tells, the [exchange](StepSum::exchange) takes.
///
/// Dropped, it ends that, also where computing has panicked: outlets may live on in burn's graph.
#[derive(Debug)]
pub struct Feed(UnboundedSender<Option<Arrival>>);

impl Feed {
    /// Returns a feed and where it leads to.
    pub fn new() -> (Self, UnboundedReceiver<Option<Arrival>>) {
        let (sender, arriving) = unbounded_channel();
        (Self(sender), arriving)
    }

    /// Hands something to the exchange; one that has failed does not listen, and says why itself.
    pub fn tell(&self, arrival: Arrival) {
        let _ = self.0.send(Some(arrival));
    }

    /// Returns an outlet for the gradients of a slot, by its index in the step.
    pub fn outlet(&self, slot: u32) -> Outlet {
        let sender = self.0.clone();
        Outlet::new(move |tensor, values| {
            // As in `tell`.
            let _ = sender.send(Some(Arrival::Gradient { slot, tensor, values }));
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.0.send(None);
    }
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
            lanes,
            values,
            places,
            bits: fixed_point::bits_for(slots),
            halved: None,
        }
    }

    /// Sets how plain sums travel; exact ones travel as the integers that they are.
    #[must_use]
    pub fn travelling_as(mut self, wire: WireKind, layout: &Layout) -> Self {
        self.halved = (wire == WireKind::Bf16).then(|| Halved::new(layout, &self.places));
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
        let (mut adder, lanes) = self.adder(1, exponents);
        match lanes {
            Lanes::Exact(lanes) => adder.add_slot(lanes, index, slot),
            Lanes::Plain(lanes) => adder.add_slot(lanes, index, slot),
        }
    }

    /// Adds what `arriving` brings of so many slots, and replaces this rank's sums by those over all ranks. Buckets travel as
    /// soon as their gradients have arrived.
    ///
    /// # Errors
    /// When the ring breaks; the sums are then lost.
    pub async fn exchange(
        &mut self,
        step: u64,
        slots: usize,
        ring: &mut Ring,
        mut arriving: UnboundedReceiver<Option<Arrival>>,
        exponents: &Exponents,
    ) -> Result<(), CollectiveError> {
        if let Some(mut halved) = self.halved.take() {
            let exchanged = self
                .exchange_halved(&mut halved, step, slots, ring, arriving, exponents)
                .await;
            self.halved = Some(halved);
            return exchanged;
        }
        let (mut adder, lanes) = self.adder(slots, exponents);
        match lanes {
            Lanes::Exact(lanes) => {
                let take = |arrival, lanes: &mut [i32]| adder.take(arrival, lanes);
                ring.sum_arriving::<I32Sum, _>(step, lanes, &mut arriving, take)
                    .await
            }
            Lanes::Plain(lanes) => {
                let take = |arrival, lanes: &mut [f32]| adder.take(arrival, lanes);
                ring.sum_arriving::<F32Sum, _>(step, lanes, &mut arriving, take)
                    .await
            }
        }
    }

    /// Everything at once: kernels and the rest travel one after the other.
    async fn exchange_halved(
        &mut self,
        halved: &mut Halved,
        step: u64,
        slots: usize,
        ring: &mut Ring,
        mut arriving: UnboundedReceiver<Option<Arrival>>,
        exponents: &Exponents,
    ) -> Result<(), CollectiveError> {
        let (mut adder, Lanes::Plain(lanes)) = self.adder(slots, exponents) else {
            unreachable!("exact sums travel as they are")
        };
        while let Some(Some(arrival)) = arriving.recv().await {
            if adder.take(arrival, lanes) == lanes.len() {
                return halved.exchange(step, ring, lanes).await;
            }
        }
        Ok(())
    }

    fn adder<'a>(&'a mut self, slots: usize, exponents: &'a Exponents) -> (Adder<'a>, &'a mut Lanes) {
        let adder = Adder {
            places: &self.places,
            slots_expected: slots,
            under_way: BTreeMap::new(),
            arrived: vec![0; self.places.tensors.len()],
            exponents,
            bits: self.bits,
            ready: 0,
            checked: 0,
        };
        (adder, &mut self.lanes)
    }

    /// Checks the sums over all ranks and returns the totals of a step of `slots` slots; then
    /// [`gradient`](Self::gradient) and [`statistics`](Self::statistics) are those of the step.
    ///
    /// # Errors
    /// When the step must be redone: alike on every rank that holds the same sums.
    pub fn settle(&mut self, slots: usize, exponents: &Exponents) -> Result<Totals, Unsettled> {
        let magnitudes = match &self.lanes {
            Lanes::Plain(lanes) => {
                for (tensor, range) in self.places.tensors.iter().enumerate() {
                    self.values[self.places.values(tensor)].copy_from_slice(&lanes[range.clone()]);
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
                    for (tensor, range) in self.places.tensors.iter().enumerate() {
                        let values = &mut self.values[self.places.values(tensor)];
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

/// The tensors of the slot that is being added.
#[derive(Clone, Debug)]
struct SlotTensors {
    /// Which have been added.
    are_added: Vec<bool>,
    /// Their magnitudes; of no use in plain sums.
    magnitudes: Vec<u8>,
}

impl SlotTensors {
    fn none_of(places: &Places) -> Self {
        Self {
            are_added: vec![false; places.tensors.len()],
            magnitudes: vec![0; places.tensors.len()],
        }
    }
}

/// Adds to lanes that are lent to it.
struct Adder<'a> {
    places: &'a Places,
    /// How many are to arrive.
    slots_expected: usize,
    /// Those that have arrived in parts, by index in the step.
    under_way: BTreeMap<u32, SlotTensors>,
    /// Of how many slots each tensor has arrived.
    arrived: Vec<usize>,
    exponents: &'a Exponents,
    bits: u32,
    /// Lanes at the front whose gradients have arrived.
    ready: usize,
    /// Buckets whose checksums are set.
    checked: usize,
}

impl Adder<'_> {
    /// Adds what has arrived, and returns how many lanes at the front are final.
    fn take<L: Lane>(&mut self, arrival: Arrival, lanes: &mut [L]) -> usize {
        match arrival {
            Arrival::Gradient { slot, tensor, values } => {
                let mut tensors = self.tensors_of(slot);
                self.add_tensor(lanes, &mut tensors, tensor, &values);
                self.under_way.insert(slot, tensors);
                self.advance();
            }
            Arrival::Slot(index, contribution) => self.add_slot(lanes, index, &contribution),
            Arrival::Control(control) => {
                let values = [control.stop, control.checkpoint, control.switch, control.busy];
                for (lane, value) in self.places.control().zip(values) {
                    lanes[lane] = L::of_count(value);
                }
                self.ready = lanes.len();
            }
        }
        let checks = self.places.checks();
        while let Some(bucket) =
            (self.places.buckets.get(self.checked)).filter(|bucket| bucket.end <= self.ready)
        {
            lanes[checks.start + self.checked] = L::checksum(&lanes[bucket.clone()]);
            self.checked += 1;
        }
        self.ready
    }

    /// Steps over tensors that have arrived, the last of the layout first.
    fn advance(&mut self) {
        for tensor in (0..self.places.parameter_tensors).rev() {
            let lanes = &self.places.tensors[tensor];
            if lanes.end <= self.ready {
                continue;
            }
            if self.arrived[tensor] < self.slots_expected {
                break;
            }
            self.ready = lanes.end;
        }
    }

    /// Adds a slot, but for tensors that were added before.
    fn add_slot<L: Lane>(&mut self, lanes: &mut [L], index: u32, slot: &Contribution) {
        let mut tensors = self.tensors_of(index);
        for tensor in 0..self.places.tensors.len() {
            let range = self.places.values(tensor);
            if tensors.are_added[tensor] {
                continue;
            }
            match range.start.checked_sub(self.places.parameters) {
                Some(start) => {
                    self.add_tensor(
                        lanes,
                        &mut tensors,
                        tensor,
                        &slot.statistics[start..range.end - self.places.parameters],
                    );
                }
                // One that the loss does not depend on is never handed on.
                None if slot.gradient.is_empty() => {}
                None => self.add_tensor(lanes, &mut tensors, tensor, &slot.gradient[range]),
            }
        }
        let numbers = [
            slot.normaliser,
            slot.losses[0],
            slot.losses[1],
            slot.losses[2],
            slot.images as f32,
            slot.unreadable as f32,
        ];
        let record = &mut lanes[self.places.record(index as usize)];
        for (lane, number) in record.iter_mut().zip(numbers) {
            *lane = L::of_number(number);
        }
        L::pack(&tensors.magnitudes, &mut record[NUMBERS..]);
    }

    fn tensors_of(&mut self, slot: u32) -> SlotTensors {
        let under_way = self.under_way.remove(&slot);
        under_way.unwrap_or_else(|| SlotTensors::none_of(self.places))
    }

    fn add_tensor<L: Lane>(
        &mut self,
        lanes: &mut [L],
        tensors: &mut SlotTensors,
        tensor: usize,
        values: &[f32],
    ) {
        let lanes = &mut lanes[self.places.tensors[tensor].clone()];
        assert_eq!(
            lanes.len(),
            values.len(),
            "a contribution has the layout's length"
        );
        tensors.magnitudes[tensor] = L::add(lanes, values, self.exponents.of(tensor), self.bits);
        tensors.are_added[tensor] = true;
        self.arrived[tensor] += 1;
    }
}

/// A value of the travelling vector.
trait Lane: Copy {
    /// Adds values and returns their magnitude.
    fn add(lanes: &mut [Self], values: &[f32], exponent: u8, bits: u32) -> u8;

    /// A number of a record, which other ranks add zero to.
    fn of_number(number: f32) -> Self;

    /// A count that ranks add up.
    fn of_count(count: u32) -> Self;

    /// Writes magnitudes behind a record.
    fn pack(magnitudes: &[u8], lanes: &mut [Self]);

    /// What a sum over all ranks of one kind must be that of another.
    fn checksum(lanes: &[Self]) -> Self;
}

impl Lane for i32 {
    fn add(lanes: &mut [Self], values: &[f32], exponent: u8, bits: u32) -> u8 {
        let magnitude = fixed_point::magnitude(values);
        // One that does not fit makes the step be redone, whatever its sum would be.
        if magnitude <= exponent {
            fixed_point::add(lanes, values, exponent, bits);
        }
        magnitude
    }

    fn of_number(number: f32) -> Self {
        number.to_bits() as Self
    }

    fn of_count(count: u32) -> Self {
        count as Self
    }

    fn pack(magnitudes: &[u8], lanes: &mut [Self]) {
        pack(magnitudes, lanes);
    }

    fn checksum(lanes: &[Self]) -> Self {
        fixed_point::checksum(lanes)
    }
}

impl Lane for f32 {
    fn add(lanes: &mut [Self], values: &[Self], _exponent: u8, _bits: u32) -> u8 {
        for (sum, value) in lanes.iter_mut().zip(values) {
            *sum += value;
        }
        0
    }

    fn of_number(number: Self) -> Self {
        number
    }

    fn of_count(count: u32) -> Self {
        count as Self
    }

    /// Plain sums have no exponents to check them against.
    fn pack(_magnitudes: &[u8], _lanes: &mut [Self]) {}

    fn checksum(_lanes: &[Self]) -> Self {
        unreachable!("plain sums have no checked buckets")
    }
}

#[cfg(test)]
#[path = "sum_tests.rs"]
mod tests;
