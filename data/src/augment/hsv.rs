//! Random hue, saturation and value.
//!
//! Works in 8-bit HSV (hue 0..180) through tables, one step per pixel.
//!
//! # Source
//! Same 8-bit conversions as OpenCV's `RGB2HSV` and back; same draws as Ultralytics 8.3 and later: the hue is shifted,
//! saturation and value are multiplied, a saturation of 0 stays 0.

use super::AugmentConfig;
use crate::random::KeyedRandom;

/// Shifts the colours of RGB pixels. Always takes three draws.
pub(super) fn shift(config: &AugmentConfig, rgb: &mut [u8], random: &mut KeyedRandom) {
    let [hue, saturation, value] =
        [config.hsv_h, config.hsv_s, config.hsv_v].map(|gain| random.uniform(-1.0, 1.0) * gain);
    if [hue, saturation, value] == [0.0; 3] {
        return;
    }
    let tables = Tables::new(hue, saturation, value);
    for pixel in rgb.chunks_exact_mut(3) {
        let shifted = tables.shift([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&shifted);
    }
}

/// What a hue, a saturation and a value become.
struct Tables {
    /// For each old hue: the sector of the new hue's circle, and the position in it.
    hue: [(usize, f32); HUES],
    /// New saturation as a fraction.
    saturation: [f32; 256],
    /// New value.
    value: [f32; 256],
    /// `255 * 2^12 / n` and `30 * 2^12 / n`: division by table.
    divide_saturation: [i32; 256],
    divide_hue: [i32; 256],
}

impl Tables {
    fn new(hue: f64, saturation: f64, value: f64) -> Self {
        let multiplied = |old: usize, gain: f64| ((old as f64) * (1.0 + gain)).clamp(0.0, 255.0).floor();
        let quotient = |dividend: u32, divisor: usize| {
            if divisor == 0 {
                return 0;
            }
            (f64::from(dividend << DIVIDE_BITS) / divisor as f64).round() as i32
        };
        Self {
            hue: std::array::from_fn(|old| {
                let new = (old as f64 + hue * HUES as f64).rem_euclid(HUES as f64).floor() as usize % HUES;
                (
                    new / HUES_PER_SECTOR,
                    (new % HUES_PER_SECTOR) as f32 / HUES_PER_SECTOR as f32,
                )
            }),
            saturation: std::array::from_fn(|old| (multiplied(old, saturation) / 255.0) as f32),
            value: std::array::from_fn(|old| multiplied(old, value) as f32),
            divide_saturation: std::array::from_fn(|divisor| quotient(255, divisor)),
            divide_hue: std::array::from_fn(|divisor| quotient(HUES_PER_SECTOR as u32, divisor)),
        }
    }

    #[inline(always)]
    fn shift(&self, [red, green, blue]: [u8; 3]) -> [u8; 3] {
        let high = red.max(green).max(blue);
        let low = red.min(green).min(blue);
        let value = self.value[high as usize];
        let range = i32::from(high - low);
        if range == 0 {
            return [value as u8; 3];
        }
        let saturation = (range * self.divide_saturation[high as usize] + DIVIDE_HALF) >> DIVIDE_BITS;
        let saturation = self.saturation[(saturation as usize).min(255)];
        let [r, g, b] = [red, green, blue].map(i32::from);
        let turn = if high == red {
            g - b
        } else if high == green {
            b - r + 2 * range
        } else {
            r - g + 4 * range
        };
        let hue = (turn * self.divide_hue[range as usize] + DIVIDE_HALF) >> DIVIDE_BITS;
        let hue = if hue < 0 { hue + HUES as i32 } else { hue };
        let (sector, position) = self.hue[(hue as usize).min(HUES - 1)];

        let rounded = |value: f32| (value + 0.5) as u8;
        let full = rounded(value);
        let empty = rounded(value * (1.0 - saturation));
        let falling = rounded(value * (1.0 - saturation * position));
        let rising = rounded(value * (1.0 - saturation * (1.0 - position)));
        match sector {
            0 => [full, rising, empty],
            1 => [falling, full, empty],
            2 => [empty, full, rising],
            3 => [empty, falling, full],
            4 => [rising, empty, full],
            _ => [full, empty, falling],
        }
    }
}

const HUES: usize = 180;
const HUES_PER_SECTOR: usize = 30;
const DIVIDE_BITS: u32 = 12;
const DIVIDE_HALF: i32 = 1 << (DIVIDE_BITS - 1);

#[cfg(test)]
#[path = "hsv_tests.rs"]
mod tests;
