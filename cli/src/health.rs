//! `ringmaster health`: the probe of containers and orchestrators. It asks the process itself, whose answer depends on
//! no other.

use std::time::Duration;

use anyhow::{Context, bail};
use proto::Address;
use security::{Expect, SecurityArgs};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the coordinator or worker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    address: Address,
    #[command(flatten)]
    security: SecurityArgs,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let security = args.security.resolve()?;
    let address = &args.address;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let answer = runtime.block_on(async {
        let channel = security
            .connect_with(address, Expect::Anyone, |endpoint| endpoint.timeout(PATIENCE))
            .await
            .with_context(|| format!("nobody serves at {address}"))?;
        // No service named: the process as a whole.
        HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await
            .with_context(|| format!("{address} does not tell its health"))
    })?;
    match answer.into_inner().status() {
        ServingStatus::Serving => {
            println!("{address} serves");
            Ok(())
        }
        other => bail!("{address} does not serve: {}", other.as_str_name()),
    }
}

/// Probes give up after a few seconds themselves.
const PATIENCE: Duration = Duration::from_secs(3);
