//! The kernels of `flex` and libtorch against burn's own operations.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, FlexDevice};
use burn::tensor::module::{batch_norm_train, conv2d};
use burn::tensor::{Device, TensorData, Tolerance, activation::silu};

use super::*;

/// Each case on each device whose operations are not all burn's.
fn on_devices<T: Copy>(cases: impl IntoIterator<Item = T>) -> Vec<(Device, T)> {
    let devices = [
        Device::flex(),
        #[cfg(feature = "tch")]
        #[expect(deprecated, reason = "burn-tch is pinned")]
        Device::libtorch(),
    ];
    let cases = cases.into_iter();
    cases
        .flat_map(|case| devices.clone().into_iter().map(move |device| (device, case)))
        .collect()
}

/// Values without a pattern, around `offset`.
fn filled<const D: usize>(device: &Device, shape: [usize; D], offset: f32) -> Tensor<D> {
    let len = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..len)
        .map(|index| offset + (index as f32 * 1.37 + len as f32).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &device.clone().autodiff()).require_grad()
}

fn assert_close<const D: usize>(one: Tensor<D>, other: Tensor<D>) {
    let tolerance = Tolerance::<f32>::rel_abs(1e-4, 1e-4);
    one.into_data().assert_approx_eq(&other.into_data(), tolerance);
}

/// A scalar that weighs every value differently.
fn objective(output: Tensor<4>) -> Tensor<1> {
    let weights = filled(&output.device().inner(), output.dims(), 0.3).detach();
    (output * weights).sum()
}

#[test]
fn a_convolution_and_its_gradients_are_those_of_burn() {
    let cases = [
        (1, 1, [4, 6]),
        (3, 1, [5, 7]),
        (3, 2, [6, 8]),
        (3, 2, [7, 5]),
        (3, 1, [1, 1]),
    ];
    for (device, (side, stride, [height, width])) in on_devices(cases) {
        let x = filled(&device, [3, 4, height, width], 0.1);
        let kernel = filled(&device, [5, 4, side, side], 0.0);
        let ours = convolve(x.clone(), kernel.clone(), stride, side / 2);
        let theirs = conv2d(x.clone(), kernel.clone(), None, options(stride, side / 2));
        assert_close(ours.clone(), theirs.clone());
        let (ours, theirs) = (objective(ours).backward(), objective(theirs).backward());
        assert_close(x.grad(&ours).unwrap(), x.grad(&theirs).unwrap());
        assert_close(kernel.grad(&ours).unwrap(), kernel.grad(&theirs).unwrap());
        // The kernel of a first layer, with a photo that no gradient is asked for.
        let photo = x.detach();
        let ours = objective(convolve(photo.clone(), kernel.clone(), stride, side / 2)).backward();
        assert_close(kernel.grad(&ours).unwrap(), kernel.grad(&theirs).unwrap());
    }
}

#[test]
fn a_depthwise_convolution_and_its_gradients_are_those_of_burn() {
    let cases = [(3, [5, 19]), (3, [1, 1]), (5, [2, 9]), (1, [3, 4]), (3, [20, 20])];
    for (device, (side, [height, width])) in on_devices(cases) {
        let x = filled(&device, [3, 4, height, width], 0.1);
        let kernel = filled(&device, [4, 1, side, side], 0.0);
        let options = ConvOptions::new([1; 2], [side / 2; 2], [1; 2], 4);
        let ours = depthwise(x.clone(), kernel.clone());
        let theirs = conv2d(x.clone(), kernel.clone(), None, options);
        assert_close(ours.clone(), theirs.clone());
        let (ours, theirs) = (objective(ours).backward(), objective(theirs).backward());
        assert_close(x.grad(&ours).unwrap(), x.grad(&theirs).unwrap());
        assert_close(kernel.grad(&ours).unwrap(), kernel.grad(&theirs).unwrap());
    }
}

#[test]
fn many_images_are_unfolded_in_parts() {
    let x = filled(&Device::flex(), [9, 64, 32, 32], 0.0);
    let kernel = filled(&Device::flex(), [2, 64, 3, 3], 0.0);
    let ours = objective(convolve(x.clone(), kernel.clone(), 1, 1)).backward();
    let theirs = objective(conv2d(x, kernel.clone(), None, options(1, 1))).backward();
    let (ours, theirs) = (kernel.grad(&ours).unwrap(), kernel.grad(&theirs).unwrap());
    let largest: f32 = theirs.clone().abs().max().into_scalar();
    assert_close(ours / largest, theirs / largest);
}

#[test]
fn normalisation_with_silu_and_its_gradients_are_those_of_burn() {
    for (device, [batch, height, width]) in on_devices([[2, 3, 5], [1, 1, 2], [3, 40, 40]]) {
        let x = filled(&device, [batch, 6, height, width], 2.0);
        let (gamma, beta) = (filled(&device, [6], 1.0), filled(&device, [6], 0.0));
        let (ours, mean, variance) = norm_silu(x.clone(), gamma.clone(), beta.clone(), 1e-3);
        let theirs = batch_norm_train(x.clone(), gamma.clone(), beta.clone(), 1e-3);
        assert_close(mean, theirs.mean);
        assert_close(variance, theirs.variance);
        let theirs = silu(theirs.output);
        assert_close(ours.clone(), theirs.clone());
        let (ours, theirs) = (objective(ours).backward(), objective(theirs).backward());
        assert_close(x.grad(&ours).unwrap(), x.grad(&theirs).unwrap());
        assert_close(gamma.grad(&ours).unwrap(), gamma.grad(&theirs).unwrap());
        assert_close(beta.grad(&ours).unwrap(), beta.grad(&theirs).unwrap());
    }
}

fn primitive(shape: &[usize], offset: f32) -> FloatTensor<Flex> {
    let len = shape.iter().product::<usize>();
    let data = filled(&Device::flex(), [len], offset).into_data();
    let data = TensorData::new(data.try_into_vec::<f32>().unwrap(), shape.to_vec());
    Flex::float_from_data(data, &FlexDevice)
}

#[test]
fn what_other_backends_run_for_a_depthwise_kernel_agrees_with_ours() {
    for (side, shape) in [(3, [2, 5, 7, 9]), (5, [1, 2, 3, 2])] {
        let (x, gradient) = (primitive(&shape, 0.1), primitive(&shape, -0.2));
        let composed = composed::depthwise_kernel_gradient::<Flex>(x.clone(), gradient.clone(), side);
        let ours = Flex::depthwise_kernel_gradient(x, gradient, side);
        let tolerance = Tolerance::<f32>::rel_abs(1e-4, 1e-4);
        ours.into_data()
            .assert_approx_eq(&composed.into_data(), tolerance);
    }
}

#[test]
fn what_other_backends_run_agrees_with_the_kernels() {
    let x = primitive(&[2, 3, 4, 5], 1.0);
    let gradient = primitive(&[2, 3, 4, 5], -0.2);
    let (gamma, beta) = (primitive(&[3], 0.7), primitive(&[3], 0.0));
    let composed = composed::norm_silu::<Flex>(x.clone(), gamma.clone(), beta.clone(), 1e-3);
    let fused = Flex::norm_silu(x.clone(), gamma.clone(), beta.clone(), 1e-3);
    let (_, mean, variance) = fused.clone();
    let norm = composed::Norm {
        gamma: gamma.clone(),
        beta: beta.clone(),
        mean: mean.clone(),
        variance: variance.clone(),
        epsilon: 1e-3,
    };
    let composed_gradient = composed::norm_silu_gradient::<Flex>(x.clone(), norm, gradient.clone());
    let fused_gradient = Flex::norm_silu_gradient(x, gamma, beta, mean, variance, 1e-3, gradient);
    for (ours, theirs) in [(fused, composed), (fused_gradient, composed_gradient)] {
        for (one, other) in [(ours.0, theirs.0), (ours.1, theirs.1), (ours.2, theirs.2)] {
            let tolerance = Tolerance::<f32>::rel_abs(1e-4, 1e-4);
            one.into_data().assert_approx_eq(&other.into_data(), tolerance);
        }
    }
}
