//! The gRPC services: thin shells that parse a message, feed the membership, and answer.

mod artifact;
mod checkpoint;
mod control;
mod operator;

pub(crate) use self::artifact::ArtifactShell;
pub(crate) use self::checkpoint::CheckpointShell;
pub(crate) use self::control::ControlShell;
pub(crate) use self::operator::OperatorShell;
