//! What training asks of a model: to be loaded, to contribute to a step, to be evaluated.

use data::{SlotBatch, ValBatch};
use model::frozen::Frozen;
use model::layout::Layout;
use model::outlet::Outlet;

use super::records::Evaluation;
use super::sum::Contribution;

/// What computes: a model on a device, or a stand-in for it in tests.
pub trait Learner {
    /// Returns the order, names and shapes of the flat vectors.
    fn layout(&self) -> &Layout;

    /// Returns which leading values of the flat vectors never change.
    fn frozen(&self) -> Frozen {
        Frozen::default()
    }

    /// Returns the number of classes.
    fn classes(&self) -> usize;

    /// Takes the parameters and buffers to compute with from now on, in layout order.
    fn load(&mut self, parameters: &[f32], buffers: &[f32]);

    /// Returns what a slot adds to its step: a pure function of what was loaded and of the batch. Where it is given an
    /// outlet, gradients may go there as they are finished, each tensor's once, and are then not in what is returned.
    fn contribute(&mut self, batch: &SlotBatch, outlet: Option<&Outlet>) -> Contribution;

    /// Returns losses and evidence of a validation batch, with the loaded running statistics.
    fn evaluate(&mut self, batch: &ValBatch) -> Evaluation;

    /// Returns a matrix of `[rows, columns]` in row-major order with all singular values near 1: a part of some
    /// optimizers that is too much for the host.
    fn orthogonalise(&self, matrix: &[f32], shape: [usize; 2]) -> Vec<f32>;

    /// Returns the given parameters and buffers as the bytes of a weights file.
    fn weights(&self, parameters: &[f32], buffers: &[f32]) -> Vec<u8>;
}
