//! COCO's figures against pycocotools, crowds included.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use model::metric::{CocoImage, CocoTruth, coco_metrics};
use model::nms::Detection;
use serde::Deserialize;

use crate::draw::{noise, random_boxes};

#[derive(Deserialize)]
struct CocoCase {
    name: String,
    ap: f64,
    ap50: f64,
    ap75: f64,
    per_class: Vec<(u32, f64)>,
}

/// The part of COCO's annotations that matters here.
#[derive(Deserialize)]
struct Annotations {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
}

#[derive(Deserialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
}

fn check(name: &str, truth: &Annotations) {
    let cases: Vec<CocoCase> = serde_json::from_str(include_str!("coco.json")).unwrap();
    let case = cases.into_iter().find(|case| case.name == name).unwrap();
    let metrics = coco_metrics(&images(truth), truth.categories.len());
    let agree = |found: f64, expected: f64| {
        println!("{name}: {found} {expected}");
        assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
    };
    agree(metrics.ap, case.ap);
    agree(metrics.ap50, case.ap50);
    agree(metrics.ap75, case.ap75);
    assert_eq!(metrics.per_class.len(), case.per_class.len());
    for (found, expected) in metrics.per_class.iter().zip(case.per_class) {
        assert_eq!(found.0, expected.0);
        agree(found.1, expected.1);
    }
}

/// Detections are drawn from the objects as `make_coco.py` draws them.
fn images(truth: &Annotations) -> Vec<CocoImage> {
    let mut categories: Vec<u64> = truth.categories.iter().map(|category| category.id).collect();
    categories.sort_unstable();
    let class_of = |id: u64| categories.binary_search(&id).unwrap() as u32;
    let mut objects: BTreeMap<u64, Vec<&Annotation>> = BTreeMap::new();
    for image in &truth.images {
        objects.insert(image.id, Vec::new());
    }
    for annotation in &truth.annotations {
        objects.get_mut(&annotation.image_id).unwrap().push(annotation);
    }
    let image = |(index, mut objects): (usize, Vec<&Annotation>)| {
        let seed = index as u64;
        objects.sort_by_key(|annotation| annotation.id);
        let (mut boxes, mut classes) = (Vec::new(), Vec::new());
        for annotation in &objects {
            let [left, top, width, height] = annotation.bbox;
            let (copies, shrink) = if annotation.iscrowd == 1 {
                (3, 4.0)
            } else {
                (1, 1.0)
            };
            for copy in 0..copies {
                let left = left + f64::from(copy) * width / 4.0;
                let xyxy = [left, top, left + width / shrink, top + height / shrink];
                boxes.push(xyxy.map(|edge| (edge * 4.0).floor() / 4.0));
                classes.push(class_of(annotation.category_id));
            }
        }
        let shift = noise(800 + seed, boxes.len() * 4);
        for (edge, draw) in boxes.as_flattened_mut().iter_mut().zip(shift) {
            *edge += f64::from((draw * 32.0).floor() / 4.0);
        }
        for (stray, xyxy) in random_boxes(700 + seed, objects.len(), [640.0, 480.0])
            .into_iter()
            .enumerate()
        {
            boxes.push(xyxy.map(f64::from));
            classes.push((stray * 7 % categories.len()) as u32);
        }
        let scores = noise(900 + seed, boxes.len());
        let detections = boxes
            .into_iter()
            .zip(classes)
            .zip(scores)
            .map(|((mut xyxy, class), draw)| {
                xyxy[2] = xyxy[2].max(xyxy[0] + 1.0);
                xyxy[3] = xyxy[3].max(xyxy[1] + 1.0);
                Detection {
                    xyxy: xyxy.map(|edge| edge as f32),
                    score: ((draw + 0.5) * 64.0).floor() / 64.0,
                    class,
                }
            });
        let truths = objects.iter().map(|annotation| {
            let [left, top, width, height] = annotation.bbox;
            CocoTruth {
                class: class_of(annotation.category_id),
                xyxy: [left, top, left + width, top + height],
                crowd: annotation.iscrowd == 1,
            }
        });
        CocoImage {
            detections: detections.collect(),
            truths: truths.collect(),
        }
    };
    objects.into_values().enumerate().map(image).collect()
}

#[test]
fn figures_with_crowds_agree() {
    let mut annotations = Vec::new();
    for image in 0..12_u64 {
        let boxes = random_boxes(600 + image, image as usize * 7 % 10, [640.0, 480.0]);
        for (index, xyxy) in boxes.into_iter().enumerate() {
            let [left, top, right, bottom] = xyxy.map(f64::from);
            annotations.push(Annotation {
                id: annotations.len() as u64 + 1,
                image_id: image,
                category_id: (index as u64 * 3 + image) % 4,
                bbox: [left, top, right - left, bottom - top],
                iscrowd: u8::from(index % 5 == 4),
            });
        }
    }
    let truth = Annotations {
        images: (0..12).map(|id| Image { id }).collect(),
        annotations,
        categories: (0..4).map(|id| Category { id }).collect(),
    };
    check("drawn", &truth);
}

#[test]
#[ignore = "needs annotations: RINGMASTER_TEST_DATA"]
fn figures_on_coco_annotations_agree() {
    let folder =
        env::var_os("RINGMASTER_TEST_DATA").expect("RINGMASTER_TEST_DATA names the folder of the photos");
    for split in ["train", "val"] {
        let path = PathBuf::from(&folder).join(format!("tinycoco/annotations/instances_{split}2017.json"));
        let text = std::fs::read_to_string(path).unwrap();
        check(split, &serde_json::from_str(&text).unwrap());
    }
}
