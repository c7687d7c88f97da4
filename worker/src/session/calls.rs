//! What a session tells the coordinator: again and again until it is taken, or refused for good.

use std::time::Duration;

use collective::{LinkError, Neighbour};
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::{Finished, LinkLost, Outcome, RefusalKind, Report, Roster, Sender, wire};
use security::Channel;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::delivery::report_of;

/// Reports until the coordinator has answered, and returns why the report was refused, if it was. A refusal is an answer:
/// the coordinator knows better, and its decisions say what.
pub(super) async fn tell(
    mut client: CoordinatorServiceClient<Channel>,
    sender: Sender,
    report: Report,
) -> Option<RefusalKind> {
    loop {
        let request = report_of(sender, report.clone());
        match timeout(ANSWER_PATIENCE, client.report(request)).await {
            Ok(Ok(_taken)) => return None,
            Ok(Err(status)) => match RefusalKind::of(&status) {
                Some(refusal) => {
                    debug!(reason = status.message(), "the report was not taken");
                    return Some(refusal);
                }
                None => debug!(reason = status.message(), "the report did not arrive"),
            },
            Err(_) => debug!("no answer to a report"),
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Says goodbye, so that the coordinator need not wait for this worker; nobody minds if it is not heard.
pub(super) async fn leave(mut client: CoordinatorServiceClient<Channel>, sender: Sender, reason: String) {
    let request = wire::LeaveRequest {
        sender: Some(sender.into()),
        reason,
    };
    let _ = timeout(LEAVE_PATIENCE, client.leave(request)).await;
}

/// Returns the report of a link that broke.
pub(super) fn link_lost(roster: &Roster, rank: usize, neighbour: Neighbour, reason: String) -> Report {
    let neighbour = match neighbour {
        Neighbour::Left => roster.left_of(rank).rank,
        Neighbour::Right => roster.right_of(rank).rank,
    };
    Report::LinkLost(LinkLost { neighbour, reason })
}

/// Returns the report of a link failure.
pub(super) fn link_failure(roster: &Roster, rank: usize, failure: &LinkError) -> Report {
    link_lost(roster, rank, failure.neighbour(), failure.to_string())
}

/// Returns the report of a failure that every rank has.
pub(super) fn failed(reason: String) -> Report {
    Report::Finished(Finished {
        outcome: Outcome::Failed,
        epoch: 0,
        step: 0,
        reason,
    })
}

/// A report is a few hundred bytes.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Short for a person; long for a coordinator that is coming back.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The coordinator waits for goodbyes about as long.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);
