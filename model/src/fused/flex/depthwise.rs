//! The kernel gradient of a depthwise convolution, channel by channel over slices.

use rayon::prelude::*;

use super::Map;

/// Returns the gradient as `[channels, side, side]`; `gradient` is that of the convolution's output, whose stride is 1
/// and padding `same`.
pub(super) fn kernel_gradient(x: &Map, gradient: &Map, side: usize) -> Vec<f32> {
    let mut weights = vec![0.0; x.channels * side * side];
    weights
        .par_chunks_mut(side * side)
        .enumerate()
        .for_each(|(channel, weights)| {
            for image in 0..x.batch {
                let (plane, gradient) = (x.at(image, channel), gradient.at(image, channel));
                for (index, weight) in weights.iter_mut().enumerate() {
                    *weight += shifted_product(
                        plane,
                        gradient,
                        [x.height, x.width],
                        [index / side, index % side],
                        side / 2,
                    );
                }
            }
        });
    weights
}

/// Returns the sum over all positions of the gradient times the value that one weight meets there.
fn shifted_product(
    plane: &[f32],
    gradient: &[f32],
    [height, width]: [usize; 2],
    [down, right]: [usize; 2],
    border: usize,
) -> f32 {
    // A position `p` of the output meets `p + offset - border` of the image, which must lie inside.
    let rows = border.saturating_sub(down)..(height + border).saturating_sub(down).min(height);
    let columns = border.saturating_sub(right)..(width + border).saturating_sub(right).min(width);
    if columns.is_empty() {
        return 0.0;
    }
    let first = columns.start + right - border;
    let met = first..first + columns.len();
    rows.map(|row| {
        let values = &plane[(row + down - border) * width..][met.clone()];
        let gradient = &gradient[row * width..][columns.clone()];
        dot(values, gradient)
    })
    .sum()
}

/// A sum in eight lanes, so that it can be vectorised; their order is fixed.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    let (ones, one_rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    let mut lanes = [0.0_f32; 8];
    for (a, b) in ones.iter().zip(others) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    let rest: f32 = one_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}
