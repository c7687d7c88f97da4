//! Tests of the colour shift, with values from OpenCV 4.14.0 (`reference/opencv.py`).

use proptest::prelude::*;

use super::*;
use crate::random::Purpose;

#[test]
fn shifts_agree_with_opencv_within_one_level() {
    for ([hue, saturation, value], expected) in REFERENCE {
        let tables = Tables::new(hue, saturation, value);
        for (colour, expected) in COLOURS.into_iter().zip(expected) {
            let found = tables.shift(colour);
            let close = found
                .iter()
                .zip(expected)
                .all(|(found, expected)| found.abs_diff(expected) <= 1);
            assert!(close, "{colour:?}: {found:?} instead of {expected:?}");
        }
    }
}

#[test]
fn grey_stays_grey_and_only_its_value_changes() {
    let tables = Tables::new(0.01, 0.7, 0.4);
    assert_eq!(tables.shift([100; 3]), [140; 3]);
    assert_eq!(tables.shift([250; 3]), [255; 3]);
    assert_eq!(tables.shift([0; 3]), [0; 3]);
}

#[test]
fn no_strength_needs_no_tables_and_takes_the_same_draws() {
    let (mut one, mut other) = (
        KeyedRandom::new(Purpose::Augment, [1, 2, 3]),
        KeyedRandom::new(Purpose::Augment, [1, 2, 3]),
    );
    assert!(Tables::draw(&AugmentConfig::off(), &mut one).is_none());
    assert!(Tables::draw(&AugmentConfig::default(), &mut other).is_some());
    assert_eq!(one.unit(), other.unit());
}

proptest! {
    #[test]
    fn without_gains_colours_survive_the_way_there_and_back(colour: [u8; 3]) {
        let found = Tables::new(0.0, 0.0, 0.0).shift(colour);
        // Hue has 180 steps only.
        prop_assert!(found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 5), "{colour:?} {found:?}");
    }

    #[test]
    fn the_brightest_channel_follows_the_value(colour: [u8; 3], hue in -0.5f64..0.5, saturation in -0.9f64..0.9) {
        let found = Tables::new(hue, saturation, 0.0).shift(colour);
        prop_assert_eq!(found.iter().max(), colour.iter().max());
    }
}

const COLOURS: [[u8; 3]; 12] = [
    [255, 0, 0],
    [0, 255, 0],
    [0, 0, 255],
    [10, 200, 30],
    [200, 190, 15],
    [12, 13, 14],
    [90, 90, 90],
    [0, 0, 0],
    [255, 255, 255],
    [130, 20, 240],
    [1, 0, 2],
    [77, 160, 159],
];

const REFERENCE: [([f64; 3], [[u8; 3]; 12]); 3] = [
    (
        [0.013, 0.4, -0.2],
        [
            [204, 14, 0],
            [0, 204, 14],
            [14, 0, 204],
            [0, 160, 27],
            [160, 160, 0],
            [9, 10, 11],
            [72, 72, 72],
            [0, 0, 0],
            [204, 204, 204],
            [109, 0, 192],
            [1, 0, 1],
            [36, 122, 128],
        ],
    ),
    (
        [-0.01, -0.6, 0.35],
        [
            [255, 153, 160],
            [160, 255, 153],
            [153, 160, 255],
            [159, 255, 162],
            [255, 242, 161],
            [17, 18, 18],
            [121, 121, 121],
            [0, 0, 0],
            [255, 255, 255],
            [202, 162, 255],
            [2, 1, 2],
            [172, 216, 213],
        ],
    ),
    (
        [0.0, 0.0, 0.0],
        [
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
            [10, 200, 29],
            [200, 188, 15],
            [12, 13, 14],
            [90, 90, 90],
            [0, 0, 0],
            [255, 255, 255],
            [130, 20, 240],
            [1, 0, 2],
            [77, 160, 160],
        ],
    ),
];
