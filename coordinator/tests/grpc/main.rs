//! The coordinator over real gRPC on loopback, driven by generated clients. One program, so that it links once.

// A test fails by panicking, and so may what tests share.
#![allow(clippy::unwrap_used)]

mod checkpoint;
mod run;
mod support;
mod takeover;
mod upload;
