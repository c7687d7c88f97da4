//! Label files: one object per line, as fractions of the image: its box, `class x y width height`, or the polygon around
//! it, `class x1 y1 x2 y2 x3 y3` and so on.
//!
//! A file with a row of more than six values holds polygons, and each counts as the box around its points. That box is
//! what rotation and shear move, so what they leave of it is larger than the object; Ultralytics moves the polygon and
//! takes the box around it anew. Keypoints of pose labels are passed over where data.yaml has `kpt_shape`.
//!
//! Strict: a row that does not fit makes the whole image unusable, because a file that is wrong in one place is seldom
//! right in the others. Tolerated are centres from -0.01 to 1.01 and sizes up to 1.01, and points of a polygon anywhere
//! as long as its box is within that. Nothing is clamped here: a box may stick out of the image, as label tools write
//! them, and is cut where it is used. Boxes without area and repeated rows are dropped and counted.
//!
//! # Source
//! The files that `verify_image_label` of Ultralytics 8.4.190 takes. Two things differ: boxes without area stay there,
//! and with `single_cls` it takes any class, which here must exist as otherwise.

use std::collections::BTreeSet;

use super::{Label, SkipReason, files};

/// The usable content of a label file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ParsedLabels {
    pub(super) labels: Vec<Label>,
    /// Number of rows left out: repeated, or without area.
    pub(super) dropped: usize,
}

/// What the dataset's description says about rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowFormat {
    /// Number of classes.
    pub(super) classes: usize,
    /// Number of values that pose labels have behind the box; 0 when there are no keypoints.
    pub(super) keypoint_values: usize,
}

/// What is wrong with a label file, and in which line (from 1).
#[derive(Debug)]
pub(super) struct LabelFault {
    pub(super) line: u32,
    pub(super) reason: SkipReason,
}

pub(super) fn parse(text: &str, format: RowFormat) -> Result<ParsedLabels, LabelFault> {
    let text = files::without_mark(text);
    let has_polygons = rows(text).any(|(_, row)| format.count(row) > POLYGON_VALUES_ABOVE);
    let shape = if has_polygons { Shape::Polygon } else { Shape::Box };
    let mut parsed = ParsedLabels::default();
    let mut seen = BTreeSet::new();
    for (line, row) in rows(text) {
        let fault = |reason| LabelFault { line, reason };
        let row = Row::parse(row, shape, format).map_err(fault)?;
        let bounds = row.bounds().map_err(fault)?;
        let [_, _, width, height] = bounds;
        let has_area = width > 0.0 && height > 0.0;
        // Different polygons may have one box, so it is rows that are compared.
        if has_area && seen.insert(row.key()) {
            parsed.labels.push(Label {
                class: row.class,
                bounds,
                crowd: false,
            });
        } else {
            parsed.dropped += 1;
        }
    }
    Ok(parsed)
}

impl RowFormat {
    /// Number of values of a row, without those of keypoints.
    fn count(self, row: &str) -> usize {
        let found = row.split_whitespace().count();
        let is_pose = found == BOX_VALUES.saturating_add(self.keypoint_values);
        if is_pose { BOX_VALUES } else { found }
    }
}

/// What all rows of a file hold.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Box,
    Polygon,
}

impl Shape {
    fn check(self, found: usize) -> Result<(), SkipReason> {
        match self {
            Self::Box if found != BOX_VALUES => Err(SkipReason::NotFiveNumbers { found }),
            Self::Polygon if found == BOX_VALUES => Err(SkipReason::BoxAmongPolygons),
            Self::Polygon if found < POINT_VALUES || found.is_multiple_of(2) => {
                Err(SkipReason::NotPoints { found })
            }
            Self::Box | Self::Polygon => Ok(()),
        }
    }
}

/// A row as numbers.
struct Row {
    class: u32,
    /// Centre and size of a box, or the points of a polygon.
    coordinates: Vec<f32>,
}

impl Row {
    fn parse(row: &str, shape: Shape, format: RowFormat) -> Result<Self, SkipReason> {
        let count = format.count(row);
        shape.check(count)?;
        let mut values = row.split_whitespace().take(count);
        let class = parse_class(values.next().unwrap_or_default(), format.classes)?;
        let coordinates = values
            .map(parse_number)
            .collect::<Result<Vec<f32>, SkipReason>>()?;
        Ok(Self { class, coordinates })
    }

    /// Centre x, centre y, width and height.
    fn bounds(&self) -> Result<[f32; 4], SkipReason> {
        let bounds = match self.coordinates.as_slice() {
            // Invariant: these are no two points, because `Shape::check` lets five values pass as a box only.
            &[x, y, width, height] => [x, y, width, height],
            points => around(points),
        };
        let [x, y, width, height] = bounds;
        for (value, lowest) in [(x, CENTRE_MIN), (y, CENTRE_MIN), (width, 0.0), (height, 0.0)] {
            if !(lowest..=COORDINATE_MAX).contains(&value) {
                return Err(SkipReason::OutsideImage { value });
            }
        }
        Ok(bounds)
    }

    /// Equal for equal rows only.
    fn key(&self) -> (u32, Vec<u32>) {
        let bits = self.coordinates.iter().map(|value| value.to_bits());
        (self.class, bits.collect())
    }
}

/// Centre and size of the box around points.
fn around(points: &[f32]) -> [f32; 4] {
    let extent = |axis: usize| {
        let values = || points.iter().copied().skip(axis).step_by(2);
        let low = values().fold(f32::INFINITY, f32::min);
        let high = values().fold(f32::NEG_INFINITY, f32::max);
        [(low + high) / 2.0, high - low]
    };
    let [[x, width], [y, height]] = [extent(0), extent(1)];
    [x, y, width, height]
}

/// The rows that are not blank, with their lines.
fn rows(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let lines = text.lines().flat_map(|line| line.split(OTHER_LINE_ENDS));
    (1_u32..).zip(lines).filter(|(_, row)| !row.trim().is_empty())
}

/// Some tools write the class as `3.0`.
fn parse_class(text: &str, classes: usize) -> Result<u32, SkipReason> {
    let class = parse_number(text)?;
    if class.fract() != 0.0 || class < 0.0 || class >= classes as f32 {
        return Err(SkipReason::ClassOutOfRange {
            class: text.to_owned(),
            classes,
        });
    }
    Ok(class as u32)
}

fn parse_number(text: &str) -> Result<f32, SkipReason> {
    let value = text.parse::<f64>().ok().map(|value| value as f32);
    value
        .filter(|value| value.is_finite())
        .ok_or_else(|| SkipReason::NotANumber {
            text: text.to_owned(),
        })
}

/// Class, centre x, centre y, width, height.
const BOX_VALUES: usize = 5;
/// Class and one point: a polygon without area, but one.
const POINT_VALUES: usize = 3;
/// Six values are a box with something behind it, such as a score.
const POLYGON_VALUES_ABOVE: usize = 6;
/// One percent of tolerance at the image's borders, as in the source.
const CENTRE_MIN: f32 = -0.01;
/// See [`CENTRE_MIN`].
const COORDINATE_MAX: f32 = 1.01;
/// What ends a line in Python besides `\n` and `\r\n`; rows that run into each other could pass as a polygon.
const OTHER_LINE_ENDS: [char; 6] = ['\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
