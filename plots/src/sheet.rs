//! Photos side by side, with their boxes: what a batch looks like.

use embedded_graphics::mono_font::iso_8859_1::FONT_7X13_BOLD;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use crate::boxes::{LabelledBox, draw_small_boxes};
use crate::canvas::{Canvas, Label};
use crate::curves::shortened;

/// A photo of a sheet.
#[derive(Clone, Debug)]
pub struct Tile {
    /// The photo.
    pub picture: RgbImage,
    /// Its boxes, in its pixels.
    pub boxes: Vec<LabelledBox>,
    /// Written in its upper left corner.
    pub title: String,
}

/// Draws the first 16 photos in a square grid whose long side has about 1920 pixels at most; small photos are enlarged.
pub fn draw_sheet(tiles: &[Tile]) -> RgbImage {
    let tiles = &tiles[..tiles.len().min(TILES_MAX)];
    let columns = (1..).find(|side| side * side >= tiles.len()).unwrap_or(1).max(1) as u32;
    let rows = (tiles.len() as u32).div_ceil(columns).max(1);
    let largest = |length: fn(&RgbImage) -> u32| tiles.iter().map(|tile| length(&tile.picture)).max();
    let width = largest(RgbImage::width).unwrap_or(1).max(1);
    let height = largest(RgbImage::height).unwrap_or(1).max(1);
    let long = width.max(height);
    let scale = f64::from((SIDE_MAX / columns).min(long.max(TILE_WANTED))) / f64::from(long);
    let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let (cell_width, cell_height) = (scaled(width), scaled(height));
    let mut sheet = RgbImage::from_pixel(cell_width * columns, cell_height * rows, Rgb([255; 3]));
    for (number, tile) in tiles.iter().enumerate() {
        let number = number as u32;
        let (left, top) = (number % columns * cell_width, number / columns * cell_height);
        let mut photo = imageops::resize(
            &tile.picture,
            scaled(tile.picture.width()),
            scaled(tile.picture.height()),
            FilterType::Triangle,
        );
        let boxes: Vec<LabelledBox> = (tile.boxes.iter())
            .map(|labelled| LabelledBox {
                xyxy: labelled.xyxy.map(|edge| edge * scale as f32),
                ..labelled.clone()
            })
            .collect();
        draw_small_boxes(&mut photo, &boxes);
        write_title(&mut photo, &tile.title);
        imageops::replace(&mut sheet, &photo, i64::from(left), i64::from(top));
        draw_border(&mut sheet, [left, top, cell_width, cell_height]);
    }
    sheet
}

fn write_title(photo: &mut RgbImage, title: &str) {
    let letters = (photo.width() / 7) as usize;
    let label = Label {
        text: &shortened(title, letters),
        font: &FONT_7X13_BOLD,
        colour: Rgb888::WHITE,
        ground: Some(Rgb888::new(40, 40, 40)),
    };
    Canvas(photo).write(&label, 0, 0);
}

/// A thin line right of and below the photo.
fn draw_border(sheet: &mut RgbImage, [left, top, width, height]: [u32; 4]) {
    let [left, top, right, bottom] = [left, top, left + width, top + height].map(|edge| edge as i32);
    let mut canvas = Canvas(sheet);
    canvas.fill([right - 2, top, right, bottom], Rgb888::WHITE);
    canvas.fill([left, bottom - 2, right, bottom], Rgb888::WHITE);
}

/// More are too small to see something.
const TILES_MAX: usize = 16;
const SIDE_MAX: u32 = 1920;
/// Long side to which smaller photos are enlarged.
const TILE_WANTED: u32 = 320;

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(width: u32, height: u32, level: u8) -> Tile {
        Tile {
            picture: RgbImage::from_pixel(width, height, Rgb([level; 3])),
            boxes: vec![LabelledBox {
                xyxy: [40.0, 40.0, 80.0, 80.0],
                class: 1,
                label: "cell".into(),
            }],
            title: "a.png".into(),
        }
    }

    #[test]
    fn photos_lie_in_rows_with_their_boxes_at_the_sheets_scale() {
        let tiles: Vec<Tile> = (0..3).map(|level| tile(160, 96, 10 + level)).collect();
        let sheet = draw_sheet(&tiles);
        assert_eq!(sheet.dimensions(), (640, 384));
        assert_eq!(sheet.get_pixel(200, 60).0, [10; 3]);
        assert_eq!(sheet.get_pixel(520, 60).0, [11; 3]);
        assert_eq!(sheet.get_pixel(200, 252).0, [12; 3]);
        assert_eq!(sheet.get_pixel(520, 252).0, [255; 3], "the fourth place is empty");
        // The box of a photo twice its size begins at twice its corner.
        assert_eq!(sheet.get_pixel(320 + 81, 120).0, [0, 114, 178]);
        assert_eq!(sheet.get_pixel(320 + 78, 120).0, [11; 3]);
    }

    #[test]
    fn a_sheet_has_bounds_whatever_is_on_it() {
        let sheet = draw_sheet(&vec![tile(1500, 2000, 9); 40]);
        assert!(sheet.width() <= 1920 && sheet.height() <= 1920);
        assert_eq!(draw_sheet(&[]).dimensions(), (320, 320));
    }
}
