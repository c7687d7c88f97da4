//! Looks at a host and measures a connection, before a cluster is trusted.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`host`] | name, clock and free disk of this machine |
//! | [`service`] | `DoctorService`: tells them, and swallows what is sent to measure |
//! | [`measure`] | the other end: round trip and throughput of one connection |
//!
//! Coordinator and worker serve the same service, so it belongs to neither. It deliberately knows no membership: whom to
//! measure is decided by those who know who there is.

pub mod host;
pub mod measure;
pub mod service;

pub use host::host_name;
pub use measure::{TRANSFER_BYTES_MAX, measure};
pub use service::Doctor;
