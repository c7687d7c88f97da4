//! How received bytes are added to values: a reduction is a type, and the ring does not care which.
//!
//! Each function is one loop over a slice and the received bytes side by side, without bounds checks in it or
//! demands on alignment, so that the compiler turns it into SIMD loads, adds and stores: once for each generation of
//! processors, of which the program takes the newest that it finds itself on.

use std::fmt;

use bytes::BytesMut;
use multiversion::multiversion;

/// A kind of number, how it travels, and how two of them become one.
pub trait Reduction {
    /// A value of the vector.
    type Element: Copy + fmt::Debug + PartialEq + Send + 'static;

    /// The bytes of one value on the wire, 1 to 8.
    const WIRE_BYTES: usize;

    /// Whether decoding an encoded value may give another value.
    ///
    /// If so, the rank that owns a finished chunk takes the decoded values too, and all ranks keep the same
    /// bits. Encoding a decoded value must then give the same bytes again.
    const ROUNDS_ON_WIRE: bool;

    /// Adds each encoded value to its place in `into`.
    ///
    /// # Panics
    ///
    /// When `bytes` does not hold exactly `into.len()` values.
    fn accumulate(into: &mut [Self::Element], bytes: &[u8]);

    /// Replaces `into` with the encoded values.
    ///
    /// # Panics
    ///
    /// When `bytes` does not hold exactly `into.len()` values.
    fn assign(into: &mut [Self::Element], bytes: &[u8]);

    /// Appends the encoding of `values`.
    fn encode(values: &[Self::Element], into: &mut BytesMut);
}

/// Sums of `f32`, as little-endian `f32`.
///
/// Every sum is added up once, in ring order, and then copied: all ranks get the same bits, but another world
/// size may give others.
#[derive(Clone, Copy, Debug)]
pub struct F32Sum;

impl Reduction for F32Sum {
    type Element = f32;
    const WIRE_BYTES: usize = 4;
    const ROUNDS_ON_WIRE: bool = false;

    fn accumulate(into: &mut [f32], bytes: &[u8]) {
        for_each(into, bytes, |value, word| *value += f32::from_le_bytes(word));
    }

    fn assign(into: &mut [f32], bytes: &[u8]) {
        for_each(into, bytes, |value, word| *value = f32::from_le_bytes(word));
    }

    fn encode(values: &[f32], into: &mut BytesMut) {
        if cfg!(target_endian = "little") {
            into.extend_from_slice(bytemuck::cast_slice(values));
        } else {
            into.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}

/// Sums of `f32` that travel as bfloat16: half the bytes, and 8 of 24 bits of each partial sum.
///
/// All ranks get the same bits, for the owner of a sum takes what it sends; a rank alone sends nothing and rounds
/// nothing. A value above the range of bfloat16, which is that of `f32` but for the last half unit, becomes infinite.
#[derive(Clone, Copy, Debug)]
pub struct Bf16Sum;

impl Reduction for Bf16Sum {
    type Element = f32;
    const WIRE_BYTES: usize = 2;
    const ROUNDS_ON_WIRE: bool = true;

    fn accumulate(into: &mut [f32], bytes: &[u8]) {
        for_each(into, bytes, |value, word| *value += widened(word));
    }

    fn assign(into: &mut [f32], bytes: &[u8]) {
        for_each(into, bytes, |value, word| *value = widened(word));
    }

    fn encode(values: &[f32], into: &mut BytesMut) {
        // A part at a time in the nearest cache: the buffer need not be filled with zeros first.
        let mut words = [[0; Self::WIRE_BYTES]; 1024];
        for values in values.chunks(words.len()) {
            narrow(values, &mut words);
            into.extend_from_slice(words[..values.len()].as_flattened());
        }
    }
}

#[multiversion(targets = "simd")]
fn narrow(values: &[f32], words: &mut [[u8; 2]]) {
    for (word, value) in words.iter_mut().zip(values) {
        *word = narrowed(*value);
    }
}

/// The upper half of a number's bits, rounded to nearest, ties to even; what is not a number stays so.
fn narrowed(value: f32) -> [u8; 2] {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    let bits = if value.is_nan() {
        bits | 0x0040_0000
    } else {
        rounded
    };
    ((bits >> 16) as u16).to_le_bytes()
}

fn widened(word: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16)
}

/// Sums of `i32`, as little-endian `i32`, wrapping around at the ends of their range.
///
/// Wrapping addition gives the same bits in any order and any partition. It does not notice an overflow: who
/// makes the integers leaves room above them.
#[derive(Clone, Copy, Debug)]
pub struct I32Sum;

impl Reduction for I32Sum {
    type Element = i32;
    const WIRE_BYTES: usize = 4;
    const ROUNDS_ON_WIRE: bool = false;

    fn accumulate(into: &mut [i32], bytes: &[u8]) {
        for_each(into, bytes, |value, word| {
            *value = value.wrapping_add(i32::from_le_bytes(word))
        });
    }

    fn assign(into: &mut [i32], bytes: &[u8]) {
        for_each(into, bytes, |value, word| *value = i32::from_le_bytes(word));
    }

    fn encode(values: &[i32], into: &mut BytesMut) {
        if cfg!(target_endian = "little") {
            into.extend_from_slice(bytemuck::cast_slice(values));
        } else {
            into.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}

/// Meets each value with its encoding; there must be as many of both.
#[multiversion(targets = "simd")]
fn for_each<T, const BYTES: usize>(into: &mut [T], bytes: &[u8], meet: impl Fn(&mut T, [u8; BYTES])) {
    let (words, rest) = bytes.as_chunks();
    assert!(
        words.len() == into.len() && rest.is_empty(),
        "{} bytes are not {} values",
        bytes.len(),
        into.len()
    );
    for (value, word) in into.iter_mut().zip(words) {
        meet(value, *word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<R: Reduction>(values: &[R::Element]) -> BytesMut {
        let mut bytes = BytesMut::new();
        R::encode(values, &mut bytes);
        bytes
    }

    #[test]
    fn values_travel_as_little_endian_bytes() {
        assert_eq!(
            encoded::<F32Sum>(&[1.0, -2.5])[..],
            [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]
        );
        assert_eq!(
            encoded::<I32Sum>(&[1, -2])[..],
            [1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]
        );
    }

    #[test]
    fn bytes_at_any_alignment_are_added_and_copied() {
        let addends: Vec<f32> = (0..37u8).map(f32::from).collect();
        for offset in 0..4 {
            let mut bytes = BytesMut::zeroed(offset);
            F32Sum::encode(&addends, &mut bytes);
            let mut values = vec![0.5; addends.len()];
            F32Sum::accumulate(&mut values, &bytes[offset..]);
            assert!(
                values
                    .iter()
                    .zip(&addends)
                    .all(|(value, addend)| *value == addend + 0.5)
            );
            F32Sum::assign(&mut values, &bytes[offset..]);
            assert_eq!(values, addends);
        }
    }

    #[test]
    fn bfloat16_rounds_to_nearest_once_and_keeps_what_is_no_number() {
        let values = [
            1.0,
            -2.5,
            1.003_906_3,
            1.011_718_8,
            f32::MAX,
            f32::NEG_INFINITY,
            1e-40,
            -0.0,
        ];
        let expected = [
            1.0,
            -2.5,
            1.0,
            1.015_625,
            f32::INFINITY,
            f32::NEG_INFINITY,
            9.183_55e-41,
            -0.0,
        ];
        let mut decoded = [7.0; 8];
        Bf16Sum::assign(&mut decoded, &encoded::<Bf16Sum>(&values));
        for (got, expected) in decoded.iter().zip(expected) {
            assert!(
                *got == expected || (got - expected).abs() < 1e-42,
                "{got} {expected}"
            );
        }
        assert_eq!(encoded::<Bf16Sum>(&decoded), encoded::<Bf16Sum>(&values));
        // A payload in the lower half only: cut off, it would be infinite.
        let nan = f32::from_bits(0x7F80_0001);
        Bf16Sum::assign(&mut decoded[..1], &encoded::<Bf16Sum>(&[nan]));
        assert!(decoded[0].is_nan());
        Bf16Sum::accumulate(&mut decoded[1..2], &encoded::<Bf16Sum>(&[0.5]));
        assert_eq!(decoded[1], -2.0);
    }

    #[test]
    fn integer_sums_wrap_around_and_do_not_depend_on_order() {
        let mut forward = [i32::MAX];
        let mut backward = [-3];
        I32Sum::accumulate(&mut forward, &encoded::<I32Sum>(&[5]));
        I32Sum::accumulate(&mut forward, &encoded::<I32Sum>(&[-3]));
        I32Sum::accumulate(&mut backward, &encoded::<I32Sum>(&[5]));
        I32Sum::accumulate(&mut backward, &encoded::<I32Sum>(&[i32::MAX]));
        assert_eq!(forward, backward);
        assert_eq!(forward, [i32::MIN + 1]);
    }

    #[test]
    #[should_panic(expected = "6 bytes are not 1 values")]
    fn a_wrong_number_of_bytes_is_a_bug() {
        F32Sum::accumulate(&mut [0.0], &[0; 6]);
    }
}
