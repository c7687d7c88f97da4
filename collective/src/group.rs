//! A rank's place in the ring of one generation.
//!
//! Segments travel from every rank to its right neighbour, the next rank; the last rank's right neighbour is
//! rank 0. A group is a value: when membership changes, a new generation gets a new group.

use crate::id::Generation;

/// The generation, and this rank's place among its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    generation: Generation,
    rank: usize,
    world_size: usize,
}

impl Group {
    /// Makes the group of `rank` among `world_size` ranks.
    ///
    /// # Errors
    ///
    /// A world size outside `1..=`[`MAX_WORLD_SIZE`], or a rank that is not below it.
    pub fn new(generation: Generation, rank: usize, world_size: usize) -> Result<Self, GroupError> {
        if world_size == 0 || world_size > MAX_WORLD_SIZE {
            return Err(GroupError::WorldSizeOutOfRange { world_size });
        }
        if rank >= world_size {
            return Err(GroupError::RankOutOfRange { rank, world_size });
        }
        Ok(Self {
            generation,
            rank,
            world_size,
        })
    }

    /// The membership era in which this group's segments are valid.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// This rank's position in the ring.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// The rank that sends to this one.
    pub fn left(&self) -> usize {
        left_of(self.rank, self.world_size)
    }

    /// The rank that this one sends to.
    pub fn right(&self) -> usize {
        (self.rank + 1) % self.world_size
    }
}

/// The rank before `rank` in the ring.
pub(crate) fn left_of(rank: usize, world_size: usize) -> usize {
    (rank + world_size - 1) % world_size
}

/// The largest number of ranks in a ring. Latency grows with every hop; beyond this, a ring of rings is
/// better.
pub const MAX_WORLD_SIZE: usize = 64;

/// Why a [`Group`] cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// No ranks, or more than a ring is made for.
    #[error("the world size is {world_size}, but must be 1 to {MAX_WORLD_SIZE}")]
    WorldSizeOutOfRange {
        /// The size that was asked for.
        world_size: usize,
    },
    /// A rank that no member has.
    #[error("rank {rank} does not exist in a world of {world_size}")]
    RankOutOfRange {
        /// The rank that was asked for.
        rank: usize,
        /// The number of ranks.
        world_size: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_close_the_ring() {
        for world_size in 1..=MAX_WORLD_SIZE {
            for rank in 0..world_size {
                let group = Group::new(Generation(1), rank, world_size).unwrap();
                let right = Group::new(Generation(1), group.right(), world_size).unwrap();
                assert_eq!(right.left(), rank);
            }
        }
    }

    #[test]
    fn impossible_places_are_refused() {
        assert_eq!(
            Group::new(Generation(1), 0, 0),
            Err(GroupError::WorldSizeOutOfRange { world_size: 0 })
        );
        assert_eq!(
            Group::new(Generation(1), 0, 65),
            Err(GroupError::WorldSizeOutOfRange { world_size: 65 })
        );
        assert_eq!(
            Group::new(Generation(1), 3, 3),
            Err(GroupError::RankOutOfRange {
                rank: 3,
                world_size: 3
            })
        );
    }
}
