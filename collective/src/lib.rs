//! Collective operations over a ring of ranks: who sends what to whom, and what a received segment does.
//!
//! Everything here is a pure core: no runtime, no gRPC, no tensors, no clock and no randomness. An operation
//! is a state machine that a shell feeds with received segments and asks for segments to send, so the same
//! code runs over gRPC, over in-memory queues and in a simulation.
//!
//! What it deliberately does not do: open connections, retry, find members, decide what happens when a
//! neighbour is lost, or reduce on a device.
//!
//! # Layout
//!
//! | file | holds |
//! |---|---|
//! | `group` | [`Group`]: a rank's place in one generation's ring |
//! | `id` | [`Generation`], [`OperationId`], [`Phase`], [`SegmentId`]: the name of every message |
//! | `header` | [`SegmentHeader`]: those names as fixed little-endian bytes |
//! | `segment`, `payload` | [`Segment`]: one message, with its checksum; [`Payload`]: what it carries, with its hash |
//! | `bucket` | [`PieceSizes`], [`Buckets`], [`chunk_range`]: how a vector is cut |
//! | `schedule` | [`Schedule`], [`Transfer`]: all communication as data; why it cannot dead-lock |
//! | `reduction` | [`Reduction`], [`F32Sum`], [`I32Sum`]: arithmetic straight on received bytes |
//! | `pool` | [`PayloadPool`]: send buffers that are used again |
//! | `operation` | [`RingOperation`]: what all operations have in common |
//! | `all_reduce` | [`AllReduce`]: sum of equally long vectors, on all ranks |
//! | `all_gather`, `gather_round` | [`AllGather`]: all ranks' byte blobs, on all ranks |
//! | `fence`, `progress` | the check that every received segment passes; how far a rank has come |
//! | `error` | [`RingError`]: why a segment was refused |
//! | `links` | [`Links`]: what a transport offers; [`drive`], [`all_reduce()`], [`all_gather()`]: drivers |
//! | `memory` | [`memory_ring`]: links between threads of one process |
//!
//! # Calling order
//!
//! 1. Make a [`Group`] when a generation starts, and an operation for each collective call of a step.
//! 2. Send everything that [`RingOperation::next_send`] gives, until it gives `None`.
//! 3. Stop when [`RingOperation::is_done`]; otherwise hand the next segment from the left neighbour to
//!    [`RingOperation::on_segment`] and go back to 2.
//!
//! All ranks start the same operations, with the same [`OperationId`]s, sizes and lengths, in the same order.
//!
//! # Examples
//!
//! ```
//! use collective::{
//!     F32Sum, Generation, Group, OperationId, PayloadPool, PieceSizes, all_reduce, memory_ring,
//! };
//!
//! let operation = OperationId { step: 0, number: 0 };
//! let ranks: Vec<_> = (0..).zip(memory_ring(3)).collect();
//! std::thread::scope(|scope| {
//!     for (rank, mut links) in ranks {
//!         scope.spawn(move || {
//!             let group = Group::new(Generation(1), rank, 3).unwrap();
//!             let mut values = vec![rank as f32; 10];
//!             let (sizes, mut pool) = (PieceSizes::default(), PayloadPool::new());
//!             all_reduce::<F32Sum>(&mut links, &group, operation, &mut values, sizes, &mut pool).unwrap();
//!             assert_eq!(values, [3.0; 10]);
//!         });
//!     }
//! });
//! ```

mod all_gather;
mod all_reduce;
mod bucket;
mod error;
mod fence;
mod gather_round;
mod group;
mod header;
mod id;
mod links;
mod memory;
mod operation;
mod payload;
mod pool;
mod progress;
mod reduction;
mod schedule;
mod segment;

pub use all_gather::{AllGather, MAX_BLOB_BYTES};
pub use all_reduce::AllReduce;
pub use bucket::{BucketChunks, Buckets, PieceSizes, PieceSizesError, chunk_range};
pub use error::RingError;
pub use group::{Group, GroupError, MAX_WORLD_SIZE};
pub use header::{HEADER_BYTES, HeaderError, SegmentHeader};
pub use id::{Generation, OperationId, Phase, SegmentId};
pub use links::{CollectiveError, LinkError, Links, Neighbour, all_gather, all_reduce, drive};
pub use memory::{MemoryLinks, memory_ring, memory_ring_with};
pub use operation::RingOperation;
pub use payload::Payload;
pub use pool::PayloadPool;
pub use reduction::{Bf16Sum, F32Sum, I32Sum, Reduction};
pub use schedule::{Chunks, LINK_CAPACITY, Schedule, Transfer, Transfers, WINDOW, sent_chunk};
pub use segment::{MAX_SEGMENT_BYTES, Segment};
