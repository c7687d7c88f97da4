//! Random rotation, size, shear, shift and perspective: the map of the plane, and what it does to boxes.
//!
//! The map goes about the centre of the canvas, which may be larger than the output (a mosaic's is twice as large): the
//! output shows the middle. What it does to pixels is in `warp`.
//!
//! # Source
//! Same order of the factors, ranges of the draws and box filter as Ultralytics' random perspective.

use super::{AugmentConfig, TargetBox, clip};
use crate::random::KeyedRandom;

/// A map of the plane, `[a b c; d e f; g h 1]` in homogeneous coordinates, from the canvas to the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Projection {
    pub(super) matrix: Matrix,
    /// By how much the map enlarges, but for shear and perspective.
    pub(super) scale: f64,
}

/// Rows of a 3 x 3 matrix.
pub(super) type Matrix = [[f64; 3]; 3];

impl Projection {
    pub(super) fn draw(
        config: &AugmentConfig,
        canvas: (u32, u32),
        image_size: u32,
        random: &mut KeyedRandom,
    ) -> Self {
        let mut within = |limit: f64| random.uniform(-limit, limit);
        let draws = Draws {
            perspective: [within(config.perspective), within(config.perspective)],
            degrees: within(config.degrees),
            scale: 1.0 + within(config.scale),
            shear: [within(config.shear), within(config.shear)],
            shift: [0.5 + within(config.translate), 0.5 + within(config.translate)],
        };
        Self::new(&draws, canvas, image_size)
    }

    /// The map of given draws. Image coordinates: y points down.
    pub(super) fn new(draws: &Draws, canvas: (u32, u32), image_size: u32) -> Self {
        let side = f64::from(image_size);
        let scale = draws.scale.max(SCALE_MIN);
        let (sin, cos) = draws.degrees.to_radians().sin_cos();
        let (sin, cos) = (scale * sin, scale * cos);
        let [shear_x, shear_y] = draws.shear.map(|degrees| degrees.to_radians().tan());
        let [perspective_x, perspective_y] = draws.perspective;
        let shift = [
            [1.0, 0.0, draws.shift[0] * side],
            [0.0, 1.0, draws.shift[1] * side],
            LAST_ROW,
        ];
        let shear = [[1.0, shear_x, 0.0], [shear_y, 1.0, 0.0], LAST_ROW];
        let rotation = [[cos, sin, 0.0], [-sin, cos, 0.0], LAST_ROW];
        let perspective = [
            [1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [perspective_x, perspective_y, 1.0],
        ];
        let centring = [
            [1.0, 0.0, -f64::from(canvas.0) / 2.0],
            [0.0, 1.0, -f64::from(canvas.1) / 2.0],
            LAST_ROW,
        ];
        let matrix = [shear, rotation, perspective, centring]
            .iter()
            .fold(shift, product);
        Self { matrix, scale }
    }

    /// The map from the output back to the canvas.
    pub(super) fn inverse(&self) -> Matrix {
        let [[a, b, c], [d, e, f], [g, h, i]] = self.matrix;
        let adjugate = [
            [e * i - f * h, c * h - b * i, b * f - c * e],
            [f * g - d * i, a * i - c * g, c * d - a * f],
            [d * h - e * g, b * g - a * h, a * e - b * d],
        ];
        let determinant = a * adjugate[0][0] + b * adjugate[1][0] + c * adjugate[2][0];
        adjugate.map(|row| row.map(|value| value / determinant))
    }

    /// The part of the canvas that the output shows, with a margin for mixing: left, top, right, bottom.
    pub(super) fn visible(&self, canvas: (u32, u32), image_size: u32) -> [u32; 4] {
        let side = f64::from(image_size);
        let Some([x1, y1, x2, y2]) = bounds(&self.inverse(), [0.0, 0.0, side, side]) else {
            return [0, 0, canvas.0, canvas.1];
        };
        let low = |edge: f64, limit: u32| ((edge.floor() - MARGIN) as u32).min(limit);
        let high = |edge: f64, limit: u32| ((edge.ceil() + MARGIN) as u32).min(limit);
        let [left, top] = [low(x1, canvas.0), low(y1, canvas.1)];
        [
            left,
            top,
            high(x2, canvas.0).max(left),
            high(y2, canvas.1).max(top),
        ]
    }

    /// Moves the boxes, and drops those of which too little is left.
    pub(super) fn move_boxes(&self, boxes: &mut Vec<TargetBox>, image_size: u32) {
        let side = image_size as f32;
        let enlargement = (self.scale * self.scale) as f32;
        boxes.retain_mut(|target| {
            let area_before = area(target.xyxy) * enlargement;
            let Some(bounds) = self.bounds(target.xyxy) else {
                return false;
            };
            target.xyxy = clip(bounds, side, side);
            let [x1, y1, x2, y2] = target.xyxy;
            let (width, height) = (x2 - x1, y2 - y1);
            width > SIDE_MIN
                && height > SIDE_MIN
                && area(target.xyxy) > AREA_KEPT_MIN * area_before
                && width.max(height) < ASPECT_MAX * width.min(height)
        });
    }

    /// The upright rectangle around a mapped rectangle; none when a corner lies behind the eye.
    pub(super) fn bounds(&self, xyxy: [f32; 4]) -> Option<[f32; 4]> {
        let [x1, y1, x2, y2] = xyxy.map(f64::from);
        bounds(&self.matrix, [x1, y1, x2, y2]).map(|bounds| bounds.map(|value| value as f32))
    }
}

/// What was drawn for one picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Draws {
    pub(super) perspective: [f64; 2],
    pub(super) degrees: f64,
    pub(super) scale: f64,
    /// Degrees.
    pub(super) shear: [f64; 2],
    /// Where the centre of the canvas goes, as fractions of the output's side.
    pub(super) shift: [f64; 2],
}

/// The upright rectangle around a mapped rectangle; none when a corner lies behind the eye.
pub(super) fn bounds(matrix: &Matrix, [x1, y1, x2, y2]: [f64; 4]) -> Option<[f64; 4]> {
    let mut bounds = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    for (x, y) in [(x1, y1), (x2, y1), (x2, y2), (x1, y2)] {
        let [u, v, w] = matrix.map(|[a, b, c]| a * x + b * y + c);
        if w <= 0.0 {
            return None;
        }
        let (u, v) = (u / w, v / w);
        bounds = [
            bounds[0].min(u),
            bounds[1].min(v),
            bounds[2].max(u),
            bounds[3].max(v),
        ];
    }
    Some(bounds)
}

fn product(left: Matrix, right: &Matrix) -> Matrix {
    left.map(|row| {
        [0, 1, 2]
            .map(|column| row[0] * right[0][column] + row[1] * right[1][column] + row[2] * right[2][column])
    })
}

pub(super) fn area([x1, y1, x2, y2]: [f32; 4]) -> f32 {
    (x2 - x1) * (y2 - y1)
}

/// Pixels around a position that are mixed, and one for rounding.
const MARGIN: f64 = 2.0;
const LAST_ROW: [f64; 3] = [0.0, 0.0, 1.0];
/// Keeps the map invertible when `scale` is configured as 1.
const SCALE_MIN: f64 = 1e-3;
/// A box must be wider and higher than this many pixels.
const SIDE_MIN: f32 = 2.0;
/// More than this part of a box must be left inside of the picture.
const AREA_KEPT_MIN: f32 = 0.1;
/// Thinner boxes are dropped.
const ASPECT_MAX: f32 = 100.0;

#[cfg(test)]
#[path = "projection_tests.rs"]
mod tests;
