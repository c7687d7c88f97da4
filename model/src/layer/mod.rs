//! The building blocks of the graphs, one per file.
//!
//! A layer holds handles, not tensors: `declare` appends its tensors to a layout in state-dict order, and
//! `forward` reads them from the state of the [`Pass`]. Which statistics a batch normalisation uses is the
//! pass's business, so every layer is written once for training and inference.

mod bottleneck;
mod c2f;
mod c2psa;
mod c3k;
mod conv;
mod detect;
mod resample;
mod sppf;

pub(crate) use bottleneck::Bottleneck;
pub(crate) use c2f::C2f;
pub(crate) use c2psa::C2psa;
pub(crate) use c3k::C3k;
pub(crate) use conv::{Conv, Projection};
pub(crate) use detect::Detect;
pub(crate) use resample::{concatenate, export_upsample, halves, upsample, with_second_half};
pub(crate) use sppf::Sppf;

#[cfg(doc)]
use crate::pass::Pass;
