//! A worker's place in a generation: when it goes over to one, what it accepts there, where it sends, and what it hands to training.

use std::sync::Arc;

use collective::{Generation, Group, LinkError};
use proto::{Finished, Roster, Sender, Switch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Part, Session, SessionError};
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
    broken: Broken,
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
    roster: Roster,
    /// Absent when this worker is not a member.
    entry: Option<Entry>,
}

/// This worker's door into a generation.
struct Entry {
    rank: usize,
    inbound: Inbound,
    broken: Broken,
}

impl Session {
    pub(super) async fn on_roster(&mut self, roster: Roster) -> Result<Option<Part>, SessionError> {
        let generation = roster.generation();
        // A roster that was planned is one to go over to at once when the coordinator that planned it is gone.
        let is_planned = |next: &Next| next.roster.generation() == generation;
        let is_hurried = roster.switch == Switch::Now && self.next.as_ref().is_some_and(is_planned);
        let known = self.next.as_ref().map(|next| next.roster.generation());
        if generation <= known.unwrap_or_else(|| self.generation()) && !is_hurried {
            return Ok(None);
        }
        let next = match self.next.take() {
            // The same members in the same order: the left neighbour may have come already.
            Some(Next { entry, .. }) if is_hurried => Next { roster, entry },
            _ => self.expect(roster),
        };
        let is_training = self.current.as_ref().is_some_and(|current| current.is_training);
        // Ranks agree to go over to the generation that follows theirs; when that was missed, the others have gone over.
        let follows = generation.0 == self.generation().0 + 1;
        if next.roster.switch == Switch::AtStepBoundary && is_training && follows {
            info!(%generation, "a new generation takes effect at the next step boundary");
            self.signals.prepare_generation(generation.0);
            self.next = Some(next);
            return Ok(None);
        }
        self.enter(next).await
    }

    /// Goes over to a generation; a step that is in progress is given up. The part ends when the generation goes on
    /// without a worker that wanted to leave.
    pub(super) async fn enter(&mut self, next: Next) -> Result<Option<Part>, SessionError> {
        self.next = None;
        self.tellings.abort_all();
        self.finishing = None;
        if let Some(current) = &self.current
            && current.is_training
        {
            current.cancelled.cancel();
        }
        if next.entry.is_none() && self.is_draining {
            return Ok(Some(self.handed_over().await));
        }
        let Some((current, place)) = self.place(next) else {
            // The generation goes on without this worker; it is told so by its next heartbeat, or by a newer roster.
            self.current = None;
            return Ok(None);
        };
        let generation = current.roster.generation();
        self.exchange.forget_before(generation);
        self.pulse.enter(generation);
        self.outbox.set_reporter(current.rank == 0);
        info!(rank = current.rank, world_size = current.roster.world_size(), %generation, "training begins");
        let is_alone = current.roster.world_size() == 1;
        self.current = Some(current);
        if self.is_draining {
            if is_alone {
                self.signals.stop();
            } else {
                self.ask_to_go();
            }
        }
        self.places.send_modify(|places| *places += 1);
        if self.ports.places.send(place).await.is_err() {
            return Err(SessionError::Compute(anyhow::anyhow!("the compute thread ended")));
        }
        Ok(None)
    }

    /// Gives up the current generation: the others go on without this worker. The state is kept.
    pub(super) fn abandon(&mut self) {
        if let Some(current) = self.current.take() {
            warn!(generation = %current.roster.generation(), "the generation goes on without this worker");
            current.cancelled.cancel();
        }
        self.next = None;
        self.tellings.abort_all();
        self.finishing = None;
        self.outbox.set_reporter(false);
        self.pulse.enter(Generation(0));
    }

    /// Opens the door for the left neighbour of a roster.
    fn expect(&self, roster: Roster) -> Next {
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
    fn place(&self, next: Next) -> Option<(Current, Place)> {
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
            members: roster.members().iter().map(|member| member.worker).collect(),
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
