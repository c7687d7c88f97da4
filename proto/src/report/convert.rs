//! Reports to and from their wire messages.

use super::{Activity, EpochReport, Finished, LinkLost, Losses, Metrics, Report, StateHash, StepReport};
use crate::ending::Outcome;
use crate::identity::Fingerprint;
use crate::parse::{ParseError, known, required, sentence};
use crate::wire;

impl Activity {
    /// Parses the number of a message field.
    ///
    /// # Errors
    /// When the number is 0 or unknown.
    pub fn from_wire(number: i32) -> Result<Self, ParseError> {
        known("activity", number, |activity| match activity {
            wire::Activity::Unspecified => None,
            wire::Activity::Waiting => Some(Self::Waiting),
            wire::Activity::Training => Some(Self::Training),
            wire::Activity::Validating => Some(Self::Validating),
            wire::Activity::Saving => Some(Self::Saving),
        })
    }
}

impl From<Activity> for wire::Activity {
    fn from(activity: Activity) -> Self {
        match activity {
            Activity::Waiting => Self::Waiting,
            Activity::Training => Self::Training,
            Activity::Validating => Self::Validating,
            Activity::Saving => Self::Saving,
        }
    }
}

impl From<wire::Losses> for Losses {
    fn from(losses: wire::Losses) -> Self {
        Self {
            box_loss: losses.box_loss,
            cls_loss: losses.cls_loss,
            dfl_loss: losses.dfl_loss,
        }
    }
}

impl From<Losses> for wire::Losses {
    fn from(losses: Losses) -> Self {
        Self {
            box_loss: losses.box_loss,
            cls_loss: losses.cls_loss,
            dfl_loss: losses.dfl_loss,
        }
    }
}

impl TryFrom<wire::StepReport> for StepReport {
    type Error = ParseError;

    fn try_from(report: wire::StepReport) -> Result<Self, ParseError> {
        Ok(Self {
            epoch: first_is_one(report.epoch)?,
            step: report.step,
            steps: report.steps,
            losses: required("losses", report.losses)?.into(),
            images_per_second: report.images_per_second,
        })
    }
}

impl From<StepReport> for wire::StepReport {
    fn from(report: StepReport) -> Self {
        Self {
            epoch: report.epoch,
            step: report.step,
            steps: report.steps,
            losses: Some(report.losses.into()),
            images_per_second: report.images_per_second,
        }
    }
}

impl TryFrom<wire::Metrics> for Metrics {
    type Error = ParseError;

    fn try_from(metrics: wire::Metrics) -> Result<Self, ParseError> {
        for (field, value) in [
            ("precision", metrics.precision),
            ("recall", metrics.recall),
            ("map50", metrics.map50),
            ("map50_95", metrics.map50_95),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(ParseError::Invalid {
                    field,
                    value: value.to_string(),
                    expected: "a number from 0 to 1",
                });
            }
        }
        Ok(Self {
            precision: metrics.precision,
            recall: metrics.recall,
            map50: metrics.map50,
            map50_95: metrics.map50_95,
        })
    }
}

impl From<Metrics> for wire::Metrics {
    fn from(metrics: Metrics) -> Self {
        Self {
            precision: metrics.precision,
            recall: metrics.recall,
            map50: metrics.map50,
            map50_95: metrics.map50_95,
        }
    }
}

impl TryFrom<wire::StateHash> for StateHash {
    type Error = ParseError;

    fn try_from(hash: wire::StateHash) -> Result<Self, ParseError> {
        Ok(Self {
            parameters: Fingerprint::from_field("parameters", &hash.parameters)?,
            buffers: Fingerprint::from_field("buffers", &hash.buffers)?,
            optimizer: Fingerprint::from_field("optimizer", &hash.optimizer)?,
            ema: Fingerprint::from_field("ema", &hash.ema)?,
            state: Fingerprint::from_field("state", &hash.state)?,
        })
    }
}

impl From<StateHash> for wire::StateHash {
    fn from(hash: StateHash) -> Self {
        let bytes = |digest: Fingerprint| digest.as_bytes().to_vec().into();
        Self {
            parameters: bytes(hash.parameters),
            buffers: bytes(hash.buffers),
            optimizer: bytes(hash.optimizer),
            ema: bytes(hash.ema),
            state: bytes(hash.state),
        }
    }
}

impl TryFrom<wire::EpochReport> for EpochReport {
    type Error = ParseError;

    fn try_from(report: wire::EpochReport) -> Result<Self, ParseError> {
        let learning_rates =
            report
                .learning_rates
                .as_slice()
                .try_into()
                .map_err(|_| ParseError::Invalid {
                    field: "learning_rates",
                    value: format!("{} numbers", report.learning_rates.len()),
                    expected: "3 numbers",
                })?;
        Ok(Self {
            epoch: first_is_one(report.epoch)?,
            step: report.step,
            train: required("train", report.train)?.into(),
            val: required("val", report.val)?.into(),
            metrics: required("metrics", report.metrics)?.try_into()?,
            learning_rates,
            images_per_second: report.images_per_second,
            seconds: report.seconds,
            best: report.best,
            hash: required("hash", report.hash)?.try_into()?,
            redone_steps: report.redone_steps,
        })
    }
}

impl From<EpochReport> for wire::EpochReport {
    fn from(report: EpochReport) -> Self {
        Self {
            epoch: report.epoch,
            step: report.step,
            train: Some(report.train.into()),
            val: Some(report.val.into()),
            metrics: Some(report.metrics.into()),
            learning_rates: report.learning_rates.to_vec(),
            images_per_second: report.images_per_second,
            seconds: report.seconds,
            best: report.best,
            hash: Some(report.hash.into()),
            redone_steps: report.redone_steps,
        }
    }
}

impl TryFrom<wire::report_request::Report> for Report {
    type Error = ParseError;

    fn try_from(report: wire::report_request::Report) -> Result<Self, ParseError> {
        use wire::report_request::Report as Wire;
        Ok(match report {
            Wire::Step(step) => Self::Step(step.try_into()?),
            Wire::Epoch(epoch) => Self::Epoch(epoch.try_into()?),
            Wire::Finished(finished) => Self::Finished(Finished {
                outcome: Outcome::from_wire(finished.outcome)?,
                epoch: finished.epoch,
                step: finished.step,
                reason: sentence(&finished.reason),
            }),
            Wire::LinkLost(lost) => Self::LinkLost(LinkLost {
                neighbour: lost.neighbour_rank as usize,
                reason: sentence(&lost.reason),
            }),
            Wire::DrainRequested(_) => Self::DrainRequested,
        })
    }
}

impl From<Report> for wire::report_request::Report {
    fn from(report: Report) -> Self {
        match report {
            Report::Step(step) => Self::Step(step.into()),
            Report::Epoch(epoch) => Self::Epoch(epoch.into()),
            Report::Finished(finished) => Self::Finished(wire::Finished {
                outcome: wire::Outcome::from(finished.outcome).into(),
                epoch: finished.epoch,
                step: finished.step,
                reason: finished.reason,
            }),
            Report::LinkLost(lost) => Self::LinkLost(wire::LinkLost {
                neighbour_rank: lost.neighbour as u32,
                reason: lost.reason,
            }),
            Report::DrainRequested => Self::DrainRequested(wire::DrainRequested {}),
        }
    }
}

fn first_is_one(epoch: u32) -> Result<u32, ParseError> {
    if epoch == 0 {
        return Err(ParseError::Invalid {
            field: "epoch",
            value: "0".into(),
            expected: "1 or more: the first epoch is 1",
        });
    }
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: Losses = Losses {
        box_loss: 1.0,
        cls_loss: 2.0,
        dfl_loss: f64::INFINITY,
    };

    fn epoch() -> EpochReport {
        EpochReport {
            epoch: 1,
            step: 2,
            train: LOSSES,
            val: Losses {
                box_loss: 4.0,
                ..LOSSES
            },
            metrics: Metrics {
                precision: 0.1,
                recall: 0.2,
                map50: 0.3,
                map50_95: 0.4,
            },
            learning_rates: [0.5, 0.6, 0.7],
            images_per_second: 8.0,
            seconds: 9.0,
            best: true,
            hash: StateHash::of_bytes(b"state"),
            redone_steps: 2,
        }
    }

    #[test]
    fn every_report_survives_the_wire() {
        let step = StepReport {
            epoch: 1,
            step: 2,
            steps: 3,
            losses: LOSSES,
            images_per_second: 4.0,
        };
        let reason = "early".to_owned();
        let reports = [
            Report::Step(step),
            Report::Epoch(epoch()),
            Report::Finished(Finished {
                outcome: Outcome::Stopped,
                epoch: 1,
                step: 2,
                reason: reason.clone(),
            }),
            Report::LinkLost(LinkLost { neighbour: 3, reason }),
            Report::DrainRequested,
        ];
        for report in reports {
            assert_eq!(
                Report::try_from(wire::report_request::Report::from(report.clone())),
                Ok(report)
            );
        }
        for activity in [
            Activity::Waiting,
            Activity::Training,
            Activity::Validating,
            Activity::Saving,
        ] {
            assert_eq!(
                Activity::from_wire(wire::Activity::from(activity).into()),
                Ok(activity)
            );
        }
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        type Change = fn(&mut wire::EpochReport);
        let cases: [(&str, Change); 4] = [
            ("epoch", |report| report.epoch = 0),
            ("learning_rates", |report| report.learning_rates.truncate(2)),
            ("map50", |report| {
                report.metrics.as_mut().unwrap().map50 = f64::NAN
            }),
            ("recall", |report| report.metrics.as_mut().unwrap().recall = 1.5),
        ];
        for (name, change) in cases {
            let mut report = wire::EpochReport::from(epoch());
            change(&mut report);
            let error = EpochReport::try_from(report).unwrap_err();
            assert!(
                matches!(error, ParseError::Invalid { field, .. } if field == name),
                "{error:?}"
            );
        }
        assert!(Activity::from_wire(0).is_err());
        assert!(Outcome::from_wire(77).is_err());
    }
}
