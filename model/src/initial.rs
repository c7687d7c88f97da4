//! The state a model starts from, made on the host so that it is the same on every device.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::layout::{FlatState, Initial, Layout, TensorSpec};

/// Returns the initial state of a layout; a tensor's values depend on the seed and its name only.
///
/// # Source
/// PyTorch's default initialisation of `Conv2d` (uniform within `1 / sqrt(fan_in)`) and `BatchNorm2d`; the
/// head's biases as published with YOLOv8.
pub fn initial_state(layout: &Layout, seed: u64) -> FlatState {
    FlatState {
        parameters: fill(&layout.parameters, seed),
        buffers: fill(&layout.buffers, seed),
    }
}

/// Returns the values of one tensor.
pub(crate) fn initial_values(spec: &TensorSpec, seed: u64) -> Vec<f32> {
    let len = spec.range.len();
    match spec.initial {
        Initial::Constant(value) => vec![value; len],
        Initial::Count => (0..len).map(|index| index as f32).collect(),
        Initial::Uniform { bound } => {
            let mut random = keyed(seed, &spec.name);
            (0..len)
                .map(|_| (2.0 * unit(random.next_u32()) - 1.0) * bound)
                .collect()
        }
    }
}

fn fill(specs: &[TensorSpec], seed: u64) -> Vec<f32> {
    specs.iter().flat_map(|spec| initial_values(spec, seed)).collect()
}

fn keyed(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// The upper 24 bits as a number in `[0, 1)`: exact in `f32`.
fn unit(bits: u32) -> f32 {
    (bits >> 8) as f32 / (1 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::ModelKind;
    use crate::network::Network;

    fn layout() -> Layout {
        Network::new(ModelKind::ALL[0].with_classes(80)).1.layout
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_and_another_seed_does_not() {
        let layout = layout();
        let state = initial_state(&layout, 7);
        assert_eq!(state, initial_state(&layout, 7));
        assert_ne!(state, initial_state(&layout, 8));
    }

    #[test]
    fn a_tensor_does_not_depend_on_its_neighbours() {
        let nano = layout();
        let one_class = Network::new(ModelKind::ALL[0].with_classes(1)).1.layout;
        let name = "model.22.cv2.1.0.conv.weight";
        let value = |layout: &Layout| {
            let range = layout.parameter(name).unwrap().range.clone();
            initial_state(layout, 3).parameters[range].to_vec()
        };
        assert_eq!(value(&nano), value(&one_class));
    }

    #[test]
    fn kernels_are_uniform_within_their_bound() {
        let layout = layout();
        let state = initial_state(&layout, 0);
        let spec = layout.parameter("model.8.cv2.conv.weight").unwrap();
        let values = &state.parameters[spec.range.clone()];
        let bound = 1.0 / (spec.shape[1] as f32).sqrt();
        assert!(values.iter().all(|v| v.abs() <= bound));
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / count;
        assert!(mean.abs() < 0.01 * bound, "mean {mean}");
        let expected = bound * bound / 3.0;
        assert!((variance / expected - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn head_biases_start_from_the_expected_number_of_objects() {
        let layout = layout();
        let state = initial_state(&layout, 0);
        let value = |name: &str| state.parameters[layout.parameter(name).unwrap().range.start];
        assert_eq!(value("model.22.cv2.1.2.bias"), 2.0);
        let expected = (5.0 / 80.0 / (640.0_f32 / 16.0).powi(2)).ln();
        assert!((value("model.22.cv3.1.2.bias") - expected).abs() < 1e-5);
        assert_eq!(value("model.0.bn.weight"), 1.0);
        assert_eq!(value("model.0.bn.bias"), 0.0);
        let variance = layout.buffer("model.0.bn.running_var").unwrap();
        assert_eq!(state.buffers[variance.range.start], 1.0);
    }
}
