//! The built-in set: drawn shapes of four classes over textured backgrounds.
//!
//! Made to be learnt fast, so that a first run needs no download: one to three large objects per picture, each class
//! with its own shape and its own range of hues. Every picture is a pure function of split and number. A picture is
//! planned when the dataset is opened (its boxes are known then) and drawn when it is loaded.

mod noise;
mod object;

use noise::SmoothNoise;
use object::{Kind, Object, hsv};

use super::{Dataset, ImageSource, Label, Sample, Split};
use crate::{
    picture::{Limits, Picture},
    random::{KeyedRandom, Purpose},
};

/// A picture that is planned but not drawn yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    width: u32,
    height: u32,
    seed: u64,
    objects: Vec<Object>,
}

/// Opens a split of the built-in set.
pub(super) fn open(split: Split, limits: &Limits) -> Dataset {
    let (count, number) = match split {
        Split::Train => (TRAIN_PICTURES, 0),
        Split::Val => (VAL_PICTURES, 1),
        Split::Test => (VAL_PICTURES, 2),
    };
    let samples = (0..count).map(|index| {
        let scene = Scene::plan(number << 32 | index);
        Sample {
            name: format!("{split}/{index:04}"),
            width: scene.width,
            height: scene.height,
            bytes: 0,
            image_id: None,
            is_annotated: true,
            labels: scene.labels(),
            source: ImageSource::Drawn(scene),
        }
    });
    Dataset {
        split,
        names: Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect(),
        categories: (1..=Kind::ALL.len() as u64).collect(),
        samples: samples.collect(),
        skipped: Vec::new(),
        dropped_boxes: 0,
        limits: limits.clone(),
    }
}

impl Scene {
    fn plan(seed: u64) -> Self {
        let mut random = KeyedRandom::new(Purpose::Scene, [seed, 0, 0]);
        let (width, height) = SIZES[random.below(SIZES.len())];
        let wanted = 1 + random.below(OBJECTS_MAX);
        let mut objects: Vec<Object> = Vec::new();
        for _ in 0..wanted {
            let kind = Kind::ALL[random.below(Kind::ALL.len())];
            for _ in 0..PLACING_TRIES {
                let object = Object::plan(kind, width, height, &mut random);
                if objects.iter().all(|other| other.is_apart_from(&object)) {
                    objects.push(object);
                    break;
                }
            }
        }
        Self {
            width,
            height,
            seed,
            objects,
        }
    }

    fn labels(&self) -> Vec<Label> {
        let (width, height) = (f64::from(self.width), f64::from(self.height));
        let label = |object: &Object| {
            let [x1, y1, x2, y2] = object.bounds;
            let bounds = [
                (x1 + x2) / 2.0 / width,
                (y1 + y2) / 2.0 / height,
                (x2 - x1) / width,
                (y2 - y1) / height,
            ];
            Label {
                class: object.kind as u32,
                bounds: bounds.map(|value| value as f32),
                crowd: false,
            }
        };
        self.objects.iter().map(label).collect()
    }

    /// Draws the picture.
    pub fn draw(&self) -> Picture {
        let mut random = KeyedRandom::new(Purpose::Scene, [self.seed, 1, 0]);
        let mut picture = Picture::filled(self.width, self.height, [0; 3]);
        self.draw_background(&mut picture, &mut random);
        for object in &self.objects {
            let [x1, y1, x2, y2] = object.bounds;
            for row in y1 as u32..(y2.ceil() as u32).min(self.height) {
                for column in x1 as u32..(x2.ceil() as u32).min(self.width) {
                    let coverage = object.coverage(column, row);
                    let shade = random.uniform(-10.0, 10.0);
                    let start = (row * self.width + column) as usize * 3;
                    for (value, colour) in picture.rgb[start..start + 3].iter_mut().zip(object.colour) {
                        let colour = f64::from(colour) + shade;
                        *value = (f64::from(*value) * (1.0 - coverage) + colour * coverage) as u8;
                    }
                }
            }
        }
        picture
    }

    /// Pale smooth noise of two sizes, stripes, and grain.
    fn draw_background(&self, picture: &mut Picture, random: &mut KeyedRandom) {
        let base = hsv(
            random.uniform(0.0, 360.0),
            random.uniform(0.0, 0.2),
            random.uniform(0.3, 0.75),
        );
        let coarse = SmoothNoise::new(40.0, random);
        let fine = SmoothNoise::new(9.0, random);
        let angle = random.uniform(0.0, std::f64::consts::PI);
        let stripes = (
            angle.cos(),
            angle.sin(),
            random.uniform(0.15, 0.8),
            random.uniform(0.0, 14.0),
        );
        for row in 0..self.height {
            for column in 0..self.width {
                let (x, y) = (f64::from(column), f64::from(row));
                let wave = ((x * stripes.0 + y * stripes.1) * stripes.2).sin() * stripes.3;
                let grain = random.uniform(-8.0, 8.0);
                let shade = coarse.at(x, y) * 45.0 + fine.at(x, y) * 18.0 + wave + grain;
                let start = (row * self.width + column) as usize * 3;
                for (value, base) in picture.rgb[start..start + 3].iter_mut().zip(base) {
                    *value = (f64::from(base) + shade) as u8;
                }
            }
        }
    }
}

/// Grows whenever a picture changes, so that workers of different versions do not mix.
pub(super) const VERSION: u64 = 1;
const TRAIN_PICTURES: u64 = 160;
const VAL_PICTURES: u64 = 48;
const SIZES: [(u32, u32); 3] = [(128, 128), (128, 112), (112, 128)];
const OBJECTS_MAX: usize = 3;
/// An object that finds no free place is left out.
const PLACING_TRIES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_deterministic_and_splits_differ() {
        let open = |split| open(split, &Limits::default());
        let (train, val) = (open(Split::Train), open(Split::Val));
        assert_eq!(train.len(), 160);
        assert_eq!(train.fingerprint(), open(Split::Train).fingerprint());
        assert_ne!(train.samples[0].source, val.samples[0].source);
        let ImageSource::Drawn(scene) = &train.samples[3].source else {
            panic!("a drawn picture")
        };
        assert_eq!(scene.draw(), scene.draw());
    }

    #[test]
    fn every_class_is_common_and_every_picture_has_an_object() {
        for split in [Split::Train, Split::Val, Split::Test] {
            let dataset = open(split, &Limits::default());
            let mut counts = [0; 4];
            for sample in &dataset.samples {
                assert!((1..=OBJECTS_MAX).contains(&sample.labels.len()));
                sample
                    .labels
                    .iter()
                    .for_each(|label| counts[label.class as usize] += 1);
            }
            assert!(
                counts.iter().all(|&count| count >= dataset.len() / 4),
                "{split}: {counts:?}"
            );
        }
    }

    #[test]
    fn boxes_enclose_the_strong_colours_tightly() {
        for sample in &open(Split::Val, &Limits::default()).samples {
            let ImageSource::Drawn(scene) = &sample.source else {
                panic!("a drawn picture")
            };
            let picture = scene.draw();
            for (object, label) in scene.objects.iter().zip(&sample.labels) {
                let [x1, y1, x2, y2] = label.xyxy(sample.width as f32, sample.height as f32);
                assert!(x1 >= 0.0 && y1 >= 0.0 && x2 <= sample.width as f32 && y2 <= sample.height as f32);
                let alike = |index: &usize| {
                    let pixel = &picture.rgb[index * 3..][..3];
                    pixel.iter().zip(object.colour).all(|(&a, b)| a.abs_diff(b) < 40)
                };
                let (left, right) = (x1 as usize, x2.ceil() as usize);
                let width = sample.width as usize;
                let columns = || {
                    (0..picture.rgb.len() / 3)
                        .filter(alike)
                        .map(|index| index % width)
                };
                let inside = columns().filter(|column| (left..right).contains(column)).count();
                assert!(
                    inside as f32 > 0.2 * (x2 - x1) * (y2 - y1),
                    "the shape fills its box: {}",
                    sample.name
                );
                let reached = |edge: usize| columns().any(|column| column.abs_diff(edge) <= 3);
                assert!(reached(left) && reached(right - 1), "{}", sample.name);
            }
        }
    }
}
