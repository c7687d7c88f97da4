//! libtorch's graph.

#![allow(
    deprecated,
    reason = "burn-tch is deprecated, and pinned: it is the only CUDA path besides CubeCL"
)]

use burn::backend::{DispatchDevice, LibTorch};
use burn::tensor::{Device, Tensor};
use burn_tch::TchTensor;
use tch::Tensor as Raw;

/// Whether the tensors of a device can be watched by their backend.
pub(crate) fn keeps_graphs(device: &Device) -> bool {
    matches!(device.as_dispatch(), DispatchDevice::LibTorch(_))
}

/// Brings values to a device that keeps graphs; to the CPU by one copy.
pub(crate) fn upload(values: &[f32], device: &Device) -> Tensor<1> {
    let DispatchDevice::LibTorch(device) = device.as_dispatch() else {
        unreachable!("not a device of libtorch")
    };
    let there = Raw::from_slice(values).to_device((*device).into());
    Tensor::from_primitive::<LibTorch>(TchTensor::new(there))
}

/// A place in a graph: a leaf, or where a piece of the graph ends. As long as it is there, nobody overwrites its values.
#[derive(Debug)]
pub(crate) struct Node(TchTensor);

impl Node {
    /// Returns the same values as a leaf of a new piece of the graph. The channels of each cell of a map or a kernel lie together.
    pub(crate) fn leaf<const D: usize>(values: Tensor<D>) -> (Tensor<D>, Self) {
        let values = primitive(values);
        let detached = values.tensor.detach();
        let leaf = match D {
            4 => channels_last(&detached),
            _ => detached,
        };
        let leaf = TchTensor::from_existing(leaf.set_requires_grad(true), values.storage);
        (Tensor::from_primitive::<LibTorch>(leaf.clone()), Self(leaf))
    }

    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        self.0.tensor.numel()
    }

    /// Returns the same values outside the graph, and where they are inside.
    pub(crate) fn end<const D: usize>(values: Tensor<D>) -> (Tensor<D>, Self) {
        let inside = primitive(values);
        let outside = TchTensor::from_existing(inside.tensor.detach(), inside.storage.clone());
        (Tensor::from_primitive::<LibTorch>(outside), Self(inside))
    }
}

/// What a leaf adds to an objective.
#[derive(Debug)]
pub(crate) struct Gradient(Raw);

impl Gradient {
    pub(crate) fn of<const D: usize>(values: Tensor<D>) -> Self {
        Self(primitive(values).tensor)
    }

    /// Returns the sum of what two readers of a leaf add.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Copies the values to the host, in the order of the tensor's dimensions.
    ///
    /// # Panics
    /// If `values` is not as long.
    pub(crate) fn copy_to(self, values: &mut [f32]) {
        assert_eq!(
            self.0.numel(),
            values.len(),
            "gradient and tensor differ in length"
        );
        self.0.contiguous().copy_data(values, values.len());
    }
}

/// Runs a piece of the graph backwards from where it ends, given the gradient there, and uses it up. Returns the gradient
/// with respect to each leaf; none for one that no end depends on.
pub(crate) fn backward(ends: Vec<(Node, Gradient)>, leaves: &[&Node]) -> Vec<Option<Gradient>> {
    // Bindings of libtorch begin at ones: each objective is a scalar whose gradient at the end is the given one.
    let objectives: Vec<Raw> = ends
        .into_iter()
        .map(|(node, gradient)| flat(&node.0.tensor).dot(&flat(&gradient.0)))
        .collect();
    let leaves: Vec<&Raw> = leaves.iter().map(|leaf| &leaf.0.tensor).collect();
    let gradients = Raw::run_backward(&objectives, &leaves, false, false);
    gradients
        .into_iter()
        .map(|gradient| gradient.defined().then_some(Gradient(gradient)))
        .collect()
}

/// All values one behind the other, those of maps cell by cell: for the usual map that is a view.
fn flat(tensor: &Raw) -> Raw {
    match tensor.dim() {
        4 => tensor.permute([0, 2, 3, 1]).reshape([-1]),
        _ => tensor.reshape([-1]),
    }
}

/// Returns both halves of a map's channels. libtorch joins their gradients by one copy; those of two slices it would pad with
/// zeros and add up.
pub(crate) fn halves(map: Tensor<4>) -> [Tensor<4>; 2] {
    let map = primitive(map);
    let [_, channels, ..] = map.tensor.size()[..] else {
        unreachable!("a map has four dimensions")
    };
    let mut halves = map.tensor.split(channels / 2, 1).into_iter();
    // Invariant: an even number of channels makes two parts of half as many.
    std::array::from_fn(|_| {
        let half = halves.next().expect("two halves");
        Tensor::from_primitive::<LibTorch>(TchTensor::partial(half, map.storage.clone()))
    })
}

fn channels_last(tensor: &Raw) -> Raw {
    tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

fn primitive<const D: usize>(tensor: Tensor<D>) -> TchTensor {
    // Invariant: these functions are called for devices that `keeps_graphs` knows, outside burn's autodiff.
    tensor
        .try_into_primitive::<LibTorch>()
        .expect("a tensor of libtorch")
}
