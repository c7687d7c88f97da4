//! Why a call is refused, and the one table from that to a gRPC status.
//!
//! A refusal becomes a status with a code for machines that know gRPC, a sentence for people, and the metadata
//! entry [`METADATA_KEY`] that names the kind for our own programs. No message text is ever parsed.

use std::net::IpAddr;

use collective::Generation;
use thiserror::Error;
use tonic::{Code, Status};

use crate::identity::{Address, RunId, WorkerId};
use crate::joining::Difference;
use crate::parse::ParseError;

/// Why a call is refused. Its text is the sentence that the caller's user reads.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Refusal {
    /// The message is not valid.
    #[error("bad request: {0}")]
    Malformed(#[from] ParseError),
    /// The message is for another run.
    #[error("this coordinator serves run {serving}, not run {asked}")]
    OtherRun {
        /// The run in the message.
        asked: RunId,
        /// The run that is served.
        serving: RunId,
    },
    /// The sender has not joined, or was taken off the list since.
    #[error("worker {worker} is not a member of this run")]
    UnknownWorker {
        /// The sender.
        worker: WorkerId,
    },
    /// The message belongs to another membership era.
    #[error("generation {sent} is stale, the current one is {current}")]
    StaleGeneration {
        /// The generation in the message.
        sent: Generation,
        /// The generation of the receiver.
        current: Generation,
    },
    /// The programs are of different versions.
    #[error(
        "this worker is version {worker}, the coordinator is version {coordinator}; use the same on every machine"
    )]
    VersionDiffers {
        /// Version of the worker's program.
        worker: String,
        /// Version of the coordinator's program.
        coordinator: String,
    },
    /// The worker's data is not that of the run.
    #[error("this worker's data set differs from that of the run: {0}")]
    DatasetDiffers(Difference),
    /// The worker's model is not that of the run.
    #[error("this worker's model differs from that of the run: {0}")]
    ModelDiffers(Difference),
    /// All places are taken.
    #[error("the run has all of its {world_size} workers already")]
    RunFull {
        /// Number of workers of the run.
        world_size: usize,
    },
    /// Two workers claim the same address.
    #[error(
        "address {address} already belongs to a worker on host {host}; give each worker its own --listen or --advertise"
    )]
    AddressTaken {
        /// The address.
        address: Address,
        /// Host of the worker that has it.
        host: String,
    },
    /// The address that a worker gives its neighbours leads them to themselves.
    #[error(
        "neighbours on other machines cannot reach {address}: it is a loopback address, and this worker connects from \
         {from}; give --listen 0.0.0.0:PORT or --advertise HOST"
    )]
    Unreachable {
        /// The address.
        address: Address,
        /// Where the worker connects from.
        from: IpAddr,
    },
    /// Only rank 0 may do this.
    #[error("rank {rank} may not {action}: only rank 0 may")]
    NotRankZero {
        /// Rank of the sender.
        rank: usize,
        /// What it tried.
        action: &'static str,
    },
    /// Only the left neighbour may send segments.
    #[error("rank {rank} may not send segments here: only rank {expected} may")]
    NotNeighbour {
        /// Rank of the caller.
        rank: usize,
        /// Rank of the left neighbour.
        expected: usize,
    },
    /// The caller's role may not make this call.
    #[error("{who} may not call {what}")]
    NotPermitted {
        /// Whom the certificate names.
        who: String,
        /// The call.
        what: String,
    },
    /// The caller speaks for somebody else.
    #[error("{who} may not speak for worker {worker}")]
    NotTheSender {
        /// Whom the certificate names.
        who: String,
        /// The worker that the message names.
        worker: WorkerId,
    },
    /// The call does not carry the join token, or another one.
    #[error("the join token is missing or wrong; give the file with --join-token-file")]
    WrongToken,
    /// A message or file is over its limit.
    #[error("{bytes} bytes are over the limit of {limit}")]
    TooLarge {
        /// Size that was announced or sent.
        bytes: u64,
        /// Largest size.
        limit: u64,
    },
    /// Bytes arrived, but not those that were sent.
    #[error("damaged in transit: {what}")]
    Corrupt {
        /// What does not fit.
        what: String,
    },
    /// The next message of a stream did not come.
    #[error("no message within {seconds} s")]
    TooSlow {
        /// How long was waited.
        seconds: u64,
    },
    /// The run is over.
    #[error("the run has ended: {reason}")]
    RunEnded {
        /// How it ended.
        reason: String,
    },
    /// The receiver could not write.
    #[error("cannot write to the run directory: {reason}")]
    Storage {
        /// What the system said.
        reason: String,
    },
    /// There is no state to copy.
    #[error("no state is offered here: {reason}")]
    NoState {
        /// Why not.
        reason: String,
    },
    /// The run is not in a phase for this.
    #[error("cannot {action} now: {reason}")]
    NotNow {
        /// What was asked.
        action: &'static str,
        /// Why not.
        reason: String,
    },
    /// The worker's state was found damaged too often.
    #[error("this worker's state was damaged {times} times; look at its memory before it takes part again")]
    DamagedTooOften {
        /// How often.
        times: u32,
    },
}

/// The kinds of refusal, without their details: what a program acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Each is the variant of `Refusal` of that name.
pub enum RefusalKind {
    Malformed,
    OtherRun,
    UnknownWorker,
    StaleGeneration,
    VersionDiffers,
    DatasetDiffers,
    ModelDiffers,
    RunFull,
    AddressTaken,
    Unreachable,
    NotRankZero,
    NotNeighbour,
    NotPermitted,
    NotTheSender,
    WrongToken,
    TooLarge,
    Corrupt,
    TooSlow,
    RunEnded,
    Storage,
    NoState,
    NotNow,
    DamagedTooOften,
}

/// The table: kind, name on the wire, gRPC code.
const TABLE: [(RefusalKind, &str, Code); 23] = [
    (RefusalKind::Malformed, "malformed", Code::InvalidArgument),
    (RefusalKind::OtherRun, "other-run", Code::FailedPrecondition),
    (RefusalKind::UnknownWorker, "unknown-worker", Code::NotFound),
    (RefusalKind::StaleGeneration, "stale-generation", Code::Aborted),
    (
        RefusalKind::VersionDiffers,
        "version-differs",
        Code::FailedPrecondition,
    ),
    (
        RefusalKind::DatasetDiffers,
        "dataset-differs",
        Code::FailedPrecondition,
    ),
    (
        RefusalKind::ModelDiffers,
        "model-differs",
        Code::FailedPrecondition,
    ),
    (RefusalKind::RunFull, "run-full", Code::FailedPrecondition),
    (RefusalKind::AddressTaken, "address-taken", Code::AlreadyExists),
    (RefusalKind::Unreachable, "unreachable", Code::FailedPrecondition),
    (RefusalKind::NotRankZero, "not-rank-zero", Code::PermissionDenied),
    (RefusalKind::NotNeighbour, "not-neighbour", Code::PermissionDenied),
    (RefusalKind::NotPermitted, "not-permitted", Code::PermissionDenied),
    (
        RefusalKind::NotTheSender,
        "not-the-sender",
        Code::PermissionDenied,
    ),
    (RefusalKind::WrongToken, "wrong-token", Code::Unauthenticated),
    (RefusalKind::TooLarge, "too-large", Code::ResourceExhausted),
    (RefusalKind::Corrupt, "corrupt", Code::DataLoss),
    (RefusalKind::TooSlow, "too-slow", Code::DeadlineExceeded),
    (RefusalKind::RunEnded, "run-ended", Code::FailedPrecondition),
    (RefusalKind::Storage, "storage", Code::Internal),
    (RefusalKind::NoState, "no-state", Code::NotFound),
    (RefusalKind::NotNow, "not-now", Code::FailedPrecondition),
    (
        RefusalKind::DamagedTooOften,
        "damaged-too-often",
        Code::FailedPrecondition,
    ),
];

impl Refusal {
    /// The kind of this refusal.
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::Malformed(_) => RefusalKind::Malformed,
            Self::OtherRun { .. } => RefusalKind::OtherRun,
            Self::UnknownWorker { .. } => RefusalKind::UnknownWorker,
            Self::StaleGeneration { .. } => RefusalKind::StaleGeneration,
            Self::VersionDiffers { .. } => RefusalKind::VersionDiffers,
            Self::DatasetDiffers(_) => RefusalKind::DatasetDiffers,
            Self::ModelDiffers(_) => RefusalKind::ModelDiffers,
            Self::RunFull { .. } => RefusalKind::RunFull,
            Self::AddressTaken { .. } => RefusalKind::AddressTaken,
            Self::Unreachable { .. } => RefusalKind::Unreachable,
            Self::NotRankZero { .. } => RefusalKind::NotRankZero,
            Self::NotNeighbour { .. } => RefusalKind::NotNeighbour,
            Self::NotPermitted { .. } => RefusalKind::NotPermitted,
            Self::NotTheSender { .. } => RefusalKind::NotTheSender,
            Self::WrongToken => RefusalKind::WrongToken,
            Self::TooLarge { .. } => RefusalKind::TooLarge,
            Self::Corrupt { .. } => RefusalKind::Corrupt,
            Self::TooSlow { .. } => RefusalKind::TooSlow,
            Self::RunEnded { .. } => RefusalKind::RunEnded,
            Self::Storage { .. } => RefusalKind::Storage,
            Self::NoState { .. } => RefusalKind::NoState,
            Self::NotNow { .. } => RefusalKind::NotNow,
            Self::DamagedTooOften { .. } => RefusalKind::DamagedTooOften,
        }
    }
}

impl RefusalKind {
    /// The kind that a received status names, or `None` when it is no refusal of ours: a transport error, say.
    pub fn of(status: &Status) -> Option<Self> {
        let name = status.metadata().get(METADATA_KEY)?.to_str().ok()?;
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> (Self, &'static str, Code) {
        TABLE[self as usize]
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let (_, name, code) = refusal.kind().row();
        let mut status = Self::new(code, refusal.to_string());
        status
            .metadata_mut()
            .insert(METADATA_KEY, tonic::metadata::MetadataValue::from_static(name));
        status
    }
}

/// Name of the metadata entry that carries the kind.
pub const METADATA_KEY: &str = "ringmaster-refusal";

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Refusal> {
        let difference = Difference::Images {
            split: "training",
            expected: 2,
            found: 1,
        };
        vec![
            ParseError::Missing { field: "sender" }.into(),
            Refusal::OtherRun {
                asked: RunId::from_u128(1),
                serving: RunId::from_u128(2),
            },
            Refusal::UnknownWorker {
                worker: WorkerId::from_u128(1),
            },
            Refusal::StaleGeneration {
                sent: Generation(1),
                current: Generation(2),
            },
            Refusal::VersionDiffers {
                worker: "1".into(),
                coordinator: "2".into(),
            },
            Refusal::DatasetDiffers(difference.clone()),
            Refusal::ModelDiffers(difference),
            Refusal::RunFull { world_size: 2 },
            Refusal::AddressTaken {
                address: "a:1".parse().unwrap(),
                host: "a".into(),
            },
            Refusal::Unreachable {
                address: "127.0.0.1:50052".parse().unwrap(),
                from: [10, 0, 0, 7].into(),
            },
            Refusal::NotRankZero {
                rank: 1,
                action: "upload weights",
            },
            Refusal::NotNeighbour { rank: 1, expected: 2 },
            Refusal::NotPermitted {
                who: "ringmaster://worker/a".into(),
                what: "/ringmaster.v1.OperatorService/Stop".into(),
            },
            Refusal::NotTheSender {
                who: "ringmaster://worker/a".into(),
                worker: WorkerId::from_u128(1),
            },
            Refusal::WrongToken,
            Refusal::TooLarge { bytes: 2, limit: 1 },
            Refusal::Corrupt {
                what: "the digest".into(),
            },
            Refusal::TooSlow { seconds: 30 },
            Refusal::RunEnded {
                reason: "completed".into(),
            },
            Refusal::Storage {
                reason: "disk full".into(),
            },
            Refusal::NoState {
                reason: "nobody is behind".into(),
            },
            Refusal::NotNow {
                action: "make a checkpoint",
                reason: "waiting for workers".into(),
            },
            Refusal::DamagedTooOften { times: 3 },
        ]
    }

    #[test]
    fn every_refusal_survives_the_status_and_keeps_its_sentence() {
        let refusals = one_of_each();
        assert_eq!(refusals.len(), TABLE.len());
        for (refusal, row) in refusals.into_iter().zip(TABLE) {
            let (kind, sentence) = (refusal.kind(), refusal.to_string());
            assert_eq!(kind, row.0, "the table is not in the order of the enum");
            let status = Status::from(refusal);
            assert_eq!(RefusalKind::of(&status), Some(kind));
            assert_eq!((status.code(), status.message()), (row.2, sentence.as_str()));
        }
    }

    #[test]
    fn names_are_unique_and_other_statuses_are_no_refusal() {
        for (i, row) in TABLE.iter().enumerate() {
            assert!(TABLE[..i].iter().all(|other| other.1 != row.1));
        }
        assert_eq!(RefusalKind::of(&Status::unavailable("connection refused")), None);
    }
}
