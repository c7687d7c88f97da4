//! What coordinator and workers say to each other: the `ringmaster.v1` protocol and its domain types.
//!
//! The `.proto` files are the public API and carry its documentation. [`wire`] is the code generated from
//! them; it stops at the edge of a process: `TryFrom` turns each message once into a domain type of this
//! crate that cannot be invalid, and `From` turns it back. The [`Recipe`] lives here because it is part of
//! the protocol: one validated set of hyper-parameters for every rank.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`wire`] | generated messages, clients and servers |
//! | [`identity`] | run, worker, sender, address, fingerprint |
//! | [`roster`] | the members of a generation |
//! | [`joining`] | what a worker says about itself, and how two workers differ |
//! | [`report`] | progress, results, the end of a worker's part |
//! | [`ending`] | how a run ends |
//! | [`status`] | snapshot for people |
//! | [`doctor`] | hosts and connections as they are looked at before a run |
//! | [`artifact`] | header of an uploaded weights file |
//! | [`state`] | ranges of training states, digests |
//! | [`segment`] | ring segments to and from `collective` |
//! | [`recipe`] | hyper-parameters: defaults, ranges, TOML, digest |
//! | [`parse`] | messages parsed once: the error, and helpers |
//! | [`refusal`] | the one table from error to gRPC status |
//! | [`transport`] | HTTP/2 settings of both ends, and size limits |
//!
//! It deliberately holds no connection, no state and no decision.

pub mod artifact;
pub mod doctor;
pub mod ending;
pub mod identity;
pub mod joining;
pub mod parse;
pub mod recipe;
pub mod refusal;
pub mod report;
pub mod roster;
pub mod segment;
pub mod state;
pub mod status;
pub mod transport;

pub use artifact::UploadHeader;
pub use collective::Generation;
pub use doctor::{Attendance, HostReport, Measurement, OpenedCard, Stage, Target};
pub use ending::{Ending, Outcome};
pub use identity::{Address, Fingerprint, RunId, Sender, WorkerId};
pub use joining::{Candidate, DatasetCard, Difference, ModelCard};
pub use parse::ParseError;
pub use recipe::{Imported, ONE_HOST_BUCKET_MIB, OptimizerKind, Recipe, RecipeError, SumKind, WireKind};
pub use refusal::{Refusal, RefusalKind};
pub use report::{Activity, EpochReport, Finished, LinkLost, Losses, Metrics, Report, StateHash, StepReport};
pub use roster::{MAX_WORLD_SIZE, Member, Roster, RosterError, Switch};
pub use state::{FetchRequest, GetRequest, ImageHeader, ShardHeader, StateDigest};
pub use status::{MemberStatus, RunPhase, RunStatus};

/// Version of the protocol's programs; coordinator and workers of a run must have the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Every call of the protocol, as gRPC names it: `/ringmaster.v1.Service/Method`.
pub const CALLS: &[&str] = include!(concat!(env!("OUT_DIR"), "/calls.rs"));

/// Code generated from the `.proto` files, which carry the documentation.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::use_self)]
pub mod wire {
    tonic::include_proto!("ringmaster.v1");
}
