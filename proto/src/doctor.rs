//! Hosts and connections as they are looked at before a cluster is trusted.

use std::time::Duration;

use crate::identity::{Fingerprint, WorkerId};
use crate::parse::{ParseError, known, required, sentence, text};
use crate::roster::Member;
use crate::wire;

/// What a process tells about itself and its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReport {
    /// Version of the program.
    pub version: String,
    /// Name of the machine.
    pub host: String,
    /// Its wall clock, since 1970 in UTC.
    pub clock: Duration,
    /// Bytes that may still be written where the process keeps what it keeps, where the system tells.
    pub free_bytes: Option<u64>,
}

/// Whom a worker is asked to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Another worker.
    Worker(WorkerId),
    /// The coordinator.
    Coordinator,
}

/// A connection that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// Median time of a small call and its answer.
    pub round_trip: Duration,
    /// Throughput from the one who measured.
    pub bytes_per_second: u64,
}

/// One worker, as the coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attendance {
    /// Who; the rank is 0 for everyone who has none.
    pub member: Member,
    /// How far it has come.
    pub stage: Stage,
    /// Time since it last gave a sign of life.
    pub age: Duration,
}

/// How far a worker has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It has asked for the run and opens data and model, or has ended meanwhile.
    Opening,
    /// It was refused, for this reason.
    Refused(String),
    /// It has joined.
    Joined(OpenedCard),
}

/// What a worker that has joined computes on and with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedCard {
    /// The device, for people.
    pub device: String,
    /// Number of threads.
    pub threads: u32,
    /// Digest of its data.
    pub dataset: Fingerprint,
    /// Number of usable training images.
    pub train_images: u64,
    /// Number of usable validation images.
    pub val_images: u64,
    /// Digest of its model.
    pub model: Fingerprint,
    /// The model, for people.
    pub description: String,
}

impl TryFrom<wire::ExamineResponse> for HostReport {
    type Error = ParseError;

    fn try_from(report: wire::ExamineResponse) -> Result<Self, ParseError> {
        Ok(Self {
            version: text("version", report.version)?,
            host: text("host", report.host)?,
            clock: Duration::from_micros(report.unix_microseconds),
            free_bytes: report.free_bytes,
        })
    }
}

impl From<HostReport> for wire::ExamineResponse {
    fn from(report: HostReport) -> Self {
        Self {
            version: report.version,
            host: report.host,
            unix_microseconds: report.clock.as_micros() as u64,
            free_bytes: report.free_bytes,
        }
    }
}

impl TryFrom<wire::probe_request::Target> for Target {
    type Error = ParseError;

    fn try_from(target: wire::probe_request::Target) -> Result<Self, ParseError> {
        Ok(match target {
            wire::probe_request::Target::WorkerId(worker) => Self::Worker(worker.parse()?),
            wire::probe_request::Target::Coordinator(_) => Self::Coordinator,
        })
    }
}

impl From<Target> for wire::probe_request::Target {
    fn from(target: Target) -> Self {
        match target {
            Target::Worker(worker) => Self::WorkerId(worker.to_string()),
            Target::Coordinator => Self::Coordinator(wire::CoordinatorTarget {}),
        }
    }
}

/// Reads the answer to a probe: the measurement, or why there is none.
///
/// # Errors
/// When it says neither.
pub fn probed(response: wire::ProbeResponse) -> Result<Result<Measurement, String>, ParseError> {
    Ok(match required("result", response.result)? {
        wire::probe_response::Result::Measurement(measurement) => Ok(Measurement {
            round_trip: Duration::from_micros(measurement.round_trip_microseconds),
            bytes_per_second: measurement.bytes_per_second,
        }),
        wire::probe_response::Result::Failure(reason) => Err(sentence(&reason)),
    })
}

impl From<Result<Measurement, String>> for wire::ProbeResponse {
    fn from(result: Result<Measurement, String>) -> Self {
        Self {
            result: Some(match result {
                Ok(measurement) => wire::probe_response::Result::Measurement(wire::Measurement {
                    round_trip_microseconds: measurement.round_trip.as_micros() as u64,
                    bytes_per_second: measurement.bytes_per_second,
                }),
                Err(reason) => wire::probe_response::Result::Failure(reason),
            }),
        }
    }
}

impl TryFrom<wire::OpenedCard> for OpenedCard {
    type Error = ParseError;

    fn try_from(card: wire::OpenedCard) -> Result<Self, ParseError> {
        Ok(Self {
            device: text("device", card.device)?,
            threads: card.threads,
            dataset: Fingerprint::from_field("dataset_fingerprint", &card.dataset_fingerprint)?,
            train_images: card.train_images,
            val_images: card.val_images,
            model: Fingerprint::from_field("model_fingerprint", &card.model_fingerprint)?,
            description: text("model", card.model)?,
        })
    }
}

impl From<OpenedCard> for wire::OpenedCard {
    fn from(card: OpenedCard) -> Self {
        Self {
            device: card.device,
            threads: card.threads,
            dataset_fingerprint: card.dataset.as_bytes().to_vec().into(),
            train_images: card.train_images,
            val_images: card.val_images,
            model_fingerprint: card.model.as_bytes().to_vec().into(),
            model: card.description,
        }
    }
}

impl TryFrom<wire::Attendance> for Attendance {
    type Error = ParseError;

    fn try_from(attendance: wire::Attendance) -> Result<Self, ParseError> {
        let stage = known("stage", attendance.stage, |stage| match stage {
            wire::Stage::Unspecified => None,
            other => Some(other),
        })?;
        Ok(Self {
            member: required("member", attendance.member)?.try_into()?,
            stage: match stage {
                wire::Stage::Joined => Stage::Joined(required("opened", attendance.opened)?.try_into()?),
                wire::Stage::Refused => Stage::Refused(sentence(&attendance.reason)),
                wire::Stage::Opening | wire::Stage::Unspecified => Stage::Opening,
            },
            age: Duration::from_millis(attendance.age_milliseconds),
        })
    }
}

impl From<Attendance> for wire::Attendance {
    fn from(attendance: Attendance) -> Self {
        let (stage, reason, opened) = match attendance.stage {
            Stage::Opening => (wire::Stage::Opening, String::new(), None),
            Stage::Refused(reason) => (wire::Stage::Refused, reason, None),
            Stage::Joined(card) => (wire::Stage::Joined, String::new(), Some(card.into())),
        };
        Self {
            member: Some(attendance.member.into()),
            stage: stage.into(),
            age_milliseconds: attendance.age.as_millis() as u64,
            reason,
            opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_a_target_and_a_measurement_survive_the_wire() {
        let report = HostReport {
            version: "0.1.0".into(),
            host: "gpu-1".into(),
            clock: Duration::from_micros(1_800_000_000_123_456),
            free_bytes: None,
        };
        assert_eq!(
            HostReport::try_from(wire::ExamineResponse::from(report.clone())),
            Ok(report)
        );
        for target in [Target::Coordinator, Target::Worker(WorkerId::from_u128(3))] {
            assert_eq!(
                Target::try_from(wire::probe_request::Target::from(target)),
                Ok(target)
            );
        }
        let measured = Ok(Measurement {
            round_trip: Duration::from_micros(80),
            bytes_per_second: 1 << 30,
        });
        for result in [measured, Err("connection refused".to_owned())] {
            assert_eq!(probed(result.clone().into()), Ok(result));
        }
        assert!(probed(wire::ProbeResponse::default()).is_err());
    }

    #[test]
    fn an_attendance_survives_the_wire_at_every_stage() {
        let card = OpenedCard {
            device: "cpu".into(),
            threads: 2,
            dataset: Fingerprint::of(b"d"),
            train_images: 3,
            val_images: 1,
            model: Fingerprint::of(b"m"),
            description: "yolov8n".into(),
        };
        for stage in [
            Stage::Opening,
            Stage::Refused("other classes".into()),
            Stage::Joined(card),
        ] {
            let attendance = Attendance {
                member: Member {
                    rank: 1,
                    worker: WorkerId::from_u128(7),
                    host: "gpu-1".into(),
                    address: "gpu-1:7".parse().unwrap(),
                },
                stage,
                age: Duration::from_millis(5),
            };
            assert_eq!(
                Attendance::try_from(wire::Attendance::from(attendance.clone())),
                Ok(attendance)
            );
        }
        assert!(Attendance::try_from(wire::Attendance::default()).is_err());
    }
}
