//! Fixed-point sums: floating-point values become integers, so that their sum does not depend on its order.
//!
//! Each tensor has a block exponent `e`. A value `v` with `|v| < 2^e` becomes `q = round(v * 2^(bits - e))`, an
//! `i32` with `|q| < 2^bits`, and `bits` is chosen so that all slots of a step add up without overflow:
//! `slots * 2^bits <= 2^31`. Integers add to the same bits in any order and any partition.
//!
//! Exponents follow the magnitudes that all slots of a step have seen, a maximum, so order-free too. They start
//! [`ROOM_BITS`] above the first magnitude. A value that does not fit is never cut off: the step is redone with a
//! larger exponent. Every [`FALL_STEPS`] steps an exponent falls by one bit if more than [`FREE_BITS`] bits were
//! unused in all of these steps. As it only falls when more bits are free than it starts with, it does not
//! oscillate: to rise again, a magnitude must exceed all those of the last [`FALL_STEPS`] steps by `2^FREE_BITS`.
//!
//! # Units
//! Exponents and magnitudes are kept as the exponent field of an `f32` (0 to 255): a value has magnitude `E` when
//! `2^(E - 127) <= |v| < 2^(E - 126)`. 0 is a tensor of zeros (or of subnormals, which count as zeros here), 255
//! one with an infinity or a NaN.

use multiversion::multiversion;

/// Bits of room above the first magnitude of a tensor.
///
/// # Source
/// Measured on YOLOv8n from scratch: the box branches of levels that few objects fall on start with tiny gradients
/// and grow a hundredfold once they see some. With 5 and 7 instead of 8 and 10 bits, 10 of the first 60 steps were
/// computed twice.
pub const ROOM_BITS: u8 = 8;

/// An exponent falls only while more bits than these are unused.
pub const FREE_BITS: u8 = 10;

/// Steps between falls.
pub const FALL_STEPS: u64 = 8;

/// Magnitude of a tensor with a value that is infinite or not a number.
pub const NOT_FINITE: u8 = 255;

/// Block exponents of all tensors of a flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exponents {
    /// One exponent for each tensor; 0 before anything was seen.
    fields: Vec<u8>,
    /// The largest magnitude of each tensor since exponents could last fall.
    peaks: Vec<u8>,
}

impl Exponents {
    /// Returns the exponents of so many tensors, of which nothing was seen yet.
    pub fn new(tensors: usize) -> Self {
        Self {
            fields: vec![0; tensors],
            peaks: vec![0; tensors],
        }
    }

    /// Returns everything as bytes, for hashes and files.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.fields[..], &self.peaks[..]].concat()
    }

    /// Returns what [`to_bytes`](Self::to_bytes) gave; `None` when the bytes are not two equal halves.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fields, peaks) = bytes.split_at_checked(bytes.len() / 2)?;
        (fields.len() == peaks.len()).then(|| Self {
            fields: fields.to_vec(),
            peaks: peaks.to_vec(),
        })
    }

    /// Returns the exponent of a tensor.
    pub fn of(&self, tensor: usize) -> u8 {
        self.fields[tensor]
    }

    /// Whether tensors of these magnitudes fit.
    pub fn hold(&self, magnitudes: &[u8]) -> bool {
        self.fields
            .iter()
            .zip(magnitudes)
            .all(|(field, magnitude)| magnitude <= field)
    }

    /// Raises the exponents of the tensors that do not fit; those that fit stay.
    ///
    /// # Panics
    /// When a magnitude is [`NOT_FINITE`]: no exponent holds it.
    pub fn raise(&mut self, magnitudes: &[u8]) {
        for (field, &magnitude) in self.fields.iter_mut().zip(magnitudes) {
            assert!(magnitude < NOT_FINITE, "the step should have been skipped");
            if magnitude > *field {
                *field = magnitude.saturating_add(ROOM_BITS).min(NOT_FINITE - 1);
            }
        }
    }

    /// Takes note of the magnitudes of an applied step, and every [`FALL_STEPS`] steps lets exponents with unused
    /// bits fall. A tensor of zeros tells nothing.
    pub fn settle(&mut self, step: u64, magnitudes: &[u8]) {
        for (peak, &magnitude) in self.peaks.iter_mut().zip(magnitudes) {
            *peak = magnitude.max(*peak);
        }
        if !(step + 1).is_multiple_of(FALL_STEPS) {
            return;
        }
        for (field, peak) in self.fields.iter_mut().zip(&mut self.peaks) {
            if *peak > 0 && field.saturating_sub(*peak) > FREE_BITS {
                *field -= 1;
            }
            *peak = 0;
        }
    }
}

/// Returns how many bits a value may have so that `slots` of them add up within an `i32`.
///
/// # Panics
/// When there are no slots, or 2^31 of them.
pub fn bits_for(slots: usize) -> u32 {
    assert!(slots > 0 && slots < 1 << 31, "{slots} slots");
    31 - (slots as u64).next_power_of_two().ilog2()
}

/// Returns the magnitude of a tensor.
#[multiversion(targets = "simd")]
pub fn magnitude(values: &[f32]) -> u8 {
    // Without the sign, the bits of floating-point numbers are ordered as their magnitudes.
    let largest = values
        .iter()
        .fold(0, |largest, value| largest.max(value.to_bits() & !SIGN));
    (largest >> MANTISSA_BITS) as u8
}

/// Adds the values of a tensor to its integer sums.
///
/// # Panics
/// When the lengths differ. The magnitude of `values` must be at most `exponent`, otherwise sums are wrong.
#[multiversion(targets = "simd")]
pub fn add(sums: &mut [i32], values: &[f32], exponent: u8, bits: u32) {
    assert_eq!(sums.len(), values.len(), "sums and values differ in length");
    if exponent == 0 {
        return;
    }
    let scale = scale(exponent, bits);
    let limit = f64::from((1_u32 << bits) - 1);
    for (sum, &value) in sums.iter_mut().zip(values) {
        let scaled = (f64::from(value) * scale).clamp(-limit, limit);
        // Adding a large constant rounds to the nearest integer, ties to even, and leaves it in the low bits.
        *sum = sum.wrapping_add((scaled + ROUNDING).to_bits() as i32);
    }
}

/// Turns the integer sums of a tensor back into values.
///
/// # Panics
/// When the lengths differ.
#[multiversion(targets = "simd")]
pub fn decode(sums: &[i32], values: &mut [f32], exponent: u8, bits: u32) {
    assert_eq!(sums.len(), values.len(), "sums and values differ in length");
    let unscale = if exponent == 0 {
        0.0
    } else {
        1.0 / scale(exponent, bits)
    };
    for (value, &sum) in values.iter_mut().zip(sums) {
        *value = (f64::from(sum) * unscale) as f32;
    }
}

/// Returns the wrapping sum of some lanes: what ranks put in adds up to what comes out of an all-reduce.
#[multiversion(targets = "simd")]
pub fn checksum(lanes: &[i32]) -> i32 {
    lanes.iter().fold(0_i32, |sum, &lane| sum.wrapping_add(lane))
}

/// Returns `2^(bits - e)`: exact, and within the range of `f64` for all exponents.
fn scale(exponent: u8, bits: u32) -> f64 {
    2_f64.powi(bits as i32 - (i32::from(exponent) - EXPONENT_BIAS))
}

const SIGN: u32 = 1 << 31;
const MANTISSA_BITS: u32 = 23;
/// A value of magnitude `E` is below `2^(E - 126)`.
const EXPONENT_BIAS: i32 = 126;
/// 1.5 * 2^52: an `f64` near it has a unit in the last place of exactly one.
const ROUNDING: f64 = 6_755_399_441_055_744.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_leave_room_for_all_slots() {
        assert_eq!([1, 2, 3, 16, 17, 64].map(bits_for), [31, 30, 29, 27, 26, 25]);
        for slots in 1..=200_usize {
            let largest = (1_i64 << bits_for(slots)) - 1;
            assert!(largest * slots as i64 <= i64::from(i32::MAX), "{slots} slots");
        }
    }

    #[test]
    fn magnitudes_bound_the_values() {
        assert_eq!(magnitude(&[]), 0);
        assert_eq!(magnitude(&[0.0, -0.0]), 0);
        assert_eq!(magnitude(&[f32::MIN_POSITIVE / 2.0]), 0);
        assert_eq!(magnitude(&[1.0, -0.3]), 127);
        assert_eq!(magnitude(&[1.999, -2.0]), 128);
        assert_eq!(magnitude(&[1.0, f32::NAN]), NOT_FINITE);
        assert_eq!(magnitude(&[f32::NEG_INFINITY]), NOT_FINITE);
    }

    #[test]
    fn the_largest_values_of_all_slots_add_up_without_wrapping() {
        for slots in [1, 2, 16, 17, 64, 1000] {
            let bits = bits_for(slots);
            // The largest value below 2: it must neither wrap nor be rounded up to the next power of two.
            let largest = f32::from_bits(2.0_f32.to_bits() - 1);
            let mut sums = [0; 2];
            for _ in 0..slots {
                add(&mut sums, &[largest, -largest], 127, bits);
            }
            let mut values = [0.0; 2];
            decode(&sums, &mut values, 127, bits);
            let expected = largest * slots as f32;
            assert!(
                (values[0] - expected).abs() <= expected * 1e-5,
                "{} for {slots} slots",
                values[0]
            );
            assert_eq!(values[0], -values[1]);
        }
    }

    #[test]
    fn a_step_that_does_not_fit_raises_exponents_and_then_fits() {
        let mut exponents = Exponents::new(3);
        let magnitudes = [120, 0, 130];
        assert!(!exponents.hold(&magnitudes));
        exponents.raise(&magnitudes);
        assert!(exponents.hold(&magnitudes));
        assert_eq!(exponents.fields, [120 + ROOM_BITS, 0, 130 + ROOM_BITS]);
        // One that fits stays where it is.
        exponents.raise(&[121, 100, 130]);
        assert_eq!(
            exponents.fields,
            [120 + ROOM_BITS, 100 + ROOM_BITS, 130 + ROOM_BITS]
        );
    }

    #[test]
    fn an_exponent_falls_when_bits_are_free_and_not_when_one_step_in_between_needs_them() {
        let mut exponents = Exponents::new(2);
        exponents.raise(&[100, 250]);
        for step in 0..10 * FALL_STEPS {
            // The first tensor is small, but for one step in each eight.
            let spike = if step % FALL_STEPS == 3 { 100 } else { 60 };
            exponents.settle(step, &[spike, 200]);
        }
        assert_eq!(exponents.of(0), 100 + ROOM_BITS);
        assert_eq!(exponents.of(1), NOT_FINITE - 1 - 10);
    }

    proptest! {
        #[test]
        fn any_partition_and_any_order_of_slots_gives_equal_bits(
            slots in prop::collection::vec(prop::collection::vec(-1e3_f32..1e3, 5), 1..16),
            order in any::<u64>(),
            ranks in 1_usize..5,
        ) {
            let bits = bits_for(slots.len());
            let mut exponents = Exponents::new(1);
            exponents.raise(&[slots.iter().map(|slot| magnitude(slot)).max().unwrap()]);
            let exponent = exponents.of(0);
            let mut in_order = vec![0; 5];
            for slot in &slots {
                add(&mut in_order, slot, exponent, bits);
            }
            // Deal the slots to ranks by the bits of a random number, add within the ranks backwards, then the ranks.
            let mut partial = vec![vec![0; 5]; ranks];
            for (index, slot) in slots.iter().enumerate().rev() {
                let rank = (order.rotate_left(index as u32 * 7) % ranks as u64) as usize;
                add(&mut partial[rank], slot, exponent, bits);
            }
            let mut dealt = vec![0_i32; 5];
            for rank in &partial {
                for (sum, value) in dealt.iter_mut().zip(rank) {
                    *sum = sum.wrapping_add(*value);
                }
            }
            prop_assert_eq!(in_order, dealt);
        }

        #[test]
        fn sums_are_as_close_as_the_bits_allow(values in prop::collection::vec(-100.0_f32..100.0, 1..16)) {
            let bits = bits_for(values.len());
            let exponent = 133; // below 2^7
            let mut sum = [0];
            for &value in &values {
                add(&mut sum, &[value], exponent, bits);
            }
            let mut decoded = [0.0];
            decode(&sum, &mut decoded, exponent, bits);
            let exact: f64 = values.iter().map(|&value| f64::from(value)).sum();
            let unit = 2_f64.powi(7 - bits as i32);
            let tolerance = unit * values.len() as f64 + exact.abs() * 1e-7;
            prop_assert!((f64::from(decoded[0]) - exact).abs() <= tolerance);
        }

        #[test]
        fn exponents_never_oscillate(walk in prop::collection::vec(0..=FREE_BITS, 1..600)) {
            // Magnitudes that wander by as many bits as may be free: after the first rises there are only falls.
            let mut exponents = Exponents::new(1);
            let mut history = Vec::new();
            for (step, wander) in walk.iter().enumerate() {
                let magnitudes = [100 + wander];
                if !exponents.hold(&magnitudes) {
                    exponents.raise(&magnitudes);
                }
                exponents.settle(step as u64, &magnitudes);
                history.push(exponents.of(0));
            }
            let rises = history.windows(2).filter(|pair| pair[1] > pair[0]).count();
            prop_assert!(rises <= 1, "{rises} rises after the first: {history:?}");
        }
    }
}
