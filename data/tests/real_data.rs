//! Opens real datasets: blood cells in YOLO form and a few COCO photos.
//!
//! They are not part of the repository; the environment variable `RINGMASTER_TEST_DATA` names a folder that holds `bccd/`
//! and `tinycoco/`. They are ignored unless asked for: `cargo test --release -- --include-ignored`.

use std::{env, num::NonZeroUsize, path::PathBuf, sync::Arc};

use data::{Dataset, Limits, LoaderConfig, PictureCache, Split, ValLoader, val_batches};

fn real_data(name: &str) -> PathBuf {
    let folder =
        env::var_os("RINGMASTER_TEST_DATA").expect("RINGMASTER_TEST_DATA names the folder of the photos");
    PathBuf::from(folder).join(name)
}

fn open(path: &PathBuf, split: Split) -> Dataset {
    Dataset::open(path, split, &Limits::default()).expect("the dataset opens")
}

#[test]
#[ignore = "needs photos: RINGMASTER_TEST_DATA"]
fn bccd_has_the_published_numbers() {
    let path = real_data("bccd");
    let splits = [Split::Train, Split::Val, Split::Test].map(|split| open(&path.join("data.yaml"), split));
    assert_eq!(splits.each_ref().map(Dataset::len), [205, 87, 72]);
    assert_eq!(
        splits
            .iter()
            .map(|split| split.box_count() + split.dropped_boxes)
            .sum::<usize>(),
        4886
    );
    assert!(
        splits
            .iter()
            .all(|split| split.skipped.is_empty() && split.names == ["WBC", "RBC", "Platelets"])
    );
    assert!(
        splits[0]
            .samples
            .iter()
            .all(|sample| (sample.width, sample.height) == (640, 480))
    );
}

#[test]
#[ignore = "needs photos: RINGMASTER_TEST_DATA"]
fn tinycoco_has_its_classes_crowds_and_photos() {
    let path = real_data("tinycoco");
    let (train, val) = (open(&path, Split::Train), open(&path, Split::Val));
    assert_eq!((train.len(), val.len()), (32, 6));
    assert_eq!(
        (
            train.names.len(),
            train.names[0].as_str(),
            train.names[79].as_str()
        ),
        (80, "person", "toothbrush")
    );
    assert_eq!(
        (
            train.box_count() + train.dropped_boxes,
            val.box_count() + val.dropped_boxes
        ),
        (288, 136)
    );
    let crowds = |dataset: &Dataset| {
        dataset
            .samples
            .iter()
            .flat_map(|sample| &sample.labels)
            .filter(|label| label.crowd)
            .count()
    };
    assert_eq!((crowds(&train), crowds(&val)), (4, 1));
}

#[test]
#[ignore = "needs photos: RINGMASTER_TEST_DATA"]
fn every_photo_decodes_into_a_validation_batch() {
    for name in ["bccd", "tinycoco"] {
        let path = real_data(name);
        let dataset = Arc::new(open(&path, Split::Val));
        let jobs = val_batches(&dataset, 320, 16);
        let cache = Arc::new(PictureCache::new(Arc::clone(&dataset), 320, 0));
        let config = LoaderConfig {
            threads: NonZeroUsize::MIN,
            queue: NonZeroUsize::MIN,
        };
        let batches: Vec<_> = ValLoader::start(cache, jobs.into_iter(), config)
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            batches.iter().map(|batch| batch.samples.len()).sum::<usize>(),
            dataset.len()
        );
        assert!(batches.iter().all(|batch| batch.unreadable == 0));
        // Photos are not flat: a decoder that filled in grey would be noticed.
        for batch in &batches {
            let image_len = batch.images.len() / batch.samples.len();
            for image in batch.images.chunks_exact(image_len) {
                let mean = image.iter().map(|&value| f64::from(value)).sum::<f64>() / image_len as f64;
                let spread = image
                    .iter()
                    .map(|&value| (f64::from(value) - mean).powi(2))
                    .sum::<f64>();
                assert!((spread / image_len as f64).sqrt() > 15.0);
            }
        }
    }
}
