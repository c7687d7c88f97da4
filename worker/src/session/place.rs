//! A worker's place in a generation: what it accepts, where it sends, and what it hands to training.

use std::sync::Arc;

use collective::{Group, LinkError};
use proto::{Finished, Roster, Sender};
use tokio_util::sync::CancellationToken;

use super::Session;
use crate::compute::Place;
use crate::replica::Replica;
use crate::ring::Ring;
use crate::ring::links::{Broken, Inbound, RingLinks};
use crate::ring::peers::GrpcPeers;

/// The generation that training is in, or was in last.
pub(super) struct Current {
    pub(super) roster: Roster,
    pub(super) rank: usize,
    /// Ends the ring.
    pub(super) cancelled: CancellationToken,
    pub(super) broken: Broken,
    pub(super) is_training: bool,
    /// Whether the coordinator was told that a link broke.
    pub(super) is_reported: bool,
    /// How this worker's part in it ended, when it ended well.
    pub(super) finished: Option<Finished>,
    /// Held when training has left it: a rank whose links close early would look like a lost one.
    pub(super) ring: Option<Ring>,
}

/// A roster that is not in effect yet.
pub(super) struct Next {
    pub(super) roster: Roster,
    /// Absent when this worker is not a member.
    pub(super) entry: Option<Entry>,
}

/// This worker's door into a generation.
pub(super) struct Entry {
    rank: usize,
    inbound: Inbound,
    broken: Broken,
}

impl Session {
    /// Opens the door for the left neighbour of a roster.
    pub(super) fn expect(&self, roster: Roster) -> Next {
        let entry = roster.find(self.candidate.worker).map(|member| {
            let rank = member.rank;
            let broken = Broken::default();
            let left = roster.left_of(rank).clone();
            let generation = roster.generation();
            let inbound = self
                .exchange
                .expect(self.candidate.run, generation, left, broken.clone());
            Entry {
                rank,
                inbound,
                broken,
            }
        });
        Next { roster, entry }
    }

    /// Makes the links of a roster; `None` when this worker is not a member.
    pub(super) fn place(&self, next: Next) -> Option<(Current, Place)> {
        let Next { roster, entry } = next;
        let Entry {
            rank,
            inbound,
            broken,
        } = entry?;
        // Invariant: a roster is a valid group.
        let group = Group::new(roster.generation(), rank, roster.world_size()).expect("a roster is a group");
        let sender = Sender {
            run: self.candidate.run,
            worker: self.candidate.worker,
            generation: roster.generation(),
        };
        let cancelled = CancellationToken::new();
        let right = roster.right_of(rank).clone();
        let security = self.config.security.clone();
        let links = if roster.world_size() == 1 {
            RingLinks::alone(cancelled.clone())
        } else {
            RingLinks::open(
                security.clone(),
                sender,
                right,
                inbound,
                cancelled.clone(),
                broken.clone(),
            )
        };
        let coordinator = self.config.coordinator.clone();
        let replica = Replica {
            generation: roster.generation(),
            damaged: roster
                .members()
                .iter()
                .map(|member| roster.damaged.contains(&member.worker))
                .collect(),
            checkpoint_step: roster.checkpoint_step,
            peers: Arc::new(GrpcPeers::new(
                security,
                sender,
                roster.clone(),
                coordinator,
                Arc::clone(&self.pulse),
            )),
            offers: self.offers.clone(),
        };
        let current = Current {
            roster,
            rank,
            cancelled,
            broken,
            is_training: true,
            is_reported: false,
            finished: None,
            ring: None,
        };
        let place = Place {
            group,
            links,
            replica,
        };
        Some((current, place))
    }
}

/// Waits until a link of the current generation has failed and the coordinator was not told.
pub(super) async fn broken(current: Option<&Current>) -> LinkError {
    match current {
        Some(current) if !current.is_reported && current.is_training => current.broken.wait().await,
        _ => std::future::pending().await,
    }
}
