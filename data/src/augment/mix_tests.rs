//! Mixes against stored results of Ultralytics, and the distribution of the mixup ratio.

use super::super::reference::{self, pattern};
use super::*;
use crate::random::Purpose;

#[test]
fn pictures_are_laid_over_each_other_as_in_ultralytics() {
    for case in reference::load().mixup {
        let mut rgb = pattern(6, 6, 7).rgb;
        blend(&mut rgb, &pattern(6, 6, 11).rgb, case.ratio);
        assert_eq!(rgb, case.pixels, "ratio {}", case.ratio);
        assert_eq!(case.boxes, 2, "the boxes of both stay");
    }
}

#[test]
fn a_rectangle_is_put_where_ultralytics_puts_it() {
    let cases = reference::load().cutmix;
    assert!(cases.iter().any(|case| case.free.is_empty()));
    assert!(cases.iter().filter(|case| case.changed > 0).count() >= 8);
    for (index, case) in cases.iter().enumerate() {
        let original = pattern(case.side, case.side, 3);
        let other = pattern(case.side, case.side, 5);
        let mut rgb = original.rgb.clone();
        let mut boxes = reference::boxes(&case.boxes, 0);
        let others = reference::boxes(&case.others, 10);
        let cuts = std::array::from_fn(|area| Cut {
            lambda: case.lambdas[area],
            centre: [case.centres[2 * area], case.centres[2 * area + 1]],
        });
        paste_cut(
            &mut rgb,
            &mut boxes,
            (&other.rgb, &others),
            case.side,
            &cuts,
            case.pick,
        );
        reference::assert_boxes(&boxes, &case.kept, 1e-4, index);
        let changed = rgb
            .chunks_exact(3)
            .zip(original.rgb.chunks_exact(3))
            .filter(|(a, b)| a != b);
        assert_eq!(changed.count(), case.changed, "case {index}");
        assert_eq!(
            rgb.iter().map(|&level| u64::from(level)).sum::<u64>(),
            case.sum,
            "case {index}"
        );
    }
}

#[test]
fn ratios_are_those_of_beta_32_32() {
    // Mean 1/2, variance 1 / (4 * 65).
    let mut random = KeyedRandom::new(Purpose::Augment, [0, 0, 0]);
    let ratios: Vec<f64> = (0..20_000).map(|_| mixup_ratio(&mut random)).collect();
    let mean = ratios.iter().sum::<f64>() / 20_000.0;
    let variance = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / 20_000.0;
    assert!((mean - 0.5).abs() < 0.002, "{mean}");
    assert!((variance * 260.0 - 1.0).abs() < 0.05, "{variance}");
}
