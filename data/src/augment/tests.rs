//! Tests of whole training pictures.

use std::{fs, sync::Arc};

use super::*;
use crate::{Dataset, Limits, SHAPES, Split};

fn shapes(image_size: u32) -> PictureCache {
    let dataset = Dataset::open(SHAPES, Split::Train, &Limits::default()).unwrap();
    PictureCache::new(Arc::new(dataset), image_size, 1 << 30)
}

fn request(sample: u32, mosaic: bool) -> SampleRequest {
    SampleRequest {
        epoch: 3,
        sample: SampleId(sample),
        mosaic,
        image_size: 96,
    }
}

#[test]
fn a_training_picture_depends_on_its_key_only() {
    let cache = shapes(96);
    let mut augmenter = Augmenter::new(AugmentConfig::default(), 5);
    let first: Vec<_> = (0..8)
        .map(|sample| augmenter.image(&cache, request(sample, true)))
        .collect();
    // Another thread, another order, another history.
    let mut other = Augmenter::new(AugmentConfig::default(), 5);
    other.image(&cache, request(40, false));
    for sample in (0..8).rev() {
        assert!(other.image(&shapes(96), request(sample, true)) == first[sample as usize]);
    }
    let mut other_seed = Augmenter::new(AugmentConfig::default(), 6);
    assert_ne!(other_seed.image(&cache, request(0, true)).pixels, first[0].pixels);
    let other_epoch = SampleRequest {
        epoch: 4,
        ..request(0, true)
    };
    assert_ne!(augmenter.image(&cache, other_epoch).pixels, first[0].pixels);
}

#[test]
fn without_augmentation_the_picture_is_letterboxed() {
    let cache = shapes(96);
    for sample in 0..20 {
        let image = Augmenter::new(AugmentConfig::off(), 0).image(&cache, request(sample, true));
        let picture = cache.dataset().picture(SampleId(sample)).unwrap();
        let (expected, geometry) = crate::letterbox(&picture, 96, 96);
        assert_eq!(image.pixels, expected.to_planes());
        let dataset = cache.dataset().sample(SampleId(sample));
        assert_eq!(image.boxes.len(), dataset.labels.len());
        for (target, label) in image.boxes.iter().zip(&dataset.labels) {
            let expected = geometry.to_input(label.xyxy(picture.width as f32, picture.height as f32));
            assert!(
                target
                    .xyxy
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 1e-3)
            );
        }
    }
}

#[test]
fn boxes_lie_in_the_picture_and_are_large_enough() {
    let cache = shapes(96);
    let config = AugmentConfig {
        degrees: 20.0,
        shear: 5.0,
        flipud: 0.5,
        ..AugmentConfig::default()
    };
    let mut augmenter = Augmenter::new(config, 0);
    let mut boxes = 0;
    for sample in 0..160 {
        for mosaic in [false, true] {
            for target in augmenter.image(&cache, request(sample, mosaic)).boxes {
                let [x1, y1, x2, y2] = target.xyxy;
                assert!(x1 >= 0.0 && y1 >= 0.0 && x2 <= 96.0 && y2 <= 96.0 && x2 - x1 > 2.0 && y2 - y1 > 2.0);
                assert!(target.class < 4);
                boxes += 1;
            }
        }
    }
    assert!(boxes > 400, "{boxes}");
}

#[test]
fn colours_stay_under_their_boxes() {
    let cache = shapes(96);
    // Hues barely move, so that the class of a pixel can be told.
    let config = AugmentConfig {
        hsv_s: 0.1,
        hsv_v: 0.1,
        flipud: 0.5,
        ..AugmentConfig::default()
    };
    let mut augmenter = Augmenter::new(config, 1);
    let (mut right, mut all) = (0, 0);
    for sample in 0..60 {
        let image = augmenter.image(&cache, request(sample, sample % 2 == 0));
        for target in &image.boxes {
            let [x1, y1, x2, y2] = target.xyxy;
            // Boxes that were cut at a border may have any part of the shape in their middle.
            if x1 == 0.0 || y1 == 0.0 || x2 == 96.0 || y2 == 96.0 {
                continue;
            }
            let middle = ((y1 + y2) / 2.0) as usize * 96 + ((x1 + x2) / 2.0) as usize;
            let [red, green, blue] =
                [0, 1, 2].map(|channel| i32::from(image.pixels[channel * 96 * 96 + middle]));
            right += usize::from(match target.class {
                0 => red > green + 40 && red > blue + 40,
                1 => green > red + 40 && green > blue + 40,
                2 => blue > red + 40 && blue > green + 20,
                _ => red > blue + 40 && green > blue + 40,
            });
            all += 1;
        }
    }
    // In a mosaic a box may be cut at a seam.
    assert!(all > 60 && right * 10 > all * 9, "{right} of {all}");
}

#[test]
fn another_size_shows_the_same_picture() {
    let cache = shapes(96);
    let config = AugmentConfig {
        hsv_h: 0.0,
        hsv_s: 0.0,
        hsv_v: 0.0,
        ..AugmentConfig::default()
    };
    let mut augmenter = Augmenter::new(config, 2);
    for sample in 0..10 {
        let base = augmenter.image(&cache, request(sample, true));
        let larger = SampleRequest {
            image_size: 192,
            ..request(sample, true)
        };
        let larger = augmenter.image(&cache, larger);
        assert_eq!(larger.pixels.len(), 3 * 192 * 192);
        for (one, other) in base.boxes.iter().zip(&larger.boxes) {
            assert_eq!(one.xyxy.map(|edge| edge * 2.0), other.xyxy);
        }
        let mean =
            |pixels: &[u8]| pixels.iter().map(|&level| f64::from(level)).sum::<f64>() / pixels.len() as f64;
        assert!((mean(&base.pixels) - mean(&larger.pixels)).abs() < 1.0);
    }
}

#[test]
fn mixes_bring_the_boxes_of_two_pictures_and_end_with_the_mosaic() {
    let cache = shapes(96);
    let plain = AugmentConfig {
        mosaic: 0.0,
        ..AugmentConfig::off()
    };
    let count = |config: &AugmentConfig, mosaic: bool| {
        let mut augmenter = Augmenter::new(config.clone(), 0);
        let images = (0..60).map(|sample| augmenter.image(&cache, request(sample, mosaic)));
        images.map(|image| image.boxes.len()).sum::<usize>()
    };
    let alone = count(&plain, true);
    let mixup = AugmentConfig {
        mixup: 1.0,
        ..plain.clone()
    };
    let cutmix = AugmentConfig {
        cutmix: 1.0,
        ..plain.clone()
    };
    assert!(count(&mixup, true) > alone * 3 / 2);
    assert!(count(&cutmix, true) > alone);
    assert_eq!((count(&mixup, false), count(&cutmix, false)), (alone, alone));
}

#[test]
fn a_mosaic_shows_four_pictures() {
    let cache = shapes(96);
    let mut random = KeyedRandom::new(Purpose::Augment, [0, 0, 0]);
    let mut canvas = Picture::filled(0, 0, BACKGROUND);
    let mosaic = Mosaic::draw(&cache, SampleId(0), 96, &mut random);
    let layout = mosaic.compose(&cache, [0, 0, 192, 192], &mut canvas);
    assert_eq!((canvas.width, canvas.height), (192, 192));
    let first = cache.dataset().sample(SampleId(0)).labels.len();
    assert!(layout.boxes.len() > first);
    assert!(
        layout
            .boxes
            .iter()
            .all(|target| target.xyxy.iter().all(|value| (0.0..=192.0).contains(value)))
    );
}

#[test]
fn an_unreadable_file_becomes_an_empty_background_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("images")).unwrap();
    fs::create_dir_all(root.join("labels")).unwrap();
    fs::write(root.join("data.yaml"), "train: images\nnames: [thing]\n").unwrap();
    for name in ["a", "b"] {
        Picture::filled(80, 60, [250, 10, 10])
            .write(&root.join(format!("images/{name}.png")))
            .unwrap();
        fs::write(root.join(format!("labels/{name}.txt")), "0 0.5 0.5 0.5 0.5\n").unwrap();
    }
    let dataset = Dataset::open(root, Split::Train, &Limits::default()).unwrap();
    // Header and end stay whole, what is between does not.
    let path = root.join("images/a.png");
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() - 40;
    content[45..middle].fill(0x5A);
    fs::write(&path, content).unwrap();

    let cache = PictureCache::new(Arc::new(dataset), 96, 1 << 30);
    let image = Augmenter::new(AugmentConfig::off(), 0).image(&cache, request(0, false));
    assert_eq!(
        (image.boxes.len(), image.unreadable, cache.unreadable()),
        (0, 1, 1)
    );
    assert!(image.pixels.iter().all(|&value| value == BACKGROUND[0]));
    let image = Augmenter::new(AugmentConfig::off(), 0).image(&cache, request(1, false));
    assert_eq!(
        (image.boxes.len(), image.unreadable, cache.unreadable()),
        (1, 0, 1)
    );
}
