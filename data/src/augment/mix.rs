//! Two training pictures become one: laid over each other (mixup), or a rectangle of one put into the other (cutmix).
//!
//! # Source
//! mixup: Zhang et al. 2018, <https://arxiv.org/abs/1710.09412>; CutMix: Yun et al. 2019,
//! <https://arxiv.org/abs/1905.04899>. Distributions of the draws, and which boxes count, are those of Ultralytics 8.4.

use super::{TargetBox, clip, projection::area};
use crate::random::KeyedRandom;

/// Lays `other` over `rgb`; the boxes of both stay.
pub(super) fn mixup(
    rgb: &mut [u8],
    boxes: &mut Vec<TargetBox>,
    other: (&[u8], &[TargetBox]),
    random: &mut KeyedRandom,
) {
    blend(rgb, other.0, mixup_ratio(random));
    boxes.extend_from_slice(other.1);
}

/// Beta(32, 32): that is how the middle of 63 uniform numbers is distributed.
fn mixup_ratio(random: &mut KeyedRandom) -> f64 {
    let mut draws: [f64; 63] = std::array::from_fn(|_| random.unit());
    draws.sort_unstable_by(f64::total_cmp);
    draws[31]
}

/// `ratio` of the one and the rest of the other, rounded down.
fn blend(rgb: &mut [u8], other: &[u8], ratio: f64) {
    let table = |ratio: f64| -> [f64; 256] { std::array::from_fn(|level| level as f64 * ratio) };
    let (own, rest) = (table(ratio), table(1.0 - ratio));
    for (level, &other) in rgb.iter_mut().zip(other) {
        *level = (own[usize::from(*level)] + rest[usize::from(other)]) as u8;
    }
}

/// Puts a rectangle of `other` where it covers no box of the picture. Its boxes come along as far as they lie in the
/// rectangle; without one that does by a tenth, nothing happens.
pub(super) fn cutmix(
    rgb: &mut [u8],
    boxes: &mut Vec<TargetBox>,
    other: (&[u8], &[TargetBox]),
    side: u32,
    random: &mut KeyedRandom,
) {
    let areas = [(); AREAS].map(|()| Cut {
        lambda: random.unit(),
        centre: [
            random.below(side as usize) as u32,
            random.below(side as usize) as u32,
        ],
    });
    let pick = random.below(usize::MAX);
    paste_cut(rgb, boxes, other, side, &areas, pick);
}

/// A rectangle of the picture's shape, as it was drawn: its area without cutting is `1 - lambda` of the picture.
#[derive(Clone, Copy, Debug)]
struct Cut {
    lambda: f64,
    centre: [u32; 2],
}

impl Cut {
    /// Corners in whole pixels, cut at the picture's sides.
    fn xyxy(self, side: u32) -> [u32; 4] {
        let length = (f64::from(side) * (1.0 - self.lambda).sqrt()) as u32;
        let low = |centre: u32| centre.saturating_sub(length / 2);
        let high = |centre: u32| (centre + length / 2).min(side);
        let [x, y] = self.centre;
        [low(x), low(y), high(x), high(y)]
    }
}

fn paste_cut(
    rgb: &mut [u8],
    boxes: &mut Vec<TargetBox>,
    other: (&[u8], &[TargetBox]),
    side: u32,
    cuts: &[Cut; AREAS],
    pick: usize,
) {
    let areas = cuts.map(|cut| cut.xyxy(side));
    let is_free = |area: &&[u32; 4]| boxes.iter().all(|target| covered(**area, target.xyxy) <= 0.0);
    let free: Vec<&[u32; 4]> = areas.iter().filter(is_free).collect();
    if free.is_empty() {
        return;
    }
    let area = *free[pick % free.len()];
    let brought: Vec<TargetBox> = other
        .1
        .iter()
        .filter(|target| covered(area, target.xyxy) >= COVERED_MIN)
        .map(|target| TargetBox {
            xyxy: intersection(area, target.xyxy),
            ..*target
        })
        .collect();
    if brought.is_empty() {
        return;
    }
    let [x1, y1, x2, y2] = area.map(|edge| edge as usize);
    for row in y1..y2 {
        let pixels = (row * side as usize + x1) * 3..(row * side as usize + x2) * 3;
        rgb[pixels.clone()].copy_from_slice(&other.0[pixels]);
    }
    boxes.extend(brought);
}

/// Which part of a box lies in a rectangle.
fn covered(cut: [u32; 4], xyxy: [f32; 4]) -> f32 {
    let [x1, y1, x2, y2] = intersection(cut, xyxy);
    // A box that does not meet the rectangle is clipped to one of its edges, with no area.
    area([x1, y1, x2, y2]) / (area(xyxy) + AREA_EPSILON)
}

fn intersection(cut: [u32; 4], xyxy: [f32; 4]) -> [f32; 4] {
    let [left, top, right, bottom] = cut.map(|edge| edge as f32);
    let [x1, y1, x2, y2] = xyxy;
    let [x1, y1, x2, y2] = clip(
        [x1 - left, y1 - top, x2 - left, y2 - top],
        right - left,
        bottom - top,
    );
    [x1 + left, y1 + top, x2 + left, y2 + top]
}

/// Rectangles that are drawn, of which one is taken.
const AREAS: usize = 3;
/// A box of the other picture comes along when this part of it lies in the rectangle.
const COVERED_MIN: f32 = 0.1;
/// Keeps a box without area from dividing by zero.
const AREA_EPSILON: f32 = 1e-7;

#[cfg(test)]
#[path = "mix_tests.rs"]
mod tests;
