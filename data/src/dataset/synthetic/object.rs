//! The classes of the built-in set, and single objects: outline, colour, bounds.

use crate::random::KeyedRandom;

/// A class of the built-in set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Circle,
    Square,
    Triangle,
    Cross,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Circle, Self::Square, Self::Triangle, Self::Cross];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Cross => "cross",
        }
    }

    /// The middle of the class's range of hues, in degrees.
    fn hue(self) -> f64 {
        match self {
            Self::Circle => 0.0,
            Self::Square => 120.0,
            Self::Triangle => 220.0,
            Self::Cross => 52.0,
        }
    }

    /// The outline in a circle of radius 1, before turning; the circle itself has many corners.
    fn corners(self) -> Vec<(f64, f64)> {
        let regular = |count: usize| {
            let turn = |index| std::f64::consts::TAU * index as f64 / count as f64;
            (0..count)
                .map(|index| (turn(index).sin(), -turn(index).cos()))
                .collect()
        };
        match self {
            Self::Circle => regular(64),
            Self::Square => regular(4),
            Self::Triangle => regular(3),
            Self::Cross => {
                let (arm, end) = (0.3, 0.95);
                let quarter = [(-arm, -end), (arm, -end), (arm, -arm)];
                let turned = |(x, y): (f64, f64), times| (0..times).fold((x, y), |(x, y), _| (-y, x));
                (0..4)
                    .flat_map(|times| quarter.map(|corner| turned(corner, times)))
                    .collect()
            }
        }
    }
}

/// One shape of a scene.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) colour: [u8; 3],
    /// Corners in pixels.
    outline: Vec<(f64, f64)>,
    /// Left, top, right, bottom in pixels: the exact bounds of the outline.
    pub(super) bounds: [f64; 4],
}

impl Object {
    pub(super) fn plan(kind: Kind, width: u32, height: u32, random: &mut KeyedRandom) -> Self {
        let side = f64::from(width.min(height));
        let radius = side * random.uniform(0.17, 0.3);
        let x = random.uniform(radius, f64::from(width) - radius);
        let y = random.uniform(radius, f64::from(height) - radius);
        let (sin, cos) = random.uniform(-0.35, 0.35).sin_cos();
        // A square stands on its side, not on its corner.
        let (sin, cos) = if kind == Kind::Square {
            (
                std::f64::consts::FRAC_1_SQRT_2 * (sin + cos),
                std::f64::consts::FRAC_1_SQRT_2 * (cos - sin),
            )
        } else {
            (sin, cos)
        };
        let turned =
            |(u, v): (f64, f64)| (x + radius * (u * cos - v * sin), y + radius * (u * sin + v * cos));
        let outline: Vec<_> = kind.corners().into_iter().map(turned).collect();
        let hue = kind.hue() + random.uniform(-14.0, 14.0);
        let colour = hsv(hue, random.uniform(0.75, 1.0), random.uniform(0.7, 1.0));
        let mut bounds = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
        for &(x, y) in &outline {
            bounds = [
                bounds[0].min(x),
                bounds[1].min(y),
                bounds[2].max(x),
                bounds[3].max(y),
            ];
        }
        Self {
            kind,
            colour,
            outline,
            bounds,
        }
    }

    pub(super) fn is_apart_from(&self, other: &Self) -> bool {
        let ([a1, b1, a2, b2], [c1, d1, c2, d2]) = (self.bounds, other.bounds);
        a2 < c1 || c2 < a1 || b2 < d1 || d2 < b1
    }

    /// The part of a pixel that the shape covers, from 3 x 3 points.
    pub(super) fn coverage(&self, column: u32, row: u32) -> f64 {
        let points = [1.0 / 6.0, 0.5, 5.0 / 6.0];
        let is_covered = |dx: f64, dy: f64| self.contains(f64::from(column) + dx, f64::from(row) + dy);
        let covered = points
            .iter()
            .flat_map(|&dy| points.iter().map(move |&dx| (dx, dy)));
        covered.filter(|&(dx, dy)| is_covered(dx, dy)).count() as f64 / 9.0
    }

    /// Even-odd rule.
    fn contains(&self, x: f64, y: f64) -> bool {
        let mut inside = false;
        let mut previous = self.outline[self.outline.len() - 1];
        for &corner in &self.outline {
            let ((x1, y1), (x2, y2)) = (previous, corner);
            if (y1 > y) != (y2 > y) && x < x1 + (y - y1) / (y2 - y1) * (x2 - x1) {
                inside = !inside;
            }
            previous = corner;
        }
        inside
    }
}

/// RGB of a hue in degrees, a saturation and a value.
pub(super) fn hsv(hue: f64, saturation: f64, value: f64) -> [u8; 3] {
    // Channel = value x (1 - saturation x how far the hue is from the channel's own).
    [0.0, 120.0, 240.0].map(|own: f64| {
        let distance = ((hue - own).rem_euclid(360.0) - 180.0).abs();
        let lack = ((120.0 - distance) / 60.0).clamp(0.0, 1.0);
        (value * (1.0 - saturation * lack) * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_become_the_right_colours() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [255, 0, 0]);
        assert_eq!(hsv(60.0, 1.0, 1.0), [255, 255, 0]);
        assert_eq!(hsv(120.0, 1.0, 1.0), [0, 255, 0]);
        assert_eq!(hsv(-120.0, 1.0, 0.5), [0, 0, 128]);
        assert_eq!(hsv(77.0, 0.0, 1.0), [255; 3]);
    }
}
