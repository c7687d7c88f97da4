//! The state of a run as people see it.

use std::time::Duration;

use proto::{Attendance, Candidate, Member, MemberStatus, OpenedCard, RunPhase, RunStatus, Stage};

use super::seat::Seat;
use super::{Membership, Phase};

impl Membership {
    /// A snapshot for the Status call; `epochs` is the recipe's number.
    pub fn snapshot(&self, now: Duration, epochs: u32) -> RunStatus {
        let members = self
            .by_rank()
            .into_iter()
            .map(|(member, seat)| MemberStatus {
                member,
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

    /// Those that have joined, for the Survey call.
    pub fn attendance(&self, now: Duration) -> Vec<Attendance> {
        let attendance = |(member, seat): (Member, &Seat)| {
            let Candidate {
                device,
                threads,
                dataset,
                model,
                ..
            } = &seat.candidate;
            Attendance {
                member,
                stage: Stage::Joined(OpenedCard {
                    device: device.clone(),
                    threads: *threads,
                    dataset: dataset.fingerprint,
                    train_images: dataset.train_images,
                    val_images: dataset.val_images,
                    model: model.layout_digest,
                    description: model.description.clone(),
                }),
                age: now.saturating_sub(seat.heard_at),
            }
        };
        self.by_rank().into_iter().map(attendance).collect()
    }

    /// All seats: by rank, those without one behind them in the order of joining and with rank 0.
    fn by_rank(&self) -> Vec<(Member, &Seat)> {
        let rank = |seat: &Seat| {
            let member = self.roster().and_then(|roster| roster.find(seat.worker()));
            member.map(|member| member.rank)
        };
        let mut seats: Vec<_> = self.seats.iter().collect();
        seats.sort_by_key(|seat| rank(seat).unwrap_or(usize::MAX));
        let member = |seat: &Seat| Member {
            rank: rank(seat).unwrap_or(0),
            worker: seat.candidate.worker,
            host: seat.candidate.host.clone(),
            address: seat.candidate.address.clone(),
        };
        seats.into_iter().map(|seat| (member(seat), seat)).collect()
    }
}
