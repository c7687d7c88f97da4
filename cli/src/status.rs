//! `ringmaster status`: where a run stands, for a person.

use std::time::Duration;

use anyhow::Context;
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::{Address, RunPhase, RunStatus, wire};
use security::{Expect, Security, SecurityArgs};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the coordinator
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    coordinator: Address,
    #[command(flatten)]
    security: SecurityArgs,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let security = args.security.resolve()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let status = runtime.block_on(ask(&security, &args.coordinator))?;
    print(&status);
    Ok(())
}

async fn ask(security: &Security, address: &Address) -> anyhow::Result<RunStatus> {
    let channel = security
        .connect_with(address, Expect::Coordinator, |endpoint| {
            endpoint.timeout(PATIENCE)
        })
        .await
        .with_context(|| format!("no coordinator at {address}"))?;
    let response = CoordinatorServiceClient::new(channel)
        .status(wire::StatusRequest {})
        .await
        .with_context(|| format!("the coordinator at {address} does not tell its status"))?;
    RunStatus::try_from(response.into_inner()).context("the coordinator sent an unusable status")
}

fn print(status: &RunStatus) {
    let phase = match status.phase {
        RunPhase::Gathering => "gathering workers",
        RunPhase::Running => "running",
        RunPhase::Finished => "finished",
    };
    println!("run {}: {phase}, generation {}", status.run, status.generation);
    println!("workers: {} of {}", status.members.len(), status.world_size);
    for member in &status.members {
        println!(
            "  rank {:<2} {:<20} {:<22} {:<8} step {:<8} {:<10} heard {:.1} s ago",
            member.member.rank,
            member.member.host,
            member.member.address,
            member.device,
            member.step,
            member.activity,
            member.heartbeat_age.as_secs_f64(),
        );
    }
    if status.losses > 0 {
        println!("lost so far: {}", status.losses);
    }
    if let Some(step) = status.checkpoint_step {
        println!("newest checkpoint: step {step}");
    }
    if let Some(step) = &status.last_step {
        println!(
            "epoch {}/{}, step {}/{}: box {:.3} cls {:.3} dfl {:.3}, {:.1} images/s",
            step.epoch,
            status.epochs,
            step.step,
            step.steps,
            step.losses.box_loss,
            step.losses.cls_loss,
            step.losses.dfl_loss,
            step.images_per_second,
        );
    }
    if let Some(epoch) = &status.last_epoch {
        println!(
            "after epoch {}: precision {:.4} recall {:.4} mAP50 {:.4} mAP50-95 {:.4}",
            epoch.epoch,
            epoch.metrics.precision,
            epoch.metrics.recall,
            epoch.metrics.map50,
            epoch.metrics.map50_95,
        );
    }
    if let Some(ending) = &status.ended {
        println!("ended: {}: {}", ending.outcome, ending.reason);
    }
}

/// A coordinator answers at once.
const PATIENCE: Duration = Duration::from_secs(5);
