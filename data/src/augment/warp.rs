//! Pixels through a map of the plane: each output pixel mixes the four canvas pixels around the place it comes from.
//!
//! Bilinear in fixed point, 1/64 pixel, the background outside. Each output row is cut into what lies wholly outside, what
//! touches the canvas's border and what lies wholly inside; only the second needs a look at every neighbour.
//!
//! # Source
//! Same pixel-centre convention as OpenCV's `warpAffine` and `warpPerspective`, whose positions are rounded to 1/32 pixel.

use std::ops::Range;

use super::projection::{Matrix, Projection};
use crate::{letterbox::BACKGROUND, picture::Picture};

/// Draws the canvas through the map, into a square of `[image_size, image_size, 3]`.
pub(super) fn warp(projection: &Projection, canvas: &Picture, image_size: u32, target: &mut Vec<u8>) {
    let side = image_size as usize;
    target.resize(side * side * 3, 0);
    let inverse = projection.inverse();
    let source = Source::new(canvas);
    if projection.matrix[2][..2] == [0.0; 2] {
        affine(&inverse, &source, side, target);
    } else {
        perspective(&inverse, &source, side, target);
    }
}

/// Positions are linear in x and y: sums of a part of the row and a part of the column.
fn affine(inverse: &Matrix, source: &Source<'_>, side: usize, target: &mut [u8]) {
    let [[a, b, c], [d, e, f], _] = *inverse;
    let columns: Vec<(i64, i64)> = (0..side)
        .map(|x| (fixed(a * x as f64), fixed(d * x as f64)))
        .collect();
    for (y, row) in target.chunks_exact_mut(side * 3).enumerate() {
        // Half of 1/64 pixel is added so that the shifts round.
        let start_x = fixed(b * y as f64 + c) + FRACTION_HALF;
        let start_y = fixed(e * y as f64 + f) + FRACTION_HALF;
        let within = |margin: i64| {
            let across = |at: fn(&(i64, i64)) -> i64, start: i64, size: i64| {
                let low = -(margin << FIXED_BITS) - start;
                let high = ((size - 1 + margin) << FIXED_BITS) - start;
                interval(&columns, at, low, high)
            };
            let x = across(|column| column.0, start_x, source.width);
            let y = across(|column| column.1, start_y, source.height);
            let start = x.start.max(y.start);
            start..x.end.min(y.end).max(start)
        };
        let touched = within(1);
        let inner = within(0);
        let inner =
            inner.start.clamp(touched.start, touched.end)..inner.end.clamp(touched.start, touched.end);
        let at = |x: usize| (start_x + columns[x].0, start_y + columns[x].1);

        fill(&mut row[..touched.start * 3]);
        fill(&mut row[touched.end * 3..]);
        for x in (touched.start..inner.start).chain(inner.end.max(inner.start)..touched.end) {
            let (column, row_of) = at(x);
            source.sample(column, row_of, &mut row[x * 3..x * 3 + 3]);
        }
        let pixels = row[inner.start * 3..inner.end * 3].chunks_exact_mut(3);
        for (pixel, &(x, y)) in pixels.zip(&columns[inner]) {
            source.sample_inside(start_x + x, start_y + y, pixel);
        }
    }
}

/// The columns whose part lies in `low..high`. Parts rise or fall along the row.
fn interval(columns: &[(i64, i64)], at: fn(&(i64, i64)) -> i64, low: i64, high: i64) -> Range<usize> {
    let rises = columns.first().map(at) <= columns.last().map(at);
    let (start, end) = if rises {
        (
            columns.partition_point(|column| at(column) < low),
            columns.partition_point(|column| at(column) < high),
        )
    } else {
        (
            columns.partition_point(|column| at(column) >= high),
            columns.partition_point(|column| at(column) >= low),
        )
    };
    start..end.max(start)
}

fn perspective(inverse: &Matrix, source: &Source<'_>, side: usize, target: &mut [u8]) {
    for (y, row) in target.chunks_exact_mut(side * 3).enumerate() {
        let [start_u, start_v, start_w] = inverse.map(|[_, b, c]| b * y as f64 + c);
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let x = x as f64;
            let w = inverse[2][0] * x + start_w;
            let u = (inverse[0][0] * x + start_u) / w;
            let v = (inverse[1][0] * x + start_v) / w;
            // Not true either of what lies behind the eye or of NaN.
            if w > 0.0 && u.abs() < POSITION_MAX && v.abs() < POSITION_MAX {
                source.sample(fixed(u) + FRACTION_HALF, fixed(v) + FRACTION_HALF, pixel);
            } else {
                pixel.copy_from_slice(&BACKGROUND);
            }
        }
    }
}

/// The canvas, prepared for sampling.
struct Source<'a> {
    rgb: &'a [u8],
    width: i64,
    height: i64,
}

impl<'a> Source<'a> {
    fn new(canvas: &'a Picture) -> Self {
        Self {
            rgb: &canvas.rgb,
            width: i64::from(canvas.width),
            height: i64::from(canvas.height),
        }
    }

    /// Mixes the four pixels around any position given in fixed point.
    #[inline(always)]
    fn sample(&self, x: i64, y: i64, pixel: &mut [u8]) {
        let (column, row) = (x >> FIXED_BITS, y >> FIXED_BITS);
        if column >= 0 && row >= 0 && column < self.width - 1 && row < self.height - 1 {
            self.sample_inside(x, y, pixel);
        } else if column < -1 || row < -1 || column >= self.width || row >= self.height {
            pixel.copy_from_slice(&BACKGROUND);
        } else {
            let [upper, lower] = self.neighbours(column, row);
            mix(&upper, &lower, x, y, pixel);
        }
    }

    /// The same where all four pixels are known to lie on the canvas.
    #[inline(always)]
    fn sample_inside(&self, x: i64, y: i64, pixel: &mut [u8]) {
        let stride = self.width as usize * 3;
        let start = (y >> FIXED_BITS) as usize * stride + (x >> FIXED_BITS) as usize * 3;
        let upper = &self.rgb[start..][..6];
        let lower = &self.rgb[start + stride..][..6];
        mix(upper, lower, x, y, pixel);
    }

    /// The 2 x 2 pixels at the border, the background standing in for what is outside.
    #[cold]
    fn neighbours(&self, column: i64, row: i64) -> [[u8; 6]; 2] {
        let mut pixels = [[BACKGROUND[0]; 6]; 2];
        for (pixels, row) in pixels.iter_mut().zip(row..) {
            for (pixel, column) in pixels.chunks_exact_mut(3).zip(column..) {
                if (0..self.width).contains(&column) && (0..self.height).contains(&row) {
                    let start = (row * self.width + column) as usize * 3;
                    pixel.copy_from_slice(&self.rgb[start..start + 3]);
                }
            }
        }
        pixels
    }
}

/// Mixes two pixels above and two below by the fractions of the position.
///
/// The three channels are mixed in one go, each in 21 bits of a word: 8 bits of the value and 12 of the weights leave
/// one.
#[inline(always)]
fn mix(upper: &[u8], lower: &[u8], x: i64, y: i64, pixel: &mut [u8]) {
    let fraction = |position: i64| ((position >> (FIXED_BITS - WEIGHT_BITS)) as u64) & (WEIGHT_ONE - 1);
    let (weight_x, weight_y) = (fraction(x), fraction(y));
    let lanes = |bytes: &[u8], at: usize| {
        u64::from(bytes[at])
            | u64::from(bytes[at + 1]) << LANE_BITS
            | u64::from(bytes[at + 2]) << (2 * LANE_BITS)
    };
    let across = |bytes: &[u8]| lanes(bytes, 0) * (WEIGHT_ONE - weight_x) + lanes(bytes, 3) * weight_x;
    let sum = across(upper) * (WEIGHT_ONE - weight_y) + across(lower) * weight_y + LANES_HALF;
    let level = |lane: u32| (sum >> (lane * LANE_BITS + 2 * WEIGHT_BITS)) as u8;
    (pixel[0], pixel[1], pixel[2]) = (level(0), level(1), level(2));
}

fn fill(pixels: &mut [u8]) {
    // All three channels of the background are equal.
    pixels.fill(BACKGROUND[0]);
}

fn fixed(value: f64) -> i64 {
    (value * (1u32 << FIXED_BITS) as f64).round() as i64
}

const FIXED_BITS: u32 = 20;
const WEIGHT_BITS: u32 = 6;
const WEIGHT_ONE: u64 = 1 << WEIGHT_BITS;
const FRACTION_HALF: i64 = 1 << (FIXED_BITS - WEIGHT_BITS - 1);
const LANE_BITS: u32 = 21;
/// One half in each lane, so that the shift rounds.
const LANES_HALF: u64 = (1 | 1 << LANE_BITS | 1 << (2 * LANE_BITS)) << (2 * WEIGHT_BITS - 1);
/// Beyond any canvas, and far from overflow in fixed point.
const POSITION_MAX: f64 = 1e6;
