//! What goes wrong in a simulated run, and when: a list that follows from the seed and can be read.

use std::fmt;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed; a new one begins at the end.
    Crash(Host),
    /// The machine loses its power: nothing more is heard of it, not even that its connections are closed.
    PowerLoss(Host),
    /// Two hosts do not reach each other, and what was under way is lost.
    Partition(Host, Host),
    /// A host reaches nobody.
    Isolation(Host),
    /// The workers from this one on do not reach the others and the coordinator. Who comes late is with the coordinator.
    Split(usize),
    /// What two hosts send each other arrives at the end.
    Hold(Host, Host),
    /// The link of two hosts is slow.
    SlowLink(Host, Host),
    /// A worker is asked to end; a new process begins at the end.
    Drain(usize),
    /// A worker more comes at the end.
    Join,
}

/// A machine of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Coordinator,
    Worker(usize),
}

/// A fault, and from when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("coordinator"),
            Self::Worker(number) => write!(f, "worker-{number}"),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from.as_secs_f64(), self.until.as_secs_f64());
        write!(f, "{from:6.2} s to {until:6.2} s: {:?}", self.fault)
    }
}

/// Returns the faults of a seed for a run of `workers` workers, in the order of their beginning.
pub(crate) fn faults(seed: u64, workers: usize) -> Vec<Planned> {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
    let count = 3 + draw.below(6);
    let mut planned: Vec<Planned> = (0..count).map(|_| draw.planned(workers)).collect();
    planned.sort_by_key(|planned| planned.from);
    // One worker more is there to join.
    let joins = planned.iter().position(|planned| planned.fault == Fault::Join);
    let mut place = 0;
    planned.retain(|planned| {
        place += 1;
        planned.fault != Fault::Join || Some(place - 1) == joins
    });
    planned
}

struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0.next_u32() as usize % bound
    }

    fn planned(&mut self, workers: usize) -> Planned {
        let from = Duration::from_millis(200 + self.below(9_000) as u64);
        // Mostly short, for what heals before anybody decides is the harder case; sometimes far beyond every lease.
        let longest = [400, 3_000, 9_000][self.below(3)];
        let until = from + Duration::from_millis(100 + self.below(longest) as u64);
        let fault = self.fault(workers);
        Planned { fault, from, until }
    }

    fn fault(&mut self, workers: usize) -> Fault {
        let worker = self.below(workers);
        match self.below(12) {
            0 | 1 => Fault::Crash(Host::Worker(worker)),
            2 => Fault::PowerLoss(Host::Worker(worker)),
            3 | 4 => Fault::Crash(Host::Coordinator),
            5 => {
                let (one, other) = self.pair(workers);
                Fault::Partition(one, other)
            }
            6 => Fault::Isolation(Host::Worker(worker)),
            7 => Fault::Split(self.below(workers)),
            8 => {
                let (one, other) = self.pair(workers);
                Fault::Hold(one, other)
            }
            9 => {
                let (one, other) = self.pair(workers);
                Fault::SlowLink(one, other)
            }
            10 => Fault::Drain(worker),
            _ => Fault::Join,
        }
    }

    /// Returns two different hosts.
    fn pair(&mut self, workers: usize) -> (Host, Host) {
        let hosts: Vec<Host> = std::iter::once(Host::Coordinator)
            .chain((0..workers).map(Host::Worker))
            .collect();
        let one = self.below(hosts.len());
        let other = (one + 1 + self.below(hosts.len() - 1)) % hosts.len();
        (hosts[one], hosts[other])
    }
}

#[test]
fn faults_follow_from_the_seed_and_all_kinds_come_up() {
    assert_eq!(faults(7, 4), faults(7, 4));
    let all: Vec<Planned> = (0..200).flat_map(|seed| faults(seed, 4)).collect();
    let kinds: std::collections::BTreeSet<String> = all
        .iter()
        .map(|planned| {
            let name = format!("{:?}", planned.fault);
            name.split('(').next().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(kinds.len(), 9, "{kinds:?}");
    for planned in all {
        assert!(planned.from < planned.until);
        if let Fault::Partition(one, other) | Fault::Hold(one, other) | Fault::SlowLink(one, other) =
            planned.fault
        {
            assert_ne!(one, other);
        }
    }
}
