//! Bilinear resizing with half-pixel centres and no anti-aliasing.
//!
//! Integer arithmetic: weights have 11 bits per axis, sums are exact in 32 bits and rounded once. The result does not
//! depend on the machine.
//!
//! # Source
//! Same sampling positions and border rule as OpenCV's `INTER_LINEAR`; results agree with OpenCV 4 within one level.

use crate::picture::Picture;

/// Resizes to the given size.
///
/// # Panics
/// When a side of either size is zero.
pub fn resize(picture: &Picture, width: u32, height: u32) -> Picture {
    assert!(
        picture.width.min(picture.height).min(width).min(height) > 0,
        "an empty picture cannot be resized"
    );
    if (width, height) == (picture.width, picture.height) {
        return picture.clone();
    }
    let columns = taps(picture.width, width);
    let rows = taps(picture.height, height);
    let source_stride = picture.width as usize * 3;
    let stride = width as usize * 3;
    let mut rgb = vec![0; stride * height as usize];
    // The two source rows in use, resized horizontally, each with its row number.
    let mut upper = (usize::MAX, vec![0; stride]);
    let mut lower = (usize::MAX, vec![0; stride]);
    for (row, target) in rows.iter().zip(rgb.chunks_exact_mut(stride)) {
        if upper.0 != row.first && lower.0 == row.first {
            std::mem::swap(&mut upper, &mut lower);
        }
        for (held, wanted) in [(&mut upper, row.first), (&mut lower, row.second)] {
            if held.0 != wanted {
                let source = &picture.rgb[wanted * source_stride..][..source_stride];
                resize_row(source, &columns, &mut held.1);
                held.0 = wanted;
            }
        }
        for ((target, &upper), &lower) in target.iter_mut().zip(&upper.1).zip(&lower.1) {
            *target = ((upper * (ONE - row.weight) + lower * row.weight + HALF) >> (2 * BITS)) as u8;
        }
    }
    Picture { width, height, rgb }
}

/// Resizes so that the long side has `side` pixels; the short side is rounded up.
pub fn resize_long_side(picture: &Picture, side: u32) -> Picture {
    let (width, height) = long_side_size(picture.width, picture.height, side);
    resize(picture, width, height)
}

/// The size that [`resize_long_side`] gives.
pub(crate) fn long_side_size(width: u32, height: u32, side: u32) -> (u32, u32) {
    let ratio = f64::from(side) / f64::from(width.max(height));
    let scaled = |length: u32| ((f64::from(length) * ratio).ceil() as u32).clamp(1, side);
    (scaled(width), scaled(height))
}

/// The two source positions that a target position mixes, and the weight of the second.
#[derive(Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    weight: u32,
}

fn taps(source: u32, target: u32) -> Vec<Tap> {
    let scale = f64::from(source) / f64::from(target);
    let last = source as usize - 1;
    (0..target)
        .map(|position| {
            let exact = ((f64::from(position) + 0.5) * scale - 0.5).clamp(0.0, last as f64);
            let first = exact as usize;
            let weight = ((exact - first as f64) * f64::from(ONE)).round() as u32;
            Tap {
                first,
                second: (first + 1).min(last),
                weight,
            }
        })
        .collect()
}

fn resize_row(source: &[u8], columns: &[Tap], target: &mut [u32]) {
    for (tap, target) in columns.iter().zip(target.chunks_exact_mut(3)) {
        let left = &source[tap.first * 3..][..3];
        let right = &source[tap.second * 3..][..3];
        for channel in 0..3 {
            target[channel] =
                u32::from(left[channel]) * (ONE - tap.weight) + u32::from(right[channel]) * tap.weight;
        }
    }
}

const BITS: u32 = 11;
const ONE: u32 = 1 << BITS;
const HALF: u32 = 1 << (2 * BITS - 1);

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
