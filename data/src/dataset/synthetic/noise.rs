//! Smooth noise for backgrounds.

use crate::random::KeyedRandom;

/// Random values on a coarse grid, smoothly mixed between.
pub(super) struct SmoothNoise {
    cell: f64,
    values: Vec<f64>,
}

impl SmoothNoise {
    pub(super) fn new(cell: f64, random: &mut KeyedRandom) -> Self {
        Self {
            cell,
            values: (0..NOISE_GRID * NOISE_GRID)
                .map(|_| random.uniform(-1.0, 1.0))
                .collect(),
        }
    }

    pub(super) fn at(&self, x: f64, y: f64) -> f64 {
        let value =
            |column: usize, row: usize| self.values[row % NOISE_GRID * NOISE_GRID + column % NOISE_GRID];
        let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
        let (column, row) = ((x / self.cell) as usize, (y / self.cell) as usize);
        let (tx, ty) = (smooth((x / self.cell).fract()), smooth((y / self.cell).fract()));
        let upper = value(column, row) * (1.0 - tx) + value(column + 1, row) * tx;
        let lower = value(column, row + 1) * (1.0 - tx) + value(column + 1, row + 1) * tx;
        upper * (1.0 - ty) + lower * ty
    }
}

const NOISE_GRID: usize = 32;
