//! YOLO detectors in burn: networks, loss, assignment, detection, metric, weights files.
//!
//! Knows nothing of clusters and of data sets. A state lives in flat vectors on the host; a [`yolo::Yolo`] runs it
//! on a device that is chosen at run time.
//!
//! # Layout
//! - [`kind`], [`table`], [`family`]: which model, its graph as a table, and what else its family chooses
//! - [`layout`], [`initial`], [`weights`], [`frozen`]: the flat state, how it starts, how files hold it, what is held fixed
//! - [`yolo`], [`head`], [`trace`], [`outlet`]: the network on a device, what it returns, and the way back to its gradient
//! - [`target`], [`boxes`], [`assign`], [`loss`]: from labels to the loss of a slot
//! - [`decode`], [`nms`], [`metric`]: from raw outputs to detections and mAP
//! - [`onnx`]: a file that other runtimes run
//! - [`orthogonal`]: what an optimizer leaves to the device
//! - [`device`]: CPUs and GPUs by name

mod declare;
mod fused;
mod layer;
mod native;
mod network;
mod pass;

pub mod assign;
pub mod boxes;
pub mod decode;
pub mod device;
pub mod family;
pub mod frozen;
pub mod head;
pub mod initial;
pub mod kind;
pub mod layout;
pub mod loss;
pub mod metric;
pub mod nms;
pub mod onnx;
pub mod orthogonal;
pub mod outlet;
pub mod table;
pub mod target;
pub mod trace;
pub mod weights;
pub mod yolo;
