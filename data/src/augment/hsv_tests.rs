//! Tests of the colour shift, with values from OpenCV 4.14.0 (`reference/opencv.py`).

use proptest::prelude::*;

use super::*;
use crate::random::Purpose;

fn shifted(tables: &Tables, colour: [u8; 3]) -> [u8; 3] {
    let mut planes = [[0]; 3];
    let [red, green, blue] = &mut planes;
    tables.shift(&colour, [red, green, blue]);
    planes.map(|[level]| level)
}

/// The same pixel by pixel in integers alone.
fn by_the_book(tables: &Tables, [r, g, b]: [i32; 3]) -> [u8; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let range = high - low;
    let turn = match high {
        _ if high == r => g - b,
        _ if high == g => b - r + 2 * range,
        _ => r - g + 4 * range,
    };
    // Rounded: twice the dividend and the divisor, over twice the divisor.
    let divided = |dividend: i32, divisor: i32| {
        let steps = (2 * (dividend << 12) + divisor) / (2 * divisor).max(1);
        move |factor: i32| ((factor * steps + (1 << 11)) >> 12) as u8
    };
    let hue = divided(30, range)(turn);
    let saturation = i32::from(tables.saturation[usize::from(divided(255, high)(range))]);
    let value = i32::from(tables.value[high as usize]);
    tables.falls[usize::from(hue)]
        .map(|fall| ((value * (7650 - saturation * i32::from(fall)) + 3825) / 7650) as u8)
}

#[test]
fn every_colour_is_exactly_what_integers_give() {
    for gains in [[0.013, 0.4, -0.2], [-0.3, -0.6, 0.35]] {
        let tables = Tables::new(gains[0], gains[1], gains[2]);
        for red in 0..=255u8 {
            let colours = (0..=255u8).flat_map(|green| (0..=255u8).map(move |blue| [red, green, blue]));
            let mut rgb: Vec<u8> = colours.clone().flatten().collect();
            let mut planes = vec![0; rgb.len()];
            let (first, rest) = planes.split_at_mut(1 << 16);
            let (second, third) = rest.split_at_mut(1 << 16);
            tables.shift(&rgb, [first, second, third]);
            tables.apply(&mut rgb);
            for (at, colour) in colours.enumerate() {
                let expected = by_the_book(&tables, colour.map(i32::from));
                assert_eq!([first[at], second[at], third[at]], expected, "{colour:?}");
                assert_eq!(rgb[at * 3..][..3], expected, "{colour:?}");
            }
        }
    }
}

#[test]
fn a_block_that_is_not_full_is_shifted_like_any_other() {
    let tables = Tables::new(0.01, 0.7, 0.4);
    let rgb: Vec<u8> = (0..3 * 131).map(|i| (i * 37 % 256) as u8).collect();
    let mut planes = [[0u8; 131]; 3];
    let [red, green, blue] = &mut planes;
    tables.shift(&rgb, [red, green, blue]);
    for (at, pixel) in rgb.chunks_exact(3).enumerate() {
        let expected = shifted(&tables, [pixel[0], pixel[1], pixel[2]]);
        assert_eq!(planes.map(|plane| plane[at]), expected);
    }
}

#[test]
fn shifts_agree_with_opencv_within_one_level() {
    for ([hue, saturation, value], expected) in REFERENCE {
        let tables = Tables::new(hue, saturation, value);
        for (colour, expected) in COLOURS.into_iter().zip(expected) {
            let found = shifted(&tables, colour);
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
    assert_eq!(shifted(&tables, [100; 3]), [140; 3]);
    assert_eq!(shifted(&tables, [250; 3]), [255; 3]);
    assert_eq!(shifted(&tables, [0; 3]), [0; 3]);
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
        let found = shifted(&Tables::new(0.0, 0.0, 0.0), colour);
        // Hue has 180 steps only.
        prop_assert!(found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 5), "{colour:?} {found:?}");
    }

    #[test]
    fn the_brightest_channel_follows_the_value(colour: [u8; 3], hue in -0.5f64..0.5, saturation in -0.9f64..0.9) {
        let found = shifted(&Tables::new(hue, saturation, 0.0), colour);
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
