//! Average precision as COCO's own evaluation computes it: crowds, at most 100 detections an image, stepped precision.
//!
//! [`summarise`](super::summarise) gives the figures that training reports, which interpolate the curve and know no
//! crowds. These are the figures of COCO's leaderboard. A crowd is a box that stands for many objects: it need not be
//! found, and detections in it are neither right nor wrong, however many there are.
//!
//! # Source
//! The evaluation of pycocotools 2.0 (`bbox`, all areas), by its documented rules; compared with its figures in tests.

use crate::metric::THRESHOLDS;
use crate::nms::Detection;

/// A true object, or a crowd.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CocoTruth {
    /// Class index.
    pub class: u32,
    /// Left, top, right, bottom.
    ///
    /// # Units
    /// Pixels, those of the detections.
    pub xyxy: [f64; 4],
    /// Whether it stands for many objects.
    pub crowd: bool,
}

/// One image: what was found, and what is in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CocoImage {
    /// The detections.
    pub detections: Vec<Detection>,
    /// The objects and crowds.
    pub truths: Vec<CocoTruth>,
}

/// COCO's figures.
#[derive(Clone, Debug, PartialEq)]
pub struct CocoMetrics {
    /// Average precision over overlaps 0.5 to 0.95, then over classes.
    pub ap: f64,
    /// Average precision at overlap 0.5.
    pub ap50: f64,
    /// Average precision at overlap 0.75.
    pub ap75: f64,
    /// Class and average precision of each class that has objects.
    pub per_class: Vec<(u32, f64)>,
}

/// Returns the figures over images in the order of their ids, which decides among equal scores. All are zero without
/// objects.
pub fn coco_metrics(images: &[CocoImage], classes: usize) -> CocoMetrics {
    let curves: Vec<(u32, [f64; THRESHOLDS])> = (0..classes as u32)
        .filter_map(|class| Some((class, average_precisions(images, class)?)))
        .collect();
    let count = curves.len().max(1) as f64;
    let mean_at = |threshold: usize| curves.iter().map(|(_, ap)| ap[threshold]).sum::<f64>() / count;
    let mean = |ap: &[f64; THRESHOLDS]| ap.iter().sum::<f64>() / THRESHOLDS as f64;
    CocoMetrics {
        ap: curves.iter().map(|(_, ap)| mean(ap)).sum::<f64>() / count,
        ap50: mean_at(0),
        ap75: mean_at(5),
        per_class: curves.iter().map(|(class, ap)| (*class, mean(ap))).collect(),
    }
}

/// A detection after matching: right, wrong, or not judged, at each threshold.
struct Judged {
    score: f32,
    verdicts: [Verdict; THRESHOLDS],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    Ignored,
}

/// Returns the average precision of a class by threshold; `None` without objects.
fn average_precisions(images: &[CocoImage], class: u32) -> Option<[f64; THRESHOLDS]> {
    let mut objects = 0;
    let mut judged = Vec::new();
    for image in images {
        let mut truths: Vec<&CocoTruth> = image.truths.iter().filter(|truth| truth.class == class).collect();
        // Objects come before crowds.
        truths.sort_by_key(|truth| truth.crowd);
        objects += truths.iter().filter(|truth| !truth.crowd).count();
        let mut found: Vec<&Detection> = (image.detections.iter())
            .filter(|found| found.class == class)
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(DETECTIONS_MAX);
        judged.extend(judge(&found, &truths));
    }
    if objects == 0 {
        return None;
    }
    judged.sort_by(|a, b| b.score.total_cmp(&a.score));
    Some(std::array::from_fn(|threshold| {
        average_precision(judged.iter().map(|found| found.verdicts[threshold]), objects)
    }))
}

/// Matches the detections of a class in one image, best first.
fn judge(found: &[&Detection], truths: &[&CocoTruth]) -> Vec<Judged> {
    let overlaps: Vec<Vec<f64>> = found
        .iter()
        .map(|found| {
            truths
                .iter()
                .map(|truth| overlap(found.xyxy.map(f64::from), truth))
                .collect()
        })
        .collect();
    let mut judged: Vec<Judged> = found
        .iter()
        .map(|found| Judged {
            score: found.score,
            verdicts: [Verdict::Wrong; THRESHOLDS],
        })
        .collect();
    for threshold in 0..THRESHOLDS {
        let mut taken = vec![false; truths.len()];
        // Steps as NumPy's `linspace` rounds them.
        let least = 0.5 + (0.95 - 0.5) / (THRESHOLDS - 1) as f64 * threshold as f64;
        for (overlaps, judged) in overlaps.iter().zip(&mut judged) {
            let Some(truth) = best_match(overlaps, truths, &taken, least) else {
                continue;
            };
            taken[truth] = true;
            judged.verdicts[threshold] = match truths[truth].crowd {
                true => Verdict::Ignored,
                false => Verdict::Right,
            };
        }
    }
    judged
}

/// Returns the free object with the largest overlap, or else the crowd; the later one among equals.
fn best_match(overlaps: &[f64], truths: &[&CocoTruth], taken: &[bool], least: f64) -> Option<usize> {
    let mut best: Option<usize> = None;
    let mut largest = least;
    for (index, truth) in truths.iter().enumerate() {
        if taken[index] && !truth.crowd {
            continue;
        }
        if truth.crowd && best.is_some_and(|best| !truths[best].crowd) {
            break;
        }
        if overlaps[index] >= largest {
            largest = overlaps[index];
            best = Some(index);
        }
    }
    best
}

/// Intersection over union; for a crowd, over the detection's own area.
fn overlap(found: [f64; 4], truth: &CocoTruth) -> f64 {
    let extent = |low: usize| {
        let high = low + 2;
        (found[high].min(truth.xyxy[high]) - found[low].max(truth.xyxy[low])).max(0.0)
    };
    let area = |xyxy: [f64; 4]| (xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1]);
    let shared = extent(0) * extent(1);
    if shared == 0.0 {
        return 0.0;
    }
    let whole = match truth.crowd {
        true => area(found),
        false => area(found) + area(truth.xyxy) - shared,
    };
    shared / whole
}

/// The mean precision at 101 recalls, where precision is the best at that recall or beyond.
fn average_precision(verdicts: impl Iterator<Item = Verdict>, objects: usize) -> f64 {
    let (mut right, mut judged) = (0_u32, 0_u32);
    let mut curve: Vec<[f64; 2]> = Vec::new();
    for verdict in verdicts {
        right += u32::from(verdict == Verdict::Right);
        judged += u32::from(verdict != Verdict::Ignored);
        let precision = f64::from(right) / (f64::from(judged) + f64::EPSILON);
        curve.push([f64::from(right) / objects as f64, precision]);
    }
    for index in (1..curve.len()).rev() {
        curve[index - 1][1] = curve[index - 1][1].max(curve[index][1]);
    }
    let at = |recall: f64| {
        let first = curve.partition_point(|&[reached, _]| reached < recall);
        curve.get(first).map_or(0.0, |&[_, precision]| precision)
    };
    // Steps as NumPy's `linspace` rounds them: a recall that is reached exactly counts, or does not, by the last bit.
    let step_width = 1.0 / (RECALLS - 1) as f64;
    (0..RECALLS).map(|step| at(step as f64 * step_width)).sum::<f64>() / RECALLS as f64
}

/// Detections of a class that are looked at in an image.
const DETECTIONS_MAX: usize = 100;
/// Points of the curve, evenly from recall 0 to 1.
const RECALLS: usize = 101;

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(xyxy: [f64; 4], crowd: bool) -> CocoTruth {
        CocoTruth {
            class: 0,
            xyxy,
            crowd,
        }
    }

    fn found(xyxy: [f32; 4], score: f32) -> Detection {
        Detection {
            xyxy,
            score,
            class: 0,
        }
    }

    #[test]
    fn detections_in_a_crowd_do_not_count() {
        let image = CocoImage {
            detections: vec![
                found([100.0, 0.0, 110.0, 10.0], 0.9),
                found([120.0, 0.0, 130.0, 10.0], 0.8),
                found([0.0, 0.0, 10.0, 10.0], 0.7),
            ],
            truths: vec![
                truth([0.0, 0.0, 10.0, 10.0], false),
                truth([90.0, 0.0, 200.0, 50.0], true),
            ],
        };
        let with_crowd = coco_metrics(std::slice::from_ref(&image), 1);
        assert!((with_crowd.ap - 1.0).abs() < 1e-12, "{}", with_crowd.ap);
        let mut without = image.clone();
        without.truths.pop();
        assert!((coco_metrics(&[without], 1).ap - 1.0 / 3.0).abs() < 1e-12);
        let mut only_crowd = image;
        only_crowd.truths.remove(0);
        let metrics = coco_metrics(&[only_crowd], 1);
        assert_eq!((metrics.ap, metrics.per_class.len()), (0.0, 0));
    }

    #[test]
    fn an_object_is_found_once_and_missed_recall_has_no_precision() {
        let image = CocoImage {
            detections: vec![
                found([0.0, 0.0, 10.0, 10.0], 0.9),
                found([0.0, 0.0, 10.0, 10.0], 0.8),
            ],
            truths: vec![
                truth([0.0, 0.0, 10.0, 10.0], false),
                truth([50.0, 0.0, 60.0, 10.0], false),
            ],
        };
        // Precision 1 up to recall 0.5: 51 of 101 points.
        let metrics = coco_metrics(&[image], 1);
        assert!((metrics.ap - 51.0 / 101.0).abs() < 1e-12, "{}", metrics.ap);
    }
}
