//! The kernel gradient of a convolution as one matrix product.
//!
//! The images are unfolded to `[in * k * k, positions]`, so that the gradient is `[out, positions]` times its
//! transpose. burn would run a convolution whose kernel is as large as the map: a thin product per input channel.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use rayon::prelude::*;

use super::{Map, Primitive, tensor};

/// Bound on the values unfolded at a time: long enough sums for a good product, in bounded memory.
const UNFOLDED_VALUES: usize = 1 << 21;

/// Returns the gradient as `[out, in * side * side]`; `gradient` is that of the convolution's output.
pub(super) fn kernel_gradient(
    x: &Map,
    gradient: &Map,
    side: usize,
    stride: usize,
    padding: usize,
) -> Primitive {
    let window = Window {
        side,
        stride,
        padding,
        height: gradient.height,
        width: gradient.width,
    };
    let weights = x.channels * side * side;
    let images = (UNFOLDED_VALUES / (weights * window.positions())).clamp(1, x.batch);
    let products = (0..x.batch).step_by(images).map(|start| {
        let range = start..(start + images).min(x.batch);
        let positions = range.len() * window.positions();
        let unfolded = tensor(unfold(x, window, range.clone()), [weights, positions]);
        let gradient = tensor(channels_first(gradient, range), [gradient.channels, positions]);
        Flex::float_matmul(gradient, Flex::float_swap_dims(unfolded, 0, 1))
    });
    // Invariant: a batch has at least one image.
    products.reduce(Flex::float_add).expect("an image")
}

/// A convolution's window, and the size of its output.
#[derive(Clone, Copy)]
struct Window {
    side: usize,
    stride: usize,
    padding: usize,
    height: usize,
    width: usize,
}

impl Window {
    fn positions(&self) -> usize {
        self.height * self.width
    }
}

/// Returns what each weight of the kernel meets at each position, `[in * side * side, images * positions]`.
fn unfold(x: &Map, window: Window, images: Range<usize>) -> Vec<f32> {
    let side = window.side;
    let row_len = images.len() * window.positions();
    let mut unfolded = vec![0.0; x.channels * side * side * row_len];
    unfolded
        .par_chunks_mut(row_len)
        .enumerate()
        .for_each(|(weight, row)| {
            let (channel, place) = (weight / (side * side), weight % (side * side));
            let offset = [place / side, place % side];
            for (image, out) in images.clone().zip(row.chunks_mut(window.positions())) {
                unfold_plane(x.at(image, channel), [x.height, x.width], window, offset, out);
            }
        });
    unfolded
}

/// Writes what one weight meets in one plane. `out` is zero where the window hangs over the edge.
fn unfold_plane(
    plane: &[f32],
    [height, width]: [usize; 2],
    window: Window,
    [down, right]: [usize; 2],
    out: &mut [f32],
) {
    let Window { stride, padding, .. } = window;
    let columns = inside(right, padding, stride, width, window.width);
    let rows = inside(down, padding, stride, height, window.height);
    for row in rows {
        let source = (row * stride + down - padding) * width;
        let out = &mut out[row * window.width..(row + 1) * window.width][columns.clone()];
        let first = source + columns.start * stride + right - padding;
        if stride == 1 {
            out.copy_from_slice(&plane[first..first + out.len()]);
        } else {
            let values = plane[first..].iter().step_by(stride);
            out.iter_mut().zip(values).for_each(|(out, &value)| *out = value);
        }
    }
}

/// Returns the output positions along one axis at which a weight meets the image and not the padding.
fn inside(offset: usize, padding: usize, stride: usize, len: usize, positions: usize) -> Range<usize> {
    let start = padding.saturating_sub(offset).div_ceil(stride);
    let end = (len + padding).saturating_sub(offset).div_ceil(stride);
    start..end.clamp(start, positions.max(start))
}

/// Returns the maps as `[channels, images * positions]`.
fn channels_first(map: &Map, images: Range<usize>) -> Vec<f32> {
    let mut values = Vec::with_capacity(map.channels * images.len() * map.plane());
    for channel in 0..map.channels {
        for image in images.clone() {
            values.extend_from_slice(map.at(image, channel));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_meets_the_image_where_arithmetic_says() {
        for stride in 1..=3 {
            for padding in 0..=2 {
                for side in 1..=3 {
                    for len in 3..=9 {
                        let positions = (len + 2 * padding - side) / stride + 1;
                        for offset in 0..side {
                            let expected: Vec<usize> = (0..positions)
                                .filter(|p| (padding..len + padding).contains(&(p * stride + offset)))
                                .collect();
                            let range = inside(offset, padding, stride, len, positions);
                            assert_eq!(range.collect::<Vec<_>>(), expected);
                        }
                    }
                }
            }
        }
    }
}
