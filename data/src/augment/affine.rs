//! Random rotation, size, shear and shift, of the pixels and of the boxes.
//!
//! The map goes about the centre of the canvas, which may be larger than the output (a mosaic's is twice as large): the
//! output shows the middle. Pixels are sampled bilinearly in fixed point, 1/256 pixel.
//!
//! # Source
//! Same order of the factors, ranges of the draws and box filter as Ultralytics' random perspective without its
//! perspective part; same pixel-centre convention as OpenCV's `warpAffine`.

use super::{AugmentConfig, TargetBox, clip};
use crate::{letterbox::BACKGROUND, picture::Picture, random::KeyedRandom};

/// A map of the plane, `[a b c; d e f]`, from the canvas to the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine {
    matrix: [f64; 6],
    /// By how much the map enlarges.
    scale: f64,
}

impl Affine {
    pub(super) fn draw(
        config: &AugmentConfig,
        canvas: (u32, u32),
        image_size: u32,
        random: &mut KeyedRandom,
    ) -> Self {
        let side = f64::from(image_size);
        let angle = random.uniform(-config.degrees, config.degrees).to_radians();
        let scale = random
            .uniform(1.0 - config.scale, 1.0 + config.scale)
            .max(SCALE_MIN);
        let mut shear = || random.uniform(-config.shear, config.shear).to_radians().tan();
        let (shear_x, shear_y) = (shear(), shear());
        let mut shift = || random.uniform(0.5 - config.translate, 0.5 + config.translate) * side;
        let (shift_x, shift_y) = (shift(), shift());

        // Shift x shear x (rotation and scale) x centring, multiplied out. Image coordinates: y points down.
        let (sin, cos) = angle.sin_cos();
        let (sin, cos) = (scale * sin, scale * cos);
        let (a, b) = (cos - shear_x * sin, sin + shear_x * cos);
        let (d, e) = (shear_y * cos - sin, shear_y * sin + cos);
        let (centre_x, centre_y) = (f64::from(canvas.0) / 2.0, f64::from(canvas.1) / 2.0);
        let c = shift_x - a * centre_x - b * centre_y;
        let f = shift_y - d * centre_x - e * centre_y;
        Self {
            matrix: [a, b, c, d, e, f],
            scale,
        }
    }

    /// Draws the canvas through the map, into a square of `[image_size, image_size, 3]`.
    pub(super) fn warp(&self, canvas: &Picture, image_size: u32, target: &mut Vec<u8>) {
        let side = image_size as usize;
        target.resize(side * side * 3, 0);
        let [a, b, c, d, e, f] = self.inverse();
        let fixed = |value: f64| (value * f64::from(FIXED_ONE)).round() as i64;
        let columns: Vec<(i64, i64)> = (0..side)
            .map(|x| (fixed(a * x as f64), fixed(d * x as f64)))
            .collect();
        let source = Source::new(canvas);
        for (y, row) in target.chunks_exact_mut(side * 3).enumerate() {
            // Half of 1/256 pixel is added so that the shift below rounds.
            let start_x = fixed(b * y as f64 + c) + FRACTION_HALF;
            let start_y = fixed(e * y as f64 + f) + FRACTION_HALF;
            for (&(step_x, step_y), pixel) in columns.iter().zip(row.chunks_exact_mut(3)) {
                source.sample(start_x + step_x, start_y + step_y, pixel);
            }
        }
    }

    /// Moves the boxes, and drops those of which too little is left.
    pub(super) fn move_boxes(&self, boxes: &mut Vec<TargetBox>, image_size: u32) {
        let side = image_size as f32;
        let enlargement = (self.scale * self.scale) as f32;
        boxes.retain_mut(|target| {
            let area_before = area(target.xyxy) * enlargement;
            target.xyxy = clip(self.bounds(target.xyxy), side, side);
            let [x1, y1, x2, y2] = target.xyxy;
            let (width, height) = (x2 - x1, y2 - y1);
            width > SIDE_MIN
                && height > SIDE_MIN
                && area(target.xyxy) > AREA_KEPT_MIN * area_before
                && width.max(height) < ASPECT_MAX * width.min(height)
        });
    }

    /// The upright rectangle around a mapped rectangle.
    fn bounds(&self, xyxy: [f32; 4]) -> [f32; 4] {
        let [a, b, c, d, e, f] = self.matrix;
        let [x1, y1, x2, y2] = xyxy.map(f64::from);
        let corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)];
        let xs = corners.map(|(x, y)| a * x + b * y + c);
        let ys = corners.map(|(x, y)| d * x + e * y + f);
        let low = |values: [f64; 4]| values.into_iter().fold(f64::INFINITY, f64::min) as f32;
        let high = |values: [f64; 4]| values.into_iter().fold(f64::NEG_INFINITY, f64::max) as f32;
        [low(xs), low(ys), high(xs), high(ys)]
    }

    fn inverse(&self) -> [f64; 6] {
        let [a, b, c, d, e, f] = self.matrix;
        let determinant = a * e - b * d;
        let (ia, ib) = (e / determinant, -b / determinant);
        let (id, ie) = (-d / determinant, a / determinant);
        [ia, ib, -(ia * c + ib * f), id, ie, -(id * c + ie * f)]
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

    /// Mixes the four pixels around a position given in fixed point.
    #[inline(always)]
    fn sample(&self, x: i64, y: i64, pixel: &mut [u8]) {
        let (column, row) = (x >> FIXED_BITS, y >> FIXED_BITS);
        let weight_x = ((x >> (FIXED_BITS - WEIGHT_BITS)) & (WEIGHT_ONE - 1)) as u32;
        let weight_y = ((y >> (FIXED_BITS - WEIGHT_BITS)) & (WEIGHT_ONE - 1)) as u32;
        let (upper, lower);
        let edge;
        if column >= 0 && row >= 0 && column < self.width - 1 && row < self.height - 1 {
            let stride = self.width as usize * 3;
            let start = row as usize * stride + column as usize * 3;
            upper = &self.rgb[start..start + 6];
            lower = &self.rgb[start + stride..start + stride + 6];
        } else if column < -1 || row < -1 || column >= self.width || row >= self.height {
            pixel.copy_from_slice(&BACKGROUND);
            return;
        } else {
            edge = self.neighbours(column, row);
            (upper, lower) = (&edge[0][..], &edge[1][..]);
        }
        let one = WEIGHT_ONE as u32;
        for channel in 0..3 {
            let top = u32::from(upper[channel]) * (one - weight_x) + u32::from(upper[channel + 3]) * weight_x;
            let bottom =
                u32::from(lower[channel]) * (one - weight_x) + u32::from(lower[channel + 3]) * weight_x;
            let sum = top * (one - weight_y) + bottom * weight_y;
            pixel[channel] = ((sum + (1 << (2 * WEIGHT_BITS - 1))) >> (2 * WEIGHT_BITS)) as u8;
        }
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

fn area([x1, y1, x2, y2]: [f32; 4]) -> f32 {
    (x2 - x1) * (y2 - y1)
}

/// Keeps the map invertible when `scale` is configured as 1.
const SCALE_MIN: f64 = 1e-3;
/// A box must be wider and higher than this many pixels.
const SIDE_MIN: f32 = 2.0;
/// More than this part of a box must be left inside of the picture.
const AREA_KEPT_MIN: f32 = 0.1;
/// Thinner boxes are dropped.
const ASPECT_MAX: f32 = 100.0;
const FIXED_BITS: u32 = 20;
const FIXED_ONE: u32 = 1 << FIXED_BITS;
const WEIGHT_BITS: u32 = 8;
const WEIGHT_ONE: i64 = 1 << WEIGHT_BITS;
const FRACTION_HALF: i64 = 1 << (FIXED_BITS - WEIGHT_BITS - 1);

#[cfg(test)]
#[path = "affine_tests.rs"]
mod tests;
