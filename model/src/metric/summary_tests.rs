use super::*;
use crate::metric::Correct;
use proptest::prelude::*;

/// One image from `(score, class, bits)` and the classes of its objects.
fn image(detections: &[(f32, u32, u16)], truth_classes: &[u32]) -> ImageEvidence {
    ImageEvidence {
        detections: detections
            .iter()
            .map(|&(score, class, bits)| DetectionEvidence {
                score,
                class,
                correct: Correct(bits),
            })
            .collect(),
        truth_classes: truth_classes.to_vec(),
    }
}

const ALL: u16 = 0x3FF;

#[test]
fn a_perfect_detector_scores_the_most_there_is() {
    let images = [
        image(&[(0.9, 0, ALL), (0.8, 1, ALL)], &[0, 1]),
        image(&[(0.7, 0, ALL)], &[0]),
    ];
    let metrics = summarise(&images, 2);
    // 0.995, not 1: the curve drops to 0 within the last of its 101 points.
    assert!((metrics.map50 - 0.995).abs() < 1e-12, "{metrics:?}");
    assert!((metrics.map50_95 - 0.995).abs() < 1e-12, "{metrics:?}");
    assert!((metrics.precision - 1.0).abs() < 1e-9, "{metrics:?}");
    assert!((metrics.recall - 1.0).abs() < 1e-9, "{metrics:?}");
    assert_eq!(metrics.fitness(), metrics.map50_95);
}

#[test]
fn a_detection_right_at_one_overlap_counts_a_tenth() {
    let metrics = summarise(&[image(&[(0.9, 0, 1)], &[0])], 1);
    assert!((metrics.map50 - 0.995).abs() < 1e-12);
    // The other nine curves fall from 1 at recall 0 to 0: nothing but the first half step.
    let expected = (0.995 + 9.0 * wrong_only()) / 10.0;
    assert!((metrics.map50_95 - expected).abs() < 1e-12, "{metrics:?}");
}

/// The average precision of a class whose only detection is wrong.
fn wrong_only() -> f64 {
    average_precision(&[0.0], &[0.0])
}

#[test]
fn one_wrong_detection_above_a_right_one_halves_the_precision() {
    let metrics = summarise(&[image(&[(0.9, 0, 0), (0.5, 0, ALL)], &[0])], 1);
    // Curve: precision 0.5 from recall 0 to 1 (the point at recall 0 is read behind the wrong detection).
    assert!((metrics.map50 - 0.4975).abs() < 1e-12, "{metrics:?}");
    assert!((metrics.precision - 0.5).abs() < 1e-9, "{metrics:?}");
    assert!((metrics.recall - 1.0).abs() < 1e-9, "{metrics:?}");
}

#[test]
fn classes_without_objects_do_not_count_and_classes_without_detections_count_zero() {
    let metrics = summarise(&[image(&[(0.9, 0, ALL), (0.8, 2, 0)], &[0, 1])], 3);
    let classes: Vec<u32> = metrics.per_class.iter().map(|c| c.class).collect();
    assert_eq!(classes, [0, 1]);
    assert_eq!(metrics.per_class[1].ap50, 0.0);
    assert!((metrics.map50 - 0.4975).abs() < 1e-12, "{metrics:?}");
}

#[test]
fn nothing_to_find_and_nothing_found_are_zeros() {
    assert_eq!(summarise(&[], 3), Metrics::default());
    assert_eq!(summarise(&[image(&[(0.9, 0, 0)], &[])], 1), Metrics::default());
    let missed = summarise(&[image(&[], &[0])], 1);
    assert_eq!((missed.map50, missed.recall), (0.0, 0.0));
}

fn any_images() -> impl Strategy<Value = Vec<ImageEvidence>> {
    let detection = (1u32..1000, 0u32..3, 0u16..=ALL);
    let one = (
        prop::collection::vec(detection, 0..8),
        prop::collection::vec(0u32..3, 0..6),
    );
    prop::collection::vec(one, 0..6).prop_map(|images| {
        let mut images: Vec<ImageEvidence> = images
            .into_iter()
            .map(|(detections, truths)| {
                let detections: Vec<_> = detections
                    .into_iter()
                    .map(|(score, class, bits)| (score as f32 / 1000.0, class, bits))
                    .collect();
                image(&detections, &truths)
            })
            .collect();
        make_plausible(&mut images);
        images
    })
}

/// Makes scores distinct, and detections right no more often than there are objects in the image.
fn make_plausible(images: &mut [ImageEvidence]) {
    let mut nudge = 0;
    for image in images {
        let mut free = [0usize; 3];
        for &class in &image.truth_classes {
            free[class as usize] += 1;
        }
        for detection in &mut image.detections {
            nudge += 1;
            detection.score += nudge as f32 * 1e-5;
            let left = &mut free[detection.class as usize];
            if *left == 0 {
                detection.correct = Correct(0);
            }
            *left = left.saturating_sub(1);
        }
    }
}

proptest! {
    #[test]
    fn figures_lie_within_zero_and_one(images in any_images()) {
        let metrics = summarise(&images, 3);
        let per_class = metrics.per_class.iter().flat_map(|c| [c.precision, c.recall, c.ap50, c.ap50_95]);
        let figures = [metrics.precision, metrics.recall, metrics.map50, metrics.map50_95];
        for figure in figures.into_iter().chain(per_class) {
            prop_assert!((0.0..=1.0).contains(&figure), "{}", figure);
        }
    }

    #[test]
    fn figures_do_not_depend_on_the_order_of_images(images in any_images(), turn in 0usize..6) {
        let mut turned = images.clone();
        turned.rotate_left(turn.min(images.len()));
        turned.reverse();
        prop_assert_eq!(summarise(&images, 3), summarise(&turned, 3));
    }
}

#[test]
fn curves_hold_what_the_figures_are_read_from() {
    let images = [image(&[(0.9, 0, 0), (0.5, 0, ALL)], &[0, 2])];
    let curves = class_curves(&images, 3);
    assert_eq!(curves.iter().map(|class| class.class).collect::<Vec<_>>(), [0, 2]);
    let [found, missed] = curves.as_slice() else {
        panic!("two classes have objects");
    };
    // Above the highest score, 0.9, there is nothing; below it only the wrong one, and from 0.5 down one of two is right.
    assert_eq!((found.precision[950], found.recall[950]), (1.0, 0.0));
    assert_eq!((found.precision[900], found.recall[900]), (1.0, 0.0));
    assert!(found.precision[899] < 0.01 && found.recall[899] < 0.01);
    assert!((found.precision[100] - 0.5).abs() < 1e-12 && (found.recall[100] - 1.0).abs() < 1e-12);
    assert!((found.f1(100) - 2.0 / 3.0).abs() < 1e-12);
    let mean = found.precision_at_recall.iter().sum::<f64>() / 1000.0;
    assert!((mean - found.average_precisions[0]).abs() < 0.01, "{mean}");
    assert!(missed.precision_at_recall.iter().all(|&value| value == 0.0));
}
