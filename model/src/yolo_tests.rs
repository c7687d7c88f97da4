//! The network against itself: gradients by finite differences, statistics, order.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use crate::kind::Family;

const BATCH: usize = 2;

fn detector(name: &str) -> (Yolo, FlatState) {
    detector_on(name, &Device::flex())
}

fn detector_on(name: &str, device: &Device) -> (Yolo, FlatState) {
    let mut yolo = Yolo::new(name.parse::<ModelKind>().unwrap().with_classes(3), device);
    let state = yolo.initial_state(1);
    yolo.load(&state.parameters, &state.buffers);
    (yolo, state)
}

/// Normalisation over the few cells of a small map magnifies rounding, the more the deeper a network is.
fn side(yolo: &Yolo) -> usize {
    match yolo.kind().family {
        Family::V8 => 64,
        Family::V11 => 128,
    }
}

/// One that leaves its graph to burn, and one that keeps it.
fn devices() -> Vec<Device> {
    vec![
        Device::flex(),
        #[cfg(feature = "tch")]
        #[expect(deprecated, reason = "burn-tch is pinned")]
        Device::libtorch(),
    ]
}

/// Smooth patterns that differ between images and channels.
fn pictures(yolo: &Yolo) -> Tensor<4> {
    let side = side(yolo);
    let pixels: Vec<u8> = (0..BATCH * 3 * side * side)
        .map(|index| {
            let (plane, place) = (index / (side * side), index % (side * side));
            let (row, column) = (place / side, place % side);
            let wave = (row * (plane + 2) + column * 3) as f32 / 17.0;
            (127.5 + 127.5 * wave.sin()) as u8
        })
        .collect();
    yolo.images(&pixels, [BATCH, side, side])
}

fn weights(shape: [usize; 3]) -> Vec<f32> {
    let len = shape.iter().product::<usize>();
    (0..len).map(|i| (i as f32 * 0.7).sin()).collect()
}

/// A scalar that weighs every output differently.
fn objective(output: &HeadOutput) -> Tensor<1> {
    let weigh = |tensor: &Tensor<3>| {
        let shape = tensor.dims();
        let weights = TensorData::new(weights(shape), shape);
        let weights = Tensor::<3>::from_data(weights, &tensor.device().without_autodiff());
        (tensor.clone() * weights.autodiff()).sum()
    };
    weigh(&output.distances) + weigh(&output.scores)
}

/// The same scalar, summed in double precision.
fn value_at(yolo: &mut Yolo, parameters: &[f32], buffers: &[f32]) -> f64 {
    yolo.load(parameters, buffers);
    let Forward { output, .. } = yolo.train_forward(pictures(yolo));
    [output.distances, output.scores]
        .into_iter()
        .flat_map(|tensor| {
            let weights = weights(tensor.dims());
            let values = to_host(tensor.inner().flatten(0, 2));
            std::iter::zip(values, weights)
        })
        .map(|(value, weight)| f64::from(value) * f64::from(weight))
        .sum()
}

fn check_gradients(name: &str, tensors: &[&str]) {
    let (mut yolo, state) = detector(name);
    let Forward { output, trace, .. } = yolo.train_forward(pictures(&yolo));
    let gradient = yolo.backward(trace, &objective(&output));
    let layout = yolo.layout().clone();
    for name in tensors {
        let range = layout.parameter(name).unwrap().range.clone();
        let slope: f64 = gradient[range.clone()]
            .iter()
            .map(|&g| f64::from(g).powi(2))
            .sum();
        // A step along the gradient, the direction that rises above rounding, that changes the objective by 0.3.
        let step = 0.3 / slope;
        let mut moved = |sign: f64| {
            let mut parameters = state.parameters.clone();
            for index in range.clone() {
                parameters[index] += (sign * step * f64::from(gradient[index])) as f32;
            }
            value_at(&mut yolo, &parameters, &state.buffers)
        };
        let numeric = (moved(1.0) - moved(-1.0)) / (2.0 * step);
        let error = (numeric / slope - 1.0).abs();
        assert!(
            error < 0.005,
            "{name}: {numeric} by differences, {slope} by backward"
        );
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let tensors = [
        "model.0.conv.weight",
        "model.0.bn.weight",
        "model.0.bn.bias",
        "model.2.m.0.cv1.conv.weight",
        "model.5.conv.weight",
        "model.9.cv1.conv.weight",
        "model.9.cv2.bn.weight",
        "model.12.cv1.conv.weight",
        "model.15.m.0.cv2.conv.weight",
        "model.19.conv.weight",
        "model.22.cv2.1.0.conv.weight",
        "model.22.cv3.2.1.bn.bias",
        "model.22.cv3.2.2.weight",
        "model.22.cv2.0.2.bias",
    ];
    check_gradients("yolov8n", &tensors);
}

#[test]
fn gradients_of_yolo11_agree_with_finite_differences() {
    let tensors = [
        "model.0.conv.weight",
        "model.2.m.0.cv1.conv.weight",
        "model.6.m.0.m.1.cv2.conv.weight",
        "model.8.m.0.cv2.conv.weight",
        "model.10.m.0.attn.qkv.conv.weight",
        "model.10.m.0.attn.qkv.bn.bias",
        "model.10.m.0.attn.pe.conv.weight",
        "model.10.m.0.attn.proj.bn.weight",
        "model.10.m.0.ffn.1.conv.weight",
        "model.22.m.0.cv3.conv.weight",
        "model.23.cv3.0.0.0.conv.weight",
        "model.23.cv3.1.1.1.conv.weight",
        "model.23.cv3.2.2.weight",
    ];
    check_gradients("yolo11n", &tensors);
}

#[test]
fn training_and_inference_agree_on_the_same_statistics() {
    for name in ["yolov8n", "yolo11n"] {
        check_statistics(name);
    }
}

fn check_statistics(name: &str) {
    let (mut yolo, state) = detector(name);
    let Forward {
        output: trained,
        statistics,
        ..
    } = yolo.train_forward(pictures(&yolo));
    let corrections: Vec<(usize, f32)> = (statistics.norms.iter())
        .map(|norm| (norm.mean.dims()[0], norm.correction))
        .collect();
    let mut buffers = statistics.into_vec();
    assert_eq!(buffers.len(), state.buffers.len());
    // Normalising takes the biased variance, so the correction is taken back here.
    let mut start = 0;
    for (channels, correction) in corrections {
        let variance = &mut buffers[start + channels..start + 2 * channels];
        variance.iter_mut().for_each(|value| *value /= correction);
        start += 2 * channels;
    }
    yolo.load(&state.parameters, &buffers);
    let inferred = yolo.infer(pictures(&yolo));
    for (one, other) in [
        (trained.distances, inferred.distances),
        (trained.scores, inferred.scores),
    ] {
        let (one, other) = (to_host(one.inner().flatten(0, 2)), to_host(other.flatten(0, 2)));
        for (a, b) in one.iter().zip(&other) {
            assert!((a - b).abs() < 1e-3 * (1.0 + a.abs()), "{a} {b}");
        }
    }
}

#[test]
fn outputs_have_one_row_per_anchor_of_the_grid() {
    let (yolo, _) = detector("yolov8n");
    let output = yolo.infer(pictures(&yolo));
    assert_eq!(output.grid.len(), 64 + 16 + 4);
    assert_eq!(output.distances.dims(), [BATCH, 84, 64]);
    assert_eq!(output.scores.dims(), [BATCH, 84, 3]);
    let strides: Vec<f32> = output.grid.levels.iter().map(|level| level.stride).collect();
    assert_eq!(strides, [8.0, 16.0, 32.0]);
}

#[test]
fn a_gradient_lies_at_its_tensors_range_and_missing_ones_are_zero() {
    let (yolo, _) = detector("yolov8n");
    let Forward { output, trace, .. } = yolo.train_forward(pictures(&yolo));
    let gradient = yolo.backward(trace, &output.scores.sum());
    let layout = yolo.layout();
    assert_eq!(gradient.len(), layout.parameters_len());
    for spec in &layout.parameters {
        let values = &gradient[spec.range.clone()];
        if spec.name == "model.22.cv3.1.2.bias" {
            // Every cell of every image adds one.
            assert!(values.iter().all(|&value| value == (BATCH * 16) as f32));
        } else if spec.name.starts_with("model.22.cv2.") {
            assert!(values.iter().all(|&value| value == 0.0), "{}", spec.name);
        } else {
            assert!(values.iter().any(|&value| value != 0.0), "{}", spec.name);
        }
    }
}

#[test]
fn gradients_that_are_handed_on_are_the_same_and_those_of_the_first_layer_come_last() {
    let cases = ["yolov8n", "yolo11n"].into_iter();
    for (name, device) in cases.flat_map(|name| devices().into_iter().map(move |device| (name, device))) {
        let (yolo, _) = detector_on(name, &device);
        let Forward { output, trace, .. } = yolo.train_forward(pictures(&yolo));
        let expected = yolo.backward(trace, &objective(&output));

        let (sender, handed_on) = std::sync::mpsc::channel();
        let outlet = Outlet::new(move |tensor, gradient| sender.send((tensor, gradient)).unwrap());
        let Forward { output, trace, .. } = yolo.train_forward_into(pictures(&yolo), &outlet);
        let left = yolo.backward(trace, &objective(&output));
        drop((output, outlet));
        assert!(left.is_empty(), "{name}: some went elsewhere");

        let mut gradient = vec![None; expected.len()];
        let parameters = &yolo.layout().parameters;
        let mut order = Vec::new();
        for (tensor, values) in handed_on {
            order.push(parameters[tensor].name.as_str());
            for (place, value) in gradient[parameters[tensor].range.clone()].iter_mut().zip(values) {
                assert_eq!(*place, None, "{name}: {} came twice", parameters[tensor].name);
                *place = Some(value);
            }
        }
        let gradient: Option<Vec<f32>> = gradient.into_iter().collect();
        assert!(gradient.as_ref() == Some(&expected), "{name}: another gradient");
        let (first, last) = (&order[..12], &order[order.len() - 3..]);
        let head = parameters.last().unwrap().name[..9].to_owned();
        assert!(
            first.iter().all(|name| name.starts_with(&head)),
            "{name}: {first:?}"
        );
        assert!(
            last.iter().all(|name| name.starts_with("model.0.")),
            "{name}: {last:?}"
        );
    }
}

/// The first rows have few parameters and are one piece of libtorch's graph.
#[cfg(feature = "tch")]
#[test]
fn rows_of_few_parameters_end_no_piece() {
    for device in &devices()[1..] {
        let (yolo, _) = detector_on("yolov8n", device);
        let trace = yolo.train_forward(pictures(&yolo)).trace;
        let ends = trace.native.unwrap().rows_that_end_pieces();
        assert_eq!(ends, [4, 5, 6, 7, 8, 9, 12, 15, 16, 18, 19, 21]);
    }
}

#[test]
fn neither_repeating_nor_the_number_of_threads_changes_a_bit() {
    for name in ["yolov8n", "yolo11n"] {
        check_bits(name);
    }
}

fn check_bits(name: &str) {
    let step = || pass(name, 0, &Device::flex());
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(step)
    };
    let expected = with_threads(1);
    for threads in [1, 2, 3] {
        assert!(with_threads(threads) == expected, "{name}, {threads} threads");
    }
}

/// All that a training pass computes, with the first layers held.
fn pass(name: &str, frozen: usize, device: &Device) -> (Vec<f32>, Vec<f32>) {
    let (yolo, state) = detector_on(name, device);
    let mut yolo = yolo.with_frozen(frozen).unwrap();
    yolo.load(&state.parameters, &state.buffers);
    pass_of(&yolo)
}

/// The gradient and the statistics that a training pass gives with what is loaded.
fn pass_of(yolo: &Yolo) -> (Vec<f32>, Vec<f32>) {
    let Forward {
        output,
        statistics,
        trace,
    } = yolo.train_forward(pictures(yolo));
    let gradient = yolo.backward(trace, &objective(&output));
    (gradient, statistics.into_vec())
}

#[cfg(feature = "tch")]
#[test]
fn a_graph_that_the_device_keeps_gives_the_gradients_of_burn_and_the_same_bits_again() {
    for (name, frozen) in [
        ("yolov8n", 0),
        ("yolo11n", 0),
        ("yolov8n", 2),
        ("yolov8n", 10),
        ("yolov8n", 22),
    ] {
        let (expected, expected_statistics) = pass(name, frozen, &Device::flex());
        for device in &devices()[1..] {
            let (gradient, statistics) = pass(name, frozen, device);
            let (yolo, _) = detector(name);
            let layout = yolo.layout();
            let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
            for (specs, ours, theirs) in [
                (&layout.parameters, &gradient, &expected),
                (&layout.buffers, &statistics, &expected_statistics),
            ] {
                // Some gradients are zero but for rounding: of biases that a normalisation takes out again.
                let rounding = 1e-6 * length(&mut theirs.iter().copied());
                for spec in specs {
                    let (ours, theirs) = (&ours[spec.range.clone()], &theirs[spec.range.clone()]);
                    let distance = length(&mut ours.iter().zip(theirs).map(|(a, b)| a - b));
                    let expected = length(&mut theirs.iter().copied());
                    assert!(
                        distance <= 2e-3 * expected + rounding,
                        "{name} {}: {distance} of {expected}",
                        spec.name
                    );
                }
            }
            assert!(
                pass(name, frozen, device) == (gradient, statistics),
                "{name}: other bits"
            );
        }
    }
}

#[test]
#[should_panic(expected = "48 x 64 is not a multiple of 32")]
fn another_size_is_refused() {
    let (yolo, _) = detector("yolov8n");
    yolo.infer(yolo.images(&[0; 3 * 48 * 64], [1, 48, 64]));
}

#[test]
fn frozen_layers_have_no_gradient_and_keep_their_statistics() {
    let (yolo, state) = detector("yolo11n");
    let mut yolo = yolo.with_frozen(11).unwrap();
    // Running statistics unlike any batch's.
    let buffers: Vec<f32> = state.buffers.iter().map(|value| value + 0.125).collect();
    yolo.load(&state.parameters, &buffers);
    let (gradient, statistics) = pass_of(&yolo);
    let frozen = yolo.frozen();
    let first_free = yolo.layout().parameter("model.13.cv1.conv.weight").unwrap();
    assert_eq!(frozen.parameters, first_free.range.start);
    assert!(gradient[..frozen.parameters].iter().all(|&value| value == 0.0));
    assert!(
        gradient[first_free.range.clone()]
            .iter()
            .any(|&value| value != 0.0)
    );
    assert_eq!(statistics[..frozen.buffers], buffers[..frozen.buffers]);
    assert_ne!(statistics[frozen.buffers..], buffers[frozen.buffers..]);
    let error = yolo.with_frozen(24).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot freeze 24 layers: the model has 23 before its head, which has to learn"
    );
}

#[test]
fn the_free_layers_learn_as_if_the_frozen_ones_were_given() {
    let (yolo, state) = detector("yolov8n");
    let mut yolo = yolo.with_frozen(10).unwrap();
    check_frozen_gradient(&mut yolo, &state);
}

/// A free tensor's gradient against finite differences, with layers before it frozen.
fn check_frozen_gradient(yolo: &mut Yolo, state: &FlatState) {
    yolo.load(&state.parameters, &state.buffers);
    let Forward { output, trace, .. } = yolo.train_forward(pictures(yolo));
    let gradient = yolo.backward(trace, &objective(&output));
    let range = yolo
        .layout()
        .parameter("model.12.cv1.conv.weight")
        .unwrap()
        .range
        .clone();
    let slope: f64 = gradient[range.clone()]
        .iter()
        .map(|&g| f64::from(g).powi(2))
        .sum();
    let step = 0.3 / slope;
    let mut moved = |sign: f64| {
        let mut parameters = state.parameters.clone();
        for index in range.clone() {
            parameters[index] += (sign * step * f64::from(gradient[index])) as f32;
        }
        value_at(yolo, &parameters, &state.buffers)
    };
    let numeric = (moved(1.0) - moved(-1.0)) / (2.0 * step);
    assert!((numeric / slope - 1.0).abs() < 0.005, "{numeric} {slope}");
}
