//! A ring without threads: operations, bounded queues between them, and a choice of who moves next.
//!
//! Each rank moves as [`collective::drive`] does: it sends while it has something ready, stands still while
//! the queue to its right is full, and receives only when nothing is ready to be sent.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::VecDeque;

use collective::{Generation, Group, RingOperation, Segment};

/// The ring of operations under test, and what is on its links.
pub(crate) struct Simulation<'a, O> {
    ranks: &'a mut [O],
    /// What a rank could not yet put on its full link.
    held: Vec<Option<Segment>>,
    /// The link from each rank to its right neighbour.
    links: Vec<VecDeque<Segment>>,
    capacity: usize,
    /// The payload bytes that each rank sent.
    pub(crate) sent_bytes: Vec<usize>,
}

impl<'a, O: RingOperation> Simulation<'a, O> {
    pub(crate) fn new(ranks: &'a mut [O], capacity: usize) -> Self {
        let world_size = ranks.len();
        Self {
            ranks,
            held: vec![None; world_size],
            links: vec![VecDeque::new(); world_size],
            capacity,
            sent_bytes: vec![0; world_size],
        }
    }

    /// Lets ranks move until none can, one move of the rank that `choose` picks among `world_size` at a time.
    /// Says whether all are done.
    pub(crate) fn run(&mut self, mut choose: impl FnMut(usize) -> usize) -> bool {
        let world_size = self.ranks.len();
        loop {
            let first = choose(world_size) % world_size;
            let moved = (0..world_size).any(|offset| self.move_rank((first + offset) % world_size));
            if !moved {
                return self.ranks.iter().all(RingOperation::is_done);
            }
        }
    }

    fn move_rank(&mut self, rank: usize) -> bool {
        if let Some(segment) = self.held[rank].take().or_else(|| self.ranks[rank].next_send()) {
            if self.links[rank].len() == self.capacity {
                self.held[rank] = Some(segment);
                return false;
            }
            self.sent_bytes[rank] += segment.payload().len();
            self.links[rank].push_back(segment);
            return true;
        }
        let left = (rank + self.ranks.len() - 1) % self.ranks.len();
        if self.ranks[rank].is_done() {
            return false;
        }
        let Some(segment) = self.links[left].pop_front() else {
            return false;
        };
        self.ranks[rank].on_segment(segment).unwrap();
        true
    }
}

/// Picks the rank that moves next, given the world size.
pub(crate) type Choose = Box<dyn FnMut(usize) -> usize>;

/// Ways to choose who moves next, with their names.
pub(crate) fn interleavings() -> [(&'static str, Choose); 4] {
    let mut turn = 0;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    [
        (
            "round robin",
            Box::new(move |_| {
                turn += 1;
                turn
            }),
        ),
        ("lowest rank first", Box::new(|_| 0)),
        ("highest rank first", Box::new(|world_size| world_size - 1)),
        (
            "pseudo-random",
            Box::new(move |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize
            }),
        ),
    ]
}

/// The groups of all ranks.
pub(crate) fn groups(world_size: usize) -> Vec<Group> {
    (0..world_size)
        .map(|rank| Group::new(Generation(7), rank, world_size).unwrap())
        .collect()
}

/// Values that cancel: magnitudes from 1e-8 to 1e8 of both signs, so that the order of additions changes the
/// sum.
pub(crate) fn cancelling(rank: usize, len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| {
            let mix = (i * 31 + rank * 17) % 97;
            let sign = if (i + rank).is_multiple_of(2) { 1.0 } else { -1.0 };
            sign * (1.0 + mix as f32 / 97.0) * 10f32.powi((mix % 17) as i32 - 8)
        })
        .collect()
}

/// Integers over the whole range, so that sums wrap around.
pub(crate) fn integers(rank: usize, len: usize) -> Vec<i32> {
    (0..len)
        .map(|i| {
            ((i as i32) + 1)
                .wrapping_mul(0x6b43_a9b5)
                .wrapping_mul(rank as i32 * 2 + 1)
        })
        .collect()
}

/// The wrapping sum of all ranks' [`integers`].
pub(crate) fn integer_sum(world_size: usize, len: usize) -> Vec<i32> {
    (0..world_size).fold(vec![0; len], |sum, rank| {
        sum.iter()
            .zip(integers(rank, len))
            .map(|(sum, value)| sum.wrapping_add(value))
            .collect()
    })
}

/// A blob of `len` bytes that differs from rank to rank.
pub(crate) fn blob(rank: usize, len: usize) -> bytes::Bytes {
    (0..len).map(|i| (i * 7 + rank * 13 + 1) as u8).collect()
}
