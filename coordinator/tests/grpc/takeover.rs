//! A coordinator that is killed and started again, over real gRPC.

use std::fs;
use std::time::Duration;

use crate::checkpoint::{get, image, put};
use crate::run::{epoch_report, status};
use crate::support::{Coordinator, Decisions, Pair, Worker, soon};
use proto::{Generation, Outcome, Report, RunPhase};

/// Joins again until the coordinator is back, and opens a Watch stream.
async fn attach(worker: &mut Worker) -> Decisions {
    soon(async {
        while worker.try_join().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    worker.watch().await.unwrap()
}

#[tokio::test]
async fn an_epoch_is_acknowledged_when_its_row_is_in_the_file_and_not_before() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    for epoch in 1..=20 {
        assert_eq!(pair.one.heartbeat().await.unwrap(), epoch - 1);
        pair.zero
            .report(Report::Epoch(epoch_report(epoch)))
            .await
            .unwrap();
        let results = fs::read_to_string(coordinator.file("results.csv")).unwrap();
        assert_eq!(results.lines().count(), 1 + epoch as usize);
    }
}

#[tokio::test]
async fn a_killed_coordinator_comes_back_with_the_same_run_and_nothing_happens_to_its_workers() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    pair.zero.report(Report::Epoch(epoch_report(1))).await.unwrap();
    let image = image(1000);
    put(&mut pair.zero, 0, 5, &image).await.unwrap();
    put(&mut pair.one, 1, 5, &image).await.unwrap();
    let coordinator = coordinator.restart().await;

    let mut zero_decisions = attach(&mut pair.zero).await;
    let mut one_decisions = attach(&mut pair.one).await;
    for decisions in [&mut zero_decisions, &mut one_decisions] {
        let roster = decisions.roster().await;
        assert_eq!((roster.generation(), roster.world_size()), (Generation(1), 2));
        assert_eq!(roster.checkpoint_step, Some(5));
    }
    assert_eq!(pair.zero.heartbeat().await.unwrap(), 1);
    assert_eq!(pair.one.heartbeat().await.unwrap(), 1);
    let status = status(&mut pair.zero).await;
    assert_eq!(
        (status.phase, status.losses, status.checkpoint_step),
        (RunPhase::Running, 0, Some(5))
    );
    assert_eq!(get(&mut pair.one, 0, u64::MAX).await.unwrap().1, image);
    // Rank 0 cannot know whether the first report arrived.
    for epoch in [1, 2] {
        pair.zero
            .report(Report::Epoch(epoch_report(epoch)))
            .await
            .unwrap();
    }
    let results = fs::read_to_string(coordinator.file("results.csv")).unwrap();
    assert_eq!(results.lines().count(), 3, "{results}");
    pair.zero.finish(Outcome::Completed).await.unwrap();
    pair.one.finish(Outcome::Completed).await.unwrap();
    assert_eq!(zero_decisions.ending().await.outcome, Outcome::Completed);
    assert_eq!(one_decisions.ending().await.outcome, Outcome::Completed);
    for worker in [&mut pair.zero, &mut pair.one] {
        worker.leave().await.unwrap();
    }
    let (ended, ..) = coordinator.end().await;
    ended.unwrap();
}

#[tokio::test]
async fn who_does_not_come_back_to_a_coordinator_is_lost_and_numbers_go_on() {
    let coordinator = Coordinator::start_with(2, |config| {
        config.timing.lease = Duration::from_millis(900);
        config.timing.recovery_grace = Duration::from_millis(600);
    })
    .await;
    let mut pair = Pair::join(&coordinator).await;
    let coordinator = coordinator.restart().await;
    drop((pair.one, pair.one_decisions));
    let mut decisions = attach(&mut pair.zero).await;
    assert_eq!(decisions.roster().await.generation(), Generation(1));
    let beating = tokio::spawn(async move {
        while pair.zero.heartbeat().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let next = decisions.roster().await;
    assert_eq!((next.generation(), next.world_size()), (Generation(2), 1));
    let coordinator = coordinator.restart().await;
    beating.abort();
    coordinator.shutdown.abort.cancel();
    let events = fs::read_to_string(coordinator.file("events.jsonl")).unwrap();
    assert!(events.contains("\"event\":\"lost\""), "{events}");
    coordinator.end().await.0.unwrap_err();
}

#[tokio::test]
async fn two_coordinators_never_serve_one_run() {
    let coordinator = Coordinator::start(2).await;
    let mut pair = Pair::join(&coordinator).await;
    let refused = coordinator.rival().await.to_string();
    assert!(refused.contains("journal"), "{refused}");
    assert!(!refused.contains('\n'), "{refused}");
    pair.zero.heartbeat().await.unwrap();
}
