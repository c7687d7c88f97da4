//! The members of one generation in ring order.

use std::collections::BTreeSet;

use collective::Generation;
pub use collective::MAX_WORLD_SIZE;
use thiserror::Error;

use crate::identity::{Address, WorkerId};
use crate::parse::{ParseError, known, text};
use crate::wire;

/// A generation's members: ranks 0 to n - 1 in this order, rank r sends to rank r + 1, the last to rank 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    generation: Generation,
    members: Vec<Member>,
    /// When the generation before goes over to this one.
    pub switch: Switch,
    /// Steps of the newest committed checkpoint; a generation never begins behind it.
    pub checkpoint_step: Option<u64>,
    /// Workers whose state is damaged: they copy it from another member.
    pub damaged: Vec<WorkerId>,
}

/// When members go over to a new generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// At once; a step in progress is given up and computed again.
    Now,
    /// After the first step in which every member of the old generation holds the roster.
    AtStepBoundary,
}

/// One worker of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Position in the ring.
    pub rank: usize,
    /// The worker process.
    pub worker: WorkerId,
    /// Name of its machine.
    pub host: String,
    /// Where its neighbours reach it.
    pub address: Address,
}

/// Why a list of members is not a ring.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RosterError {
    /// Too few or too many.
    #[error("a roster has 1 to {MAX_WORLD_SIZE} members, not {members}")]
    Size {
        /// How many there are.
        members: usize,
    },
    /// Generation 0 is the time before the first roster.
    #[error("generation 0 has no roster")]
    NoGeneration,
    /// The ranks have a gap or are not sorted.
    #[error("the member at position {position} of the roster has rank {rank}")]
    Rank {
        /// Position in the list.
        position: usize,
        /// Its rank.
        rank: usize,
    },
    /// A worker is counted twice.
    #[error("worker {worker} is in the roster twice")]
    Twice {
        /// The worker.
        worker: WorkerId,
    },
}

impl Roster {
    /// Checks and makes a roster from members sorted by rank.
    ///
    /// # Errors
    /// When the ranks are not 0 to n - 1 in order, a worker appears twice, or there are none or too many.
    pub fn new(generation: Generation, members: Vec<Member>) -> Result<Self, RosterError> {
        if generation.0 == 0 {
            return Err(RosterError::NoGeneration);
        }
        if members.is_empty() || members.len() > MAX_WORLD_SIZE {
            return Err(RosterError::Size {
                members: members.len(),
            });
        }
        let mut seen = BTreeSet::new();
        for (position, member) in members.iter().enumerate() {
            if member.rank != position {
                return Err(RosterError::Rank {
                    position,
                    rank: member.rank,
                });
            }
            if !seen.insert(member.worker) {
                return Err(RosterError::Twice {
                    worker: member.worker,
                });
            }
        }
        Ok(Self {
            generation,
            members,
            switch: Switch::Now,
            checkpoint_step: None,
            damaged: Vec::new(),
        })
    }

    /// The membership era.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// All members by rank.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How many members there are.
    pub fn world_size(&self) -> usize {
        self.members.len()
    }

    /// The member that is this worker, or `None` when it is not in this generation.
    pub fn find(&self, worker: WorkerId) -> Option<&Member> {
        self.members.iter().find(|member| member.worker == worker)
    }

    /// The neighbour that this rank sends to.
    ///
    /// # Panics
    /// When there is no such rank.
    pub fn right_of(&self, rank: usize) -> &Member {
        assert!(rank < self.members.len(), "rank {rank} is not in the roster");
        &self.members[(rank + 1) % self.members.len()]
    }

    /// The neighbour that this rank receives from.
    ///
    /// # Panics
    /// When there is no such rank.
    pub fn left_of(&self, rank: usize) -> &Member {
        assert!(rank < self.members.len(), "rank {rank} is not in the roster");
        &self.members[(rank + self.members.len() - 1) % self.members.len()]
    }
}

impl TryFrom<wire::Member> for Member {
    type Error = ParseError;

    fn try_from(member: wire::Member) -> Result<Self, ParseError> {
        Ok(Self {
            rank: member.rank as usize,
            worker: member.worker_id.parse()?,
            host: text("host", member.host)?,
            address: member.address.parse()?,
        })
    }
}

impl From<Member> for wire::Member {
    fn from(member: Member) -> Self {
        Self {
            rank: member.rank as u32,
            worker_id: member.worker.to_string(),
            host: member.host,
            address: member.address.to_string(),
        }
    }
}

impl TryFrom<wire::Roster> for Roster {
    type Error = ParseError;

    fn try_from(roster: wire::Roster) -> Result<Self, ParseError> {
        let members = roster
            .members
            .into_iter()
            .map(Member::try_from)
            .collect::<Result<Vec<_>, _>>()?;
        let damaged = roster.damaged_worker_ids.iter().map(|id| id.parse());
        Ok(Self {
            switch: known("switch", roster.switch, |switch| match switch {
                wire::Switch::Unspecified => None,
                wire::Switch::Now => Some(Switch::Now),
                wire::Switch::AtStepBoundary => Some(Switch::AtStepBoundary),
            })?,
            checkpoint_step: roster.checkpoint_step,
            damaged: damaged.collect::<Result<_, _>>()?,
            ..Self::new(Generation(roster.generation), members)?
        })
    }
}

impl From<Roster> for wire::Roster {
    fn from(roster: Roster) -> Self {
        Self {
            generation: roster.generation.0,
            members: roster.members.into_iter().map(Into::into).collect(),
            switch: match roster.switch {
                Switch::Now => wire::Switch::Now,
                Switch::AtStepBoundary => wire::Switch::AtStepBoundary,
            }
            .into(),
            checkpoint_step: roster.checkpoint_step,
            damaged_worker_ids: roster.damaged.iter().map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: usize) -> Vec<Member> {
        (0..count)
            .map(|rank| Member {
                rank,
                worker: WorkerId::from_u128(rank as u128 + 1),
                host: format!("node-{rank}"),
                address: format!("node-{rank}:50052").parse().unwrap(),
            })
            .collect()
    }

    #[test]
    fn neighbours_close_the_ring() {
        let roster = Roster::new(Generation(1), members(3)).unwrap();
        assert_eq!(roster.right_of(2).rank, 0);
        assert_eq!(roster.left_of(0).rank, 2);
        let alone = Roster::new(Generation(1), members(1)).unwrap();
        assert_eq!(alone.right_of(0).rank, 0);
    }

    #[test]
    fn a_list_that_is_no_ring_is_refused() {
        assert_eq!(
            Roster::new(Generation(0), members(1)),
            Err(RosterError::NoGeneration)
        );
        assert_eq!(
            Roster::new(Generation(1), vec![]),
            Err(RosterError::Size { members: 0 })
        );
        assert_eq!(
            Roster::new(Generation(1), members(65)),
            Err(RosterError::Size { members: 65 })
        );
        let mut gap = members(2);
        gap[1].rank = 2;
        assert_eq!(
            Roster::new(Generation(1), gap),
            Err(RosterError::Rank { position: 1, rank: 2 })
        );
        let mut twice = members(2);
        twice[1].worker = twice[0].worker;
        assert!(matches!(
            Roster::new(Generation(1), twice),
            Err(RosterError::Twice { .. })
        ));
    }

    #[test]
    fn a_roster_survives_the_wire() {
        let roster = Roster {
            switch: Switch::AtStepBoundary,
            checkpoint_step: Some(0),
            damaged: vec![WorkerId::from_u128(2)],
            ..Roster::new(Generation(4), members(5)).unwrap()
        };
        assert_eq!(Roster::try_from(wire::Roster::from(roster.clone())), Ok(roster));
    }
}
