//! Bilinear resizing with half-pixel centres and no anti-aliasing.
//!
//! Integer arithmetic: weights have 11 bits per axis, and sums are cut twice before they are rounded, as OpenCV cuts
//! them. The result does not depend on the machine.
//!
//! # Source
//! Sampling positions, border rule and rounding of OpenCV's `INTER_LINEAR` on bytes; the same levels as OpenCV 4.

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
    let columns = taps(picture.width, width, Border::One);
    let rows = taps(picture.height, height, Border::Mixed);
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
            let cut = |weight: u32, sum: u32| (weight * (sum >> 4)) >> 16;
            *target = ((cut(row.weights[0], upper) + cut(row.weights[1], lower) + 2) >> 2) as u8;
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

/// The two source positions that a target position mixes, and their weights.
#[derive(Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    weights: [u32; 2],
}

/// What a position at the border is, where both source positions are the last one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Border {
    /// That position alone.
    One,
    /// A mixture of it with itself, which cuts its sums twice.
    Mixed,
}

fn taps(source: u32, target: u32, border: Border) -> Vec<Tap> {
    let scale = f64::from(source) / f64::from(target);
    let last = i64::from(source) - 1;
    (0..target)
        .map(|position| {
            let exact = ((f64::from(position) + 0.5) * scale - 0.5) as f32;
            let floor = exact.floor();
            let first = floor as i64;
            let is_outside = first < 0 || first >= last;
            let share = match border {
                Border::One if is_outside => 0.0,
                _ => exact - floor,
            };
            let inside = |place: i64| place.clamp(0, last) as usize;
            Tap {
                first: inside(first),
                second: inside(first + 1),
                weights: [1.0 - share, share].map(|weight| (weight * ONE).round_ties_even() as u32),
            }
        })
        .collect()
}

fn resize_row(source: &[u8], columns: &[Tap], target: &mut [u32]) {
    for (tap, target) in columns.iter().zip(target.chunks_exact_mut(3)) {
        let left = &source[tap.first * 3..][..3];
        let right = &source[tap.second * 3..][..3];
        for channel in 0..3 {
            let [first, second] = tap.weights;
            target[channel] = u32::from(left[channel]) * first + u32::from(right[channel]) * second;
        }
    }
}

/// A weight of one.
const ONE: f32 = 2048.0;

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
