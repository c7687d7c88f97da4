//! Letterboxing: a picture centred in a rectangle without distortion, with grey bars around it.
//!
//! A [`Letterbox`] remembers the mapping, so that boxes can go both ways.
//!
//! # Source
//! Same rounding as Ultralytics: sides to the nearest pixel, an odd bar is one pixel thicker on the right and bottom.

use crate::{picture::Picture, resize::resize};

/// The grey of all bars and empty areas.
pub const BACKGROUND: [u8; 3] = [114; 3];

/// How a picture lies in a network input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    /// Pixels of the input per pixel of the picture, horizontally.
    pub scale_x: f32,
    /// The same vertically; the two differ by rounding only.
    pub scale_y: f32,
    /// Width of the left bar in pixels of the input.
    pub pad_x: f32,
    /// Height of the upper bar in pixels of the input.
    pub pad_y: f32,
    /// Width and height of the picture in pixels.
    pub original: (u32, u32),
}

impl Letterbox {
    /// A picture that was resized from `original` to `inner`, in the middle of a rectangle that it fits into.
    fn centred(original: (u32, u32), inner: (u32, u32), width: u32, height: u32) -> Self {
        Self {
            scale_x: inner.0 as f32 / original.0 as f32,
            scale_y: inner.1 as f32 / original.1 as f32,
            pad_x: ((width - inner.0) / 2) as f32,
            pad_y: ((height - inner.1) / 2) as f32,
            original,
        }
    }

    /// Maps a box of the picture into the network input.
    ///
    /// # Shapes
    /// Both boxes are xyxy, pixels.
    pub fn to_input(&self, xyxy: [f32; 4]) -> [f32; 4] {
        let [x1, y1, x2, y2] = xyxy;
        [
            x1 * self.scale_x + self.pad_x,
            y1 * self.scale_y + self.pad_y,
            x2 * self.scale_x + self.pad_x,
            y2 * self.scale_y + self.pad_y,
        ]
    }

    /// Maps a box of the network input back into the picture, and clips it to the picture.
    ///
    /// # Shapes
    /// Both boxes are xyxy, pixels.
    pub fn to_original(&self, xyxy: [f32; 4]) -> [f32; 4] {
        let [x1, y1, x2, y2] = xyxy;
        let x = |value: f32| ((value - self.pad_x) / self.scale_x).clamp(0.0, self.original.0 as f32);
        let y = |value: f32| ((value - self.pad_y) / self.scale_y).clamp(0.0, self.original.1 as f32);
        [x(x1), y(y1), x(x2), y(y2)]
    }
}

/// Resizes a picture, up or down, to fit a rectangle and centres it there.
///
/// # Panics
/// When the picture or the rectangle is empty.
pub fn letterbox(picture: &Picture, width: u32, height: u32) -> (Picture, Letterbox) {
    let original = (picture.width, picture.height);
    let (inner_width, inner_height) = fit(original, width, height);
    let resized = resize(picture, inner_width, inner_height);
    place(&resized, original, width, height)
}

/// Resizes a picture, up or down, so that its long side has `image_size` pixels, and centres it in the smallest rectangle
/// around it with sides that are multiples of `stride`: what prediction uses.
///
/// Boxes are mapped back as Ultralytics' prediction does it: by the ratio that fits the rectangle, which can differ from that
/// of the pixels by a pixel over the whole picture.
///
/// # Panics
/// When the picture is empty or a size is 0.
pub fn letterbox_around(picture: &Picture, image_size: u32, stride: u32) -> (Picture, Letterbox) {
    let original = (picture.width, picture.height);
    let ratio = f64::from(image_size) / f64::from(original.0.max(original.1));
    let side = |length: u32| fitted(length, ratio, image_size);
    let resized = resize(picture, side(original.0), side(original.1));
    let (width, height) = (
        resized.width.next_multiple_of(stride),
        resized.height.next_multiple_of(stride),
    );
    let (input, _) = place(&resized, original, width, height);
    let geometry = Letterbox::centred(original, fit(original, width, height), width, height);
    (input, geometry)
}

/// The size of a picture that fits into a rectangle by one ratio.
fn fit(original: (u32, u32), width: u32, height: u32) -> (u32, u32) {
    let ratio = (f64::from(width) / f64::from(original.0)).min(f64::from(height) / f64::from(original.1));
    (
        fitted(original.0, ratio, width),
        fitted(original.1, ratio, height),
    )
}

/// A side of a picture to the nearest pixel.
fn fitted(length: u32, ratio: f64, limit: u32) -> u32 {
    ((f64::from(length) * ratio).round_ties_even() as u32).clamp(1, limit)
}

/// Centres a picture that was already resized from `original` and fits.
pub(crate) fn place(
    resized: &Picture,
    original: (u32, u32),
    width: u32,
    height: u32,
) -> (Picture, Letterbox) {
    let geometry = Letterbox::centred(original, (resized.width, resized.height), width, height);
    let (left, top) = (geometry.pad_x as i64, geometry.pad_y as i64);
    let mut canvas = Picture::filled(width, height, BACKGROUND);
    let whole = [0, 0, width, height];
    paste(resized, &mut canvas, left, top, whole);
    (canvas, geometry)
}

/// Copies the part of a picture that lies within `visible` (left, top, right, bottom of the canvas), with its upper left
/// corner at `(left, top)`.
///
/// # Panics
/// When `visible` reaches beyond the canvas.
pub(crate) fn paste(picture: &Picture, canvas: &mut Picture, left: i64, top: i64, visible: [u32; 4]) {
    let [first_x, first_y, last_x, last_y] = visible.map(i64::from);
    let within = |offset: i64, length: u32, first: i64, last: i64| {
        let start = (first - offset).clamp(0, i64::from(length));
        let end = (last - offset).clamp(start, i64::from(length));
        (start as usize, end as usize)
    };
    let (first_column, last_column) = within(left, picture.width, first_x, last_x);
    let (first_row, last_row) = within(top, picture.height, first_y, last_y);
    let bytes = (last_column - first_column) * 3;
    if bytes == 0 {
        return;
    }
    for row in first_row..last_row {
        let from = (row * picture.width as usize + first_column) * 3;
        let column = (left + first_column as i64) as usize;
        let to = ((top + row as i64) as usize * canvas.width as usize + column) * 3;
        canvas.rgb[to..to + bytes].copy_from_slice(&picture.rgb[from..from + bytes]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wide_picture_gets_bars_above_and_below() {
        let (canvas, geometry) = letterbox(&Picture::filled(640, 480, [200, 10, 20]), 320, 320);
        assert_eq!(
            (geometry.scale_x, geometry.scale_y, geometry.pad_x, geometry.pad_y),
            (0.5, 0.5, 0.0, 40.0)
        );
        let pixel = |x: usize, y: usize| &canvas.rgb[(y * 320 + x) * 3..][..3];
        assert_eq!(pixel(160, 39), BACKGROUND);
        assert_eq!(pixel(160, 40), [200, 10, 20]);
        assert_eq!(pixel(160, 279), [200, 10, 20]);
        assert_eq!(pixel(160, 280), BACKGROUND);
    }

    #[test]
    fn an_odd_bar_is_thicker_on_the_right() {
        let (_, geometry) = letterbox(&Picture::filled(33, 64, [0; 3]), 64, 64);
        assert_eq!((geometry.pad_x, geometry.pad_y), (15.0, 0.0));
    }

    #[test]
    fn prediction_rectangles_are_multiples_of_the_stride() {
        let around = |width: u32, height: u32, image_size: u32| {
            let (input, geometry) = letterbox_around(&Picture::filled(width, height, [9; 3]), image_size, 32);
            ((input.width, input.height), (geometry.pad_x, geometry.pad_y))
        };
        assert_eq!(around(640, 480, 320), ((320, 256), (0.0, 8.0)));
        assert_eq!(around(480, 640, 640), ((480, 640), (0.0, 0.0)));
        assert_eq!(around(1000, 10, 640), ((640, 32), (0.0, 13.0)));
        // 408 * 640 / 627 is 416.46: no bar of 32 pixels for half a pixel, and no bars at the sides either.
        assert_eq!(around(627, 408, 640), ((640, 416), (0.0, 0.0)));
    }

    proptest! {
        #[test]
        fn boxes_survive_the_way_there_and_back(
            width in 1u32..300, height in 1u32..300, target_width in 1u32..200, target_height in 1u32..200,
            corners in prop::array::uniform4(0.0f32..1.0),
        ) {
            let (canvas, geometry) = letterbox(&Picture::filled(width, height, [9; 3]), target_width, target_height);
            prop_assert_eq!((canvas.width, canvas.height), (target_width, target_height));
            let scale = [width as f32, height as f32, width as f32, height as f32];
            let original: [f32; 4] = std::array::from_fn(|i| corners[i] * scale[i]);
            let input = geometry.to_input(original);
            prop_assert!(input[0] >= 0.0 && input[0] <= target_width as f32 + 1e-3);
            let back = geometry.to_original(input);
            for (a, b) in original.iter().zip(back) {
                prop_assert!((a - b).abs() < 0.02, "{original:?} {back:?}");
            }
        }

        #[test]
        fn pasting_never_leaves_the_visible_part(left in -40i64..40, top in -40i64..40, width in 1u32..30, height in 1u32..30) {
            let mut canvas = Picture::filled(20, 16, BACKGROUND);
            paste(&Picture::filled(width, height, [255; 3]), &mut canvas, left, top, [2, 1, 19, 16]);
            for (index, pixel) in canvas.rgb.chunks_exact(3).enumerate() {
                let (x, y) = ((index % 20) as i64 - left, (index / 20) as i64 - top);
                let visible = (2..19).contains(&(index % 20)) && (1..16).contains(&(index / 20));
                let inside = visible && (0..i64::from(width)).contains(&x) && (0..i64::from(height)).contains(&y);
                prop_assert_eq!(pixel[0] == 255, inside);
            }
        }
    }
}
