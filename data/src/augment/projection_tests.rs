//! Tests of the map: pixels, boxes, draws.

use super::super::{reference, warp::warp};
use super::*;
use crate::{letterbox::BACKGROUND, picture::Picture, random::Purpose};

fn draw(config: &AugmentConfig, key: u64, canvas: u32, size: u32) -> Projection {
    Projection::draw(
        config,
        (canvas, canvas),
        size,
        &mut KeyedRandom::new(Purpose::Augment, [key, 0, 0]),
    )
}

fn target(xyxy: [f32; 4]) -> TargetBox {
    TargetBox { class: 0, xyxy }
}

#[test]
fn without_strength_the_middle_of_the_canvas_is_copied() {
    let rgb = (0..40 * 40 * 3).map(|i| (i * 7 % 256) as u8).collect();
    let canvas = Picture {
        width: 40,
        height: 40,
        rgb,
    };
    let mut out = Vec::new();
    warp(&draw(&AugmentConfig::off(), 0, 40, 20), &canvas, 20, &mut out);
    for y in 0..20 {
        assert_eq!(out[y * 60..][..60], canvas.rgb[((y + 10) * 40 + 10) * 3..][..60]);
    }
}

#[test]
fn warping_agrees_with_opencv() {
    // Values of OpenCV 4.14.0, made by reference/opencv.py. OpenCV rounds positions to 1/32 pixel, and the pattern
    // jumps by up to 255 from pixel to pixel.
    let value = |i: usize| {
        let (x, y, channel) = (i / 3 % 12, i / 36, i % 3);
        ((x * 37 + y * 91 + channel * 53 + x * y * 7) % 256) as u8
    };
    let canvas = Picture {
        width: 12,
        height: 12,
        rgb: (0..12 * 12 * 3).map(value).collect(),
    };
    let mut out = Vec::new();
    let projection = Projection {
        matrix: [[0.8, 0.3, -2.5], [-0.25, 0.9, 3.25], [0.0, 0.0, 1.0]],
        scale: 1.0,
    };
    warp(&projection, &canvas, 10, &mut out);
    let differences = out
        .chunks_exact(3)
        .zip(WARPED)
        .map(|(pixel, expected)| pixel[0].abs_diff(expected));
    let differences: Vec<u32> = differences.map(u32::from).collect();
    assert!(
        differences.iter().all(|&difference| difference <= 5),
        "{differences:?}"
    );
    assert!(differences.iter().sum::<u32>() < 150, "{differences:?}");
}

#[test]
fn boxes_move_with_the_pixels_under_any_map() {
    let config = AugmentConfig {
        degrees: 30.0,
        shear: 10.0,
        perspective: 0.001,
        ..AugmentConfig::default()
    };
    let mut canvas = Picture::filled(128, 128, BACKGROUND);
    for y in 50..70 {
        canvas.rgb[(y * 128 + 44) * 3..(y * 128 + 80) * 3].fill(255);
    }
    for key in 0..50 {
        let affine = draw(&config, key, 128, 128);
        let mut out = Vec::new();
        warp(&affine, &canvas, 128, &mut out);
        let [x1, y1, x2, y2] = affine.bounds([44.0, 50.0, 80.0, 70.0]).unwrap();
        let lit = |index: &usize| out[index * 3] > 184;
        let lit: Vec<_> = (0..128 * 128)
            .filter(lit)
            .map(|i| ((i % 128) as f32, (i / 128) as f32))
            .collect();
        let column = |&(x, _): &(f32, f32)| x;
        let row = |&(_, y): &(f32, f32)| y;
        let low = |values: &mut dyn Iterator<Item = f32>| values.fold(f32::INFINITY, f32::min);
        let high = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, f32::max);
        let found = [
            low(&mut lit.iter().map(column)),
            low(&mut lit.iter().map(row)),
            high(&mut lit.iter().map(column)) + 1.0,
            high(&mut lit.iter().map(row)) + 1.0,
        ];
        for (found, expected) in found.into_iter().zip(clip([x1, y1, x2, y2], 128.0, 128.0)) {
            assert!((found - expected).abs() < 2.5, "key {key}: {found} {expected}");
        }
    }
}

#[test]
fn the_rotation_turns_counter_clockwise_for_positive_angles() {
    // As OpenCV's getRotationMatrix2D: [cos sin; -sin cos].
    let affine = (0..).map(|key| {
        draw(
            &AugmentConfig {
                degrees: 40.0,
                ..AugmentConfig::off()
            },
            key,
            64,
            64,
        )
    });
    let affine = affine.take(20).find(|affine| affine.matrix[0][1] > 0.1).unwrap();
    let [[a, b, _], [d, e, _], _] = affine.matrix;
    assert!((a - e).abs() < 1e-12 && (b + d).abs() < 1e-12 && (a * a + b * b - 1.0).abs() < 1e-12);
}

#[test]
fn boxes_that_are_mostly_outside_tiny_or_thin_are_dropped() {
    let keep = Projection {
        matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        scale: 1.0,
    };
    for (xyxy, stays) in [
        ([10.0, 10.0, 30.0, 30.0], true),
        ([-18.0, 10.0, 3.0, 30.0], true),
        ([-28.0, 10.0, 2.5, 30.0], false),
        ([10.0, 10.0, 12.0, 30.0], false),
        ([10.0, 10.0, 30.0, 12.1], true),
        ([0.0, 10.0, 320.0, 13.0], false),
        ([400.0, 10.0, 420.0, 30.0], false),
    ] {
        let mut boxes = vec![target(xyxy)];
        keep.move_boxes(&mut boxes, 320);
        assert_eq!(boxes.len() == 1, stays, "{xyxy:?}");
    }
}

#[test]
fn the_area_before_is_taken_at_the_new_size() {
    // A sixteenth of the area, but wholly inside: nothing was cut, so the box stays.
    let quarter = Projection {
        matrix: [[0.25, 0.0, 0.0], [0.0, 0.25, 0.0], [0.0, 0.0, 1.0]],
        scale: 0.25,
    };
    let mut boxes = vec![target([40.0, 40.0, 80.0, 80.0])];
    quarter.move_boxes(&mut boxes, 64);
    assert_eq!(boxes, [target([10.0, 10.0, 20.0, 20.0])]);
}

#[test]
fn pixels_and_boxes_agree_with_ultralytics() {
    let cases = reference::load().perspective;
    assert!(cases.iter().any(|case| case.draws.perspective != [0.0; 2]));
    for (index, case) in cases.iter().enumerate() {
        let draws = Draws {
            perspective: case.draws.perspective,
            degrees: case.draws.degrees,
            scale: case.draws.scale,
            shear: case.draws.shear,
            shift: case.draws.shift,
        };
        let projection = Projection::new(&draws, case.canvas, case.side);
        let mut boxes = reference::boxes(&case.boxes, 0);
        projection.move_boxes(&mut boxes, case.side);
        reference::assert_boxes(&boxes, &case.kept, 1e-3, index);

        let mut out = Vec::new();
        let canvas = reference::pattern(case.canvas.0, case.canvas.1, 1);
        warp(&projection, &canvas, case.side, &mut out);
        let side = case.side as usize;
        let rows = (0..side).step_by(4);
        let found = rows.flat_map(|y| (0..side).step_by(4).map(move |x| (y * side + x) * 3 + 1));
        let off: Vec<u8> = found
            .zip(&case.pixels)
            .map(|(at, &level)| out[at].abs_diff(level))
            .collect();
        assert_eq!(off.len(), case.pixels.len());
        // OpenCV rounds positions to 1/32 pixel, and the pattern jumps from 255 to 0 here and there.
        let far = off.iter().filter(|&&off| off > 2).count();
        assert!(far * 20 <= off.len(), "case {index}: {off:?}");
    }
}

#[test]
fn only_the_visible_part_of_a_canvas_is_looked_at() {
    let config = AugmentConfig {
        degrees: 30.0,
        shear: 10.0,
        perspective: 0.001,
        scale: 0.9,
        ..AugmentConfig::default()
    };
    let whole = reference::pattern(128, 128, 5);
    let mut hidden = 0;
    for key in 0..200 {
        let config = AugmentConfig {
            perspective: config.perspective * f64::from(key % 2 == 0),
            ..config.clone()
        };
        let projection = draw(&config, u64::from(key as u32), 128, 64);
        let [left, top, right, bottom] = projection.visible((128, 128), 64);
        let mut part = Picture::filled(128, 128, [255; 3]);
        for row in top as usize..bottom as usize {
            let span = (row * 128 + left as usize) * 3..(row * 128 + right as usize) * 3;
            part.rgb[span.clone()].copy_from_slice(&whole.rgb[span]);
        }
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        warp(&projection, &whole, 64, &mut expected);
        warp(&projection, &part, 64, &mut found);
        assert!(found == expected, "key {key}");
        hidden += 128 * 128 - (right - left) * (bottom - top);
    }
    assert!(
        hidden > 200 * 128 * 32,
        "a good part of the canvas is hidden on average"
    );
}

#[test]
fn draws_stay_in_their_ranges() {
    let config = AugmentConfig::default();
    for key in 0..500 {
        let affine = draw(&config, key, 200, 100);
        assert!((0.5..1.5).contains(&affine.scale));
        // The centre of the canvas lands within 10 % of the output's centre.
        let [[a, b, c], [d, e, f], _] = affine.matrix;
        let (x, y) = (a * 100.0 + b * 100.0 + c, d * 100.0 + e * 100.0 + f);
        assert!(
            (40.0..=60.0).contains(&x) && (40.0..=60.0).contains(&y),
            "{x} {y}"
        );
    }
}

const WARPED: [u8; 100] = [
    114, 114, 114, 114, 114, 113, 127, 115, 114, 114, 114, 114, 131, 63, 63, 96, 94, 103, 114, 114, 119, 156,
    186, 99, 148, 220, 89, 168, 114, 114, 168, 35, 83, 139, 76, 108, 126, 156, 115, 114, 126, 108, 158, 167,
    144, 175, 115, 145, 94, 114, 96, 195, 158, 149, 118, 97, 134, 175, 195, 114, 179, 75, 135, 125, 149, 110,
    116, 112, 120, 114, 112, 128, 182, 120, 222, 95, 124, 163, 139, 112, 72, 156, 61, 134, 115, 173, 121, 55,
    122, 165, 140, 90, 143, 138, 126, 56, 154, 132, 79, 91,
];
