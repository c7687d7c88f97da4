//! Training pictures: a sample of the dataset becomes one square network input with its boxes.
//!
//! Order: mosaic (or letterbox) and projection; the same for a second picture and a mix with it (mixup, cutmix); colour,
//! flips, channel order; then the size of the step, where that changes from step to step. Everything random comes from
//! one stream keyed by (seed, epoch, sample), and is drawn in a fixed order, so the same sample of the same epoch looks the
//! same on every host and thread. A file that does not decode becomes a grey picture without boxes, and is counted.
//!
//! Left out on purpose: copy-paste, which needs outlines, and what needs a library that is not there by default where
//! users come from (blur, grey, contrast).

mod config;
mod finish;
mod hsv;
mod mix;
mod mosaic;
mod projection;
#[cfg(test)]
mod reference;
mod warp;

pub use config::AugmentConfig;

use crate::{
    dataset::SampleId,
    letterbox::{BACKGROUND, place},
    loader::PictureCache,
    picture::Picture,
    random::{KeyedRandom, Purpose},
    resize::resize,
};
use finish::Finish;
use mosaic::Mosaic;
use projection::Projection;

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
    /// Whether pictures are mixed in this epoch: mosaic, mixup, cutmix.
    pub mosaic: bool,
    /// Side of the network input in pixels. The picture is made at the size of the cache, and resized to this one.
    pub image_size: u32,
}

/// Makes training pictures; holds the scratch memory of one thread.
#[derive(Clone, Debug)]
pub struct Augmenter {
    config: AugmentConfig,
    seed: u64,
    canvas: Picture,
    warped: Vec<u8>,
    second: Vec<u8>,
}

impl Augmenter {
    /// An augmenter for one thread.
    pub fn new(config: AugmentConfig, seed: u64) -> Self {
        Self {
            config,
            seed,
            canvas: Picture::filled(0, 0, BACKGROUND),
            warped: Vec::new(),
            second: Vec::new(),
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
        let key = [self.seed, u64::from(request.epoch), u64::from(request.sample.0)];
        let mut random = KeyedRandom::new(Purpose::Augment, key);
        let random = &mut random;
        let side = cache.image_size();
        let mut warped = std::mem::take(&mut self.warped);
        let mut layout = self.projected(cache, request.sample, request.mosaic, random, &mut warped);
        if request.mosaic {
            self.mix(cache, random, &mut warped, &mut layout);
        }

        let mut finish = Finish {
            colours: hsv::Tables::draw(&self.config, random),
            flipud: random.chance(self.config.flipud),
            fliplr: random.chance(self.config.fliplr),
            bgr: random.chance(self.config.bgr),
        };
        finish.move_boxes(&mut layout.boxes, side as usize);
        if request.image_size == side {
            finish.write(&warped, side as usize, pixels);
        } else {
            if let Some(tables) = finish.colours.take() {
                tables.apply(&mut warped);
            }
            let scaled = scale(&mut warped, &mut layout.boxes, side, request.image_size);
            finish.write(&scaled.rgb, request.image_size as usize, pixels);
        }
        self.warped = warped;
        (layout.boxes, layout.unreadable)
    }

    /// Mixes in other pictures, each with its probability.
    fn mix(&mut self, cache: &PictureCache, random: &mut KeyedRandom, rgb: &mut [u8], layout: &mut Layout) {
        for (probability, is_mixup) in [(self.config.mixup, true), (self.config.cutmix, false)] {
            if !random.chance(probability) {
                continue;
            }
            let sample = SampleId(random.below(cache.dataset().len()) as u32);
            let mut second = std::mem::take(&mut self.second);
            let other = self.projected(cache, sample, true, random, &mut second);
            layout.unreadable += other.unreadable;
            if is_mixup {
                mix::mixup(rgb, &mut layout.boxes, (&second, &other.boxes), random);
            } else {
                let side = cache.image_size();
                mix::cutmix(rgb, &mut layout.boxes, (&second, &other.boxes), side, random);
            }
            self.second = second;
        }
    }

    /// Draws a sample, as a mosaic or by itself, through a random projection.
    fn projected(
        &mut self,
        cache: &PictureCache,
        sample: SampleId,
        mosaic: bool,
        random: &mut KeyedRandom,
        target: &mut Vec<u8>,
    ) -> Layout {
        let side = cache.image_size();
        let is_mosaic = random.chance(self.config.mosaic) && mosaic;
        let (mut layout, projection) = if is_mosaic {
            let mosaic = Mosaic::draw(cache, sample, side, random);
            let canvas = (mosaic.side(), mosaic.side());
            let projection = Projection::draw(&self.config, canvas, side, random);
            let visible = projection.visible(canvas, side);
            (mosaic.compose(cache, visible, &mut self.canvas), projection)
        } else {
            let projection = Projection::draw(&self.config, (side, side), side, random);
            (self.letterboxed(cache, sample, side), projection)
        };
        warp::warp(&projection, &self.canvas, side, target);
        projection.move_boxes(&mut layout.boxes, side);
        layout
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

/// Resizes a square picture and its boxes.
fn scale(rgb: &mut Vec<u8>, boxes: &mut [TargetBox], side: u32, target: u32) -> Picture {
    let picture = Picture {
        width: side,
        height: side,
        rgb: std::mem::take(rgb),
    };
    let ratio = target as f32 / side as f32;
    for scaled in boxes {
        scaled.xyxy = scaled.xyxy.map(|edge| edge * ratio);
    }
    let resized = resize(&picture, target, target);
    *rgb = picture.rgb;
    resized
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
