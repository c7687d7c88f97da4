//! The detection loss of one slot: box, class and distribution terms as plain sums.
//!
//! Nothing is divided here. The sum of the target scores is returned beside the loss, so that the normaliser can be
//! taken over the whole step, whichever rank computed which slot. The same function serves validation: on tensors
//! without autodiff it returns the same numbers.
//!
//! # Source
//! YOLOv8's published loss: task-aligned targets, CIoU and Distribution Focal Loss weighted by the target score, binary
//! cross entropy over all anchors and classes.

mod class;
mod distance;
mod foreground;
mod overlap;

use burn::tensor::Tensor;

use crate::assign::AssignConfig;
use crate::decode::floats;
use crate::head::HeadOutput;
use crate::target::Target;
use foreground::Foreground;

/// Weights of the three terms, and of classes in one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct LossGains {
    /// Weight of the box (CIoU) term.
    pub r#box: f32,
    /// Weight of the class (binary cross entropy) term.
    pub cls: f32,
    /// Weight of the distribution (DFL) term.
    pub dfl: f32,
    /// Factor on the class term of each class; empty means 1 for all.
    pub classes: Vec<f32>,
}

impl Default for LossGains {
    /// YOLOv8's published weights.
    fn default() -> Self {
        Self {
            r#box: 7.5,
            cls: 0.5,
            dfl: 1.5,
            classes: Vec::new(),
        }
    }
}

/// The loss of one slot. Divide by the normaliser of the whole step to get the figures that people know.
#[derive(Clone, Debug)]
pub struct SlotLoss {
    /// The sum of the three weighted terms, to call `backward` on.
    ///
    /// When no anchor is positive it depends on the class logits only.
    pub total: Tensor<1>,
    /// The weighted terms box, cls, dfl, not normalised.
    pub sums: [f32; 3],
    /// Sum of all target scores, not clamped.
    pub normaliser: f32,
}

/// Returns the loss of a head's output against the objects of its images.
///
/// Copies to the host: once for the assigner (boxes, and the scores of candidates), once for the three sums.
///
/// # Shapes
/// `targets` has one list per image of the output.
///
/// # Panics
/// When the number of images differs, a class is not below the number of classes of the head, or there are factors for
/// another number of classes.
pub fn detection_loss(output: &HeadOutput, targets: &[Vec<Target>], gains: &LossGains) -> SlotLoss {
    let foreground = Foreground::assign(output, targets, &AssignConfig::default());
    let class = class::cross_entropy(&output.scores, &foreground, &gains.classes).mul_scalar(gains.cls);
    if foreground.is_empty() {
        let [class_sum] = read(class.clone());
        return SlotLoss {
            total: class,
            sums: [0.0, class_sum, 0.0],
            normaliser: 0.0,
        };
    }
    let (boxes, distances) = distance::terms(&output.distances, &foreground);
    let boxes = boxes.mul_scalar(gains.r#box);
    let distances = distances.mul_scalar(gains.dfl);
    let sums = read(Tensor::cat(
        vec![boxes.clone(), class.clone(), distances.clone()],
        0,
    ));
    SlotLoss {
        total: boxes + class + distances,
        sums,
        normaliser: foreground.normaliser(),
    }
}

/// Reads a short tensor without keeping its graph.
fn read<const N: usize>(tensor: Tensor<1>) -> [f32; N] {
    let values = floats(tensor.inner().into_data());
    // Invariant: callers pass a tensor of N elements.
    values.try_into().expect("as many values as asked for")
}

#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;
