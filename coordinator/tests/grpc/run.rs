//! Whole runs over real gRPC on loopback, driven by generated clients.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Coordinator, Pair, Worker, kind, soon};
use coordinator::membership::{Evidence, Failure, StopCause, Verdict};
use coordinator::{Progress, RunError};
use proto::{
    DatasetCard, EpochReport, Fingerprint, Finished, Generation, LinkLost, Losses, Metrics, ModelCard,
    Outcome, RefusalKind, Report, RunPhase, RunStatus, StepReport, Switch,
};
use tonic::Code;

pub(crate) fn epoch_report(epoch: u32) -> EpochReport {
    EpochReport {
        epoch,
        step: 5,
        train: Losses::default(),
        val: Losses::default(),
        metrics: Metrics::default(),
        learning_rates: [0.01; 3],
        images_per_second: 10.0,
        seconds: 1.0,
        best: true,
        hash: proto::StateHash::of_bytes(b"state"),
        redone_steps: 0,
    }
}

fn failure(ended: Result<coordinator::RunSummary, RunError>) -> Failure {
    match ended {
        Err(RunError::Failed { failure, .. }) => failure,
        other => panic!("expected a failed run, got {other:?}"),
    }
}

#[tokio::test]
async fn two_workers_join_train_and_leave_everything_in_the_run_directory() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    pair.zero.heartbeat().await.unwrap();
    pair.one.heartbeat().await.unwrap();
    let step = StepReport {
        epoch: 1,
        step: 3,
        steps: 5,
        losses: Losses::default(),
        images_per_second: 10.0,
    };
    pair.zero.report(Report::Step(step)).await.unwrap();
    pair.zero.upload(b"weights", b"weights", true).await.unwrap();
    pair.zero.report(Report::Epoch(epoch_report(1))).await.unwrap();
    pair.zero.report(Report::Epoch(epoch_report(1))).await.unwrap();
    let results = fs::read_to_string(coordinator.file("results.csv")).unwrap();
    assert_eq!(
        results.lines().count(),
        2,
        "reported twice, recorded once: {results}"
    );
    for worker in [&mut pair.zero, &mut pair.one] {
        worker.finish(Outcome::Completed).await.unwrap();
    }
    for decisions in [&mut pair.zero_decisions, &mut pair.one_decisions] {
        assert_eq!(decisions.ending().await.outcome, Outcome::Completed);
    }
    for worker in [&mut pair.zero, &mut pair.one] {
        worker.leave().await.unwrap();
    }
    let (ended, progress, _project) = coordinator.end().await;
    let summary = ended.unwrap();
    assert!(matches!(
        summary.verdict,
        Verdict::Completed {
            epoch: 1,
            step: 5,
            ..
        }
    ));
    assert!(matches!(progress[0], Progress::Created { world_size: 2, .. }));
    assert!(matches!(
        progress[1],
        Progress::Started {
            generation: Generation(1),
            ..
        }
    ));
    assert!(progress.contains(&Progress::Step(step)));
    assert!(matches!(progress.last(), Some(Progress::Ended(_))));

    let folder = summary.directory.path();
    assert_eq!(fs::read(summary.directory.last_weights()).unwrap(), b"weights");
    assert_eq!(fs::read(summary.directory.best_weights()).unwrap(), b"weights");
    let results = fs::read_to_string(folder.join("results.csv")).unwrap();
    assert_eq!(results.lines().count(), 2, "a header and one epoch: {results}");
    let events: Vec<serde_json::Value> = fs::read_to_string(folder.join("events.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["created", "joined", "joined", "generation", "epoch", "ended"]
    );
    assert!(
        events
            .iter()
            .all(|event| event["unix_milliseconds"].as_u64() > Some(1_600_000_000_000))
    );
}

#[tokio::test]
async fn a_worker_that_does_not_fit_is_told_the_difference_and_the_run_goes_on() {
    let coordinator = Coordinator::start(2).await;
    let (_first, _decisions) = Worker::join(&coordinator, 1, "a").await;
    let good = Worker::connect(&coordinator, 2, "b").await.candidate;
    let data = DatasetCard {
        fingerprint: Fingerprint::of(b"other"),
        class_names: vec!["cat".into()],
        ..good.dataset.clone()
    };
    let model = ModelCard {
        layout_digest: Fingerprint::of(b"other"),
        description: "yolov8s, 1 class".into(),
        arithmetic: "flex".into(),
    };
    let mut worker = Worker::connect(&coordinator, 2, "b").await;
    let cases = [
        (
            proto::Candidate {
                dataset: data,
                ..good.clone()
            },
            RefusalKind::DatasetDiffers,
            "class 0 is called \"cat\" where the first worker has \"cell\"",
        ),
        (
            proto::Candidate {
                model,
                ..good.clone()
            },
            RefusalKind::ModelDiffers,
            "yolov8s, 1 class where the first worker has yolov8n, 1 class",
        ),
        (
            proto::Candidate {
                version: "0.0.1".into(),
                ..good.clone()
            },
            RefusalKind::VersionDiffers,
            "this worker is version 0.0.1",
        ),
    ];
    for (candidate, refusal, words) in cases {
        worker.candidate = candidate;
        let status = worker.try_join().await.unwrap_err();
        assert_eq!(
            (status.code(), RefusalKind::of(&status)),
            (Code::FailedPrecondition, Some(refusal))
        );
        assert!(status.message().contains(words), "{}", status.message());
    }
    let version = "0.0.1".to_owned();
    let refused = worker
        .client
        .get_run(proto::wire::GetRunRequest {
            version,
            member: None,
        })
        .await
        .map(drop);
    assert_eq!(kind(&refused), Some(RefusalKind::VersionDiffers));
    worker.candidate = good;
    worker.try_join().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_comes_later_is_planned_in_at_a_step_boundary() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let (third, mut decisions) = Worker::join(&coordinator, 3, "c").await;
    assert_eq!(decisions.roster().await.generation(), Generation(1));
    let next = decisions.roster().await;
    assert_eq!((next.generation(), next.world_size()), (Generation(2), 3));
    assert_eq!(next.switch, Switch::AtStepBoundary);
    assert_eq!(pair.zero_decisions.roster().await, next);
    assert_eq!(pair.one_decisions.roster().await, next);
    // Who opens a stream late hears of both: its old ring may still be at work.
    let mut late = pair.one.watch().await.unwrap();
    assert_eq!(late.roster().await.generation(), Generation(1));
    assert_eq!(late.roster().await, next);
    let mut workers = [pair.zero, pair.one, third];
    for worker in &mut workers {
        worker.generation = Generation(2);
        worker.heartbeat().await.unwrap();
    }
    for worker in &mut workers {
        worker.finish(Outcome::Completed).await.unwrap();
    }
    assert_eq!(decisions.ending().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn what_is_about_a_stale_generation_is_aborted() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let lost = LinkLost {
        neighbour: 1,
        reason: "connection reset".into(),
    };
    for generation in [0, 2] {
        pair.zero.generation = Generation(generation);
        let refused = [
            pair.zero.report(Report::LinkLost(lost.clone())).await,
            pair.zero.finish(Outcome::Failed).await,
            pair.zero.upload(b"weights", b"weights", true).await,
        ];
        for refused in refused {
            assert_eq!(kind(&refused), Some(RefusalKind::StaleGeneration));
            assert_eq!(refused.unwrap_err().code(), Code::Aborted);
        }
    }
    // A sign of life counts, however old.
    pair.zero.generation = Generation(0);
    pair.zero.heartbeat().await.unwrap();
    let folder = coordinator.file("weights");
    assert_eq!(crate::support::names(&folder), Vec::<String>::new());
    assert_eq!(status(&mut pair.zero).await.generation, Generation(1));
}

#[tokio::test]
async fn a_worker_that_vanishes_is_lost_at_once_and_the_others_go_on() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let lost = LinkLost {
        neighbour: 1,
        reason: "connection reset".into(),
    };
    // The link report and the end of the Watch stream race each other; either may come first.
    let start = Instant::now();
    drop((pair.one, pair.one_decisions));
    pair.zero.report(Report::LinkLost(lost)).await.unwrap();
    let next = pair.zero_decisions.roster().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!((next.generation(), next.world_size()), (Generation(2), 1));
    assert_eq!(next.switch, Switch::Now);
    pair.zero.generation = next.generation();
    pair.zero.finish(Outcome::Completed).await.unwrap();
    assert_eq!(pair.zero_decisions.ending().await.outcome, Outcome::Completed);
    pair.zero.leave().await.unwrap();
    let (ended, progress, _project) = coordinator.end().await;
    assert!(matches!(ended.unwrap().verdict, Verdict::Completed { .. }));
    let named = progress.iter().find_map(|progress| match progress {
        Progress::Lost { rank, present, .. } => Some((*rank, present.host.clone())),
        _ => None,
    });
    assert_eq!(named, Some((1, "b".to_owned())));
}

#[tokio::test]
async fn a_silent_worker_loses_its_lease_and_is_unknown_when_it_wakes() {
    let lease = Duration::from_millis(1500);
    let coordinator = Coordinator::start_with(2, |config| config.timing.lease = lease).await;
    let mut pair = Pair::join(&coordinator).await;
    let beating = tokio::spawn(async move {
        while pair.zero.heartbeat().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let next = pair.zero_decisions.roster().await;
    assert_eq!((next.generation(), next.world_size()), (Generation(2), 1));
    let refused = pair.one.heartbeat().await;
    assert_eq!(kind(&refused), Some(RefusalKind::UnknownWorker));
    let finished = pair.one.finish(Outcome::Failed).await;
    assert_eq!(kind(&finished), Some(RefusalKind::UnknownWorker));
    coordinator.shutdown.abort.cancel();
    let (ended, progress, _project) = coordinator.end().await;
    assert_eq!(failure(ended), Failure::Aborted);
    assert!(progress.iter().any(|progress| matches!(
        progress,
        Progress::Lost {
            rank: 1,
            evidence: Evidence::LeaseLapsed { .. },
            ..
        }
    )));
    soon(beating).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_fails_is_quoted() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let finished = Finished {
        outcome: Outcome::Failed,
        epoch: 0,
        step: 3,
        reason: "out of memory".into(),
    };
    pair.one.report(Report::Finished(finished)).await.unwrap();
    let ending = pair.zero_decisions.ending().await;
    assert_eq!(ending.reason, "rank 1 on host b failed: out of memory");
    let refused = pair.zero.heartbeat().await;
    assert_eq!(kind(&refused), Some(RefusalKind::RunEnded));
}

#[tokio::test]
async fn a_stop_reaches_the_workers_and_the_run_ends_with_the_weights_saved() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    coordinator.shutdown.stop.cancel();
    pair.zero_decisions.stop().await;
    pair.one_decisions.stop().await;
    let mut late = pair.one.watch().await.unwrap();
    assert_eq!(late.roster().await.generation(), Generation(1));
    late.stop().await;
    pair.zero.upload(b"weights", b"weights", false).await.unwrap();
    pair.zero.finish(Outcome::Stopped).await.unwrap();
    pair.one.finish(Outcome::Stopped).await.unwrap();
    assert_eq!(pair.zero_decisions.ending().await.outcome, Outcome::Stopped);
    assert_eq!(late.ending().await.outcome, Outcome::Stopped);
    pair.zero.leave().await.unwrap();
    pair.one.leave().await.unwrap();
    let (ended, progress, _project) = coordinator.end().await;
    let summary = ended.unwrap();
    assert_eq!(
        summary.verdict,
        Verdict::Stopped {
            epoch: 1,
            step: 5,
            is_resumable: false
        }
    );
    assert!(summary.directory.last_weights().exists());
    assert!(progress.contains(&Progress::Stopping(StopCause::Asked)));
}

#[tokio::test]
async fn a_second_signal_ends_the_run_at_once() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    coordinator.shutdown.stop.cancel();
    pair.zero_decisions.stop().await;
    coordinator.shutdown.abort.cancel();
    assert_eq!(pair.zero_decisions.ending().await.outcome, Outcome::Failed);
    let (ended, ..) = coordinator.end().await;
    assert_eq!(failure(ended), Failure::Aborted);
}

#[tokio::test]
async fn a_rendezvous_says_who_is_missing_and_gives_up_in_time() {
    let coordinator = Coordinator::start_with(3, |config| {
        config.timing.reminder = Duration::from_millis(300);
        config.timing.join_timeout = Some(Duration::from_millis(800));
    })
    .await;
    let (_worker, mut decisions) = Worker::join(&coordinator, 1, "a").await;
    let ending = decisions.ending().await;
    assert!(ending.reason.contains("only 1 of 3 workers"), "{}", ending.reason);
    let (ended, progress, _project) = coordinator.end().await;
    assert!(matches!(
        failure(ended),
        Failure::NotEnoughWorkers {
            present: 1,
            needed: 3,
            ..
        }
    ));
    let waiting = progress.iter().find_map(|progress| match progress {
        Progress::Waiting { present, missing, .. } => Some((present[0].host.clone(), *missing)),
        _ => None,
    });
    assert_eq!(waiting, Some(("a".to_owned(), 2)));
}

#[tokio::test]
async fn a_worker_that_goes_away_before_the_start_frees_its_place() {
    let coordinator = Coordinator::start(2).await;
    let (gone, decisions) = Worker::join(&coordinator, 7, "z").await;
    drop((gone, decisions));
    let mut probe = Worker::connect(&coordinator, 9, "y").await;
    soon(async {
        while !status(&mut probe).await.members.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    Pair::join(&coordinator).await;
}

#[tokio::test]
async fn the_status_shows_members_steps_and_heartbeats_and_the_health_service_answers() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    pair.one.heartbeat().await.unwrap();
    pair.zero.report(Report::Epoch(epoch_report(1))).await.unwrap();
    let status = status(&mut pair.zero).await;
    assert_eq!(
        (status.phase, status.generation),
        (RunPhase::Running, Generation(1))
    );
    assert_eq!((status.members[0].step, status.members[1].step), (0, 5));
    assert_eq!(status.members[1].member.host, "b");
    assert!(status.members[1].heartbeat_age < Duration::from_secs(10));
    assert_eq!((status.last_epoch, status.ended), (Some(epoch_report(1)), None));

    let channel = security::Security::loopback()
        .connect(&coordinator.address, security::Expect::Anyone)
        .await
        .unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let service = "ringmaster.v1.CoordinatorService".to_owned();
    let answer = health
        .check(tonic_health::pb::HealthCheckRequest { service })
        .await
        .unwrap();
    assert_eq!(
        answer.into_inner().status(),
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );
}

pub(crate) async fn status(worker: &mut Worker) -> RunStatus {
    let answer = worker.client.status(proto::wire::StatusRequest {}).await.unwrap();
    answer.into_inner().try_into().unwrap()
}
