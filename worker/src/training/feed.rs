//! How the last slots of a rank reach the exchange while they are computed.

use model::outlet::Outlet;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What one slot adds to a step.
#[derive(Clone, Debug)]
pub struct Contribution {
    /// Gradient of the un-normalised loss, in parameter order; empty where its tensors were handed on before.
    pub gradient: Vec<f32>,
    /// Mean and variance of each BatchNorm over the slot, in buffer order.
    pub statistics: Vec<f32>,
    /// Un-normalised box, class and distribution loss, gains applied.
    pub losses: [f32; 3],
    /// Sum of the target scores.
    pub normaliser: f32,
    /// Images in the slot.
    pub images: u32,
    /// Those of them that could not be decoded and counted as empty.
    pub unreadable: u32,
}

/// What the last slots of a rank add while they are computed, each slot in this order.
#[derive(Debug)]
pub enum Arrival {
    /// The finished gradient of one parameter tensor; there may be none.
    Gradient {
        /// Index of the slot in the step.
        slot: u32,
        /// Position in the layout.
        tensor: usize,
        /// The gradient.
        values: Vec<f32>,
    },
    /// Everything else of a slot, by its index in the step; a rank without slots has none.
    Slot(u32, Contribution),
    /// What the rank asks for: the end.
    Control(Control),
}

/// The end of what a rank computes for a step: what it tells, the [exchange](super::sum::StepSum::exchange) takes.
///
/// Dropped, it ends that, also where computing has panicked: outlets may live on in burn's graph.
#[derive(Debug)]
pub struct Feed(UnboundedSender<Option<Arrival>>);

impl Feed {
    /// Returns a feed and where it leads to.
    pub fn new() -> (Self, UnboundedReceiver<Option<Arrival>>) {
        let (sender, arriving) = unbounded_channel();
        (Self(sender), arriving)
    }

    /// Hands something to the exchange; one that has failed does not listen, and says why itself.
    pub fn tell(&self, arrival: Arrival) {
        let _ = self.0.send(Some(arrival));
    }

    /// Returns an outlet for the gradients of a slot, by its index in the step.
    pub fn outlet(&self, slot: u32) -> Outlet {
        let sender = self.0.clone();
        Outlet::new(move |tensor, values| {
            // As in `tell`.
            let _ = sender.send(Some(Arrival::Gradient { slot, tensor, values }));
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.0.send(None);
    }
}

/// The control word: how many ranks ask for what. One rank contributes zeros and ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// To stop after this step.
    pub stop: u32,
    /// To make a checkpoint after this step.
    pub checkpoint: u32,
    /// To go over to the next generation, whose roster they hold; done when all do.
    pub switch: u32,
    /// To wait with the next checkpoint: their range of the one before is still under way.
    pub busy: u32,
}
