//! Tests of resizing: properties, and values from OpenCV 4.14.0 (`reference/opencv.py`).

use proptest::prelude::*;

use super::*;

/// The picture of the reference script.
fn pattern(width: u32, height: u32) -> Picture {
    let value = |x: u32, y: u32, channel: u32| ((x * 37 + y * 91 + channel * 53 + x * y * 7) % 256) as u8;
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    Picture {
        width,
        height,
        rgb: pixels
            .flat_map(|(x, y)| [0, 1, 2].map(|channel| value(x, y, channel)))
            .collect(),
    }
}

#[test]
fn resizing_gives_the_levels_of_opencv() {
    for (width, height, new_width, new_height, expected) in REFERENCE {
        let resized = resize(&pattern(width, height), new_width, new_height);
        let first_channel: Vec<u8> = resized.rgb.chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!(first_channel.len(), expected.len());
        for (index, (&found, &expected)) in first_channel.iter().zip(expected).enumerate() {
            assert_eq!(found, expected, "{width}x{height}, pixel {index}");
        }
    }
}

#[test]
fn the_long_side_is_exact_and_the_short_side_rounded_up() {
    for (size, expected) in [
        ((640, 480), (320, 240)),
        ((480, 640), (240, 320)),
        ((500, 333), (320, 214)),
        ((3, 1000), (1, 320)),
    ] {
        assert_eq!(long_side_size(size.0, size.1, 320), expected);
    }
}

proptest! {
    #[test]
    fn a_flat_picture_stays_flat(
        width in 1u32..40, height in 1u32..40, new_width in 1u32..60, new_height in 1u32..60, colour: [u8; 3],
    ) {
        let resized = resize(&Picture::filled(width, height, colour), new_width, new_height);
        prop_assert_eq!(resized, Picture::filled(new_width, new_height, colour));
    }

    #[test]
    fn mirroring_and_resizing_commute(width in 1u32..30, height in 1u32..20, new_width in 1u32..40) {
        let mirrored = |picture: &Picture| {
            let mut mirrored = picture.clone();
            let rows = mirrored.rgb.chunks_exact_mut(picture.width as usize * 3);
            for (row, original) in rows.zip(picture.rgb.chunks_exact(picture.width as usize * 3)) {
                row.chunks_exact_mut(3).zip(original.rchunks_exact(3)).for_each(|(a, b)| a.copy_from_slice(b));
            }
            mirrored
        };
        let picture = pattern(width, height);
        let a = mirrored(&resize(&picture, new_width, 11));
        let b = resize(&mirrored(&picture), new_width, 11);
        prop_assert!(a.rgb.iter().zip(&b.rgb).all(|(a, b)| a.abs_diff(*b) <= 1));
    }
}

type Reference = (u32, u32, u32, u32, &'static [u8]);

const REFERENCE: [Reference; 3] = [
    (
        7,
        5,
        4,
        3,
        &[45, 114, 108, 166, 201, 34, 124, 213, 101, 189, 150, 174],
    ),
    (
        5,
        4,
        9,
        7,
        &[
            0, 12, 33, 53, 74, 95, 115, 136, 148, 32, 45, 67, 89, 111, 133, 145, 116, 99, 85, 99, 123, 147,
            171, 195, 193, 85, 21, 137, 152, 179, 148, 104, 130, 142, 97, 71, 170, 187, 216, 139, 35, 64, 93,
            121, 138, 76, 94, 125, 115, 95, 126, 157, 188, 206, 17, 36, 68, 101, 133, 165, 197, 229, 249,
        ],
    ),
    (
        8,
        6,
        4,
        3,
        &[66, 147, 100, 117, 127, 108, 153, 134, 124, 133, 142, 151],
    ),
];
