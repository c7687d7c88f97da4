//! Mosaics: four pictures around a random centre on a canvas of twice the input's side.
//!
//! Each picture, its long side as long as the input's, touches the centre with one corner; what sticks out is cut. The
//! affine step that follows crops the canvas to the input's size.
//!
//! # Source
//! Mosaic augmentation as introduced with YOLOv4 (Bochkovskiy et al. 2020, section 3.3), with the centre's range that
//! users of YOLOv5 and v8 know.

use super::{Layout, clip};
use crate::{
    dataset::SampleId,
    letterbox::{BACKGROUND, paste},
    loader::PictureCache,
    picture::Picture,
    random::KeyedRandom,
};

/// Puts the sample and three random others on the canvas.
pub(super) fn compose(
    cache: &PictureCache,
    sample: SampleId,
    image_size: u32,
    random: &mut KeyedRandom,
    canvas: &mut Picture,
) -> Layout {
    let side = f64::from(image_size);
    let mut centre = || random.uniform(0.5 * side, 1.5 * side) as i64;
    let (centre_y, centre_x) = (centre(), centre());
    let mut samples = [sample; 4];
    for other in &mut samples[1..] {
        *other = SampleId(random.below(cache.dataset().len()) as u32);
    }

    clear(canvas, 2 * image_size);
    let mut layout = Layout::default();
    for (quadrant, sample) in samples.into_iter().enumerate() {
        let loaded = cache.get(sample, image_size);
        let is_left = quadrant % 2 == 0;
        let is_upper = quadrant < 2;
        let left = centre_x
            - if is_left {
                i64::from(loaded.picture.width)
            } else {
                0
            };
        let top = centre_y
            - if is_upper {
                i64::from(loaded.picture.height)
            } else {
                0
            };
        paste(&loaded.picture, canvas, left, top);
        layout.add(cache, sample, &loaded, [left as f32, top as f32]);
    }
    let canvas_side = 2.0 * image_size as f32;
    layout.boxes.retain_mut(|target| {
        target.xyxy = clip(target.xyxy, canvas_side, canvas_side);
        let [x1, y1, x2, y2] = target.xyxy;
        x2 > x1 && y2 > y1
    });
    layout
}

/// Makes the canvas an empty square, in the memory it already has.
fn clear(canvas: &mut Picture, side: u32) {
    (canvas.width, canvas.height) = (side, side);
    // All three channels of the background are equal, so that a plain fill is enough.
    canvas.rgb.clear();
    canvas
        .rgb
        .resize(side as usize * side as usize * 3, BACKGROUND[0]);
}
