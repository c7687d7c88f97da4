//! How many bytes an all-reduce puts on the wire: hardly more than the algorithm must move.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use collective::{Bf16Sum, F32Sum, Generation, Group, I32Sum, PieceSizes, Reduction};
use futures_util::future::join_all;
use proto::{Address, Member, RunId, Sender};
use security::{ConnectionLimits, Security};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use worker::ring::Ring;
use worker::ring::links::{Broken, RingLinks};
use worker::ring::service::Exchange;

const RUN: RunId = RunId::from_u128(1);
const NOW: Generation = Generation(1);

/// The parameters of yolov8n with 80 classes.
const VALUES: usize = 3_157_200;

const SUMS: u64 = 3;

/// Passes connections on to an address and counts all bytes, in both directions. Its own address has no Unix socket, so
/// nothing goes past it.
async fn counting(behind: Address, counted: Arc<AtomicU64>) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().into();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(behind.to_string()).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(pass_on(from_client, to_server, Arc::clone(&counted)));
            tokio::spawn(pass_on(from_server, to_client, Arc::clone(&counted)));
        }
    });
    address
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counted: Arc<AtomicU64>) {
    let mut buffer = vec![0; 1 << 18];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        counted.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Sums vectors of `one`s a few times, and returns the bytes on all wires for each of these sums.
async fn bytes_of_a_sum<R: Reduction<Element: Sync>>(world_size: usize, one: R::Element) -> f64 {
    let counted = Arc::new(AtomicU64::new(0));
    let mut ranks = Vec::new();
    for rank in 0..world_size {
        let security = Security::loopback();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = Address::from(listener.local_addr().unwrap());
        let exchange = Exchange::default();
        let incoming = security.incoming(listener, ConnectionLimits::WORKER);
        let server = security.server().add_service(exchange.clone().into_service());
        tokio::spawn(server.serve_with_incoming(incoming));
        let member = Member {
            rank,
            worker: security.new_worker(),
            host: "here".into(),
            address: counting(own, Arc::clone(&counted)).await,
        };
        ranks.push((security, member, exchange));
    }
    let members: Vec<_> = ranks.iter().map(|(_, member, _)| member.clone()).collect();
    let sums = ranks.into_iter().map(|(security, own, exchange)| {
        let group = Group::new(NOW, own.rank, world_size).unwrap();
        let inbound = exchange.expect(RUN, NOW, members[group.left()].clone(), Broken::default());
        let sender = Sender {
            run: RUN,
            worker: own.worker,
            generation: NOW,
        };
        let right = members[group.right()].clone();
        let links = RingLinks::open(
            security,
            sender,
            right,
            inbound,
            CancellationToken::new(),
            Broken::default(),
        );
        let ring = Ring::new(group, links, PieceSizes::default(), Arc::default());
        async move {
            for step in 0..SUMS {
                let mut values = vec![one; VALUES];
                ring.sum::<R>(step, &mut values).await.unwrap();
            }
            ring
        }
    });
    // Rings are dropped together: one that ends does not break its neighbours'.
    drop(join_all(sums).await);
    counted.load(Ordering::Relaxed) as f64 / SUMS as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_all_reduce_moves_hardly_more_than_it_must() {
    for world_size in [2, 3, 4] {
        for (kind, width, moved) in [
            ("exact", 4, bytes_of_a_sum::<I32Sum>(world_size, 1).await),
            ("f32", 4, bytes_of_a_sum::<F32Sum>(world_size, 1.0).await),
            ("bf16", 2, bytes_of_a_sum::<Bf16Sum>(world_size, 1.0).await),
        ] {
            // Each value crosses each link but one twice, as a partial sum and as a sum.
            let must = 2 * (world_size - 1) * VALUES * width;
            let ratio = moved / must as f64;
            println!("{world_size} ranks, {kind}: {ratio:.5} of what must be moved");
            assert!(
                (1.0..=1.005).contains(&ratio),
                "{world_size} ranks, {kind}: {ratio}"
            );
        }
    }
}
