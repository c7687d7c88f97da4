//! `ringmaster doctor`: looks at every host and every connection of a cluster before it is trusted.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`look`] | asks everybody |
//! | [`findings`] | what was found |
//! | [`judge`] | what is wrong with it |
//! | [`table`] | both, for people |

mod findings;
mod judge;
mod look;
mod table;

use std::process::ExitCode;

use anyhow::Context;
use proto::Address;
use security::SecurityArgs;
use serde::Serialize;

use self::findings::Findings;
use self::judge::{Bounds, Problem, Verdict, judge};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the coordinator
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    coordinator: Address,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Fewest GiB that must be free where the coordinator keeps the run: three checkpoints of the largest model
    #[arg(long, value_name = "GIB", default_value_t = 4, value_parser = clap::value_parser!(u64).range(..=1 << 20))]
    min_free: u64,
    /// MiB that are sent at most over each connection of the ring to measure it
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=64))]
    transfer: u64,
    #[command(flatten)]
    security: SecurityArgs,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output<'a> {
    /// Whether nothing is wrong.
    ok: bool,
    /// Unset when the coordinator does not answer.
    #[serde(flatten)]
    findings: Option<&'a Findings>,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// Looks, judges and prints: 0 when all is well, 1 when something is wrong.
pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let security = args.security.resolve()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let found = runtime.block_on(look::look(&security, &args.coordinator, args.transfer << 20));
    let (findings, verdict) = match found {
        Ok(findings) => {
            let bounds = Bounds {
                coordinator_free_bytes: args.min_free << 30,
            };
            let verdict = judge(&findings, bounds);
            (Some(findings), verdict)
        }
        Err(error) => {
            let problem = Problem {
                problem: format!("{error:#}"),
                advice: "check that the coordinator runs, its address and port, and that these certificates are an operator's"
                    .to_owned(),
            };
            let verdict = Verdict {
                problems: vec![problem],
                notes: Vec::new(),
            };
            (None, verdict)
        }
    };
    let ok = verdict.problems.is_empty();
    if args.json {
        let output = Output {
            ok,
            findings: findings.as_ref(),
            verdict: &verdict,
        };
        println!("{}", serde_json::to_string_pretty(&output)?);
    } else {
        match &findings {
            Some(findings) => print!("{}", table::render(findings, &verdict)),
            None => print!("{}", table::lines(&verdict)),
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
