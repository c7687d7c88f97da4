//! Compares networks, loss, assigner, suppression and metrics with stored figures of Ultralytics 8.4.190.
//!
//! `make.py`, `make_network.py` and (with pycocotools) `make_coco.py` made the figures; inputs are drawn here again from the same formula, so they are not stored.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod coco;
mod draw;
mod loss;
mod metric;
mod network;
mod nms;
