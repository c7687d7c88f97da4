//! The state of a run as people see it.

use std::time::Duration;

use proto::{Member, MemberStatus, RunPhase, RunStatus};

use super::{Membership, Phase};

impl Membership {
    /// A snapshot for the Status call; `epochs` is the recipe's number.
    pub fn snapshot(&self, now: Duration, epochs: u32) -> RunStatus {
        let rank = |worker| {
            self.roster()
                .and_then(|roster| roster.find(worker))
                .map(|member| member.rank)
        };
        let mut seats: Vec<_> = self.seats.iter().collect();
        seats.sort_by_key(|seat| rank(seat.worker()).unwrap_or(usize::MAX));
        let members = seats
            .into_iter()
            .map(|seat| MemberStatus {
                member: Member {
                    rank: rank(seat.worker()).unwrap_or(0),
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
                Phase::Running(_) => RunPhase::Running,
                Phase::Finished { .. } => RunPhase::Finished,
            },
            generation: self.generation(),
            world_size: self.terms.world_size,
            members,
            epochs,
            last_step: self.last_step,
            last_epoch: self.last_epoch,
            ended: self.verdict().map(|verdict| self.ending(verdict)),
            checkpoint_step: self.checkpoint_step,
            losses: self.losses,
        }
    }
}
