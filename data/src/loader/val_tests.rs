//! Tests of the validation batches.

use std::num::NonZeroUsize;

use super::*;
use crate::{Limits, SHAPES, Split, letterbox::BACKGROUND};

fn dataset() -> Arc<Dataset> {
    Arc::new(Dataset::open(SHAPES, Split::Val, &Limits::default()).unwrap())
}

#[test]
fn batches_hold_every_sample_once_in_fitting_rectangles() {
    let dataset = dataset();
    for batch in 1..=9 {
        let jobs = val_batches(&dataset, 96, batch);
        let mut seen: Vec<_> = jobs.iter().flat_map(|job| job.samples.clone()).collect();
        seen.sort();
        assert_eq!(seen, (0..48).map(SampleId).collect::<Vec<_>>());
        for (index, job) in jobs.iter().enumerate() {
            assert_eq!(job.index as usize, index);
            assert_eq!((job.width % 32, job.height % 32), (0, 0));
            assert!(job.width.max(job.height) == 128);
        }
    }
}

#[test]
fn rectangles_follow_the_pictures() {
    let mut dataset = Dataset::open(SHAPES, Split::Val, &Limits::default()).unwrap();
    dataset.samples.truncate(6);
    let sizes = [
        (640, 480),
        (480, 640),
        (500, 500),
        (640, 427),
        (427, 640),
        (640, 480),
    ];
    for (sample, size) in dataset.samples.iter_mut().zip(sizes) {
        (sample.width, sample.height) = size;
    }
    let shapes: Vec<_> = val_batches(&dataset, 640, 2)
        .iter()
        .map(|job| (job.samples.clone(), job.width, job.height))
        .collect();
    assert_eq!(
        shapes,
        [
            (vec![SampleId(3), SampleId(0)], 672, 512),
            (vec![SampleId(5), SampleId(2)], 672, 672),
            (vec![SampleId(1), SampleId(4)], 512, 672),
        ]
    );
}

#[test]
fn truth_and_pictures_fit_together() {
    let dataset = dataset();
    let cache = Arc::new(PictureCache::new(Arc::clone(&dataset), 64, 1 << 30));
    let config = LoaderConfig {
        threads: NonZeroUsize::MIN,
        queue: NonZeroUsize::MIN,
    };
    for batch in ValLoader::start(cache, val_batches(&dataset, 64, 5).into_iter(), config) {
        let batch = batch.unwrap();
        let plane = batch.width as usize * batch.height as usize;
        assert_eq!(batch.images.len(), batch.samples.len() * 3 * plane);
        for (index, targets) in batch.targets().iter().enumerate() {
            let image = &batch.images[index * 3 * plane..][..3 * plane];
            assert_eq!(image[0], BACKGROUND[0], "there is a bar at the corner");
            for (target, truth) in targets.iter().zip(&batch.truth[index]) {
                let back = batch.letterboxes[index].to_original(target.xyxy);
                assert!(back.iter().zip(truth.xyxy).all(|(a, b)| (a - b).abs() < 1e-3));
                assert!(
                    is_strong_colour(image, plane, batch.width as usize, target),
                    "{target:?}"
                );
            }
        }
    }
}

/// Whether the middle of a box has the colour family of its class.
fn is_strong_colour(image: &[u8], plane: usize, width: usize, target: &TargetBox) -> bool {
    let [x1, y1, x2, y2] = target.xyxy;
    let middle = ((y1 + y2) / 2.0) as usize * width + ((x1 + x2) / 2.0) as usize;
    let [red, green, blue] = [0, 1, 2].map(|channel| i32::from(image[channel * plane + middle]));
    match target.class {
        0 => red > green + 50 && red > blue + 50,
        1 => green > red + 50 && green > blue + 50,
        2 => blue > red + 50 && blue > green + 20,
        _ => red > blue + 50 && green > blue + 50,
    }
}
