//! Workers on their way in: those that open their data, and those that were refused.
//!
//! For people only: nothing is decided by it, so it is no part of the membership, and it is forgotten with this process.
//! It holds a bounded number of workers, each for a bounded time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::{Attendance, MAX_WORLD_SIZE, Member, Stage, WorkerId};

/// Workers that have asked for the run and have not joined.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    list: Mutex<Vec<Arrival>>,
}

#[derive(Debug)]
struct Arrival {
    member: Member,
    /// Why it was refused, if it was.
    refused: Option<String>,
    at: Instant,
}

impl Arrivals {
    /// A worker has asked for the run; it will open its data now.
    pub(crate) fn came(&self, now: Instant, member: Member) {
        self.put(now, member, None);
    }

    /// A worker was refused.
    pub(crate) fn refused(&self, now: Instant, member: Member, reason: String) {
        self.put(now, member, Some(reason));
    }

    /// A worker has joined: the membership knows it from now on.
    pub(crate) fn joined(&self, worker: WorkerId) {
        self.lock().retain(|arrival| arrival.member.worker != worker);
    }

    /// All of them, in the order of coming.
    pub(crate) fn list(&self, now: Instant) -> Vec<Attendance> {
        let mut list = self.lock();
        list.retain(|arrival| now.saturating_duration_since(arrival.at) < KEPT_FOR);
        let attendance = |arrival: &Arrival| Attendance {
            member: arrival.member.clone(),
            stage: arrival.refused.clone().map_or(Stage::Opening, Stage::Refused),
            age: now.saturating_duration_since(arrival.at),
        };
        list.iter().map(attendance).collect()
    }

    fn put(&self, now: Instant, member: Member, refused: Option<String>) {
        let mut list = self.lock();
        // Who listens at an address now has taken the place of whoever did before.
        list.retain(|known| known.member.worker != member.worker && known.member.address != member.address);
        if list.len() >= MAX_WORLD_SIZE {
            list.remove(0);
        }
        list.push(Arrival {
            member,
            refused,
            at: now,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        // Each change is one call on the list: it is whole also after a panic.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longer than it takes to open a large data set, and to look why a worker did not come.
const KEPT_FOR: Duration = Duration::from_secs(1800);

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u128, port: u16) -> Member {
        Member {
            rank: 0,
            worker: WorkerId::from_u128(number),
            host: "host".into(),
            address: format!("host:{port}").parse().unwrap(),
        }
    }

    fn stages(arrivals: &Arrivals, now: Instant) -> Vec<Stage> {
        let list = arrivals.list(now).into_iter();
        list.map(|arrival| arrival.stage).collect()
    }

    #[test]
    fn a_worker_is_on_its_way_until_it_joins_or_is_refused() {
        let (arrivals, now) = (Arrivals::default(), Instant::now());
        arrivals.came(now, member(1, 1));
        arrivals.came(now, member(2, 2));
        arrivals.joined(WorkerId::from_u128(1));
        assert_eq!(stages(&arrivals, now), [Stage::Opening]);
        arrivals.refused(now, member(2, 2), "other classes".into());
        assert_eq!(stages(&arrivals, now), [Stage::Refused("other classes".into())]);
        // Started again at the same address.
        arrivals.came(now, member(3, 2));
        assert_eq!(stages(&arrivals, now), [Stage::Opening]);
    }

    #[test]
    fn the_list_is_bounded_in_number_and_time() {
        let (arrivals, now) = (Arrivals::default(), Instant::now());
        for number in 0..200_u16 {
            arrivals.came(now, member(u128::from(number), 1000 + number));
        }
        assert_eq!(arrivals.list(now).len(), MAX_WORLD_SIZE);
        assert_eq!(arrivals.list(now + KEPT_FOR), []);
    }
}
