//! What training asks of a model: to be loaded, to contribute to a step, to be evaluated.

use std::num::NonZeroUsize;

use data::{SlotBatch, ValBatch};
use model::frozen::Frozen;
use model::layout::Layout;
use model::outlet::Outlet;

use super::feed::Contribution;
use super::records::Evaluation;

/// A slot to be computed.
#[derive(Clone, Debug)]
pub struct Slot<'a> {
    /// Its pictures.
    pub batch: &'a SlotBatch,
    /// Where gradients may go as they are finished, each tensor's once; they are then not in what is returned.
    pub outlet: Option<Outlet>,
}

impl<'a> Slot<'a> {
    /// Returns a slot whose contribution comes as a whole.
    pub fn whole(batch: &'a SlotBatch) -> Self {
        Self { batch, outlet: None }
    }
}

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

    /// Returns how many slots, or validation batches, it likes to be given together.
    fn slots_at_once(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// Returns what each slot adds to its step: a pure function of what was loaded and of its batch.
    fn contribute(&mut self, slots: &[Slot<'_>]) -> Vec<Contribution>;

    /// Returns losses and evidence of each validation batch, with the loaded running statistics.
    fn evaluate(&mut self, batches: &[ValBatch]) -> Vec<Evaluation>;

    /// Returns a matrix of `[rows, columns]` in row-major order with all singular values near 1: a part of some
    /// optimizers that is too much for the host.
    fn orthogonalise(&self, matrix: &[f32], shape: [usize; 2]) -> Vec<f32>;

    /// Returns the given parameters and buffers as the bytes of a weights file.
    fn weights(&self, parameters: &[f32], buffers: &[f32]) -> Vec<u8>;
}
