//! Piecewise linear curves: interpolation, smoothing, and where the maximum lies.

/// Returns the value at `x` of the polyline through `points` (ascending in x).
///
/// Left of the first point it is `left`, right of the last point the last value. Of several points with the same x the
/// last one counts.
pub(super) fn interpolate(x: f64, xs: &[f64], ys: &[f64], left: f64) -> f64 {
    let after = xs.partition_point(|&point| point <= x);
    let Some(before) = after.checked_sub(1) else {
        return left;
    };
    if after == xs.len() || xs[before] == x {
        return ys[before];
    }
    let slope = (ys[after] - ys[before]) / (xs[after] - xs[before]);
    slope * (x - xs[before]) + ys[before]
}

/// Returns the curve averaged over a centred window of an odd number of points; the ends are extended.
pub(super) fn box_filter(curve: &[f64], window: usize) -> Vec<f64> {
    let half = window / 2;
    let last = curve.len().saturating_sub(1);
    (0..curve.len())
        .map(|centre| {
            let sum: f64 = (0..window)
                .map(|offset| curve[(centre + offset).saturating_sub(half).min(last)])
                .sum();
            sum / window as f64
        })
        .collect()
}

/// Returns the index of the largest value, the first of equals; 0 for an empty curve.
pub(super) fn argmax(curve: &[f64]) -> usize {
    let mut best = 0;
    for (index, &value) in curve.iter().enumerate() {
        if value > curve[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_is_linear_between_and_constant_beyond_the_points() {
        let (xs, ys) = ([0.0, 1.0, 1.0, 3.0], [0.0, 2.0, 4.0, 8.0]);
        let at = |x| interpolate(x, &xs, &ys, -1.0);
        assert_eq!(at(-0.5), -1.0);
        assert_eq!(at(0.25), 0.5);
        assert_eq!(at(1.0), 4.0);
        assert_eq!(at(2.0), 6.0);
        assert_eq!(at(9.0), 8.0);
    }

    #[test]
    fn the_box_filter_averages_neighbours_and_extends_the_ends() {
        let smooth = box_filter(&[3.0, 0.0, 0.0, 6.0], 3);
        assert_eq!(smooth, [2.0, 1.0, 2.0, 4.0]);
        assert_eq!(argmax(&smooth), 3);
        assert_eq!(argmax(&[]), 0);
    }
}
