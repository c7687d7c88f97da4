//! How values are added to received ones: a reduction is a type, and the ring does not care which.
//!
//! Each function is one loop over a slice and the received bytes side by side, without bounds checks in it or
//! demands on alignment, so that the compiler turns it into SIMD loads, adds and stores: once for each generation of
//! processors, of which the program takes the newest that it finds itself on.

use std::fmt;

use multiversion::multiversion;

/// A kind of number, how it travels, and how two of them become one.
pub trait Reduction {
    /// A value of the vector.
    type Element: Copy + fmt::Debug + PartialEq + Send + 'static;

    /// The bytes of one value on the wire: 1, 2, 4 or 8.
    const WIRE_BYTES: usize;

    /// Replaces `into` with the encoded values.
    ///
    /// # Panics
    ///
    /// When `bytes` does not hold exactly `into.len()` values.
    fn assign(into: &mut [Self::Element], bytes: &[u8]);

    /// Encodes `values`, which may round them.
    ///
    /// # Panics
    ///
    /// When `into` does not have room for exactly so many.
    fn encode(values: &[Self::Element], into: &mut [u8]);

    /// Encodes the sum of each value and the encoded one beside it.
    ///
    /// # Panics
    ///
    /// When `received` does not hold, or `into` does not have room for, exactly so many.
    fn encode_sums(values: &[Self::Element], received: &[u8], into: &mut [u8]);
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

    fn assign(into: &mut [f32], bytes: &[u8]) {
        decode_each(into, bytes, f32::from_le_bytes);
    }

    fn encode(values: &[f32], into: &mut [u8]) {
        encode_each(values, into, f32::to_le_bytes);
    }

    fn encode_sums(values: &[f32], received: &[u8], into: &mut [u8]) {
        encode_each_sum(values, received, into, |value, word| {
            (value + f32::from_le_bytes(word)).to_le_bytes()
        });
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

    fn assign(into: &mut [f32], bytes: &[u8]) {
        decode_each(into, bytes, widened);
    }

    fn encode(values: &[f32], into: &mut [u8]) {
        encode_each(values, into, narrowed);
    }

    fn encode_sums(values: &[f32], received: &[u8], into: &mut [u8]) {
        encode_each_sum(values, received, into, |value, word| {
            narrowed(value + widened(word))
        });
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

    fn assign(into: &mut [i32], bytes: &[u8]) {
        decode_each(into, bytes, i32::from_le_bytes);
    }

    fn encode(values: &[i32], into: &mut [u8]) {
        encode_each(values, into, i32::to_le_bytes);
    }

    fn encode_sums(values: &[i32], received: &[u8], into: &mut [u8]) {
        encode_each_sum(values, received, into, |value, word| {
            value.wrapping_add(i32::from_le_bytes(word)).to_le_bytes()
        });
    }
}

#[multiversion(targets = "simd")]
fn decode_each<T, const BYTES: usize>(into: &mut [T], bytes: &[u8], decoded: impl Fn([u8; BYTES]) -> T) {
    let words = words(bytes, into.len());
    for (value, word) in into.iter_mut().zip(words) {
        *value = decoded(*word);
    }
}

#[multiversion(targets = "simd")]
fn encode_each<T: Copy, const BYTES: usize>(
    values: &[T],
    into: &mut [u8],
    encoded: impl Fn(T) -> [u8; BYTES],
) {
    let words = words_mut(into, values.len());
    for (word, value) in words.iter_mut().zip(values) {
        *word = encoded(*value);
    }
}

#[multiversion(targets = "simd")]
fn encode_each_sum<T: Copy, const BYTES: usize>(
    values: &[T],
    received: &[u8],
    into: &mut [u8],
    encoded: impl Fn(T, [u8; BYTES]) -> [u8; BYTES],
) {
    let (received, words) = (words(received, values.len()), words_mut(into, values.len()));
    for ((word, value), received) in words.iter_mut().zip(values).zip(received) {
        *word = encoded(*value, *received);
    }
}

/// The encoded values in `bytes`, of which there must be `count`.
fn words<const BYTES: usize>(bytes: &[u8], count: usize) -> &[[u8; BYTES]] {
    check(bytes.len(), count * BYTES);
    bytes.as_chunks().0
}

/// The places of encoded values in `bytes`, of which there must be `count`.
fn words_mut<const BYTES: usize>(bytes: &mut [u8], count: usize) -> &mut [[u8; BYTES]] {
    check(bytes.len(), count * BYTES);
    bytes.as_chunks_mut().0
}

fn check(got: usize, expected: usize) {
    assert_eq!(got, expected, "as many bytes as the values have");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<R: Reduction>(values: &[R::Element]) -> Vec<u8> {
        let mut bytes = vec![7; values.len() * R::WIRE_BYTES];
        R::encode(values, &mut bytes);
        bytes
    }

    fn summed<R: Reduction>(values: &[R::Element], received: &[u8]) -> Vec<u8> {
        let mut bytes = vec![7; values.len() * R::WIRE_BYTES];
        R::encode_sums(values, received, &mut bytes);
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
            let mut bytes = vec![0; offset + 4 * addends.len()];
            F32Sum::encode(&addends, &mut bytes[offset..]);
            let mut values = vec![0.5; addends.len()];
            let sums = summed::<F32Sum>(&values, &bytes[offset..]);
            F32Sum::assign(&mut values, &bytes[offset..]);
            assert_eq!(values, addends);
            F32Sum::assign(&mut values, &sums);
            assert!(
                values
                    .iter()
                    .zip(&addends)
                    .all(|(value, addend)| *value == addend + 0.5)
            );
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
        // What is added to a received value was not rounded before.
        let sums = summed::<Bf16Sum>(&[1.003_906_3], &encoded::<Bf16Sum>(&[0.003_906_25]));
        assert_eq!(sums, encoded::<Bf16Sum>(&[1.007_812_5]));
    }

    #[test]
    fn integer_sums_wrap_around_and_do_not_depend_on_order() {
        let forward = summed::<I32Sum>(&[-3], &summed::<I32Sum>(&[i32::MAX], &encoded::<I32Sum>(&[5])));
        let backward = summed::<I32Sum>(&[i32::MAX], &summed::<I32Sum>(&[5], &encoded::<I32Sum>(&[-3])));
        assert_eq!(forward, backward);
        assert_eq!(forward, encoded::<I32Sum>(&[i32::MIN + 1]));
    }

    #[test]
    #[should_panic(expected = "as many bytes as the values have")]
    fn a_wrong_number_of_bytes_is_a_bug() {
        summed::<F32Sum>(&[0.0], &[0; 6]);
    }
}
