//! Average precision: the area under the precision-recall curve.

use super::curve::interpolate;

/// Points at which the curve is read: recall 0, 0.01 .. 1.
const RECALL_POINTS: usize = 101;

/// Returns the average precision of a curve given point by point, recall ascending.
///
/// Precision is first made to fall only: at each recall the best precision at that or a higher recall counts. The curve starts
/// at precision 1 and drops to 0 after its last point; it is read at 101 recalls and integrated by trapezoids.
///
/// # Source
/// Interpolated precision: Everingham et al. 2010, "The PASCAL VOC Challenge", section 4.2; 101 points: COCO.
pub(super) fn average_precision(recall: &[f64], precision: &[f64]) -> f64 {
    let read = precision_at(recall, precision, RECALL_POINTS);
    let step = 1.0 / (RECALL_POINTS - 1) as f64;
    read.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0 * step).sum()
}

/// Returns that curve at so many recalls in equal steps from 0 to 1.
pub(super) fn precision_at(recall: &[f64], precision: &[f64], points: usize) -> Vec<f64> {
    let last_recall = recall.last().copied().unwrap_or(1.0);
    let recalls: Vec<f64> = [0.0]
        .into_iter()
        .chain(recall.iter().copied())
        .chain([last_recall, 1.0])
        .collect();
    let mut envelope: Vec<f64> = [1.0]
        .into_iter()
        .chain(precision.iter().copied())
        .chain([0.0, 0.0])
        .collect();
    let mut best = 0f64;
    for value in envelope.iter_mut().rev() {
        best = best.max(*value);
        *value = best;
    }
    let step = 1.0 / (points - 1) as f64;
    (0..points)
        .map(|point| interpolate(point as f64 * step, &recalls, &envelope, 0.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_curve_has_an_area_just_below_one() {
        // At recall 1 the drop to 0 counts: the last trapezoid is halved.
        let area = average_precision(&[0.5, 1.0], &[1.0, 1.0]);
        assert!((area - 0.995).abs() < 1e-12, "{area}");
    }

    #[test]
    fn half_of_the_objects_found_gives_about_half() {
        // Precision 1 up to recall 0.49, 0 from 0.5 on.
        let area = average_precision(&[0.25, 0.5], &[1.0, 1.0]);
        assert!((area - 0.495).abs() < 1e-12, "{area}");
    }

    #[test]
    fn a_dip_in_precision_is_filled_by_the_better_point_behind_it() {
        let dipped = average_precision(&[0.5, 0.5, 1.0], &[1.0, 0.5, 2.0 / 3.0]);
        let filled = average_precision(&[0.5, 0.5, 1.0], &[1.0, 2.0 / 3.0, 2.0 / 3.0]);
        assert_eq!(dipped, filled);
    }

    #[test]
    fn a_curve_without_points_has_no_area() {
        // One falling edge from precision 1 at recall 0 is all that is left of it.
        assert!(average_precision(&[0.0], &[0.0]) <= 0.005);
    }
}
