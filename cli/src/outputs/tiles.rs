//! Batches as photos with boxes.

use std::path::Path;

use data::{Dataset, SampleId};
use plots::{LabelledBox, RgbImage, Tile};

/// Returns planes `[3, height, width]` as a picture.
///
/// # Panics
/// When there are not that many.
pub(crate) fn picture(planes: &[u8], width: u32, height: u32) -> RgbImage {
    let plane = width as usize * height as usize;
    assert_eq!(planes.len(), 3 * plane, "three planes");
    RgbImage::from_fn(width, height, |x, y| {
        let index = y as usize * width as usize + x as usize;
        image::Rgb([0, 1, 2].map(|channel| planes[channel * plane + index]))
    })
}

/// Returns a photo with boxes, under the file name of its sample.
pub(crate) fn tile(dataset: &Dataset, sample: SampleId, picture: RgbImage, boxes: Vec<LabelledBox>) -> Tile {
    let name = Path::new(&dataset.sample(sample).name);
    let title = name
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Tile {
        picture,
        boxes,
        title,
    }
}

/// Returns a box with the name of its class, and its score if it was found.
pub(crate) fn labelled(names: &[String], class: u32, xyxy: [f32; 4], score: Option<f32>) -> LabelledBox {
    let name = &names[class as usize];
    LabelledBox {
        xyxy,
        class,
        label: score.map_or_else(|| name.clone(), |score| format!("{name} {score:.2}")),
    }
}

/// Photos on a sheet.
pub(crate) const SHEET_TILES: usize = 16;

/// Batches that are drawn.
pub(crate) const SHEETS: usize = 3;
