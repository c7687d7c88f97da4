//! Mosaics: four pictures around a random centre on a canvas of twice the input's side.
//!
//! Each picture, its long side as long as the input's, touches the centre with one corner; what sticks out is cut. The
//! affine step that follows shows only a part of the canvas. Nothing outside of that part is drawn, and a picture that lies
//! outside of it as a whole is not even decoded.
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
    resize::long_side_size,
};

/// Which pictures lie where.
pub(super) struct Mosaic {
    samples: [SampleId; 4],
    /// Pixels of the canvas.
    centre: [i64; 2],
    image_size: u32,
}

impl Mosaic {
    /// The sample and three random others around a random centre.
    pub(super) fn draw(
        cache: &PictureCache,
        sample: SampleId,
        image_size: u32,
        random: &mut KeyedRandom,
    ) -> Self {
        let mut samples = [sample; 4];
        for other in &mut samples[1..] {
            *other = SampleId(random.below(cache.dataset().len()) as u32);
        }
        let side = f64::from(image_size);
        let mut centre = || random.uniform(0.5 * side, 1.5 * side) as i64;
        let (y, x) = (centre(), centre());
        Self {
            samples,
            centre: [x, y],
            image_size,
        }
    }

    /// Side of the canvas in pixels.
    pub(super) fn side(&self) -> u32 {
        2 * self.image_size
    }

    /// Draws the part of the canvas within `visible` (left, top, right, bottom); the rest keeps what it had.
    pub(super) fn compose(&self, cache: &PictureCache, visible: [u32; 4], canvas: &mut Picture) -> Layout {
        clear(canvas, self.side(), visible);
        let mut layout = Layout::default();
        for (quadrant, &sample) in self.samples.iter().enumerate() {
            let size = cache.dataset().sample(sample);
            let (width, height) = long_side_size(size.width, size.height, self.image_size);
            let is_left = quadrant % 2 == 0;
            let is_upper = quadrant < 2;
            let left = self.centre[0] - if is_left { i64::from(width) } else { 0 };
            let top = self.centre[1] - if is_upper { i64::from(height) } else { 0 };
            let [first_x, first_y, last_x, last_y] = visible.map(i64::from);
            let is_visible = left < last_x
                && top < last_y
                && left + i64::from(width) > first_x
                && top + i64::from(height) > first_y;
            if !is_visible {
                continue;
            }
            let loaded = cache.get(sample, self.image_size);
            paste(&loaded.picture, canvas, left, top, visible);
            layout.add(cache, sample, &loaded, [left as f32, top as f32]);
        }
        let side = self.side() as f32;
        layout.boxes.retain_mut(|target| {
            target.xyxy = clip(target.xyxy, side, side);
            let [x1, y1, x2, y2] = target.xyxy;
            x2 > x1 && y2 > y1
        });
        layout
    }
}

/// Makes the canvas a square with an empty visible part, in the memory it already has.
fn clear(canvas: &mut Picture, side: u32, [left, top, right, bottom]: [u32; 4]) {
    (canvas.width, canvas.height) = (side, side);
    let stride = side as usize * 3;
    canvas.rgb.resize(stride * side as usize, BACKGROUND[0]);
    for row in top as usize..bottom as usize {
        // All three channels of the background are equal, so that a plain fill is enough.
        let start = row * stride;
        canvas.rgb[start + left as usize * 3..start + right as usize * 3].fill(BACKGROUND[0]);
    }
}
