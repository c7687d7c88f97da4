//! Says what is wrong with what was found, and what to do: pure.

use serde::Serialize;

use super::findings::{Edge, Findings, Phase, Seen, Stage, Worker};
use super::table::{bytes, rate, seconds};

/// What counts as wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Fewest bytes that are free in the run directory.
    pub(super) coordinator_free_bytes: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// One sentence.
    pub(super) problem: String,
    /// What to do about it.
    pub(super) advice: String,
}

/// What follows from the findings.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) problems: Vec<Problem>,
    /// What a person should know, though nothing has to be done.
    pub(super) notes: Vec<String>,
}

/// Judges everything.
pub(super) fn judge(findings: &Findings, bounds: Bounds) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.process(&findings.coordinator, findings, bounds.coordinator_free_bytes);
    if findings.coordinator.look.is_none() {
        let reason = findings
            .coordinator
            .failure
            .as_deref()
            .unwrap_or("no reason given");
        verdict.add(
            format!("the coordinator tells nothing about itself: {reason}"),
            "use the same version of ringmaster on every machine".to_owned(),
        );
    }
    let joined = findings
        .workers
        .iter()
        .filter(|worker| worker.stage == Stage::Joined)
        .count();
    let missing = findings.world_size.saturating_sub(joined);
    for worker in &findings.workers {
        verdict.worker(worker, findings, missing);
    }
    verdict.differences(&findings.workers);
    for edge in findings.edges.iter().filter(|edge| edge.failure.is_some()) {
        verdict.broken(edge, findings);
    }
    verdict.slow(&findings.edges);
    verdict.missing(findings, joined, missing);
    match findings.phase {
        Phase::Gathering => {}
        Phase::Running => {
            verdict
                .notes
                .push("the run is at work: throughput is what it leaves".to_owned());
        }
        Phase::Finished => verdict.notes.push("the run has ended".to_owned()),
    }
    verdict
}

impl Verdict {
    fn add(&mut self, problem: String, advice: String) {
        self.problems.push(Problem { problem, advice });
    }

    fn worker(&mut self, worker: &Worker, findings: &Findings, missing: usize) {
        let who = called(worker);
        let (name, age) = (&worker.seen.name, seconds(worker.age_seconds));
        let failure = worker.seen.failure.as_deref().unwrap_or("no reason given");
        match (worker.stage, &worker.seen.look) {
            (Stage::Refused, _) => {
                let reason = worker.refusal.as_deref().unwrap_or_default();
                let problem = format!("a {who} was refused {age} ago: {reason}");
                let advice = "mend that on its host and start it again".to_owned();
                self.add_if_missing(missing, problem, advice);
            }
            (Stage::Opening, None) => {
                let problem =
                    format!("a {who} asked for the run {age} ago and cannot be reached from here: {failure}");
                let advice =
                    "see its log: it may have ended; if it runs, open its port, or give it --listen and \
                              --advertise by which others reach it"
                        .to_owned();
                self.add_if_missing(missing, problem, advice);
            }
            (Stage::Opening, Some(_)) => {
                self.notes
                    .push(format!("{name} still opens its data and model, for {age}"));
                self.process(&worker.seen, findings, WORKER_FREE_BYTES_MIN);
            }
            (Stage::Joined, None) => {
                let is_reached = findings
                    .edges
                    .iter()
                    .any(|edge| edge.to == *name && edge.round_trip_seconds.is_some());
                let advice = if is_reached {
                    "its ring neighbour reaches it: run doctor on a host that reaches the workers, or open its port \
                     for this one"
                } else {
                    "check that it runs, that its port is open to the other hosts, and that --advertise leads to it"
                };
                let problem = format!("{name}, {who}, cannot be reached from here: {failure}");
                self.add(problem, advice.to_owned());
            }
            (Stage::Joined, Some(_)) => self.process(&worker.seen, findings, WORKER_FREE_BYTES_MIN),
        }
    }

    /// What stands in nobody's way once all places are taken is only told.
    fn add_if_missing(&mut self, missing: usize, problem: String, advice: String) {
        if missing > 0 {
            self.add(problem, advice);
        } else {
            self.notes.push(problem);
        }
    }

    /// Version, clock and disk of a process that was seen.
    fn process(&mut self, seen: &Seen, findings: &Findings, free_bytes_min: u64) {
        let Some(look) = &seen.look else {
            return;
        };
        let who = format!("{} on {}", seen.name, look.host);
        if look.version != findings.version {
            self.add(
                format!(
                    "{who} is version {}, this program is version {}",
                    look.version, findings.version
                ),
                "use the same version on every machine".to_owned(),
            );
        }
        let skew = look.clock_ahead_seconds.abs() - look.clock_error_seconds;
        if skew > CLOCK_SKEW_SECONDS_MAX {
            self.add(
                format!(
                    "the clock of {who} is {} {} the coordinator's",
                    seconds(look.clock_ahead_seconds.abs()),
                    if look.clock_ahead_seconds > 0.0 {
                        "ahead of"
                    } else {
                        "behind"
                    },
                ),
                "let all hosts take their time from the same server (NTP)".to_owned(),
            );
        }
        if let Some(free) = look.free_bytes.filter(|&free| free < free_bytes_min) {
            self.add(
                format!(
                    "{who} has {} of free disk, fewer than {}",
                    bytes(free),
                    bytes(free_bytes_min)
                ),
                "make room, or start it in a folder on another disk".to_owned(),
            );
        }
    }

    /// Compares what was opened with the first worker, as the coordinator does.
    fn differences(&mut self, workers: &[Worker]) {
        let mut opened = workers
            .iter()
            .filter_map(|worker| Some((worker, worker.opened.as_ref()?)));
        let Some((first, measure)) = opened.next() else {
            return;
        };
        for (worker, card) in opened {
            for (what, differs) in [
                ("data set", card.dataset != measure.dataset),
                ("model", card.model != measure.model),
            ] {
                if differs {
                    let (name, other) = (&worker.seen.name, &first.seen.name);
                    self.add(
                        format!("{name} has another {what} than {other}"),
                        format!("give every host the same {what}"),
                    );
                }
            }
        }
    }

    fn broken(&mut self, edge: &Edge, findings: &Findings) {
        let place = |name: &str| {
            let worker = findings.workers.iter().find(|worker| worker.seen.name == name);
            worker.map_or_else(
                || format!("{name} at {}", findings.coordinator.address),
                |worker| format!("{name} at {}", worker.seen.address),
            )
        };
        let reason = edge.failure.as_deref().unwrap_or_default();
        let kind = if edge.is_ring { "its ring neighbour " } else { "" };
        self.add(
            format!("{} cannot reach {kind}{}: {reason}", edge.from, place(&edge.to)),
            format!(
                "check that {} runs, and that nothing between the two hosts closes its port",
                edge.to
            ),
        );
    }

    /// Names edges that are much slower than the others between machines. Within a machine a message does not pass
    /// a network: those are no measure, and are not measured by it.
    fn slow(&mut self, edges: &[Edge]) {
        for is_ring in [true, false] {
            let rates = edges
                .iter()
                .filter(|edge| edge.is_ring == is_ring && !edge.is_local)
                .filter_map(|edge| Some((edge, edge.bytes_per_second?)));
            let rates: Vec<_> = rates.collect();
            let Some(median) = median(rates.iter().map(|(_, rate)| *rate).collect()) else {
                continue;
            };
            for (edge, found) in rates {
                if found < median / SLOW_FRACTION {
                    self.add(
                        format!(
                            "{} -> {} carries {}, where the median of its kind is {}",
                            edge.from,
                            edge.to,
                            rate(found),
                            rate(median)
                        ),
                        "look at the link between the two hosts: cable, switch port, speed that was negotiated; a ring is as \
                         fast as its slowest edge"
                            .to_owned(),
                    );
                }
            }
        }
    }

    fn missing(&mut self, findings: &Findings, joined: usize, missing: usize) {
        if missing == 0 || findings.phase == Phase::Finished {
            return;
        }
        let opening = findings
            .workers
            .iter()
            .filter(|worker| worker.stage == Stage::Opening && worker.seen.look.is_some())
            .count();
        let problem = format!("{joined} of {} workers have joined", findings.world_size);
        if opening >= missing {
            self.add(
                format!("{problem}, the others still open their data"),
                "run doctor again in a moment".to_owned(),
            );
        } else {
            self.add(
                problem,
                format!(
                    "start {} more: worker --coordinator {}",
                    missing - opening,
                    findings.coordinator.address
                ),
            );
        }
    }
}

fn called(worker: &Worker) -> String {
    format!("worker on {} ({})", worker.host, worker.seen.address)
}

/// Returns the median, of two in the middle their mean; none of none.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(values[middle - 1].midpoint(values[middle])),
    }
}

/// Logs of several hosts can still be read side by side, and a certificate made now is valid everywhere soon.
const CLOCK_SKEW_SECONDS_MAX: f64 = 1.0;

/// A worker writes nothing but its log.
const WORKER_FREE_BYTES_MIN: u64 = 256 << 20;

/// Edges of equal hardware differ by a tenth or two; one of half the speed is of another kind, or broken.
const SLOW_FRACTION: u64 = 2;

#[cfg(test)]
mod tests {
    use super::super::findings::{Look, Opened};
    use super::*;

    const BOUNDS: Bounds = Bounds {
        coordinator_free_bytes: 1000,
    };

    fn seen(name: &str, host: &str) -> Seen {
        Seen {
            name: name.to_owned(),
            address: format!("{host}:50052"),
            look: Some(Look {
                version: "1".to_owned(),
                host: host.to_owned(),
                clock_ahead_seconds: 0.0,
                clock_error_seconds: 0.001,
                free_bytes: Some(1 << 40),
            }),
            failure: None,
        }
    }

    fn worker(rank: usize) -> Worker {
        let host = format!("gpu-{rank}");
        Worker {
            seen: seen(&format!("worker {rank}"), &host),
            worker: rank.to_string(),
            host,
            stage: Stage::Joined,
            is_member: true,
            age_seconds: 1.0,
            opened: Some(Opened {
                device: "cpu".to_owned(),
                threads: 1,
                dataset: "d".to_owned(),
                train_images: 10,
                val_images: 2,
                model: "m".to_owned(),
                description: "yolov8n".to_owned(),
            }),
            refusal: None,
        }
    }

    fn edge(from: usize, to: usize, megabytes: u64) -> Edge {
        Edge {
            from: format!("worker {from}"),
            to: format!("worker {to}"),
            is_local: false,
            is_ring: true,
            round_trip_seconds: Some(0.0001),
            bytes_per_second: Some(megabytes * 1_000_000),
            failure: None,
            is_untried: false,
        }
    }

    /// Three workers, each on a host of its own, and nothing wrong.
    fn healthy() -> Findings {
        Findings {
            version: "1",
            run: "run".to_owned(),
            phase: Phase::Gathering,
            world_size: 3,
            coordinator: seen("coordinator", "head"),
            workers: (0..3).map(worker).collect(),
            edges: vec![edge(0, 1, 110), edge(1, 2, 117), edge(2, 0, 90)],
        }
    }

    /// The one problem with the healthy cluster after a change.
    fn only_problem(change: impl FnOnce(&mut Findings)) -> Problem {
        let mut findings = healthy();
        change(&mut findings);
        let Verdict { mut problems, .. } = judge(&findings, BOUNDS);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0)
    }

    fn look(seen: &mut Seen) -> &mut Look {
        seen.look.as_mut().unwrap()
    }

    #[test]
    fn nothing_is_wrong_with_a_healthy_cluster() {
        assert_eq!(judge(&healthy(), BOUNDS), Verdict::default());
    }

    #[test]
    fn each_thing_that_is_wrong_is_one_problem() {
        let cases = [
            (
                only_problem(|it| "2".clone_into(&mut look(&mut it.workers[1].seen).version)),
                "worker 1 on gpu-1 is version 2, this program is version 1",
            ),
            (
                only_problem(|it| "2".clone_into(&mut look(&mut it.coordinator).version)),
                "coordinator on head is version 2, this program is version 1",
            ),
            (
                only_problem(|it| look(&mut it.workers[2].seen).clock_ahead_seconds = -3.0),
                "the clock of worker 2 on gpu-2 is 3.0 s behind the coordinator's",
            ),
            (
                only_problem(|it| look(&mut it.coordinator).free_bytes = Some(999)),
                "coordinator on head has 999 B of free disk, fewer than 1000 B",
            ),
            (
                only_problem(|it| "e".clone_into(&mut it.workers[2].opened.as_mut().unwrap().dataset)),
                "worker 2 has another data set than worker 0",
            ),
            (
                only_problem(|it| it.edges[1].bytes_per_second = Some(12_000_000)),
                "worker 1 -> worker 2 carries 12.0 MB/s, where the median of its kind is 90.0 MB/s",
            ),
            (only_problem(|it| it.world_size = 4), "3 of 4 workers have joined"),
            (
                only_problem(|it| {
                    it.edges[0] = Edge {
                        round_trip_seconds: None,
                        bytes_per_second: None,
                        failure: Some("connection refused".to_owned()),
                        ..edge(0, 1, 0)
                    };
                }),
                "worker 0 cannot reach its ring neighbour worker 1 at gpu-1:50052: connection refused",
            ),
        ];
        for (problem, expected) in cases {
            assert_eq!(problem.problem, expected);
            assert!(!problem.advice.is_empty());
        }
    }

    #[test]
    fn a_clock_that_may_be_right_is_not_blamed() {
        let mut findings = healthy();
        let slow_answer = look(&mut findings.workers[0].seen);
        (slow_answer.clock_ahead_seconds, slow_answer.clock_error_seconds) = (2.0, 1.5);
        assert_eq!(judge(&findings, BOUNDS), Verdict::default());
    }

    #[test]
    fn fast_connections_within_a_machine_make_no_network_slow() {
        let mut findings = healthy();
        let local = Edge {
            is_local: true,
            ..edge(0, 1, 9000)
        };
        findings.edges.extend(vec![local; 6]);
        assert_eq!(judge(&findings, BOUNDS), Verdict::default());
    }

    #[test]
    fn a_worker_that_only_others_reach_is_told_from_one_that_is_gone() {
        let unreachable = |it: &mut Findings| {
            it.workers[1].seen.look = None;
            it.workers[1].seen.failure = Some("no route".to_owned());
        };
        let firewall = only_problem(unreachable);
        assert!(
            firewall.advice.contains("its ring neighbour reaches it"),
            "{firewall:?}"
        );
        let gone = only_problem(|it| {
            unreachable(it);
            it.edges.remove(0);
        });
        assert!(gone.advice.contains("check that it runs"), "{gone:?}");
    }

    #[test]
    fn workers_on_their_way_are_told_and_refused_ones_only_blamed_while_somebody_is_missing() {
        let opening = |it: &mut Findings| {
            it.workers[2].stage = Stage::Opening;
            it.workers[2].opened = None;
        };
        let problem = only_problem(opening);
        assert!(problem.problem.contains("still open their data"), "{problem:?}");

        let mut findings = healthy();
        let mut refused = worker(3);
        refused.stage = Stage::Refused;
        refused.opened = None;
        refused.seen.look = None;
        refused.refusal = Some("2 classes where the first worker has 3".to_owned());
        findings.workers.push(refused);
        let verdict = judge(&findings, BOUNDS);
        assert_eq!((verdict.problems.len(), verdict.notes.len()), (0, 1));
        findings.world_size = 4;
        let verdict = judge(&findings, BOUNDS);
        assert_eq!(verdict.problems.len(), 2, "{verdict:?}");
        assert!(verdict.problems[0].problem.contains("2 classes"), "{verdict:?}");
    }
}
