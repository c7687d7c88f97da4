//! No backend keeps graphs: none of these can be made.

use std::convert::Infallible;

use burn::tensor::{Device, Tensor};

/// Whether the tensors of a device can be watched by their backend.
pub(crate) fn keeps_graphs(_: &Device) -> bool {
    false
}

/// A place in a graph.
#[derive(Clone, Debug)]
pub(crate) struct Node(Infallible);

impl Node {
    pub(crate) fn leaf<const D: usize>(_: Tensor<D>) -> (Tensor<D>, Self) {
        unreachable!("no backend keeps a graph")
    }

    pub(crate) fn end<const D: usize>(_: Tensor<D>) -> (Tensor<D>, Self) {
        unreachable!("no backend keeps a graph")
    }

    pub(crate) fn len(&self) -> usize {
        match self.0 {}
    }
}

/// What a leaf adds to an objective.
#[derive(Debug)]
pub(crate) struct Gradient(Infallible);

impl Gradient {
    pub(crate) fn of<const D: usize>(_: Tensor<D>) -> Self {
        unreachable!("no backend keeps a graph")
    }

    pub(crate) fn plus(self, _: Self) -> Self {
        match self.0 {}
    }

    pub(crate) fn copy_to(self, _: &mut [f32]) {
        match self.0 {}
    }
}

pub(crate) fn upload(_: &[f32], _: &Device) -> Tensor<1> {
    unreachable!("no backend keeps a graph")
}

pub(crate) fn halves(_: Tensor<4>) -> [Tensor<4>; 2] {
    unreachable!("no backend keeps a graph")
}

pub(crate) fn backward(_: Vec<(Node, Gradient)>, _: &[&Node]) -> Vec<Option<Gradient>> {
    unreachable!("no backend keeps a graph")
}
