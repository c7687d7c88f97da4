//! Compares networks, loss, assigner, suppression and metrics with stored figures of Ultralytics 8.4.190.
//!
//! `make.py` and `make_network.py` made the figures; inputs are drawn here again from the same formula, so they are not stored.

mod draw;
mod loss;
mod metric;
mod network;
mod nms;
