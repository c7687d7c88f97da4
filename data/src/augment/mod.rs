//! Training pictures: a sample of the dataset becomes one square network input with its boxes.
//!
//! Order: mosaic (or letterbox), affine, colour, flips. Everything random comes from one stream keyed by
//! (seed, epoch, sample), and is drawn in a fixed order, so the same sample of the same epoch looks the same on every
//! host and thread. A file that does not decode becomes a grey picture without boxes, and is counted.
//!
//! Left out on purpose: perspective, mix-up, copy-paste, blur, which are off by default where users come from.

mod affine;
mod config;
mod flip;
mod hsv;
mod mosaic;

pub use config::AugmentConfig;

use crate::{
    dataset::SampleId,
    letterbox::{BACKGROUND, place},
    loader::PictureCache,
    picture::{Picture, write_planes},
    random::{KeyedRandom, Purpose},
};
use affine::Affine;

/// A box to be found.
///
/// # Shapes
/// `xyxy`, pixels of the network input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetBox {
    /// Class, an index into the dataset's names.
    pub class: u32,
    /// Left, top, right, bottom.
    pub xyxy: [f32; 4],
}

/// One training picture.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingImage {
    /// `[3, image_size, image_size]`, RGB.
    pub pixels: Vec<u8>,
    /// What is to be found in it.
    pub boxes: Vec<TargetBox>,
    /// Number of files that could not be decoded and were replaced by an empty background.
    pub unreadable: u32,
}

/// Which training picture to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRequest {
    /// Epoch, a part of the random key.
    pub epoch: u32,
    /// The sample.
    pub sample: SampleId,
    /// Whether mosaics are made in this epoch.
    pub mosaic: bool,
    /// Side of the network input in pixels.
    pub image_size: u32,
}

/// Makes training pictures; holds the scratch memory of one thread.
#[derive(Clone, Debug)]
pub struct Augmenter {
    config: AugmentConfig,
    seed: u64,
    canvas: Picture,
    warped: Vec<u8>,
}

impl Augmenter {
    /// An augmenter for one thread.
    pub fn new(config: AugmentConfig, seed: u64) -> Self {
        Self {
            config,
            seed,
            canvas: Picture::filled(0, 0, BACKGROUND),
            warped: Vec::new(),
        }
    }

    /// Makes one training picture.
    pub fn image(&mut self, cache: &PictureCache, request: SampleRequest) -> TrainingImage {
        let side = request.image_size as usize;
        let mut pixels = vec![0; 3 * side * side];
        let (boxes, unreadable) = self.render(cache, request, &mut pixels);
        TrainingImage {
            pixels,
            boxes,
            unreadable,
        }
    }

    /// Writes one training picture into `pixels`; returns its boxes and the number of unreadable files.
    pub(crate) fn render(
        &mut self,
        cache: &PictureCache,
        request: SampleRequest,
        pixels: &mut [u8],
    ) -> (Vec<TargetBox>, u32) {
        let SampleRequest {
            epoch,
            sample,
            image_size,
            ..
        } = request;
        let key = [self.seed, u64::from(epoch), u64::from(sample.0)];
        let mut random = KeyedRandom::new(Purpose::Augment, key);
        let wants_mosaic = random.chance(self.config.mosaic);
        let mut layout = if request.mosaic && wants_mosaic {
            mosaic::compose(cache, sample, image_size, &mut random, &mut self.canvas)
        } else {
            self.letterboxed(cache, sample, image_size)
        };

        let affine = Affine::draw(
            &self.config,
            (self.canvas.width, self.canvas.height),
            image_size,
            &mut random,
        );
        affine.warp(&self.canvas, image_size, &mut self.warped);
        affine.move_boxes(&mut layout.boxes, image_size);

        hsv::shift(&self.config, &mut self.warped, &mut random);
        let side = image_size as usize;
        if random.chance(self.config.flipud) {
            flip::upside_down(&mut self.warped, side, &mut layout.boxes);
        }
        if random.chance(self.config.fliplr) {
            flip::left_to_right(&mut self.warped, side, &mut layout.boxes);
        }
        write_planes(&self.warped, pixels);
        (layout.boxes, layout.unreadable)
    }

    fn letterboxed(&mut self, cache: &PictureCache, sample: SampleId, image_size: u32) -> Layout {
        let loaded = cache.get(sample, image_size);
        let original = (loaded.picture.width, loaded.picture.height);
        let (canvas, geometry) = place(&loaded.picture, original, image_size, image_size);
        self.canvas = canvas;
        let mut layout = Layout::default();
        layout.add(cache, sample, &loaded, [geometry.pad_x, geometry.pad_y]);
        layout
    }
}

/// The boxes of what was put on the canvas.
#[derive(Default)]
struct Layout {
    boxes: Vec<TargetBox>,
    unreadable: u32,
}

impl Layout {
    /// Adds the boxes of a picture that was put with its upper left corner at `corner`.
    fn add(
        &mut self,
        cache: &PictureCache,
        sample: SampleId,
        loaded: &crate::loader::Loaded,
        corner: [f32; 2],
    ) {
        if loaded.is_unreadable {
            self.unreadable += 1;
            return;
        }
        let (width, height) = (loaded.picture.width as f32, loaded.picture.height as f32);
        for label in cache
            .dataset()
            .sample(sample)
            .labels
            .iter()
            .filter(|label| !label.crowd)
        {
            let [x1, y1, x2, y2] = label.xyxy(width, height);
            let xyxy = [x1 + corner[0], y1 + corner[1], x2 + corner[0], y2 + corner[1]];
            self.boxes.push(TargetBox {
                class: label.class,
                xyxy,
            });
        }
    }
}

/// Clips a box to `0..width` and `0..height`.
fn clip(xyxy: [f32; 4], width: f32, height: f32) -> [f32; 4] {
    let [x1, y1, x2, y2] = xyxy;
    [
        x1.clamp(0.0, width),
        y1.clamp(0.0, height),
        x2.clamp(0.0, width),
        y2.clamp(0.0, height),
    ]
}

#[cfg(test)]
mod tests;
