//! Writes down what happens: files, log lines and progress, in the order in which it was decided.
//!
//! One task owns the files. It ends when the end of the run is recorded, or with the error that kept it from
//! writing.

use std::io;
use std::time::Duration;

use proto::Ending;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::membership::{Effect, Present, Verdict};
use crate::progress::Progress;
use crate::run_directory::{EventLog, Results};

/// The owner of a run's records.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) results: Results,
    pub(crate) events: EventLog,
    pub(crate) progress: mpsc::Sender<Progress>,
}

impl Recorder {
    /// Records effects until the run ends.
    pub(crate) async fn run(mut self, mut effects: mpsc::Receiver<Effect>) -> io::Result<()> {
        while let Some(effect) = effects.recv().await {
            let is_last = matches!(effect, Effect::End(_));
            self.record(effect).await?;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    async fn record(&mut self, effect: Effect) -> io::Result<()> {
        match effect {
            Effect::RecordJoined { present, members } => {
                info!(worker = %present.worker, host = present.host, device = present.device, members, "worker joined");
                self.events.append("joined", person(&present)).await
            }
            Effect::RecordDeparted { present, evidence } => {
                warn!(worker = %present.worker, host = present.host, %evidence, "worker left before the run began");
                let mut fields = person(&present);
                fields["evidence"] = json!(evidence.to_string());
                self.events.append("departed", fields).await
            }
            Effect::Remind { present, missing } => {
                let there: Vec<String> = present.iter().map(ToString::to_string).collect();
                info!(
                    present = there.len(),
                    missing,
                    workers = there.join(", "),
                    "waiting for workers"
                );
                self.tell(Progress::Waiting { present, missing }).await;
                Ok(())
            }
            Effect::Announce(roster) => {
                let (generation, members) = (roster.generation(), roster.members().to_vec());
                info!(%generation, world_size = members.len(), "generation begins");
                let listed: Vec<_> = members
                    .iter()
                    .map(|member| {
                        json!({
                            "rank": member.rank,
                            "worker_id": member.worker.to_string(),
                            "host": member.host,
                            "address": member.address.as_str(),
                        })
                    })
                    .collect();
                let fields = json!({ "generation": generation.0, "members": listed });
                self.events.append("generation", fields).await?;
                self.tell(Progress::Started { generation, members }).await;
                Ok(())
            }
            Effect::RequestStop => {
                info!("stop requested");
                self.events.append("stop_requested", json!({})).await?;
                self.tell(Progress::Stopping).await;
                Ok(())
            }
            Effect::ShowStep(report) => {
                // Stale within a second: a slow reader is not waited for.
                let _ = self.progress.try_send(Progress::Step(report));
                Ok(())
            }
            Effect::RecordEpoch { report, elapsed } => {
                self.results.append(&report, elapsed).await?;
                self.events.append("epoch", json!(report)).await?;
                self.tell(Progress::Epoch(report)).await;
                Ok(())
            }
            Effect::End(verdict) => self.end(&verdict).await,
        }
    }

    async fn end(&mut self, verdict: &Verdict) -> io::Result<()> {
        let ending = Ending::from(verdict);
        info!(outcome = %ending.outcome, reason = ending.reason, "run ended");
        let mut fields = json!({ "outcome": ending.outcome.to_string(), "reason": ending.reason });
        if let Some(lost) = &ending.lost {
            fields["lost_rank"] = json!(lost.member.rank);
            fields["lost_host"] = json!(lost.member.host);
        }
        self.events.append("ended", fields).await
    }

    /// Waits for the reader, but not for ever.
    async fn tell(&self, progress: Progress) {
        if self
            .progress
            .send_timeout(progress, READER_PATIENCE)
            .await
            .is_err()
        {
            warn!("nobody reads the progress of the run");
        }
    }
}

fn person(present: &Present) -> serde_json::Value {
    json!({
        "worker_id": present.worker.to_string(),
        "host": present.host,
        "device": present.device,
    })
}

/// A terminal that does not take a line for this long is gone.
const READER_PATIENCE: Duration = Duration::from_secs(5);
