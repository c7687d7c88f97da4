//! Adds slots, whole or in pieces, to the travelling vector.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::feed::{Arrival, Contribution};
use super::fixed_point::{self, Exponents};
use super::places::{NUMBERS, Places, pack};

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
pub(super) struct Adder {
    places: Arc<Places>,
    /// How many are to arrive.
    slots_expected: usize,
    /// Those that have arrived in parts, by index in the step.
    under_way: BTreeMap<u32, SlotTensors>,
    /// Of how many slots each tensor has arrived.
    arrived: Vec<usize>,
    exponents: Exponents,
    bits: u32,
    /// Parameter tensors in the order of their lanes that have arrived of all slots.
    tensors_ready: usize,
    /// Lanes at the front whose gradients have arrived.
    ready: usize,
    /// Buckets whose checksums are set.
    checked: usize,
}

impl Adder {
    pub(super) fn new(places: Arc<Places>, slots_expected: usize, exponents: Exponents, bits: u32) -> Self {
        Self {
            slots_expected,
            under_way: BTreeMap::new(),
            arrived: vec![0; places.tensors.len()],
            places,
            exponents,
            bits,
            tensors_ready: 0,
            ready: 0,
            checked: 0,
        }
    }

    /// Adds what has arrived, and returns how many lanes at the front are final.
    pub(super) fn take<L: Lane>(&mut self, arrival: Arrival, lanes: &mut [L]) -> usize {
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

    /// Steps over tensors that have arrived.
    fn advance(&mut self) {
        while let Some(&tensor) = self.places.in_order.get(self.tensors_ready)
            && self.arrived[tensor] == self.slots_expected
        {
            self.tensors_ready += 1;
            self.ready = self.places.tensors[tensor].end;
        }
    }

    /// Adds a slot, but for tensors that were added before.
    pub(super) fn add_slot<L: Lane>(&mut self, lanes: &mut [L], index: u32, slot: &Contribution) {
        let mut tensors = self.tensors_of(index);
        for tensor in 0..self.places.tensors.len() {
            let range = self.places.values[tensor].clone();
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
        under_way.unwrap_or_else(|| SlotTensors::none_of(&self.places))
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
pub(super) trait Lane: Copy {
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
