//! Looks at everything: asks the coordinator who there is, then each process about itself, then each for its connections.
//!
//! One after the other, for connections that are measured at the same time would share what they are measured for.

use std::time::Duration;

use anyhow::Context;
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::doctor_service_client::DoctorServiceClient;
use proto::wire::operator_service_client::OperatorServiceClient;
use proto::wire::probe_service_client::ProbeServiceClient;
use proto::{Address, Attendance, HostReport, RunPhase, RunStatus, Target, doctor, wire};
use security::{Channel, Expect, Security};
use tokio::time::{Instant, timeout};

use super::findings::{Edge, Findings, Look, Opened, Phase, Seen, Stage, Worker};

/// Looks at the cluster of a coordinator, with so many bytes for each connection of the ring.
///
/// # Errors
/// When the coordinator does not answer.
pub(super) async fn look(security: &Security, address: &Address, bytes: u64) -> anyhow::Result<Findings> {
    let channel = connect(security, address, Expect::Coordinator).await;
    let channel = channel
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("no coordinator at {address}"))?;
    let status = CoordinatorServiceClient::new(channel.clone())
        .status(wire::StatusRequest {})
        .await
        .with_context(|| format!("the coordinator at {address} does not tell its status"))?;
    let status =
        RunStatus::try_from(status.into_inner()).context("the coordinator sent an unusable status")?;
    let survey = OperatorServiceClient::new(channel.clone())
        .survey(wire::SurveyRequest {})
        .await
        .with_context(|| format!("the coordinator at {address} does not tell who is there"))?;
    let attendances: Vec<Attendance> = survey
        .into_inner()
        .workers
        .into_iter()
        .map(Attendance::try_from)
        .collect::<Result<_, _>>()
        .context("the coordinator sent an unusable list of workers")?;

    let own_clock = examine(channel).await;
    let coordinators_clock = own_clock.as_ref().map(|(_, clock)| *clock).unwrap_or_default();
    let coordinator = seen("coordinator".to_owned(), address, own_clock, coordinators_clock);

    let mut workers = Vec::new();
    for attendance in attendances {
        let worker = look_at(security, attendance, coordinators_clock).await;
        workers.push(worker);
    }
    let is_gathering = status.phase == RunPhase::Gathering;
    if is_gathering {
        group_by_host(&mut workers);
    }
    for worker in &mut workers {
        worker.is_member = match worker.stage {
            Stage::Joined => true,
            // A ring that is at work takes it in later.
            Stage::Opening => is_gathering && worker.seen.look.is_some(),
            Stage::Refused => false,
        };
    }
    workers.sort_by_key(|worker| !worker.is_member);
    for (position, worker) in workers.iter_mut().enumerate() {
        worker.seen.name = match worker.is_member {
            true => format!("worker {position}"),
            false if worker.seen.look.is_some() => "newcomer".to_owned(),
            false => "no member".to_owned(),
        };
    }
    let edges = probe_all(security, &coordinator, &workers, bytes).await;
    Ok(Findings {
        version: proto::VERSION,
        run: status.run.to_string(),
        phase: match status.phase {
            RunPhase::Gathering => Phase::Gathering,
            RunPhase::Running => Phase::Running,
            RunPhase::Finished => Phase::Finished,
        },
        world_size: status.world_size,
        coordinator,
        workers,
        edges,
    })
}

/// Puts workers of one machine next to each other, as the first generation will.
fn group_by_host(workers: &mut [Worker]) {
    let mut hosts: Vec<String> = Vec::new();
    for worker in workers.iter() {
        if !hosts.contains(&worker.host) {
            hosts.push(worker.host.clone());
        }
    }
    workers.sort_by_key(|worker| hosts.iter().position(|host| *host == worker.host));
}

/// A process's clock, compared with that of this machine.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    /// Seconds ahead.
    ahead: f64,
    /// How far that may be off.
    error: f64,
}

async fn look_at(security: &Security, attendance: Attendance, coordinators: Clock) -> Worker {
    let Attendance { member, stage, age } = attendance;
    let (stage, opened, refusal) = match stage {
        proto::Stage::Opening => (Stage::Opening, None, None),
        proto::Stage::Refused(reason) => (Stage::Refused, None, Some(reason)),
        proto::Stage::Joined(card) => {
            let opened = Opened {
                device: card.device,
                threads: card.threads,
                dataset: card.dataset.to_string(),
                train_images: card.train_images,
                val_images: card.val_images,
                model: card.model.to_string(),
                description: card.description,
            };
            (Stage::Joined, Some(opened), None)
        }
    };
    let examined = if stage == Stage::Refused {
        // It ends when it is refused.
        Err("it was refused".to_owned())
    } else {
        match connect(security, &member.address, Expect::Worker(member.worker)).await {
            Ok(channel) => examine(channel).await,
            Err(reason) => Err(reason),
        }
    };
    Worker {
        seen: seen(String::new(), &member.address, examined, coordinators),
        worker: member.worker.to_string(),
        host: member.host,
        stage,
        is_member: false,
        age_seconds: age.as_secs_f64(),
        opened,
        refusal,
    }
}

fn seen(
    name: String,
    address: &Address,
    examined: Result<(HostReport, Clock), String>,
    coordinators: Clock,
) -> Seen {
    let address = address.to_string();
    let (look, failure) = match examined {
        Ok((report, clock)) => {
            let look = Look {
                version: report.version,
                host: report.host,
                clock_ahead_seconds: clock.ahead - coordinators.ahead,
                clock_error_seconds: clock.error + coordinators.error,
                free_bytes: report.free_bytes,
            };
            (Some(look), None)
        }
        Err(reason) => (None, Some(reason)),
    };
    Seen {
        name,
        address,
        look,
        failure,
    }
}

async fn connect(security: &Security, address: &Address, expect: Expect) -> Result<Channel, String> {
    let channel = security.connect_with(address, expect, |endpoint| endpoint.timeout(PROBE_PATIENCE));
    match timeout(CONNECT_PATIENCE, channel).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(probe::measure::reason(&error)),
        Err(_) => Err(format!("no connection within {} s", CONNECT_PATIENCE.as_secs())),
    }
}

/// Asks a process about itself, a few times: the fastest answer tells its clock best.
async fn examine(channel: Channel) -> Result<(HostReport, Clock), String> {
    let mut client = DoctorServiceClient::new(channel);
    let mut best: Option<(Duration, HostReport, Clock)> = None;
    for _ in 0..EXAMINATIONS {
        let (begin, own_clock) = (Instant::now(), probe::host::clock());
        let answer = timeout(EXAMINE_PATIENCE, client.examine(wire::ExamineRequest {})).await;
        let took = begin.elapsed();
        let answer = answer
            .map_err(|_| format!("no answer within {} s", EXAMINE_PATIENCE.as_secs()))?
            .map_err(|status| status.message().to_owned())?;
        let report = HostReport::try_from(answer.into_inner()).map_err(|error| error.to_string())?;
        let middle = (own_clock + took / 2).as_secs_f64();
        let clock = Clock {
            ahead: report.clock.as_secs_f64() - middle,
            error: took.as_secs_f64() / 2.0,
        };
        if best.as_ref().is_none_or(|(before, ..)| took < *before) {
            best = Some((took, report, clock));
        }
    }
    let (_, report, clock) = best.ok_or("nothing was asked")?;
    Ok((report, clock))
}

/// Has every worker measure its way to its right neighbour, and to the coordinator.
async fn probe_all(security: &Security, coordinator: &Seen, workers: &[Worker], bytes: u64) -> Vec<Edge> {
    let ring: Vec<&Worker> = workers.iter().filter(|worker| worker.is_member).collect();
    let mut edges = Vec::new();
    if ring.len() > 1 {
        for (rank, from) in ring.iter().enumerate() {
            let to = ring[(rank + 1) % ring.len()];
            let mut edge = new_edge(from, &to.seen.name, from.host == to.host);
            edge.is_ring = true;
            let target = to.worker.parse().map(Target::Worker);
            edges.push(match target {
                Ok(target) => probe(security, from, target, bytes, edge).await,
                Err(_) => edge,
            });
        }
    }
    let head = coordinator.look.as_ref().map(|look| look.host.as_str());
    for from in ring {
        let edge = new_edge(from, &coordinator.name, head == Some(&from.host));
        let bytes = bytes.min(COORDINATOR_BYTES_MAX);
        edges.push(probe(security, from, Target::Coordinator, bytes, edge).await);
    }
    edges
}

fn new_edge(from: &Worker, to: &str, is_local: bool) -> Edge {
    Edge {
        from: from.seen.name.clone(),
        to: to.to_owned(),
        is_local,
        is_ring: false,
        round_trip_seconds: None,
        bytes_per_second: None,
        failure: None,
        is_untried: false,
    }
}

async fn probe(security: &Security, from: &Worker, target: Target, bytes: u64, mut edge: Edge) -> Edge {
    if from.seen.look.is_none() {
        edge.is_untried = true;
        return edge;
    }
    match ask_to_probe(security, from, target, bytes).await {
        Ok(Ok(measurement)) => {
            edge.round_trip_seconds = Some(measurement.round_trip.as_secs_f64());
            edge.bytes_per_second = Some(measurement.bytes_per_second);
        }
        Ok(Err(reason)) => edge.failure = Some(reason),
        Err(reason) => edge.failure = Some(format!("it cannot be asked to: {reason}")),
    }
    edge
}

/// Returns what the worker measured, or why it could not; and if it could not be asked, why.
async fn ask_to_probe(
    security: &Security,
    from: &Worker,
    target: Target,
    bytes: u64,
) -> Result<Result<proto::Measurement, String>, String> {
    let address: Address = from
        .seen
        .address
        .parse()
        .map_err(|_| "it has no address".to_owned())?;
    let expect = Expect::Worker(from.worker.parse().map_err(|_| "it has no id".to_owned())?);
    let channel = connect(security, &address, expect).await?;
    let request = wire::ProbeRequest {
        target: Some(target.into()),
        bytes,
    };
    let mut client = ProbeServiceClient::new(channel);
    let answer = timeout(PROBE_PATIENCE, client.probe(request)).await;
    let answer = answer
        .map_err(|_| format!("no answer within {} s", PROBE_PATIENCE.as_secs()))?
        .map_err(|status| status.message().to_owned())?;
    doctor::probed(answer.into_inner()).map_err(|error| error.to_string())
}

/// A host that does not answer is told apart from one that is slow.
const CONNECT_PATIENCE: Duration = Duration::from_secs(8);

/// So often, for the first answer waits for what the host has to read in.
const EXAMINATIONS: usize = 3;

/// A process answers at once, also one that computes.
const EXAMINE_PATIENCE: Duration = Duration::from_secs(5);

/// Longer than a worker takes for all that it waits for itself.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);

/// All workers send to the coordinator one after the other; what they send it in a run are a few weights.
const COORDINATOR_BYTES_MAX: u64 = 16 << 20;
