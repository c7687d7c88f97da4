//! YOLO detectors in burn: networks, loss, assignment, detection, metric, weights files.
//!
//! Knows nothing of clusters and of data sets. A state lives in flat vectors on the host; a [`yolo::Yolo`] runs it
//! on a device that is chosen at run time.
//!
//! # Layout
//! - [`kind`], [`table`]: which model, and its graph as a table
//! - [`layout`], [`initial`], [`weights`]: the flat state, how it starts, how files hold it
//! - [`yolo`], [`head`]: the network on a device and what it returns
//! - [`target`], [`boxes`], [`assign`], [`loss`]: from labels to the loss of a slot
//! - [`decode`], [`nms`], [`metric`]: from raw outputs to detections and mAP
//! - [`device`]: CPUs and GPUs by name

mod declare;
mod fused;
mod layer;
mod network;
mod pass;

pub mod assign;
pub mod boxes;
pub mod decode;
pub mod device;
pub mod head;
pub mod initial;
pub mod kind;
pub mod layout;
pub mod loss;
pub mod metric;
pub mod nms;
pub mod table;
pub mod target;
pub mod weights;
pub mod yolo;
