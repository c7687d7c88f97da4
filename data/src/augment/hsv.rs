//! Random hue, saturation and value.
//!
//! Works in 8-bit HSV (hue 0..180) through tables, without branches, in integers: the same levels on every machine.
//!
//! # Source
//! Same 8-bit conversions as OpenCV's `RGB2HSV` and back, within one level; same draws as Ultralytics 8.3 and later: the
//! hue is shifted, saturation and value are multiplied, a saturation of 0 stays 0.

use super::AugmentConfig;
use crate::random::KeyedRandom;

/// What a hue, a saturation and a value become.
pub(super) struct Tables {
    /// For each old hue, in 256 steps around 0 as a hue below 0 wraps.
    hue: [Hue; 256],
    /// New saturation, 0..=255.
    saturation: [u8; 256],
    /// New value.
    value: [u8; 256],
    /// `255 * 2^12 / n` and `30 * 2^12 / n`: division by table.
    divide_saturation: [i32; 256],
    divide_hue: [i32; 256],
}

/// A new hue.
#[derive(Clone, Copy)]
struct Hue {
    /// By how much of the saturation the middle channel falls, in thirtieths.
    fall: u8,
    /// Where red, green and blue are found in the word of the full, the middle and the empty channel.
    shifts: [u8; 3],
}

impl Tables {
    /// The tables of a random shift, or `None` if it changes nothing. Always takes three draws.
    pub(super) fn draw(config: &AugmentConfig, random: &mut KeyedRandom) -> Option<Self> {
        let [hue, saturation, value] =
            [config.hsv_h, config.hsv_s, config.hsv_v].map(|gain| random.uniform(-1.0, 1.0) * gain);
        ([hue, saturation, value] != [0.0; 3]).then(|| Self::new(hue, saturation, value))
    }

    fn new(hue: f64, saturation: f64, value: f64) -> Self {
        let multiplied = |old: usize, gain: f64| ((old as f64) * (1.0 + gain)).clamp(0.0, 255.0) as u8;
        let quotient = |dividend: u32, divisor: usize| {
            if divisor == 0 {
                return 0;
            }
            (f64::from(dividend << DIVIDE_BITS) / divisor as f64).round() as i32
        };
        Self {
            hue: std::array::from_fn(|index| {
                let old = if index <= HUES {
                    index.min(HUES - 1) as f64
                } else {
                    // Below 0.
                    index as f64 - 256.0 + HUES as f64
                };
                let new = (old + hue * HUES as f64).rem_euclid(HUES as f64).floor() as usize % HUES;
                let (sector, position) = (new / HUES_PER_SECTOR, (new % HUES_PER_SECTOR) as u8);
                Hue {
                    fall: if sector.is_multiple_of(2) {
                        HUES_PER_SECTOR as u8 - position
                    } else {
                        position
                    },
                    shifts: SECTORS[sector],
                }
            }),
            saturation: std::array::from_fn(|old| multiplied(old, saturation)),
            value: std::array::from_fn(|old| multiplied(old, value)),
            divide_saturation: std::array::from_fn(|divisor| quotient(255, divisor)),
            divide_hue: std::array::from_fn(|divisor| quotient(HUES_PER_SECTOR as u32, divisor)),
        }
    }

    /// The new colour of a colour.
    #[inline(always)]
    pub(super) fn shift(&self, [red, green, blue]: [u8; 3]) -> [u8; 3] {
        let high = red.max(green).max(blue);
        let low = red.min(green).min(blue);
        let range = i32::from(high - low);
        let saturation = (range * self.divide_saturation[usize::from(high)] + DIVIDE_HALF) >> DIVIDE_BITS;
        let [r, g, b] = [red, green, blue].map(i32::from);
        let turn = if high == red {
            g - b
        } else if high == green {
            b - r + 2 * range
        } else {
            r - g + 4 * range
        };
        let hue = (turn * self.divide_hue[(high - low) as usize] + DIVIDE_HALF) >> DIVIDE_BITS;

        let Hue { fall, shifts } = self.hue[usize::from(hue as u8)];
        let saturation = u32::from(self.saturation[usize::from(saturation as u8)]);
        let full = u32::from(self.value[usize::from(high)]);
        let level = |fall: u32| (full * (FALL_ONE - saturation * fall) + FALL_ONE / 2) / FALL_ONE;
        let word = full | level(u32::from(fall)) << 8 | level(HUES_PER_SECTOR as u32) << 16;
        shifts.map(|shift| (word >> shift) as u8)
    }

    /// Shifts the colours of RGB pixels.
    pub(super) fn apply(&self, rgb: &mut [u8]) {
        for pixel in rgb.chunks_exact_mut(3) {
            let shifted = self.shift([pixel[0], pixel[1], pixel[2]]);
            pixel.copy_from_slice(&shifted);
        }
    }
}

const HUES: usize = 180;
const HUES_PER_SECTOR: usize = 30;
const DIVIDE_BITS: u32 = 12;
const DIVIDE_HALF: i32 = 1 << (DIVIDE_BITS - 1);
/// All of the saturation times all of the fall.
const FALL_ONE: u32 = 255 * HUES_PER_SECTOR as u32;
/// For each sixth of the circle, from red on: which of the full (0), middle (8) and empty (16) channel is red, green, blue.
const SECTORS: [[u8; 3]; 6] = [
    [0, 8, 16],
    [8, 0, 16],
    [16, 0, 8],
    [16, 8, 0],
    [8, 16, 0],
    [0, 16, 8],
];

#[cfg(test)]
#[path = "hsv_tests.rs"]
mod tests;
