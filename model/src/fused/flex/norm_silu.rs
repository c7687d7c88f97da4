//! Batch normalisation with SiLU, forward and backward: a few passes over the maps instead of some thirty.

use rayon::prelude::*;

use super::Map;
use super::sigmoid::sigmoid;

/// What normalisation does to one channel: `value * scale + shift`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    mean: f32,
    inverse: f32,
    scale: f32,
    shift: f32,
}

/// Returns the normalisation of each channel.
pub(super) fn affine(
    mean: &[f32],
    variance: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
) -> Vec<Affine> {
    (0..mean.len())
        .map(|channel| {
            let inverse = 1.0 / (variance[channel] + epsilon).sqrt();
            let scale = gamma[channel] * inverse;
            Affine {
                mean: mean[channel],
                inverse,
                scale,
                shift: beta[channel] - mean[channel] * scale,
            }
        })
        .collect()
}

/// Returns the output, the means and the biased variances.
pub(super) fn forward(x: &Map, gamma: &[f32], beta: &[f32], epsilon: f32) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (mean, variance): (Vec<f32>, Vec<f32>) = (0..x.channels)
        .into_par_iter()
        .map(|channel| mean_and_variance(x, channel))
        .unzip();
    let norms = affine(&mean, &variance, gamma, beta, epsilon);
    let mut output = vec![0.0; x.values().len()];
    output
        .par_chunks_mut(x.plane())
        .zip(x.values().par_chunks(x.plane()))
        .enumerate()
        .for_each(|(index, (output, values))| {
            let Affine { scale, shift, .. } = norms[index % x.channels];
            for (output, &value) in output.iter_mut().zip(values) {
                let z = value * scale + shift;
                *output = z * sigmoid(z);
            }
        });
    (output, mean, variance)
}

/// Returns the gradients with respect to `x`, the scales and the shifts.
///
/// # Source
/// Batch Normalization (Ioffe and Szegedy 2015), section 3, after the derivative of SiLU.
pub(super) fn backward(x: &Map, norms: &[Affine], gradient: &Map) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut inner = vec![0.0; x.values().len()];
    inner
        .par_chunks_mut(x.plane())
        .zip(x.values().par_chunks(x.plane()))
        .zip(gradient.values().par_chunks(x.plane()))
        .enumerate()
        .for_each(|(index, ((inner, values), gradient))| {
            through_silu(norms[index % x.channels], inner, values, gradient);
        });
    let sums: Vec<(f32, f32)> = (0..x.channels)
        .into_par_iter()
        .map(|channel| scale_and_shift(x, &inner, channel, norms[channel]))
        .collect();
    let count = (x.batch * x.plane()) as f32;
    inner
        .par_chunks_mut(x.plane())
        .zip(x.values().par_chunks(x.plane()))
        .enumerate()
        .for_each(|(index, (inner, values))| {
            let channel = index % x.channels;
            let (scale_sum, shift_sum) = sums[channel];
            through_norm(
                norms[channel],
                inner,
                values,
                scale_sum / count,
                shift_sum / count,
            );
        });
    let (gamma, beta) = sums.into_iter().unzip();
    (inner, gamma, beta)
}

/// Writes the gradient with respect to what SiLU reads: `g (s + z s (1 - s))`.
fn through_silu(norm: Affine, inner: &mut [f32], values: &[f32], gradient: &[f32]) {
    for ((inner, &value), &gradient) in inner.iter_mut().zip(values).zip(gradient) {
        let z = value * norm.scale + norm.shift;
        let gate = sigmoid(z);
        *inner = gradient * gate * (1.0 + z * (1.0 - gate));
    }
}

/// Turns that gradient into the one with respect to `x`.
fn through_norm(norm: Affine, inner: &mut [f32], values: &[f32], along: f32, constant: f32) {
    for (inner, &value) in inner.iter_mut().zip(values) {
        let normed = (value - norm.mean) * norm.inverse;
        *inner = norm.scale * (*inner - constant - normed * along);
    }
}

fn mean_and_variance(x: &Map, channel: usize) -> (f32, f32) {
    let count = (x.batch * x.plane()) as f64;
    let planes = || (0..x.batch).map(|image| x.at(image, channel));
    let mean = planes().map(|plane| sum(plane, |value| value)).sum::<f64>() / count;
    let centre = mean as f32;
    let squares = planes().map(|plane| sum(plane, |value| (value - centre) * (value - centre)));
    (centre, (squares.sum::<f64>() / count) as f32)
}

/// Gradients with respect to one channel's scale and shift.
fn scale_and_shift(x: &Map, inner: &[f32], channel: usize, norm: Affine) -> (f32, f32) {
    let (mut scale, mut shift) = (0.0, 0.0);
    for image in 0..x.batch {
        let start = (image * x.channels + channel) * x.plane();
        let inner = &inner[start..start + x.plane()];
        shift += sum(inner, |gradient| gradient);
        scale += sum_pairs(inner, x.at(image, channel), |gradient, value| {
            gradient * ((value - norm.mean) * norm.inverse)
        });
    }
    (scale as f32, shift as f32)
}

/// Independent partial sums, as wide as two vector registers.
const LANES: usize = 16;
/// Values summed in `f32` before they go into the `f64` total.
const BLOCK: usize = 64 * LANES;

fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        let mut lanes = [0.0_f32; LANES];
        let (wide, rest) = block.as_chunks::<LANES>();
        for values in wide {
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane += term(value);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane += term(value);
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

fn sum_pairs(one: &[f32], other: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut total = 0.0;
    for (one, other) in one.chunks(BLOCK).zip(other.chunks(BLOCK)) {
        let mut lanes = [0.0_f32; LANES];
        let (wide, rest) = one.as_chunks::<LANES>();
        let (other_wide, other_rest) = other.as_chunks::<LANES>();
        for (one, other) in wide.iter().zip(other_wide) {
            for (lane, (&one, &other)) in lanes.iter_mut().zip(one.iter().zip(other)) {
                *lane += term(one, other);
            }
        }
        for (lane, (&one, &other)) in lanes.iter_mut().zip(rest.iter().zip(other_rest)) {
            *lane += term(one, other);
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}
