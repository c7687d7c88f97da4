//! A broken link wakes whoever waits on the other one.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::TcpListener;
use std::time::Duration;

use collective::{Generation, LinkError, Neighbour};
use proto::{Member, RunId, Sender, WorkerId};
use security::Security;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use worker::ring::links::{Broken, RingLinks};

fn own() -> Sender {
    Sender {
        run: RunId::from_u128(1),
        worker: WorkerId::from_u128(2),
        generation: Generation(1),
    }
}

fn right(address: proto::Address) -> Member {
    Member {
        rank: 1,
        worker: WorkerId::from_u128(3),
        host: "right".into(),
        address,
    }
}

/// Returns an address at which nobody listens.
fn nobody() -> proto::Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().into()
}

#[tokio::test]
async fn a_rank_that_only_waits_for_its_left_hears_that_its_right_is_gone() {
    let (_left_is_silent, from_left) = mpsc::channel(1);
    let mut links = RingLinks::open(
        Security::loopback(),
        own(),
        right(nobody()),
        from_left,
        CancellationToken::new(),
        Broken::default(),
    );
    let received = timeout(Duration::from_secs(10), links.receive()).await;
    let error = received.expect("no hang").unwrap_err();
    assert!(
        matches!(
            error,
            LinkError::Refused {
                neighbour: Neighbour::Right,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_cancelled_generation_wakes_a_rank_that_waits() {
    let (_left_is_silent, from_left) = mpsc::channel(1);
    let cancelled = CancellationToken::new();
    // Somebody who accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().into();
    let mut links = RingLinks::open(
        Security::loopback(),
        own(),
        right(address),
        from_left,
        cancelled.clone(),
        Broken::default(),
    );
    let waiting = tokio::spawn(async move { links.receive().await });
    cancelled.cancel();
    let error = timeout(Duration::from_secs(10), waiting)
        .await
        .expect("no hang")
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            error,
            LinkError::Closed {
                neighbour: Neighbour::Left
            }
        ),
        "{error}"
    );
}
