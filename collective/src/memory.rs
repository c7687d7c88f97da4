//! Links between threads of one process, as bounded queues: for tests, and to use a ring without a network.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::links::{LinkError, Links, Neighbour};
use crate::schedule::LINK_CAPACITY;
use crate::segment::Segment;

/// One rank's ends of two in-memory links. Dropping it closes both.
#[derive(Debug)]
pub struct MemoryLinks {
    to_right: Arc<Queue>,
    from_left: Arc<Queue>,
    patience: Duration,
}

/// The links of `world_size` ranks, in rank order, with the recommended capacity and a patience of 30
/// seconds.
pub fn memory_ring(world_size: usize) -> Vec<MemoryLinks> {
    memory_ring_with(world_size, LINK_CAPACITY, DEFAULT_PATIENCE)
}

/// The links of `world_size` ranks, in rank order. Each link holds `capacity` segments; a call that waits
/// longer than `patience` fails.
pub fn memory_ring_with(world_size: usize, capacity: usize, patience: Duration) -> Vec<MemoryLinks> {
    let queues: Vec<_> = (0..world_size).map(|_| Arc::new(Queue::new(capacity))).collect();
    (0..world_size)
        .map(|rank| MemoryLinks {
            to_right: Arc::clone(&queues[rank]),
            from_left: Arc::clone(&queues[(rank + world_size - 1) % world_size]),
            patience,
        })
        .collect()
}

impl Links for MemoryLinks {
    fn send(&mut self, segment: Segment) -> Result<(), LinkError> {
        let neighbour = Neighbour::Right;
        let queue = &self.to_right;
        let mut content = queue.wait_while(neighbour, self.patience, |content| {
            content.segments.len() >= queue.capacity && !content.is_closed
        })?;
        if content.is_closed {
            return Err(LinkError::Closed { neighbour });
        }
        content.segments.push_back(segment);
        queue.changed.notify_all();
        Ok(())
    }

    fn receive(&mut self) -> Result<Segment, LinkError> {
        let neighbour = Neighbour::Left;
        let queue = &self.from_left;
        let mut content = queue.wait_while(neighbour, self.patience, |content| {
            content.segments.is_empty() && !content.is_closed
        })?;
        let segment = content.segments.pop_front();
        queue.changed.notify_all();
        segment.ok_or(LinkError::Closed { neighbour })
    }
}

impl Drop for MemoryLinks {
    fn drop(&mut self) {
        self.to_right.close();
        self.from_left.close();
    }
}

/// A first-in, first-out queue of at most `capacity` segments. What was sent before it closed can still be
/// received.
#[derive(Debug)]
struct Queue {
    content: Mutex<Content>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Content {
    segments: VecDeque<Segment>,
    is_closed: bool,
}

impl Queue {
    fn new(capacity: usize) -> Self {
        Self {
            content: Mutex::default(),
            changed: Condvar::new(),
            capacity,
        }
    }

    fn wait_while(
        &self,
        neighbour: Neighbour,
        patience: Duration,
        condition: impl Fn(&Content) -> bool,
    ) -> Result<MutexGuard<'_, Content>, LinkError> {
        let (content, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |content| condition(content))
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(LinkError::TimedOut {
                neighbour,
                waited: patience,
            });
        }
        Ok(content)
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// No code panics while it holds the lock, so a poisoned one is still in order.
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longer than any hop between threads takes, shorter than the patience of who waits for a test.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{Generation, Phase, SegmentId};

    fn segment(number: u32) -> Segment {
        let id = SegmentId {
            generation: Generation(1),
            step: 0,
            operation: 0,
            bucket: 0,
            phase: Phase::Gather,
            hop: 0,
            segment: number,
        };
        Segment::new(id, Bytes::new())
    }

    #[test]
    fn segments_arrive_in_order_at_the_right_neighbour() {
        let mut ranks = memory_ring(3);
        for number in 0..3 {
            ranks[1].send(segment(number)).unwrap();
        }
        for number in 0..3 {
            assert_eq!(ranks[2].receive(), Ok(segment(number)));
        }
    }

    #[test]
    fn a_full_or_empty_link_fails_after_the_patience_and_names_the_neighbour() {
        let waited = Duration::from_millis(5);
        let mut ranks = memory_ring_with(2, 1, waited);
        let timed_out = |neighbour| LinkError::TimedOut { neighbour, waited };
        assert_eq!(ranks[0].receive(), Err(timed_out(Neighbour::Left)));
        ranks[0].send(segment(0)).unwrap();
        assert_eq!(ranks[0].send(segment(1)), Err(timed_out(Neighbour::Right)));
    }

    #[test]
    fn a_dropped_rank_closes_its_links_but_what_it_sent_still_arrives() {
        let mut ranks = memory_ring(3);
        ranks[1].send(segment(0)).unwrap();
        ranks.remove(1);
        let [left, right] = &mut ranks[..] else {
            unreachable!()
        };
        assert_eq!(right.receive(), Ok(segment(0)));
        assert_eq!(
            right.receive(),
            Err(LinkError::Closed {
                neighbour: Neighbour::Left
            })
        );
        assert_eq!(
            left.send(segment(1)),
            Err(LinkError::Closed {
                neighbour: Neighbour::Right
            })
        );
    }
}
