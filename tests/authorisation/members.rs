//! What a certificate and a role do not settle: whose id, which generation, which neighbour a message names.

use std::time::Duration;

use proto::wire::artifact_service_client::ArtifactServiceClient;
use proto::wire::coordinator_service_client::CoordinatorServiceClient;
use proto::wire::doctor_service_client::DoctorServiceClient;
use proto::wire::exchange_request::Content as Exchanged;
use proto::wire::exchange_service_client::ExchangeServiceClient;
use proto::wire::probe_service_client::ProbeServiceClient;
use proto::wire::upload_request::Content as Uploaded;
use proto::wire::watch_response::Decision;
use proto::{
    Activity, Address, Candidate, DatasetCard, Fingerprint, Finished, Generation, ModelCard, Outcome,
    RefusalKind, Report, Roster, RunId, Sender, Target, UploadHeader, WorkerId, doctor, wire,
};
use security::{Channel, Expect};
use tonic::Status;

use crate::support::{Cluster, NOW, RUN};

/// A worker's client, with the certificate of its host.
struct Member {
    channel: Channel,
    worker: WorkerId,
    run: RunId,
}

impl Member {
    async fn new(cluster: &Cluster, host: &str) -> Self {
        let security = cluster.worker(host);
        let channel = security
            .connect(&cluster.coordinator, Expect::Coordinator)
            .await
            .unwrap();
        let version = proto::VERSION.to_owned();
        let run = CoordinatorServiceClient::new(channel.clone())
            .get_run(wire::GetRunRequest {
                version,
                member: None,
            })
            .await
            .unwrap()
            .into_inner();
        Self {
            channel,
            worker: security.new_worker(),
            run: run.run_id.parse().unwrap(),
        }
    }

    /// Makes one of the calls that name a worker, in its name or in another's.
    async fn call(&self, call: &str, worker: WorkerId, generation: Generation) -> Result<(), Status> {
        let sender = Sender {
            run: self.run,
            worker,
            generation,
        };
        let mut client = CoordinatorServiceClient::new(self.channel.clone());
        match call {
            "Join" => client.join(self.join_request(worker)).await.map(drop),
            "Watch" => client.watch(self.watch_request(worker)).await.map(drop),
            "Heartbeat" => {
                let request = wire::HeartbeatRequest {
                    sender: Some(sender.into()),
                    step: 1,
                    activity: wire::Activity::from(Activity::Training).into(),
                    ..wire::HeartbeatRequest::default()
                };
                client.heartbeat(request).await.map(drop)
            }
            "Report" => {
                let report = Report::Finished(Finished {
                    outcome: Outcome::Failed,
                    epoch: 0,
                    step: 0,
                    reason: "sabotage".into(),
                });
                let request = wire::ReportRequest {
                    sender: Some(sender.into()),
                    report: Some(report.into()),
                };
                client.report(request).await.map(drop)
            }
            "Leave" => {
                let request = wire::LeaveRequest {
                    sender: Some(sender.into()),
                    reason: "sabotage".into(),
                };
                client.leave(request).await.map(drop)
            }
            "Upload" => {
                let header = UploadHeader {
                    sender,
                    size_bytes: 1,
                    blake3: Fingerprint::of(b"x"),
                    best: true,
                };
                let messages = [
                    Uploaded::Header(header.into()),
                    Uploaded::Chunk(b"x".to_vec().into()),
                ];
                let messages = messages.map(|content| wire::UploadRequest {
                    content: Some(content),
                });
                ArtifactServiceClient::new(self.channel.clone())
                    .upload(tokio_stream::iter(messages))
                    .await
                    .map(drop)
            }
            other => panic!("no such call: {other}"),
        }
    }

    fn watch_request(&self, worker: WorkerId) -> wire::WatchRequest {
        wire::WatchRequest {
            run_id: self.run.to_string(),
            worker_id: worker.to_string(),
        }
    }

    fn join_request(&self, worker: WorkerId) -> wire::JoinRequest {
        let port = 40_000 + worker.as_u128() % 20_000;
        Candidate {
            run: self.run,
            worker,
            version: proto::VERSION.to_owned(),
            host: "somewhere".to_owned(),
            address: format!("127.0.0.1:{port}").parse().unwrap(),
            device: "cpu".to_owned(),
            threads: 1,
            dataset: DatasetCard {
                fingerprint: Fingerprint::of(b"data"),
                train_images: 10,
                val_images: 2,
                class_names: vec!["cell".to_owned()],
            },
            model: ModelCard {
                layout_digest: Fingerprint::of(b"model"),
                description: "yolov8n, 1 class".to_owned(),
                arithmetic: "flex".into(),
            },
        }
        .into()
    }

    async fn roster(&self) -> Roster {
        let mut client = CoordinatorServiceClient::new(self.channel.clone());
        let mut decisions = client
            .watch(self.watch_request(self.worker))
            .await
            .unwrap()
            .into_inner();
        let next = tokio::time::timeout(Duration::from_secs(10), decisions.message());
        match next.await.unwrap().unwrap().unwrap().decision {
            Some(Decision::Roster(roster)) => roster.try_into().unwrap(),
            other => panic!("expected a roster, got {other:?}"),
        }
    }
}

fn kind(answer: &Result<(), Status>) -> Option<RefusalKind> {
    answer.as_ref().err().and_then(RefusalKind::of)
}

#[tokio::test]
async fn a_worker_speaks_only_for_itself_and_only_in_its_generation() {
    let cluster = Cluster::start().await;
    let (a, b) = (Member::new(&cluster, "a").await, Member::new(&cluster, "b").await);
    let before = Generation(0);
    // Before it has joined: nobody can take its place.
    assert_eq!(
        kind(&b.call("Join", a.worker, before).await),
        Some(RefusalKind::NotTheSender)
    );
    for member in [&a, &b] {
        member.call("Join", member.worker, before).await.unwrap();
    }
    let now = a.roster().await.generation();
    for call in ["Join", "Watch", "Heartbeat", "Report", "Leave", "Upload"] {
        let answer = b.call(call, a.worker, now).await;
        assert_eq!(
            kind(&answer),
            Some(RefusalKind::NotTheSender),
            "{call}: {answer:?}"
        );
    }
    // A heartbeat and a goodbye are of the worker, in whatever generation it is; the others would change the run.
    for call in ["Report", "Upload"] {
        for wrong in [before, Generation(now.0 + 1)] {
            let answer = a.call(call, a.worker, wrong).await;
            assert_eq!(
                kind(&answer),
                Some(RefusalKind::StaleGeneration),
                "{call}: {answer:?}"
            );
        }
    }
    // Another process of the same host has not joined.
    let sibling = cluster.worker("a").new_worker();
    let answer = a.call("Heartbeat", sibling, now).await;
    assert_eq!(kind(&answer), Some(RefusalKind::UnknownWorker));
    // Nothing of this has done harm.
    for member in [&a, &b] {
        member.call("Heartbeat", member.worker, now).await.unwrap();
    }
}

#[tokio::test]
async fn only_the_left_neighbour_of_this_generation_opens_a_segment_stream() {
    let cluster = Cluster::start().await;
    let open = async |host: &str, worker: WorkerId, run: RunId, generation: Generation| {
        let channel = cluster
            .worker(host)
            .connect(&cluster.exchange, Expect::Anyone)
            .await
            .unwrap();
        let sender = Sender {
            run,
            worker,
            generation,
        };
        let opening = wire::ExchangeRequest {
            content: Some(Exchanged::Opening(wire::ExchangeOpening {
                sender: Some(sender.into()),
            })),
        };
        let answer = ExchangeServiceClient::new(channel)
            .exchange(tokio_stream::once(opening))
            .await;
        answer.map(drop)
    };
    let other = cluster.worker("z").new_worker();
    let cases = [
        ("z", cluster.left, RUN, NOW, RefusalKind::NotTheSender),
        ("z", other, RUN, NOW, RefusalKind::UnknownWorker),
        ("a", other, RUN, NOW, RefusalKind::NotTheSender),
        (
            "a",
            cluster.left,
            RUN,
            Generation(4),
            RefusalKind::StaleGeneration,
        ),
        ("a", cluster.left, RunId::from_u128(9), NOW, RefusalKind::OtherRun),
    ];
    for (host, worker, run, generation, expected) in cases {
        let answer = open(host, worker, run, generation).await;
        assert_eq!(
            kind(&answer),
            Some(expected),
            "{host} {worker} {generation}: {answer:?}"
        );
    }
    open("a", cluster.left, RUN, NOW).await.unwrap();
}

#[tokio::test]
async fn a_probe_reaches_members_only_and_no_more_than_one_at_a_time_is_answered() {
    let cluster = Cluster::start().await;
    let member = Member::new(&cluster, "b").await;
    // The worker that serves the exchange, and one that claims another's address.
    let join = |worker: WorkerId, address: &Address| wire::JoinRequest {
        address: address.to_string(),
        ..member.join_request(worker)
    };
    let mut client = CoordinatorServiceClient::new(member.channel.clone());
    client.join(join(member.worker, &cluster.exchange)).await.unwrap();
    let impostor = Member::new(&cluster, "a").await;
    // Where the coordinator listens, there is no worker.
    let elsewhere = wire::JoinRequest {
        address: cluster.coordinator.to_string(),
        ..impostor.join_request(impostor.worker)
    };
    CoordinatorServiceClient::new(impostor.channel.clone())
        .join(elsewhere)
        .await
        .unwrap();

    let channel = cluster
        .operator()
        .connect(&cluster.exchange, Expect::Worker(member.worker))
        .await
        .unwrap();
    let probe = async |target: Target, bytes: u64| {
        let request = wire::ProbeRequest {
            target: Some(target.into()),
            bytes,
        };
        let mut client = ProbeServiceClient::new(channel.clone());
        let answer = client.probe(request).await;
        answer.map(|answer| doctor::probed(answer.into_inner()).unwrap())
    };
    let reached = probe(Target::Worker(member.worker), 1 << 20).await.unwrap();
    assert!(reached.unwrap().bytes_per_second > 0);
    assert!(probe(Target::Coordinator, 1 << 20).await.unwrap().is_ok());

    let stranger = cluster.worker("z").new_worker();
    let refused = probe(Target::Worker(stranger), 1).await.map(drop);
    assert_eq!(kind(&refused), Some(RefusalKind::UnknownWorker), "{refused:?}");
    let refused = probe(Target::Coordinator, (64 << 20) + 1).await.map(drop);
    assert_eq!(kind(&refused), Some(RefusalKind::TooLarge), "{refused:?}");
    // Who is there does not prove to be who was expected: nothing is sent.
    let other = probe(Target::Worker(impostor.worker), 1).await.unwrap();
    assert!(other.is_err(), "{other:?}");

    let both = tokio::join!(
        probe(Target::Coordinator, 64 << 20),
        probe(Target::Coordinator, 1)
    );
    let kinds = [kind(&both.0.map(drop)), kind(&both.1.map(drop))];
    assert!(kinds.contains(&Some(RefusalKind::NotNow)), "{kinds:?}");
    assert!(kinds.contains(&None), "{kinds:?}");
}

#[tokio::test]
async fn a_process_swallows_so_much_and_for_one_at_a_time() {
    let cluster = Cluster::start().await;
    let channel = cluster
        .worker("a")
        .connect(&cluster.exchange, Expect::Anyone)
        .await
        .unwrap();
    let chunk = wire::SwallowRequest {
        chunk: vec![0; 64 << 10].into(),
    };
    let chunks = |count: usize| tokio_stream::iter(vec![chunk.clone(); count]);
    // One stream that stays open.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let held = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut client = DoctorServiceClient::new(channel.clone());
    let held = client.swallow(held).await.unwrap();
    let second = DoctorServiceClient::new(channel.clone()).swallow(chunks(1)).await;
    assert_eq!(kind(&second.map(drop)), Some(RefusalKind::NotNow));
    drop(sender);
    let mut held = held.into_inner();
    assert_eq!(held.message().await.unwrap(), None);

    let mut answers = loop {
        match client.swallow(chunks(1025)).await {
            Ok(answers) => break answers.into_inner(),
            // The end of the first stream is noticed in a moment.
            Err(status) => assert_eq!(RefusalKind::of(&status), Some(RefusalKind::NotNow)),
        }
    };
    let refused = loop {
        match answers.message().await {
            Ok(Some(answer)) => assert!(answer.bytes <= 64 << 20),
            Ok(None) => panic!("more than the limit was swallowed"),
            Err(status) => break status,
        }
    };
    assert_eq!(
        RefusalKind::of(&refused),
        Some(RefusalKind::TooLarge),
        "{refused}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_who_is_expected_is_not_talked_to() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker("a");
    let neighbour = cluster.worker("b").new_worker();
    let by_name: Address = cluster
        .coordinator
        .as_str()
        .replace("127.0.0.1", "localhost")
        .parse()
        .unwrap();
    // The certificate lists 127.0.0.1 and localhost, and not this, which leads to the same place.
    let elsewhere: Address = cluster
        .coordinator
        .as_str()
        .replace("127.0.0.1", "[::ffff:127.0.0.1]")
        .parse()
        .unwrap();
    let cases = [
        (&cluster.coordinator, Expect::Coordinator, true),
        (&by_name, Expect::Coordinator, true),
        (&elsewhere, Expect::Coordinator, false),
        (&cluster.exchange, Expect::Worker(neighbour), true),
        (&cluster.coordinator, Expect::Worker(neighbour), false),
        (&cluster.exchange, Expect::Coordinator, false),
        (&cluster.exchange, Expect::Worker(cluster.left), false),
    ];
    for (address, expect, is_right) in cases {
        let connected = worker.connect(address, expect).await;
        assert_eq!(
            connected.is_ok(),
            is_right,
            "{address} as {expect}: {connected:?}"
        );
    }
}
