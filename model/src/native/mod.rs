//! Graphs that a backend keeps by itself.
//!
//! burn's autodiff keeps one graph for all backends, of burn's own operations. libtorch has a graph too, with a gradient
//! for each of its kernels, and is faster without a node of burn's for each operation. So on libtorch the
//! layers run outside burn's autodiff, on tensors that libtorch watches; [`Trace`](crate::trace::Trace) cuts its graph into
//! pieces and runs them backwards.
//!
//! libtorch also computes fastest on maps whose channels of a cell lie together in memory, so maps and kernels are brought into that
//! order.

#[cfg(not(feature = "tch"))]
#[path = "absent.rs"]
mod implementation;
#[cfg(feature = "tch")]
#[path = "tch.rs"]
mod implementation;

pub(crate) use implementation::{Gradient, Node, backward, halves, keeps_graphs, upload};
