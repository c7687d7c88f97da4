//! The length of a gradient, and what is done when it is too long.

use std::num::NonZeroUsize;

use multiversion::multiversion;

use super::threads::{on_threads, parts_mut};

/// Scales all values.
pub(super) fn scale_all(values: &mut [f32], factor: f32, threads: NonZeroUsize) {
    let parts = parts_mut(threads, values).collect();
    on_threads(threads, parts, |part| part.len(), |part| scale(part, factor));
}

#[multiversion(targets = "simd")]
fn scale(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}

/// Returns by how much a gradient of norm `norm` is scaled so that it is no longer than `limit`.
pub(super) fn clipped(norm: f64, limit: f64) -> f64 {
    if norm > limit { limit / norm } else { 1.0 }
}

/// Returns the Euclidean norm over all values, summed in `f64` in an order that is always the same: as many sums as a processor keeps
/// going at once.
#[multiversion(targets = "simd")]
pub(super) fn global_norm(gradient: &[f32]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (whole, rest) = gradient.as_chunks::<LANES>();
    for values in whole {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += f64::from(value) * f64::from(value);
    }
    sums.iter().sum::<f64>().sqrt()
}

/// Sums of a norm that go on side by side.
const LANES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_counts_every_value() {
        let values: Vec<f32> = (1..=2 * LANES as u16 + 3).map(f32::from).collect();
        let plain: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        assert!((global_norm(&values) - plain.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn only_what_is_longer_than_the_limit_is_clipped() {
        assert_eq!(clipped(20.0, 10.0), 0.5);
        for norm in [0.0, 9.0, 10.0] {
            assert_eq!(clipped(norm, 10.0), 1.0);
        }
    }
}
