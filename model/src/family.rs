//! What a family chooses beside its graph: the loss, and how its outputs become candidates.
//!
//! The head is named by the last row of a family's table. A family with another head (one box for each object and no
//! suppression, say) adds a row kind there, an arm in each function here, and nothing elsewhere.

use crate::decode::{Candidates, decode};
use crate::head::HeadOutput;
use crate::kind::Family;
use crate::loss::{LossGains, SlotLoss, detection_loss};
use crate::target::Target;

/// A loss over the output of a head; see [`detection_loss`].
pub type Criterion = fn(&HeadOutput, &[Vec<Target>], &LossGains) -> SlotLoss;

/// From the output of a head to the predictions of each image; see [`decode`].
pub type Decoder = fn(&HeadOutput) -> Vec<Candidates>;

impl Family {
    /// Returns the loss that the family is trained with.
    pub fn criterion(self) -> Criterion {
        match self {
            Self::V8 | Self::V11 => detection_loss,
        }
    }

    /// Returns how the family's outputs are read.
    pub fn decoder(self) -> Decoder {
        match self {
            Self::V8 | Self::V11 => decode,
        }
    }
}
