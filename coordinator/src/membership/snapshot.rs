//! The state of a run as people see it.

use std::time::Duration;

use proto::{Ending, Member, MemberStatus, RunPhase, RunStatus};

use super::{Membership, Phase};

impl Membership {
    /// A snapshot for the Status call; `epochs` is the recipe's number.
    pub fn snapshot(&self, now: Duration, epochs: u32) -> RunStatus {
        let is_ranked = self.roster().is_some();
        let members = self
            .seats
            .iter()
            .enumerate()
            .map(|(position, seat)| MemberStatus {
                member: Member {
                    rank: if is_ranked { position } else { 0 },
                    worker: seat.candidate.worker,
                    host: seat.candidate.host.clone(),
                    address: seat.candidate.address.clone(),
                },
                device: seat.candidate.device.clone(),
                threads: seat.candidate.threads,
                step: seat.step,
                activity: seat.activity,
                heartbeat_age: now.saturating_sub(seat.heard_at),
            })
            .collect();
        RunStatus {
            run: self.terms.run,
            phase: match self.phase {
                Phase::Gathering { .. } => RunPhase::Gathering,
                Phase::Running { .. } => RunPhase::Running,
                Phase::Finished { .. } => RunPhase::Finished,
            },
            generation: self.generation(),
            world_size: self.terms.world_size,
            members,
            epochs,
            last_step: self.last_step,
            last_epoch: self.last_epoch,
            ended: self.verdict().map(Ending::from),
        }
    }
}
