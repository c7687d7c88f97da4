//! The network against itself: gradients by finite differences, statistics, order.

use super::*;

const SIZE: usize = 64;
const BATCH: usize = 2;

fn detector() -> (Yolo, FlatState) {
    let mut yolo = Yolo::new(ModelKind::ALL[0], 3, &Device::flex());
    let state = yolo.initial_state(1);
    yolo.load(&state.parameters, &state.buffers);
    (yolo, state)
}

/// Smooth patterns that differ between images and channels.
fn pictures(yolo: &Yolo) -> Tensor<4> {
    let pixels: Vec<u8> = (0..BATCH * 3 * SIZE * SIZE)
        .map(|index| {
            let (plane, place) = (index / (SIZE * SIZE), index % (SIZE * SIZE));
            let (row, column) = (place / SIZE, place % SIZE);
            let wave = (row * (plane + 2) + column * 3) as f32 / 17.0;
            (127.5 + 127.5 * wave.sin()) as u8
        })
        .collect();
    yolo.images(&pixels, [BATCH, SIZE, SIZE])
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
        let weights = Tensor::<3>::from_data(weights, &Device::flex());
        (tensor.clone() * weights.autodiff()).sum()
    };
    weigh(&output.distances) + weigh(&output.scores)
}

/// The same scalar, summed in double precision.
fn value_at(yolo: &mut Yolo, parameters: &[f32], buffers: &[f32]) -> f64 {
    yolo.load(parameters, buffers);
    let (output, _) = yolo.train_forward(pictures(yolo));
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

#[test]
fn gradients_agree_with_finite_differences() {
    let (mut yolo, state) = detector();
    let (output, _) = yolo.train_forward(pictures(&yolo));
    let gradient = yolo.gradient(objective(&output).backward());
    let layout = yolo.layout().clone();
    for name in [
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
    ] {
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
fn training_and_inference_agree_on_the_same_statistics() {
    let (mut yolo, state) = detector();
    let (trained, statistics) = yolo.train_forward(pictures(&yolo));
    let counts: Vec<(usize, usize)> = statistics
        .norms
        .iter()
        .map(|norm| (norm.mean.dims()[0], norm.count))
        .collect();
    let mut buffers = statistics.into_vec();
    assert_eq!(buffers.len(), state.buffers.len());
    // Normalising takes the biased variance, so the correction is taken back here.
    let mut start = 0;
    for (channels, count) in counts {
        let variance = &mut buffers[start + channels..start + 2 * channels];
        let biased = (count - 1) as f32 / count as f32;
        variance.iter_mut().for_each(|value| *value *= biased);
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
    let (yolo, _) = detector();
    let output = yolo.infer(pictures(&yolo));
    assert_eq!(output.grid.len(), 64 + 16 + 4);
    assert_eq!(output.distances.dims(), [BATCH, 84, 64]);
    assert_eq!(output.scores.dims(), [BATCH, 84, 3]);
    let strides: Vec<f32> = output.grid.levels.iter().map(|level| level.stride).collect();
    assert_eq!(strides, [8.0, 16.0, 32.0]);
}

#[test]
fn a_gradient_lies_at_its_tensors_range_and_missing_ones_are_zero() {
    let (yolo, _) = detector();
    let (output, _) = yolo.train_forward(pictures(&yolo));
    let gradient = yolo.gradient(output.scores.sum().backward());
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
fn neither_repeating_nor_the_number_of_threads_changes_a_bit() {
    let step = || {
        let (yolo, _) = detector();
        let (output, statistics) = yolo.train_forward(pictures(&yolo));
        let gradient = yolo.gradient(objective(&output).backward());
        (gradient, statistics.into_vec())
    };
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(step)
    };
    let expected = with_threads(1);
    for threads in [1, 2, 3] {
        assert_eq!(with_threads(threads), expected, "{threads} threads");
    }
}

#[test]
#[should_panic(expected = "48 x 64 is not a multiple of 32")]
fn another_size_is_refused() {
    let (yolo, _) = detector();
    yolo.infer(yolo.images(&[0; 3 * 48 * 64], [1, 48, 64]));
}
