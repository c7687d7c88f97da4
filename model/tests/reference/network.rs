//! State dicts, raw outputs, decoded boxes, loss terms and gradients of whole networks.

use burn::tensor::{Device, Tensor};
use model::kind::ModelKind;
use model::layout::{FlatState, Layout};
use model::loss::LossGains;
use model::target::Target;
use model::yolo::{Forward, Yolo};
use serde::Deserialize;

use crate::draw::noise;

#[derive(Deserialize)]
struct Stored {
    /// Name, number of entries, hash of names and shapes.
    state_dicts: Vec<(String, usize, String)>,
    networks: Vec<NetworkCase>,
}

#[derive(Clone, Deserialize)]
struct NetworkCase {
    name: String,
    distances: Vec<f32>,
    scores: Vec<f32>,
    boxes: Vec<f32>,
    probabilities: Vec<f32>,
    truths: Vec<Vec<[f32; 5]>>,
    sums: [f64; 3],
    normaliser: f64,
    /// Tensor, norm, distance of samples, samples.
    gradients: Vec<(String, f64, usize, Vec<f32>)>,
}

fn stored() -> Stored {
    serde_json::from_str(include_str!("network.json")).expect("the stored file is read")
}

const CLASSES: usize = 5;
const SHAPE: [usize; 3] = [2, 192, 128];

fn drawn_state(layout: &Layout) -> FlatState {
    let mut parameters = Vec::with_capacity(layout.parameters_len());
    for (index, spec) in layout.parameters.iter().enumerate() {
        let draws = noise(1000 + index as u64, spec.range.len());
        let (factor, offset) = if spec.shape.len() == 4 {
            let fan_in: usize = spec.shape[1..].iter().product();
            ((4.0 / (fan_in as f64).sqrt()) as f32, 0.0)
        } else if spec.name.ends_with("bn.weight") {
            (0.25, 1.0)
        } else {
            (0.5, 0.0)
        };
        parameters.extend(draws.iter().map(|draw| draw * factor + offset));
    }
    let mut buffers = Vec::with_capacity(layout.buffers_len());
    for (index, spec) in layout.buffers.iter().enumerate() {
        let offset = if spec.name.ends_with("var") { 1.0 } else { 0.0 };
        let draws = noise(5000 + index as u64, spec.range.len());
        buffers.extend(draws.iter().map(|draw| draw * 0.5 + offset));
    }
    FlatState { parameters, buffers }
}

/// The devices that compute with kernels of their own.
fn devices() -> Vec<Device> {
    vec![
        Device::flex(),
        #[cfg(feature = "tch")]
        #[expect(deprecated, reason = "burn-tch is pinned")]
        Device::libtorch(),
    ]
}

/// Each stored network on each device.
fn networks() -> impl Iterator<Item = (NetworkCase, Device)> {
    let cases = stored().networks.into_iter();
    cases.flat_map(|case| devices().into_iter().map(move |device| (case.clone(), device)))
}

fn detector(name: &str, device: &Device) -> (Yolo, Tensor<4>) {
    let mut yolo = Yolo::new(name.parse::<ModelKind>().unwrap().with_classes(CLASSES), device);
    let state = drawn_state(yolo.layout());
    yolo.load(&state.parameters, &state.buffers);
    let pixels: Vec<u8> = noise(900, 3 * SHAPE.iter().product::<usize>())
        .iter()
        .map(|draw| ((draw + 0.5) * 256.0).floor() as u8)
        .collect();
    let images = yolo.images(&pixels, SHAPE);
    (yolo, images)
}

fn values(tensor: Tensor<3>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn within(found: &[f32], step: usize, expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len().div_ceil(step), expected.len(), "{what}");
    let mut largest: f32 = 0.0;
    for (found, expected) in found.iter().step_by(step).zip(expected) {
        // Absolute up to one, relative beyond.
        largest = largest.max((found - expected).abs() / expected.abs().max(1.0));
    }
    println!("{what}: {largest:e}");
    assert!(largest <= tolerance, "{what}: {largest:e}");
}

#[test]
fn state_dicts_have_the_same_entries() {
    let stored = stored();
    assert_eq!(stored.state_dicts.len(), ModelKind::ALL.len());
    for (name, entries, digest) in stored.state_dicts {
        let kind: ModelKind = name.parse().unwrap();
        let yolo = Yolo::new(kind.with_classes(80), &Device::flex());
        let layout = yolo.layout();
        let specs = layout.parameters.iter().chain(&layout.buffers);
        let mut lines: Vec<String> = specs
            .chain(&layout.constants)
            .map(|spec| {
                let shape: Vec<String> = spec.shape.iter().map(usize::to_string).collect();
                format!("{} {}\n", spec.name, shape.join(" "))
            })
            .collect();
        lines.extend(
            layout
                .norms()
                .map(|norm| format!("{norm}.num_batches_tracked \n")),
        );
        assert_eq!(lines.len(), entries, "{name}");
        lines.sort_unstable();
        let found = lines
            .concat()
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325_u64, |digest, byte| {
                (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            });
        assert_eq!(format!("{found:016x}"), digest, "{name}");
    }
}

#[test]
fn raw_outputs_and_decoded_boxes_agree() {
    for (case, device) in networks() {
        let (yolo, images) = detector(&case.name, &device);
        let output = yolo.infer(images);
        let candidates = yolo.candidates(&output);
        let boxes: Vec<f32> = candidates.iter().flat_map(|image| image.boxes.concat()).collect();
        let probabilities: Vec<f32> = (candidates.iter())
            .flat_map(|image| image.probabilities.iter().copied())
            .collect();
        let name = &case.name;
        let distances = values(output.distances);
        within(
            &distances,
            23,
            &case.distances,
            1e-4,
            &format!("{name} distances"),
        );
        within(
            &values(output.scores),
            3,
            &case.scores,
            1e-4,
            &format!("{name} scores"),
        );
        within(&boxes, 3, &case.boxes, 1e-4, &format!("{name} boxes"));
        within(
            &probabilities,
            3,
            &case.probabilities,
            1e-4,
            &format!("{name} probabilities"),
        );
    }
}

#[test]
fn loss_terms_and_gradients_of_whole_networks_agree() {
    for (case, device) in networks() {
        let (yolo, images) = detector(&case.name, &device);
        let Forward { output, trace, .. } = yolo.train_forward(images);
        let target = |&[class, left, top, right, bottom]: &[f32; 5]| Target {
            class: class as u32,
            xyxy: [left, top, right, bottom],
        };
        let targets: Vec<Vec<Target>> = (case.truths.iter())
            .map(|truths| truths.iter().map(target).collect())
            .collect();
        let loss = yolo.loss(&output, &targets, &LossGains::default());
        let relative = |found: f32, expected: f64| (f64::from(found) / expected - 1.0).abs();
        for (found, expected) in loss.sums.into_iter().zip(case.sums) {
            let error = relative(found, expected);
            println!("{} loss: {error:e}", case.name);
            assert!(error < 1e-4, "{}: {found} instead of {expected}", case.name);
        }
        assert!(relative(loss.normaliser, case.normaliser) < 1e-4, "{}", case.name);
        let gradient = yolo.backward(trace, &loss.total);
        for (tensor, norm, step, samples) in &case.gradients {
            let spec = yolo.layout().parameter(tensor).unwrap();
            let found = &gradient[spec.range.clone()];
            let squares =
                |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
            let found_norm = squares(&mut found.iter().map(|&value| f64::from(value)));
            let sampled = squares(&mut samples.iter().map(|&value| f64::from(value)));
            let pairs = found.iter().step_by(*step).zip(samples);
            let difference = squares(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)));
            let what = format!("{} {tensor}", case.name);
            println!("{what}: {:e} {:e}", found_norm / norm - 1.0, difference / sampled);
            assert!(
                (found_norm / norm - 1.0).abs() < 1e-3,
                "{what}: {found_norm} instead of {norm}"
            );
            assert!(difference <= 1e-3 * sampled, "{what}: {difference} of {sampled}");
        }
    }
}
