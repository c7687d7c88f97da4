//! The logistic function in a form that compilers turn into vector instructions.

/// Returns `1 / (1 + exp(-x))` within 2e-7.
///
/// No branch, no call and no table, so that a loop over it runs on vector units; the standard library's `exp` is
/// a call per value. Plain arithmetic in a fixed order: the same bits on every machine.
///
/// # Source
/// Range reduction and polynomial of `expf` in the Cephes library (Moshier).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn exp(x: f32) -> f32 {
    // Beyond these, the result would leave the normal numbers.
    let x = x.clamp(-87.0, 88.0);
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    let mut series = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        series = series * rest + coefficient;
    }
    let mantissa = series * rest * rest + rest + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    mantissa * f32::from_bits(exponent.wrapping_add(127) << 23)
}

const ROUND: f32 = 12_582_912.0;

/// The natural logarithm of 2 in two parts; products with the first are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_standard_library() {
        for step in -40_000..=40_000 {
            let x = step as f32 * 0.003;
            let expected = 1.0 / (1.0 + (-f64::from(x)).exp());
            let error = (f64::from(sigmoid(x)) - expected).abs();
            assert!(error < 2e-7, "{x}: {error}");
        }
    }

    #[test]
    fn extremes_stay_finite() {
        assert_eq!(sigmoid(f32::MAX), 1.0);
        assert!(sigmoid(f32::MIN) < 1e-37);
        assert!(sigmoid(f32::NAN).is_nan());
    }
}
