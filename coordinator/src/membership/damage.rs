//! States that differ: every few steps members tell the digest of their whole state, and all must be equal.
//!
//! The reason is memory that flips bits, or hosts that compute differently. A minority copies the state of the majority;
//! who is in a minority too often is not trusted any more. Without a majority nobody knows who is right.

use std::time::Duration;

use proto::{Fingerprint, Refusal, Switch, WorkerId};

use super::effect::Effect;
use super::verdict::{Evidence, Failure, Verdict};
use super::{Membership, Phase};

impl Membership {
    /// Compares the members' digests after `step`, once all have told theirs.
    pub(super) fn compare_digests(&mut self, now: Duration, step: u64) -> Vec<Effect> {
        let Phase::Running(running) = &self.phase else {
            return vec![];
        };
        if self.compared_step >= Some(step) {
            return vec![];
        }
        let digest_of = |worker: WorkerId| {
            let mut seats = self.seats.iter();
            let seat = seats.find(|seat| seat.worker() == worker)?;
            seat.digest_at(step).map(|digest| digest.blake3)
        };
        let told: Option<Vec<(WorkerId, Fingerprint)>> = running
            .roster
            .members()
            .iter()
            .map(|member| Some((member.worker, digest_of(member.worker)?)))
            .collect();
        let Some(told) = told else {
            return vec![];
        };
        // Heartbeats repeat a digest until there is a newer one; it counts once.
        self.compared_step = Some(step);
        let votes = |digest: Fingerprint| told.iter().filter(|(_, other)| *other == digest).count();
        if told.iter().all(|(_, digest)| *digest == told[0].1) {
            if let Phase::Running(running) = &mut self.phase {
                running.damaged.clear();
            }
            return vec![];
        }
        let majority = told
            .iter()
            .map(|(_, digest)| *digest)
            .find(|&digest| votes(digest) * 2 > told.len());
        let Some(majority) = majority else {
            return self.end(Verdict::Failed(Failure::Diverged { step }));
        };
        let odd: Vec<WorkerId> = told
            .iter()
            .filter(|(_, digest)| *digest != majority)
            .map(|(worker, _)| *worker)
            .collect();
        self.heal(now, step, odd)
    }

    fn heal(&mut self, now: Duration, step: u64, odd: Vec<WorkerId>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for worker in odd {
            let times = self.damages.entry(worker).or_insert(0);
            *times += 1;
            let times = *times;
            let rank = self
                .roster()
                .and_then(|roster| roster.find(worker))
                .map(|member| member.rank);
            let (Ok(seat), Some(rank)) = (self.seat_of(worker), rank) else {
                continue;
            };
            effects.push(Effect::RecordDamaged {
                present: self.seats[seat].present(),
                rank,
                step,
                times,
            });
            if times >= DAMAGES_MAX {
                let seat = self.seats.remove(seat);
                self.out_of_sight.gone(worker);
                self.losses += 1;
                effects.push(Effect::RecordLost {
                    present: seat.present(),
                    rank,
                    step,
                    activity: seat.activity,
                    evidence: Evidence::Damaged { times },
                });
            } else if let Phase::Running(running) = &mut self.phase
                && !running.damaged.contains(&worker)
            {
                running.damaged.push(worker);
            }
        }
        effects.truncate(super::MAX_EFFECTS - 1);
        effects.extend(self.announce(now, Switch::Now));
        effects
    }

    pub(super) fn refuse_if_damaged_too_often(&self, worker: WorkerId) -> Result<(), Refusal> {
        match self.damages.get(&worker) {
            Some(&times) if times >= DAMAGES_MAX => Err(Refusal::DamagedTooOften { times }),
            _ => Ok(()),
        }
    }
}

/// Once is a cosmic ray, twice is a coincidence.
const DAMAGES_MAX: u32 = 3;
