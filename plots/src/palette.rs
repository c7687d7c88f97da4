//! Colours.

use embedded_graphics::pixelcolor::{Rgb888, RgbColor};

/// Returns the colour of a class on a photo.
pub(crate) fn on_photo(class: u32) -> Rgb888 {
    PALETTE[class as usize % PALETTE.len()]
}

/// Returns the colour of the line or bar with this number, on white.
pub(crate) fn on_white(number: usize) -> Rgb888 {
    ON_WHITE[number % ON_WHITE.len()]
}

/// Returns black or white, whichever reads better on `colour`.
pub(crate) fn ink(colour: Rgb888) -> Rgb888 {
    let luma = 299 * u32::from(colour.r()) + 587 * u32::from(colour.g()) + 114 * u32::from(colour.b());
    if luma > 140_000 {
        Rgb888::BLACK
    } else {
        Rgb888::WHITE
    }
}

/// Returns a colour between white (0) and dark blue (1).
pub(crate) fn blues(share: f64) -> Rgb888 {
    let share = share.clamp(0.0, 1.0) * (BLUES.len() - 1) as f64;
    let index = (share as usize).min(BLUES.len() - 2);
    let (low, high, part) = (BLUES[index], BLUES[index + 1], share - index as f64);
    let level = |channel: usize| {
        (f64::from(low[channel]) * (1.0 - part) + f64::from(high[channel]) * part).round() as u8
    };
    Rgb888::new(level(0), level(1), level(2))
}

/// Eight colours that stay apart, also for most colour-blind readers.
///
/// # Source
/// Okabe & Ito, Color Universal Design (2008), with black replaced by white.
const PALETTE: [Rgb888; 8] = [
    Rgb888::new(230, 159, 0),
    Rgb888::new(0, 114, 178),
    Rgb888::new(0, 158, 115),
    Rgb888::new(213, 94, 0),
    Rgb888::new(204, 121, 167),
    Rgb888::new(86, 180, 233),
    Rgb888::new(240, 228, 66),
    Rgb888::new(255, 255, 255),
];

/// The same colours without those that are too bright on white, and a few dark ones.
const ON_WHITE: [Rgb888; 10] = [
    Rgb888::new(0, 114, 178),
    Rgb888::new(213, 94, 0),
    Rgb888::new(0, 158, 115),
    Rgb888::new(204, 121, 167),
    Rgb888::new(230, 159, 0),
    Rgb888::new(86, 180, 233),
    Rgb888::new(120, 94, 60),
    Rgb888::new(110, 80, 170),
    Rgb888::new(128, 128, 128),
    Rgb888::new(150, 30, 60),
];

/// From white to dark blue in equal steps of lightness, roughly.
const BLUES: [[u8; 3]; 5] = [
    [255, 255, 255],
    [205, 224, 241],
    [124, 182, 217],
    [42, 122, 185],
    [8, 48, 107],
];
