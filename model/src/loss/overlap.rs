//! Complete IoU on the device, with gradients; the formula of [`crate::boxes::ciou`] on pairs of corners.

use std::f64::consts::PI;

use burn::tensor::Tensor;

use crate::boxes::EPSILON;

/// Returns the complete IoU of each predicted box with the true box of the same row.
///
/// As in the paper's own implementation the trade-off of the aspect term is a constant for the gradient.
///
/// # Shapes
/// Both boxes are `[low corner, high corner]`, each `[N, 2]` as x, y. The result is `[N, 1]`.
///
/// # Source
/// Zheng et al. 2020 (<https://arxiv.org/abs/1911.08287>), equations 8 to 11.
pub(super) fn ciou(predicted: [Tensor<2>; 2], truth: [Tensor<2>; 2]) -> Tensor<2> {
    let [low, high] = predicted;
    let [true_low, true_high] = truth;
    let shared = area(
        (high.clone().min_pair(true_high.clone()) - low.clone().max_pair(true_low.clone())).clamp_min(0.0),
    );
    let hull = high.clone().max_pair(true_high.clone()) - low.clone().min_pair(true_low.clone());
    let diagonal = hull.square().sum_dim(1).add_scalar(EPSILON);
    let offset = (true_low.clone() + true_high.clone()) - (low.clone() + high.clone());
    let distance = offset.square().sum_dim(1).div_scalar(4.0);

    let (width, height) = sides(high - low);
    let (true_width, true_height) = sides(true_high - true_low);
    let union = width.clone() * height.clone() + true_width.clone() * true_height.clone() - shared.clone();
    let iou = shared / union.add_scalar(EPSILON);

    let angle = (true_width / true_height).atan() - (width / height).atan();
    let aspect = angle.square().mul_scalar(4.0 / (PI * PI));
    let trade_off = {
        let (iou, aspect) = (iou.clone().detach(), aspect.clone().detach());
        aspect.clone() / (aspect - iou).add_scalar(1.0 + EPSILON)
    };
    iou - distance / diagonal - aspect * trade_off
}

/// Splits `[N, 2]` extents into width and height; the height is kept off zero for the aspect ratio.
fn sides(extent: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let width = extent.clone().narrow(1, 0, 1);
    (width, extent.narrow(1, 1, 1).add_scalar(EPSILON))
}

/// Multiplies `[N, 2]` extents to `[N, 1]` areas.
fn area(extent: Tensor<2>) -> Tensor<2> {
    extent.clone().narrow(1, 0, 1) * extent.narrow(1, 1, 1)
}
