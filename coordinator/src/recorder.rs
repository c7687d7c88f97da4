//! Writes down what happens: files, log lines and progress, in the order in which it was decided.
//!
//! One task owns the files. It ends when the end of the run is recorded, or with the error that kept it from
//! writing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proto::{Ending, Switch};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::membership::{Effect, Present, StopCause};
use crate::progress::Progress;
use crate::run_directory::checkpoints::Checkpoints;
use crate::run_directory::{EventLog, Results};
use crate::shared::Shared;

/// The owner of a run's records.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) results: Results,
    pub(crate) events: EventLog,
    pub(crate) progress: mpsc::Sender<Progress>,
    pub(crate) checkpoints: Checkpoints,
}

impl Recorder {
    /// Records effects until the run ends.
    pub(crate) async fn run(
        mut self,
        mut effects: mpsc::Receiver<Effect>,
        shared: Arc<Shared>,
    ) -> io::Result<()> {
        while let Some(effect) = effects.recv().await {
            let is_last = matches!(effect, Effect::End(_));
            let epoch = match &effect {
                Effect::RecordEpoch { report, .. } => report.epoch,
                _ => 0,
            };
            self.record(effect, &shared).await?;
            shared.epoch_recorded(epoch);
            if is_last {
                break;
            }
        }
        Ok(())
    }

    async fn record(&mut self, effect: Effect, shared: &Shared) -> io::Result<()> {
        match effect {
            Effect::RecordJoined { present, members } => {
                info!(worker = %present.worker, host = present.host, device = present.device, members, "worker joined");
                self.events.append("joined", person(&present)).await
            }
            Effect::RecordDeparted { present, evidence } => {
                warn!(worker = %present.worker, host = present.host, %evidence, "worker left that was no member");
                let mut fields = person(&present);
                fields["evidence"] = json!(evidence.to_string());
                self.events.append("departed", fields).await
            }
            Effect::RecordLost {
                present,
                rank,
                step,
                activity,
                evidence,
            } => {
                warn!(rank, host = present.host, worker = %present.worker, step, %activity, %evidence, "a member was lost");
                let mut fields = person(&present);
                fields["rank"] = json!(rank);
                fields["step"] = json!(step);
                fields["activity"] = json!(activity.to_string());
                fields["evidence"] = json!(evidence.to_string());
                self.events.append("lost", fields).await?;
                self.tell(Progress::Lost {
                    present,
                    rank,
                    evidence,
                })
                .await;
                Ok(())
            }
            Effect::RecordDamaged {
                present,
                rank,
                step,
                times,
            } => {
                warn!(rank, host = present.host, worker = %present.worker, step, times, "a member's state differs from that of the others; it copies theirs");
                let mut fields = person(&present);
                fields["rank"] = json!(rank);
                fields["step"] = json!(step);
                fields["times"] = json!(times);
                self.events.append("damaged", fields).await?;
                let text = format!(
                    "the state of rank {rank} on {present} differs from that of the others after step {step}; it copies theirs"
                );
                self.tell(Progress::Notice(text)).await;
                Ok(())
            }
            Effect::Remind {
                present,
                missing,
                out_of_sight,
            } => {
                let there: Vec<String> = present.iter().map(ToString::to_string).collect();
                info!(
                    present = there.len(),
                    missing,
                    out_of_sight,
                    workers = there.join(", "),
                    "waiting for workers"
                );
                self.tell(Progress::Waiting {
                    present,
                    missing,
                    out_of_sight,
                })
                .await;
                Ok(())
            }
            Effect::Announce(roster) => {
                if roster.switch == Switch::Now {
                    // Whoever is lost gives no part to a checkpoint any more.
                    self.checkpoints.abort_other_than(roster.generation().0);
                }
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
                let switch = match roster.switch {
                    Switch::Now => "now",
                    Switch::AtStepBoundary => "at-step-boundary",
                };
                let fields = json!({ "generation": generation.0, "switch": switch, "members": listed });
                self.events.append("generation", fields).await?;
                self.tell(Progress::Started { generation, members }).await;
                Ok(())
            }
            Effect::RequestStop(cause) => {
                let (event, sentence) = match cause {
                    StopCause::Asked => ("stop_requested", "stop requested"),
                    StopCause::TimeIsUp => ("time_is_up", "the time is up"),
                };
                info!("{sentence}");
                self.events.append(event, json!({})).await?;
                self.tell(Progress::Stopping(cause)).await;
                Ok(())
            }
            Effect::RequestCheckpoint { number } => {
                info!(number, "checkpoint requested");
                self.events
                    .append("checkpoint_requested", json!({ "number": number }))
                    .await
            }
            Effect::RecordCheckpoint { step } => {
                self.events.append("checkpoint", json!({ "step": step })).await?;
                self.tell(Progress::Checkpoint { step }).await;
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
            Effect::End(verdict) => {
                let ending = shared.read(|membership| membership.ending(&verdict));
                self.end(&ending).await
            }
        }
    }

    async fn end(&mut self, ending: &Ending) -> io::Result<()> {
        info!(outcome = %ending.outcome, reason = ending.reason, resumable = ending.resumable, "run ended");
        let fields = json!({
            "outcome": ending.outcome.to_string(),
            "reason": ending.reason,
            "resumable": ending.resumable,
        });
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
