//! The checks that every message of a worker passes before it changes anything.

use proto::{Refusal, RunId, Sender, WorkerId};

use super::Membership;

impl Membership {
    /// Checks that the sender may upload weights now.
    ///
    /// # Errors
    /// When it is stale, unknown, not rank 0, or the run is over.
    pub fn may_upload(&self, sender: &Sender) -> Result<(), Refusal> {
        let seat = self.fenced(sender)?;
        self.refuse_if_finished()?;
        self.rank_zero_only(seat, "upload weights")
    }

    /// Finds the sender's seat, and refuses messages for other runs, of strangers and of other generations.
    pub(super) fn fenced(&self, sender: &Sender) -> Result<usize, Refusal> {
        self.same_run(sender.run)?;
        let seat = self.seat_of(sender.worker)?;
        if sender.generation != self.generation() {
            return Err(Refusal::StaleGeneration {
                sent: sender.generation,
                current: self.generation(),
            });
        }
        Ok(seat)
    }

    pub(super) fn same_run(&self, asked: RunId) -> Result<(), Refusal> {
        if asked == self.terms.run {
            return Ok(());
        }
        Err(Refusal::OtherRun {
            asked,
            serving: self.terms.run,
        })
    }

    pub(super) fn seat_of(&self, worker: WorkerId) -> Result<usize, Refusal> {
        self.seats
            .iter()
            .position(|seat| seat.candidate.worker == worker)
            .ok_or(Refusal::UnknownWorker { worker })
    }

    pub(super) fn rank_zero_only(&self, seat: usize, action: &'static str) -> Result<(), Refusal> {
        if self.roster().is_some() && seat == 0 {
            return Ok(());
        }
        Err(Refusal::NotRankZero { rank: seat, action })
    }

    pub(super) fn refuse_if_finished(&self) -> Result<(), Refusal> {
        self.verdict().map_or(Ok(()), |verdict| {
            Err(Refusal::RunEnded {
                reason: verdict.to_string(),
            })
        })
    }
}
