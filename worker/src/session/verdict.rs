//! What a worker tells the coordinator when its training has ended.

use std::time::Duration;

use collective::{CollectiveError, LinkError, Neighbour};
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::{Finished, LinkLost, Outcome, RefusalKind, Report, Roster, Sender, WorkerId, wire};
use security::Channel;
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tracing::info;

use crate::compute::Done;
use crate::training::{self, TrainingError};

/// Waits for the last results to be delivered and tells the coordinator how training ended; the ring's links stay
/// open until it knows, for a rank whose links close first would look like the lost one.
///
/// # Errors
/// A reason when the coordinator cannot be told.
pub(super) async fn finish(
    coordinator: CoordinatorServiceClient<Channel>,
    sender: Sender,
    roster: Roster,
    mut done: anyhow::Result<Done>,
    mut delivered: Option<AbortOnDropHandle<Result<(), Status>>>,
) -> Result<(), String> {
    let _links_open = done.as_mut().ok().and_then(|done| done.ring.take());
    let mut report = verdict(done, &roster, sender.worker);
    if matches!(&report, Report::Finished(finished) if finished.outcome != Outcome::Failed)
        && delivered.is_some()
        && let Some(failure) = delivery_failure(end_of(&mut delivered).await)
    {
        report = failed(failure);
    }
    tell(coordinator, sender, report).await
}

/// Sends a report.
///
/// # Errors
/// A reason when the coordinator cannot be reached. One that refuses the report has ended the run meanwhile, of
/// which the watch stream tells more.
pub(super) async fn tell(
    mut coordinator: CoordinatorServiceClient<Channel>,
    sender: Sender,
    report: Report,
) -> Result<(), String> {
    let request = wire::ReportRequest {
        sender: Some(sender.into()),
        report: Some(report.into()),
    };
    match timeout(REPORT_PATIENCE, coordinator.report(request)).await {
        Ok(Ok(_recorded)) => Ok(()),
        Ok(Err(status)) if RefusalKind::of(&status).is_none() => Err(status.message().to_owned()),
        Ok(Err(status)) => {
            info!(reason = status.message(), "the report was not taken");
            Ok(())
        }
        Err(_) => Err("no answer to the last report".to_owned()),
    }
}

/// Waits for something to end, or without end when there is nothing.
pub(super) async fn end_of<F: Future + Unpin>(task: &mut Option<F>) -> F::Output {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Returns why results or weights were not delivered, if they were not.
pub(super) fn delivery_failure(ended: Result<Result<(), Status>, JoinError>) -> Option<String> {
    let reason = match ended {
        Ok(Ok(())) => return None,
        Ok(Err(status)) => status.message().to_owned(),
        Err(join) => join.to_string(),
    };
    Some(format!("weights or results were not delivered: {reason}"))
}

/// Returns the report of a failure that is not training's own.
pub(super) fn failed(reason: String) -> Report {
    Report::Finished(Finished {
        outcome: Outcome::Failed,
        epoch: 0,
        step: 0,
        reason,
    })
}

/// Turns the end of training into a report.
fn verdict(done: anyhow::Result<Done>, roster: &Roster, worker: WorkerId) -> Report {
    let done = match done {
        Ok(done) => done,
        Err(error) => return failed(format!("{error:#}")),
    };
    let (outcome, reason) = match done.result {
        Ok(training::Ending::Completed) => (Outcome::Completed, String::new()),
        Ok(training::Ending::OutOfPatience { best }) => (
            Outcome::Completed,
            format!("no better epoch since epoch {}", best + 1),
        ),
        Ok(training::Ending::Stopped) => (Outcome::Stopped, String::new()),
        Err(TrainingError::Ring {
            source: CollectiveError::Link(lost),
            ..
        }) => {
            return Report::LinkLost(link_lost(roster, worker, &lost));
        }
        Err(error) => (Outcome::Failed, error.to_string()),
    };
    Report::Finished(Finished {
        outcome,
        epoch: done.epochs,
        step: done.step,
        reason,
    })
}

fn link_lost(roster: &Roster, worker: WorkerId, lost: &LinkError) -> LinkLost {
    let rank = roster.find(worker).map_or(0, |member| member.rank);
    let neighbour = match lost.neighbour() {
        Neighbour::Left => roster.left_of(rank).rank,
        Neighbour::Right => roster.right_of(rank).rank,
    };
    LinkLost {
        neighbour,
        reason: lost.to_string(),
    }
}

/// A report is a few hundred bytes.
const REPORT_PATIENCE: Duration = Duration::from_secs(5);
