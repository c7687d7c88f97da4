//! `ringmaster checkpoint`: asks a coordinator for a checkpoint and waits until it is committed.

use anyhow::{Context, anyhow};
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::{Address, transport, wire};

/// Arguments of `checkpoint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the coordinator
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    coordinator: Address,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let step = runtime.block_on(ask(&args.coordinator))?;
    println!("checkpoint of step {step} committed");
    Ok(())
}

async fn ask(address: &Address) -> anyhow::Result<u64> {
    let channel = transport::endpoint(address)
        .connect()
        .await
        .with_context(|| format!("no coordinator at {address}"))?;
    let answer = CoordinatorServiceClient::new(channel)
        .checkpoint(wire::CheckpointRequest {})
        .await
        .map_err(|status| anyhow!("no checkpoint: {}", status.message()))?;
    Ok(answer.into_inner().step)
}
