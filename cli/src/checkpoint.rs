//! `ringmaster checkpoint`: asks a coordinator for a checkpoint and waits until it is committed.

use anyhow::{Context, anyhow};
use proto::wire::operator_service_client::OperatorServiceClient;
use proto::{Address, wire};
use security::{Expect, Security, SecurityArgs};

/// Arguments of `checkpoint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the coordinator
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    coordinator: Address,
    #[command(flatten)]
    security: SecurityArgs,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let step = runtime.block_on(ask(&args.security.resolve()?, &args.coordinator))?;
    println!("checkpoint of step {step} committed");
    Ok(())
}

async fn ask(security: &Security, address: &Address) -> anyhow::Result<u64> {
    let channel = security
        .connect(address, Expect::Coordinator)
        .await
        .with_context(|| format!("no coordinator at {address}"))?;
    let answer = OperatorServiceClient::new(channel)
        .checkpoint(wire::CheckpointRequest {})
        .await
        .map_err(|status| anyhow!("no checkpoint: {}", status.message()))?;
    Ok(answer.into_inner().step)
}
