//! `ringmaster certs`: an authority of one's own, and certificates for coordinators, workers and operators.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use security::authority::{Authority, Order};
use security::{Identity, Role};

/// Arguments of `certs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a certificate authority: ca.crt for everybody, ca.key to keep
    Init {
        /// Folder to make it in
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Name of the authority
        #[arg(long, default_value = "ringmaster")]
        name: String,
        /// Days that it is valid for
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
    /// Issue a certificate: tls.crt, tls.key and ca.crt for one host. Again into the same folder, it renews it; running
    /// processes take the new one with their next connection
    Issue {
        /// What the holder may be
        #[arg(long, value_enum)]
        role: Role,
        /// The host; for an operator, the person
        #[arg(long)]
        name: String,
        /// DNS name or IP address that it is reached at, besides its name and this machine's own; may be repeated
        #[arg(long, value_name = "NAME_OR_IP")]
        host: Vec<String>,
        /// Folder of the authority
        #[arg(long, value_name = "DIR", default_value = "ca")]
        ca: PathBuf,
        /// Folder to write it to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Days that it is valid for
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    // A clock that is a little behind on another host must not take a new certificate for one of the future.
    let from = SystemTime::now() - CLOCK_SKEW;
    match &args.command {
        Command::Init { folder, name, days } => {
            Authority::init(folder, name, from, lifetime(*days))?;
            println!(
                "an authority for {days} days in {}; keep ca.key to yourself",
                folder.display()
            );
        }
        Command::Issue {
            role,
            name,
            host,
            ca,
            out,
            days,
        } => issue(Identity::new(*role, name)?, host, ca, out, *days)?,
    }
    Ok(())
}

fn issue(identity: Identity, hosts: &[String], ca: &Path, out: &Path, days: u32) -> anyhow::Result<()> {
    let mut all = vec![identity.name().to_owned()];
    for host in LOCAL.into_iter().chain(hosts.iter().map(String::as_str)) {
        if all.iter().all(|known| known != host) {
            all.push(host.to_owned());
        }
    }
    let text = identity.to_string();
    let order = Order {
        identity,
        hosts: all,
        from: SystemTime::now() - CLOCK_SKEW,
        lifetime: lifetime(days),
    };
    Authority::open(ca)?.issue(&order)?.write(out)?;
    println!("{text} for {days} days in {}", out.display());
    Ok(())
}

fn lifetime(days: u32) -> Duration {
    CLOCK_SKEW + Duration::from_secs(u64::from(days) * 24 * 3600)
}

const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A coordinator is also asked from its own host, by probes and people.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
