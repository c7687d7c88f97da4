//! A snapshot of a run for people and probes.

use std::time::Duration;

use collective::Generation;

use crate::ending::Ending;
use crate::identity::RunId;
use crate::parse::{ParseError, known, required};
use crate::report::{Activity, EpochReport, StepReport};
use crate::roster::Member;
use crate::wire;

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStatus {
    /// The run.
    pub run: RunId,
    /// Its phase.
    pub phase: RunPhase,
    /// Its generation; 0 before the first roster.
    pub generation: Generation,
    /// Number of workers it starts with.
    pub world_size: usize,
    /// Workers present: by rank, before the first roster in the order of joining.
    pub members: Vec<MemberStatus>,
    /// Number of epochs of the recipe.
    pub epochs: u32,
    /// The newest step report.
    pub last_step: Option<StepReport>,
    /// The newest epoch report.
    pub last_epoch: Option<EpochReport>,
    /// How the run ended, if it has.
    pub ended: Option<Ending>,
    /// Steps of the newest committed checkpoint.
    pub checkpoint_step: Option<u64>,
    /// Members lost so far.
    pub losses: u32,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunPhase {
    /// Waiting for workers.
    Gathering,
    /// A generation is at work.
    Running,
    /// Over.
    Finished,
}

/// What the coordinator knows about one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who; the rank is 0 for everyone before the first roster.
    pub member: Member,
    /// The device it computes on.
    pub device: String,
    /// Number of threads that it computes with.
    pub threads: u32,
    /// Steps applied, as of its last heartbeat.
    pub step: u64,
    /// What it did at its last heartbeat.
    pub activity: Activity,
    /// Age of its last sign of life.
    pub heartbeat_age: Duration,
}

impl TryFrom<wire::MemberStatus> for MemberStatus {
    type Error = ParseError;

    fn try_from(status: wire::MemberStatus) -> Result<Self, ParseError> {
        Ok(Self {
            member: required("member", status.member)?.try_into()?,
            device: status.device,
            threads: status.threads,
            step: status.step,
            activity: Activity::from_wire(status.activity)?,
            heartbeat_age: Duration::from_millis(status.heartbeat_age_milliseconds),
        })
    }
}

impl From<MemberStatus> for wire::MemberStatus {
    fn from(status: MemberStatus) -> Self {
        Self {
            member: Some(status.member.into()),
            device: status.device,
            threads: status.threads,
            step: status.step,
            activity: wire::Activity::from(status.activity).into(),
            heartbeat_age_milliseconds: status.heartbeat_age.as_millis() as u64,
        }
    }
}

impl TryFrom<wire::StatusResponse> for RunStatus {
    type Error = ParseError;

    fn try_from(status: wire::StatusResponse) -> Result<Self, ParseError> {
        Ok(Self {
            run: status.run_id.parse()?,
            phase: known("phase", status.phase, |phase| match phase {
                wire::RunPhase::Unspecified => None,
                wire::RunPhase::Gathering => Some(RunPhase::Gathering),
                wire::RunPhase::Running => Some(RunPhase::Running),
                wire::RunPhase::Finished => Some(RunPhase::Finished),
            })?,
            generation: Generation(status.generation),
            world_size: status.world_size as usize,
            members: status
                .members
                .into_iter()
                .map(MemberStatus::try_from)
                .collect::<Result<_, _>>()?,
            epochs: status.epochs,
            last_step: status.last_step.map(StepReport::try_from).transpose()?,
            last_epoch: status.last_epoch.map(EpochReport::try_from).transpose()?,
            ended: status.ended.map(Ending::try_from).transpose()?,
            checkpoint_step: status.checkpoint_step,
            losses: status.losses,
        })
    }
}

impl From<RunStatus> for wire::StatusResponse {
    fn from(status: RunStatus) -> Self {
        let phase = match status.phase {
            RunPhase::Gathering => wire::RunPhase::Gathering,
            RunPhase::Running => wire::RunPhase::Running,
            RunPhase::Finished => wire::RunPhase::Finished,
        };
        Self {
            run_id: status.run.to_string(),
            phase: phase.into(),
            generation: status.generation.0,
            world_size: status.world_size as u32,
            members: status.members.into_iter().map(Into::into).collect(),
            epochs: status.epochs,
            last_step: status.last_step.map(Into::into),
            last_epoch: status.last_epoch.map(Into::into),
            ended: status.ended.map(Into::into),
            checkpoint_step: status.checkpoint_step,
            losses: status.losses,
        }
    }
}
