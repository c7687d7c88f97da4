//! A Ringmaster worker: trains on this host's device and sums gradients with its peers over a ring.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`training`] | the algorithm: steps, epochs, optimizer, schedule, state; no socket, no tensor, no clock |
//! | [`yolo`] | the learner: forward, loss and backward of crate `model` |
//! | [`ring`] | collective operations over gRPC streams between neighbours |
//! | [`report`], [`outbox`], [`delivery`] | what training tells, and how it reaches the coordinator |
//! | [`replica`] | whole states between processes |
//! | [`arithmetic`] | what the bits of a result depend on |
//! | [`prepare`] | opens device, data and model as the recipe says |
//! | [`compute`] | the thread that trains |
//! | [`signals`], [`pulse`] | what it is asked, and what it shows of itself, while it trains |
//! | [`session`], [`connect`], [`heartbeat`], [`address`] | the conversation with the coordinator |
//! | [`prober`] | measures connections for `doctor` |
//! | [`command`] | command line of `worker` and of `ringmaster worker` |
//!
//! A worker leaves nothing on its host: weights and results go to the coordinator. It decides nothing that the
//! recipe could decide, so ranks cannot disagree.

pub mod address;
pub mod arithmetic;
pub mod command;
pub mod compute;
pub mod connect;
pub mod delivery;
pub mod heartbeat;
pub mod outbox;
pub mod prepare;
pub mod prober;
pub mod pulse;
pub mod replica;
pub mod report;
pub mod ring;
pub mod session;
pub mod signals;
pub mod training;
pub mod yolo;
