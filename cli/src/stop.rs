//! `ringmaster stop`: asks a coordinator to end its run at a step boundary.

use std::time::Duration;

use anyhow::Context;
use proto::wire::operator_service_client::OperatorServiceClient;
use proto::{Address, wire};
use security::{Expect, SecurityArgs};

/// Arguments of `stop`.
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
    let address = &args.coordinator;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let channel = security
            .connect_with(address, Expect::Coordinator, |endpoint| {
                endpoint.timeout(PATIENCE)
            })
            .await
            .with_context(|| format!("no coordinator at {address}"))?;
        OperatorServiceClient::new(channel)
            .stop(wire::StopRequest {})
            .await
            .with_context(|| format!("the coordinator at {address} does not stop the run"))
    })?;
    println!("the run will stop after the current step; `ringmaster status` shows when");
    Ok(())
}

/// A coordinator answers at once.
const PATIENCE: Duration = Duration::from_secs(5);
