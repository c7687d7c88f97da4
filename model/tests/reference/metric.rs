//! Which detections are right, and the figures made of them.

use model::metric::{ImageEvidence, match_detections, summarise};
use model::nms::Detection;
use model::target::Target;
use serde::Deserialize;

use crate::draw::{copy_moved, noise, random_boxes};

#[derive(Deserialize)]
struct MetricCase {
    name: String,
    images: Vec<(usize, usize)>,
    classes: usize,
    correct: Vec<u16>,
    precision: f64,
    recall: f64,
    map50: f64,
    map50_95: f64,
    per_class: Vec<(u32, f64, f64, f64, f64)>,
}

impl MetricCase {
    fn evidence(&self, image: usize) -> ImageEvidence {
        let (count, found) = self.images[image];
        let seed = image as u64;
        let truths: Vec<Target> = (random_boxes(100 + seed, count, [320.0; 2]).into_iter())
            .enumerate()
            .map(|(index, xyxy)| Target {
                class: (index * 7 % self.classes) as u32,
                xyxy,
            })
            .collect();
        let shift: Vec<f32> = (noise(300 + seed, found * 4).iter())
            .map(|x| (x * 40.0).floor() / 4.0)
            .collect();
        let original =
            |index: usize| (index.is_multiple_of(2) && count > 0).then(|| truths[index / 2 % count]);
        let mut boxes = random_boxes(200 + seed, found, [320.0; 2]);
        copy_moved(&mut boxes, &shift, |_, index| original(index).map(|t| t.xyxy));
        let mut scores: Vec<f32> = noise(400 + seed, found).iter().map(|x| x + 0.5).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        let detections: Vec<Detection> = (boxes.into_iter().zip(scores).enumerate())
            .map(|(index, (xyxy, score))| Detection {
                xyxy,
                score,
                class: original(index).map_or(((index * 5 + image) % self.classes) as u32, |t| t.class),
            })
            .collect();
        match_detections(&detections, &truths)
    }
}

#[test]
fn matches_and_metrics_agree() {
    let cases: Vec<MetricCase> = serde_json::from_str(include_str!("metric.json")).unwrap();
    for case in cases {
        let images: Vec<ImageEvidence> = (0..case.images.len()).map(|image| case.evidence(image)).collect();
        let correct: Vec<u16> = (images.iter())
            .flat_map(|image| image.detections.iter().map(|d| d.correct.0))
            .collect();
        assert_eq!(correct, case.correct, "{}", case.name);
        let metrics = summarise(&images, case.classes);
        let agree = |found: f64, expected: f64| {
            assert!(
                (found - expected).abs() < 1e-9,
                "{}: {found} {expected}",
                case.name
            );
        };
        agree(metrics.precision, case.precision);
        agree(metrics.recall, case.recall);
        agree(metrics.map50, case.map50);
        agree(metrics.map50_95, case.map50_95);
        assert_eq!(metrics.per_class.len(), case.per_class.len());
        for (found, expected) in metrics.per_class.iter().zip(case.per_class) {
            assert_eq!(found.class, expected.0);
            agree(found.precision, expected.1);
            agree(found.recall, expected.2);
            agree(found.ap50, expected.3);
            agree(found.ap50_95, expected.4);
        }
    }
}
