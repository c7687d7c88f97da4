//! Detections as COCO's evaluation reads them: `predictions.json`, a list of boxes with image and category.

use std::path::Path;

use data::{Dataset, SampleId};
use model::nms::Detection;
use serde::Serialize;

/// One detection.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct CocoResult {
    image_id: ImageId,
    file_name: String,
    category_id: u64,
    /// Left, top, width, height in pixels of the picture, to a thousandth.
    bbox: [f64; 4],
    score: f64,
}

/// The id of a picture in its annotations; without some, the number that its file is named after, or that name.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum ImageId {
    Number(u64),
    Name(String),
}

/// Returns the results of a picture whose detections are in its own pixels.
pub(crate) fn coco_results(dataset: &Dataset, sample: SampleId, detections: &[Detection]) -> Vec<CocoResult> {
    let sample = dataset.sample(sample);
    let path = Path::new(&sample.name);
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (file_name, stem) = (text(path.file_name()), text(path.file_stem()));
    let of_file = || stem.parse().ok().filter(|_| !stem.starts_with('+'));
    let number: Option<u64> = sample.image_id.or_else(of_file);
    detections
        .iter()
        .map(|found| {
            let [x1, y1, x2, y2] = found.xyxy.map(f64::from);
            CocoResult {
                image_id: number.map_or_else(|| ImageId::Name(stem.clone()), ImageId::Number),
                file_name: file_name.clone(),
                category_id: dataset.categories[found.class as usize],
                bbox: [x1, y1, x2 - x1, y2 - y1].map(|value| rounded(value, 3)),
                score: rounded(f64::from(found.score), 5),
            }
        })
        .collect()
}

fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits);
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use data::{Limits, SHAPES, Split};

    use super::*;

    fn written(image_id: Option<u64>, name: &str) -> String {
        let mut dataset = Dataset::open(SHAPES, Split::Val, &Limits::default()).unwrap();
        dataset.samples[0].name = name.into();
        dataset.samples[0].image_id = image_id;
        dataset.categories = vec![3, 7, 12, 90];
        let found = Detection {
            xyxy: [10.123_456, 20.0, 30.5, 41.000_04],
            score: 0.987_654_3,
            class: 1,
        };
        serde_json::to_string(&coco_results(&dataset, SampleId(0), &[found])).unwrap()
    }

    #[test]
    fn a_detection_has_the_form_that_pycocotools_reads() {
        assert_eq!(
            written(Some(42), "images/val2017/000000000139.jpg"),
            "[{\"image_id\":42,\"file_name\":\"000000000139.jpg\",\"category_id\":7,\
             \"bbox\":[10.123,20.0,20.377,21.0],\"score\":0.98765}]"
        );
    }

    #[test]
    fn without_annotations_the_file_name_is_the_id() {
        assert!(written(None, "images/000000000139.jpg").starts_with("[{\"image_id\":139,"));
        assert!(written(None, "images/blood.cell-7.png").starts_with("[{\"image_id\":\"blood.cell-7\","));
        assert!(written(None, "+5.png").starts_with("[{\"image_id\":\"+5\","));
    }
}
