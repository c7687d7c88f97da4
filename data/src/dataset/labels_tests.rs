//! Tests of label files: boxes, polygons, keypoints, borders, and what is refused.
//!
//! What is taken and refused follows what `verify_image_label` of Ultralytics 8.4.190 did with rows of each kind.

use proptest::prelude::*;

use super::*;

/// Three classes, no keypoints.
const THREE: RowFormat = RowFormat {
    classes: 3,
    keypoint_values: 0,
};

fn label(class: u32, bounds: [f32; 4]) -> Label {
    Label {
        class,
        bounds,
        crowd: false,
    }
}

fn read(text: &str) -> ParsedLabels {
    parse(text, THREE).unwrap()
}

/// What is said about the second line of a file.
fn refusal(first: &str, row: &str) -> String {
    let fault = parse(&format!("{first}\n{row}\n"), THREE).unwrap_err();
    assert_eq!(fault.line, 2, "{row}");
    fault.reason.to_string()
}

#[test]
fn good_rows_are_read_in_order() {
    let parsed = read("0 0.5 0.5 0.25 1\n\n  2.0\t0.1 0.2 0.3 0.4  \r\n");
    assert_eq!(
        parsed.labels,
        [label(0, [0.5, 0.5, 0.25, 1.0]), label(2, [0.1, 0.2, 0.3, 0.4])]
    );
    assert_eq!(read(""), ParsedLabels::default());
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
        assert_eq!(refusal("0 0.5 0.5 0.1 0.1", row), expected);
    }
}

#[test]
fn a_polygon_counts_as_the_box_around_its_points() {
    for (row, class, bounds) in [
        ("1 0.25 0.25 0.75 0.25 0.75 1", 1, [0.5, 0.625, 0.5, 0.75]),
        ("2.0 0 0 1 0 1 1 0 1", 2, [0.5, 0.5, 1.0, 1.0]),
        ("0 0.5 0.75 0.25 0.5 0.75 0.5 0.5 0.25 0.5 0.5", 0, [0.5; 4]),
        ("0 -0.25 0.25 0.5 0.25 0.5 0.5", 0, [0.125, 0.375, 0.75, 0.25]),
    ] {
        assert_eq!(read(row).labels, [label(class, bounds)], "{row}");
    }
}

#[test]
fn a_bad_row_among_polygons_is_named_by_line_and_reason() {
    let box_row = "the row is a box, other rows are polygons; a file holds either boxes or polygons";
    for (row, expected) in [
        ("0 0.5 0.5 0.2 0.2", box_row),
        (
            "0",
            "the row has 1 values, in a file of polygons a row is: class x1 y1 x2 y2 x3 y3 and so on",
        ),
        (
            "0 0.5 0.5 0.2 0.2 0.9",
            "the row has 6 values, in a file of polygons a row is: class x1 y1 x2 y2 x3 y3 and so on",
        ),
        (
            "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4",
            "the row has 8 values, in a file of polygons a row is: class x1 y1 x2 y2 x3 y3 and so on",
        ),
        ("3 0 0 1 0 1 1", "class 3 is out of range, there are 3 classes"),
        ("0 0 0 1 0 x 1", "'x' is not a finite number"),
        (
            "0 1.5 0 1.75 0 1.75 1",
            "the box has the coordinate 1.625, coordinates are fractions of the image between 0 and 1",
        ),
        (
            "0 -0.25 0 1 0 1 1",
            "the box has the coordinate 1.25, coordinates are fractions of the image between 0 and 1",
        ),
    ] {
        assert_eq!(refusal("0 0 0 1 0 1 1", row), expected);
    }
    let fault = parse("0 0.5 0.5 0.2 0.2\n0 0 0 1 0 1 1\n", THREE).unwrap_err();
    assert_eq!((fault.line, fault.reason.to_string().as_str()), (1, box_row));
}

#[test]
fn a_hundredth_beyond_the_border_is_tolerated_and_kept() {
    for (row, is_taken) in [
        ("0 1.01 1.01 1.01 1.01", true),
        ("0 -0.01 -0.01 0.5 0.5", true),
        ("0 1.0101 0.5 0.5 0.5", false),
        ("0 0.5 1.0101 0.5 0.5", false),
        ("0 0.5 0.5 1.0101 0.5", false),
        ("0 0.5 0.5 0.5 1.0101", false),
        ("0 -0.0101 0.5 0.5 0.5", false),
        ("0 0.5 -0.0101 0.5 0.5", false),
        ("0 0.5 0.5 -0.001 0.5", false),
        ("0 0.5 0.5 0.5 -0.001", false),
        ("-0.001 0.5 0.5 0.5 0.5", false),
    ] {
        assert_eq!(parse(row, THREE).is_ok(), is_taken, "{row}");
    }
    let parsed = read("0 1.01 -0.01 1.01 0.5");
    assert_eq!(parsed.labels, [label(0, [1.01, -0.01, 1.01, 0.5])]);
}

#[test]
fn a_byte_order_mark_is_ignored() {
    assert_eq!(
        read("\u{feff}1 0.5 0.5 0.2 0.2\n").labels,
        [label(1, [0.5, 0.5, 0.2, 0.2])]
    );
    assert_eq!(read("\u{feff}"), ParsedLabels::default());
    assert!(parse("0 0.5 0.5 0.2 0.2\n\u{feff}0 0.5 0.5 0.1 0.1", THREE).is_err());
}

#[test]
fn rows_end_where_python_ends_lines() {
    for end in [
        "\n", "\r\n", "\r", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}",
    ] {
        // Three boxes in one row would pass as a polygon of seven points.
        let text = ["0 0.5 0.5 0.1 0.1", "1 0.5 0.5 0.1 0.1", "1 0.5 0.5 0.2 0.2", ""].join(end);
        assert_eq!(read(&text).labels.len(), 3, "{end:?}");
    }
}

#[test]
fn keypoints_of_pose_labels_are_passed_over() {
    let format = RowFormat {
        keypoint_values: 4,
        ..THREE
    };
    let pose = "1 0.5 0.5 0.25 0.25 0.4 0.4 0.6 0.6";
    let text = format!("{pose}\n0 0.5 0.5 0.5 0.5\n");
    assert_eq!(
        parse(&text, format).unwrap().labels,
        [label(1, [0.5, 0.5, 0.25, 0.25]), label(0, [0.5; 4])]
    );
    // Other numbers of values are polygons, among which a pose label is a box.
    let fault = parse(&format!("0 0 0 1 0 1 1\n{pose}\n"), format).unwrap_err();
    assert!(
        matches!(fault.reason, SkipReason::BoxAmongPolygons),
        "{}",
        fault.reason
    );
    assert_eq!(read(pose).labels.len(), 1, "a polygon, as nothing says otherwise");
}

#[test]
fn repeated_and_empty_boxes_are_dropped_and_counted() {
    let parsed =
        read("0 .5 .5 .2 .2\n0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0 .5 .5 0 .2\n0 .5 .5 .2 -0\n0 0.50 .5 .2 .2");
    assert_eq!(
        parsed.labels,
        [label(0, [0.5, 0.5, 0.2, 0.2]), label(1, [0.5, 0.5, 0.2, 0.2])]
    );
    assert_eq!(parsed.dropped, 4);
}

#[test]
fn repeated_and_flat_polygons_are_dropped_but_different_ones_may_share_a_box() {
    let parsed = read("0 0 0 1 0 1 1\n0 0 0 1 0 1 1.0\n0 0 0 1 0 0 1\n0 0 0 1 0 .5 0\n0 .5 .5");
    assert_eq!(parsed.labels, [label(0, [0.5, 0.5, 1.0, 1.0]); 2]);
    assert_eq!(parsed.dropped, 3);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}", classes in 0usize..4) {
        check(&text, classes)?;
    }

    #[test]
    fn any_numbers_are_read_or_refused(
        text in "((0|1|2\\.0|-0\\.01|0\\.5|1\\.01|1\\.02|-1e38|3e38|1e39)[ \n]){0,40}",
        classes in 0usize..4,
    ) {
        check(&text, classes)?;
    }
}

fn check(text: &str, classes: usize) -> Result<(), TestCaseError> {
    let format = RowFormat {
        classes,
        keypoint_values: 2,
    };
    if let Ok(parsed) = parse(text, format) {
        for label in parsed.labels {
            prop_assert!((label.class as usize) < classes);
            let [x, y, width, height] = label.bounds;
            prop_assert!([x, y].iter().all(|value| (-0.01..=1.01).contains(value)));
            prop_assert!([width, height].iter().all(|&value| value > 0.0 && value <= 1.01));
        }
    }
    Ok(())
}
