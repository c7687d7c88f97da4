//! What encryption costs the ring: all-reduces of a gradient between two ranks over TCP on loopback, in plain text and
//! over TLS by turns. A step also computes, so a run feels far less of it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use collective::{Generation, Group, I32Sum, PieceSizes};
use proto::{Member, RunId, Sender};
use security::authority::{Authority, Order};
use security::credentials::Credentials;
use security::{ConnectionLimits, Identity, Role, Security};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use worker::ring::Ring;
use worker::ring::links::{Broken, Inbound, RingLinks};
use worker::ring::service::Exchange;

const RUN: RunId = RunId::from_u128(1);
const NOW: Generation = Generation(1);

/// The parameters of yolov8n with 80 classes.
const VALUES: usize = 3_157_200;

/// A rank that listens.
struct Rank {
    security: Security,
    member: Member,
    exchange: Exchange,
}

async fn listening(rank: usize, security: Security) -> Rank {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let exchange = Exchange::default();
    let member = Member {
        rank,
        worker: security.new_worker(),
        host: "here".into(),
        address: listener.local_addr().unwrap().into(),
    };
    let incoming = security.incoming(listener, ConnectionLimits::WORKER);
    let server = security.server().add_service(exchange.clone().into_service());
    tokio::spawn(server.serve_with_incoming(incoming));
    Rank {
        security,
        member,
        exchange,
    }
}

fn ring(own: &Rank, other: &Rank, inbound: Inbound) -> Ring {
    let sender = Sender {
        run: RUN,
        worker: own.member.worker,
        generation: NOW,
    };
    let links = RingLinks::open(
        own.security.clone(),
        sender,
        other.member.clone(),
        inbound,
        CancellationToken::new(),
        Broken::default(),
    );
    let group = Group::new(NOW, own.member.rank, 2).unwrap();
    Ring::new(group, links, PieceSizes::default(), Arc::default())
}

/// Returns the fastest of some all-reduces.
async fn fastest(securities: [Security; 2]) -> Duration {
    let [a, b] = securities;
    let (a, b) = (listening(0, a).await, listening(1, b).await);
    let from_b = a.exchange.expect(RUN, NOW, b.member.clone(), Broken::default());
    let from_a = b.exchange.expect(RUN, NOW, a.member.clone(), Broken::default());
    let rings = [ring(&a, &b, from_b), ring(&b, &a, from_a)];
    let ranks = rings.map(|ring| {
        tokio::spawn(async move {
            let mut values = vec![1; VALUES];
            let mut fastest = Duration::MAX;
            for step in 0..8 {
                let start = Instant::now();
                ring.sum::<I32Sum>(step, &mut values).await.unwrap();
                fastest = fastest.min(start.elapsed());
            }
            assert!(values.iter().all(|&value| value == 256));
            fastest
        })
    });
    let [a, b] = ranks;
    a.await.unwrap().max(b.await.unwrap())
}

fn secured(folder: &Path, authority: &Authority, name: &str) -> Security {
    let order = Order {
        identity: Identity::new(Role::Worker, name).unwrap(),
        hosts: vec![name.to_owned()],
        from: SystemTime::now() - Duration::from_secs(60),
        lifetime: Duration::from_secs(3600),
    };
    let folder = folder.join(name);
    authority.issue(&order).unwrap().write(&folder).unwrap();
    Security::tls(Credentials::open(&folder).unwrap()).by_tcp()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encryption_leaves_most_of_the_ring_s_speed() {
    let folder = tempfile::tempdir().unwrap();
    let lifetime = Duration::from_secs(3600);
    let (authority, _) = Authority::generate("tests", SystemTime::now(), lifetime).unwrap();
    let [a, b] = ["a", "b"].map(|name| secured(folder.path(), &authority, name));
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let plain = fastest([Security::loopback().by_tcp(), Security::loopback().by_tcp()]).await;
        let tls = fastest([a.clone(), b.clone()]).await;
        println!("{} MB: plain text {plain:?}, TLS {tls:?}", VALUES * 4 / 1_000_000);
        ratios.push(plain.as_secs_f64() / tls.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "TLS has {:.2} of the speed of plain text (median of 5)",
        ratios[2]
    );
    // About 0.5 on a quiet machine; this catches a cipher without hardware, or buffers that copy too often.
    assert!(ratios[2] > 0.35, "{ratios:?}");
}
