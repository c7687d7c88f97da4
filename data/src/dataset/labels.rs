//! Label files: one object per line, `class x y width height`, as fractions of the image.
//!
//! Strict: a row that is not exactly that makes the whole image unusable, because a file that is wrong in one place is
//! seldom right in the others. Two things are tolerated: values may exceed [0, 1] by 1e-6, the rounding of six
//! printed digits (they are clamped), and boxes without area and repeated rows are dropped and counted. A box
//! whose centre and size are in range may stick out of the image, as label tools write them; it is cut where it is used.

use super::{Label, SkipReason};

/// The usable content of a label file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ParsedLabels {
    pub(super) labels: Vec<Label>,
    /// Number of rows left out: repeated, or without area.
    pub(super) dropped: usize,
}

/// What is wrong with a label file, and in which line (from 1).
#[derive(Debug)]
pub(super) struct LabelFault {
    pub(super) line: u32,
    pub(super) reason: SkipReason,
}

pub(super) fn parse(text: &str, classes: usize) -> Result<ParsedLabels, LabelFault> {
    let mut parsed = ParsedLabels::default();
    for (line, row) in (1..).zip(text.lines()) {
        if row.trim().is_empty() {
            continue;
        }
        let label = parse_row(row, classes).map_err(|reason| LabelFault { line, reason })?;
        let [_, _, width, height] = label.bounds;
        if width > 0.0 && height > 0.0 {
            parsed.labels.push(label);
        } else {
            parsed.dropped += 1;
        }
    }
    parsed.dropped += remove_repeated(&mut parsed.labels);
    Ok(parsed)
}

/// Keeps the first of equal labels; returns how many were removed.
pub(super) fn remove_repeated(labels: &mut Vec<Label>) -> usize {
    let before = labels.len();
    let mut seen = std::collections::BTreeSet::new();
    labels.retain(|label| seen.insert((label.class, label.crowd, label.bounds.map(f32::to_bits))));
    before - labels.len()
}

fn parse_row(row: &str, classes: usize) -> Result<Label, SkipReason> {
    let values: Vec<&str> = row.split_whitespace().collect();
    let [class, bounds @ ..] = values.as_slice() else {
        return Err(SkipReason::NotFiveNumbers { found: 0 });
    };
    let bounds: &[&str; 4] = bounds
        .try_into()
        .map_err(|_| SkipReason::NotFiveNumbers { found: values.len() })?;
    let class = parse_class(class, classes)?;
    let mut parsed = [0.0; 4];
    for (parsed, text) in parsed.iter_mut().zip(bounds) {
        let value = parse_number(text)?;
        if !(-ROUNDING..=1.0 + ROUNDING).contains(&value) {
            return Err(SkipReason::OutsideImage { value });
        }
        *parsed = value.clamp(0.0, 1.0) as f32;
    }
    Ok(Label {
        class,
        bounds: parsed,
        crowd: false,
    })
}

/// Some tools write the class as `3.0`.
fn parse_class(text: &str, classes: usize) -> Result<u32, SkipReason> {
    let class = parse_number(text)?;
    if class.fract() != 0.0 || class < 0.0 || class >= classes as f64 {
        return Err(SkipReason::ClassOutOfRange {
            class: text.to_owned(),
            classes,
        });
    }
    Ok(class as u32)
}

fn parse_number(text: &str) -> Result<f64, SkipReason> {
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
    value.ok_or_else(|| SkipReason::NotANumber {
        text: text.to_owned(),
    })
}

/// Six printed digits round by at most this much.
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_rows_are_read_in_order() {
        let parsed = parse("0 0.5 0.5 0.25 1\n\n  2.0\t0.1 0.2 0.3 0.4  \r\n", 3).unwrap();
        assert_eq!(
            parsed.labels,
            [
                Label {
                    class: 0,
                    bounds: [0.5, 0.5, 0.25, 1.0],
                    crowd: false
                },
                Label {
                    class: 2,
                    bounds: [0.1, 0.2, 0.3, 0.4],
                    crowd: false
                },
            ]
        );
        assert_eq!(parse("", 3).unwrap(), ParsedLabels::default());
    }

    #[test]
    fn a_bad_row_is_named_by_line_and_reason() {
        for (row, expected) in [
            (
                "0 0.5 0.5 0.2",
                "the row has 4 values, a row is: class x y width height",
            ),
            (
                "0 0.5 0.5 0.2 0.2 0.9",
                "the row has 6 values, a row is: class x y width height",
            ),
            (
                "3 0.5 0.5 0.2 0.2",
                "class 3 is out of range, there are 3 classes",
            ),
            (
                "-1 0.5 0.5 0.2 0.2",
                "class -1 is out of range, there are 3 classes",
            ),
            (
                "0.5 0.5 0.5 0.2 0.2",
                "class 0.5 is out of range, there are 3 classes",
            ),
            ("0 nan 0.5 0.2 0.2", "'nan' is not a finite number"),
            ("0 0.5 inf 0.2 0.2", "'inf' is not a finite number"),
            ("0 0.5 x 0.2 0.2", "'x' is not a finite number"),
            ("cell 0.5 0.5 0.2 0.2", "'cell' is not a finite number"),
            (
                "0 0.5 1.5 0.2 0.2",
                "the box has the coordinate 1.5, coordinates are fractions of the image between 0 and 1",
            ),
            (
                "0 0.5 0.5 -0.2 0.2",
                "the box has the coordinate -0.2, coordinates are fractions of the image between 0 and 1",
            ),
        ] {
            let fault = parse(&format!("0 0.5 0.5 0.1 0.1\n{row}\n"), 3).unwrap_err();
            assert_eq!((fault.line, fault.reason.to_string().as_str()), (2, expected));
        }
    }

    #[test]
    fn rounding_is_tolerated_and_clamped() {
        let parsed = parse("0 0.5 0.5 1.000001 0.2", 1).unwrap();
        assert_eq!(parsed.labels[0].bounds[2], 1.0);
        assert!(parse("0 0.5 0.5 1.00001 0.2", 1).is_err());
    }

    #[test]
    fn repeated_and_empty_boxes_are_dropped_and_counted() {
        let parsed = parse(
            "0 .5 .5 .2 .2\n0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0 .5 .5 0 .2\n0 0.50 .5 .2 .2",
            2,
        )
        .unwrap();
        assert_eq!(
            parsed.labels.iter().map(|label| label.class).collect::<Vec<_>>(),
            [0, 1]
        );
        assert_eq!(parsed.dropped, 3);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}", classes in 0usize..4) {
            if let Ok(parsed) = parse(&text, classes) {
                for label in parsed.labels {
                    prop_assert!((label.class as usize) < classes);
                    prop_assert!(label.bounds.iter().all(|value| (0.0..=1.0).contains(value)));
                }
            }
        }
    }
}
