//! What a worker tells the coordinator when its training has ended.

use std::time::Duration;

use collective::{CollectiveError, LinkError, Neighbour};
use proto::{Finished, LinkLost, Outcome, Report, Roster, Sender, WorkerId};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Status;

use crate::compute::Done;
use crate::training;

/// Turns the end of training into what the coordinator is told, after all results are delivered.
pub(super) async fn verdict(
    done: anyhow::Result<Done>,
    roster: &Roster,
    sender: Sender,
    delivered: Option<JoinHandle<Result<(), Status>>>,
) -> Report {
    let done = match done {
        Ok(done) => done,
        Err(error) => {
            let reason = format!("{error:#}");
            return Report::Finished(Finished {
                outcome: Outcome::Failed,
                epoch: 0,
                step: 0,
                reason,
            });
        }
    };
    let finished = |outcome, reason| {
        Report::Finished(Finished {
            outcome,
            epoch: done.epochs,
            step: done.step,
            reason,
        })
    };
    let report = match done.result {
        Ok(training::Ending::Completed) => finished(Outcome::Completed, String::new()),
        Ok(training::Ending::OutOfPatience { best }) => finished(
            Outcome::Completed,
            format!("no better epoch since epoch {}", best + 1),
        ),
        Ok(training::Ending::Stopped) => finished(Outcome::Stopped, String::new()),
        Err(training::TrainingError::Ring {
            source: CollectiveError::Link(lost),
            ..
        }) => {
            return Report::LinkLost(link_lost(roster, sender.worker, &lost));
        }
        Err(error) => return finished(Outcome::Failed, error.to_string()),
    };
    match delivery_failure(delivered).await {
        None => report,
        Some(failure) => finished(
            Outcome::Failed,
            format!("the last weights or results were not delivered: {failure}"),
        ),
    }
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

async fn delivery_failure(delivered: Option<JoinHandle<Result<(), Status>>>) -> Option<String> {
    match timeout(DELIVERY_PATIENCE, delivered?).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(status))) => Some(status.message().to_owned()),
        Ok(Err(join)) => Some(join.to_string()),
        Err(_) => Some(format!("not done within {} s", DELIVERY_PATIENCE.as_secs())),
    }
}

/// Weights of the largest model take seconds on a slow network.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(60);
