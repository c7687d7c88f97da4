//! Random hue, saturation and value.
//!
//! Works in 8-bit HSV (hue 0..180), on blocks of pixels in steps that the compiler turns into SIMD; only what becomes of a
//! hue, a saturation and a value is looked up pixel by pixel. All numbers are whole, in floats only where these divide
//! exactly enough: the same levels on every machine.
//!
//! # Source
//! Same 8-bit conversions as OpenCV's `RGB2HSV` and back, within one level; same draws as Ultralytics 8.3 and later: the
//! hue is shifted, saturation and value are multiplied, a saturation of 0 stays 0.

use super::AugmentConfig;
use crate::random::KeyedRandom;

/// What a hue, a saturation and a value become.
pub(super) struct Tables {
    /// For each old hue, in 256 steps around 0 as a hue below 0 wraps: by how much of the saturation red, green and blue
    /// fall below the value, in thirtieths.
    falls: [[u8; 3]; 256],
    /// New saturation, 0..=255.
    saturation: [u8; 256],
    /// New value.
    value: [u8; 256],
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
        Self {
            falls: std::array::from_fn(|index| {
                let old = if index <= HUES {
                    index.min(HUES - 1) as f64
                } else {
                    // Below 0.
                    index as f64 - 256.0 + HUES as f64
                };
                let new = (old + hue * HUES as f64).rem_euclid(HUES as f64).floor() as usize % HUES;
                let (sector, position) = (new / HUES_PER_SECTOR, (new % HUES_PER_SECTOR) as u8);
                let middle = if sector.is_multiple_of(2) {
                    HUES_PER_SECTOR as u8 - position
                } else {
                    position
                };
                SECTORS[sector].map(|channel| match channel {
                    Channel::Full => 0,
                    Channel::Middle => middle,
                    Channel::Empty => HUES_PER_SECTOR as u8,
                })
            }),
            saturation: std::array::from_fn(|old| multiplied(old, saturation)),
            value: std::array::from_fn(|old| multiplied(old, value)),
        }
    }

    /// Writes the new colours of RGB pixels as planes.
    ///
    /// # Panics
    /// When a plane holds fewer values than there are pixels.
    pub(super) fn shift(&self, rgb: &[u8], [red, green, blue]: [&mut [u8]; 3]) {
        for (number, pixels) in rgb.chunks(3 * BLOCK).enumerate() {
            let count = pixels.len() / 3;
            let shifted = self.shift_block(pixels);
            let start = number * BLOCK;
            for (plane, levels) in [&mut *red, &mut *green, &mut *blue].into_iter().zip(&shifted) {
                plane[start..start + count].copy_from_slice(&levels[..count]);
            }
        }
    }

    /// Shifts the colours of RGB pixels.
    pub(super) fn apply(&self, rgb: &mut [u8]) {
        for pixels in rgb.chunks_mut(3 * BLOCK) {
            let [red, green, blue] = self.shift_block(pixels);
            for (at, pixel) in pixels.chunks_exact_mut(3).enumerate() {
                (pixel[0], pixel[1], pixel[2]) = (red[at], green[at], blue[at]);
            }
        }
    }

    /// Returns the new levels of at most [`BLOCK`] pixels.
    fn shift_block(&self, pixels: &[u8]) -> [Levels; 3] {
        let mut rgb = [[0; BLOCK]; 3];
        let [red, green, blue] = &mut rgb;
        for (at, pixel) in pixels.chunks_exact(3).enumerate() {
            (red[at], green[at], blue[at]) = (pixel[0], pixel[1], pixel[2]);
        }
        let [hue, mut saturation, mut value] = to_hsv(&rgb);
        let mut falls = [[0; BLOCK]; 3];
        for at in 0..BLOCK {
            [falls[0][at], falls[1][at], falls[2][at]] = self.falls[usize::from(hue[at])];
            saturation[at] = self.saturation[usize::from(saturation[at])];
            value[at] = self.value[usize::from(value[at])];
        }
        falls.map(|fall| level(&fall, &saturation, &value))
    }
}

/// One channel of the pixels of a block.
type Levels = [u8; BLOCK];

/// Hue, saturation and value. A hue below 0 wraps around at 256.
fn to_hsv([red, green, blue]: &[Levels; 3]) -> [Levels; 3] {
    let mut hsv = [[0; BLOCK]; 3];
    for at in 0..BLOCK {
        let [r, g, b] = [red[at], green[at], blue[at]].map(i32::from);
        let high = r.max(g).max(b);
        let range = high - r.min(g).min(b);
        let turn = if high == r {
            g - b
        } else if high == g {
            b - r + 2 * range
        } else {
            r - g + 4 * range
        };
        hsv[0][at] = ((turn * quotient(HUES_PER_SECTOR as i32, range) + DIVIDE_HALF) >> DIVIDE_BITS) as u8;
        hsv[1][at] = ((range * quotient(255, high) + DIVIDE_HALF) >> DIVIDE_BITS) as u8;
        hsv[2][at] = high as u8;
    }
    hsv
}

/// `dividend / divisor` in steps of 2^-12, rounded. For `divisor` 0, what is multiplied with it is 0 too.
///
/// Exact in `f32`: no quotient of these is half way between whole numbers, and one that is not whole is at least
/// `0.5 / divisor` away from there, far more than a division rounds.
#[inline(always)]
fn quotient(dividend: i32, divisor: i32) -> i32 {
    rounded((dividend << DIVIDE_BITS) as f32 / divisor.max(1) as f32)
}

/// The levels of a channel that falls by so many thirtieths of the saturation below the value.
///
/// Exact in `f32`: products stay below 2^24, and between numerators lies 1/7650 of a level; half of that is added.
fn level(fall: &Levels, saturation: &Levels, value: &Levels) -> Levels {
    std::array::from_fn(|at| {
        let [fall, saturation, value] = [fall[at], saturation[at], value[at]].map(i32::from);
        let numerator = value * (FALL_ONE - saturation * fall);
        rounded((numerator as f32 + 0.5) / FALL_ONE as f32) as u8
    })
}

/// The nearest whole number. Unlike `as`, it has no special cases that would have to be looked at one by one: numbers of
/// 2^23 and more have no fraction.
#[inline(always)]
fn rounded(value: f32) -> i32 {
    (value + ROUNDING).to_bits() as i32 - ROUNDING.to_bits() as i32
}

/// 1.5 * 2^23.
const ROUNDING: f32 = 12_582_912.0;

/// What a channel is to a hue.
#[derive(Clone, Copy)]
enum Channel {
    Full,
    Middle,
    Empty,
}

/// Pixels that are worked on together: a few vector registers of each number.
const BLOCK: usize = 64;
const HUES: usize = 180;
const HUES_PER_SECTOR: usize = 30;
const DIVIDE_BITS: u32 = 12;
const DIVIDE_HALF: i32 = 1 << (DIVIDE_BITS - 1);
/// All of the saturation times all of the fall.
const FALL_ONE: i32 = 255 * HUES_PER_SECTOR as i32;
/// For each sixth of the circle, from red on: what red, green and blue are.
const SECTORS: [[Channel; 3]; 6] = {
    use Channel::{Empty, Full, Middle};
    [
        [Full, Middle, Empty],
        [Middle, Full, Empty],
        [Empty, Full, Middle],
        [Empty, Middle, Full],
        [Middle, Empty, Full],
        [Full, Empty, Middle],
    ]
};

#[cfg(test)]
#[path = "hsv_tests.rs"]
mod tests;
