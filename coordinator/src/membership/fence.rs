//! The checks that every message of a worker passes before it changes anything.

use proto::{Refusal, Roster, RunId, Sender, WorkerId};

use super::{Membership, Phase};

impl Membership {
    /// Checks that the sender may upload weights now.
    ///
    /// # Errors
    /// When it is unknown or no member, or the run is over.
    pub fn may_upload(&self, sender: &Sender) -> Result<(), Refusal> {
        self.same_run(sender.run)?;
        self.seat_of(sender.worker)?;
        self.refuse_if_finished()?;
        self.roster_of(sender).map(|_| ())
    }

    /// Checks that the sender may upload its range of a checkpoint that its generation makes or made.
    ///
    /// Ranges travel while training goes on, so members may have gone over to another generation meanwhile, and who was let go
    /// still brings its own. After a loss, ranges of earlier generations are of no use: some will be missing.
    ///
    /// # Errors
    /// When it is unknown, a generation that took effect at once came since, or the run is over.
    pub fn may_upload_range(&self, sender: &Sender) -> Result<(), Refusal> {
        self.same_run(sender.run)?;
        self.seat_of(sender.worker)?;
        self.refuse_if_finished()?;
        match &self.phase {
            Phase::Running(running)
                if (running.unbroken_since..=self.generation()).contains(&sender.generation) =>
            {
                Ok(())
            }
            _ => Err(Refusal::StaleGeneration {
                sent: sender.generation,
                current: self.generation(),
            }),
        }
    }

    /// Checks that the sender has joined.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn is_known(&self, sender: &Sender) -> Result<(), Refusal> {
        self.same_run(sender.run)?;
        self.seat_of(sender.worker).map(|_| ())
    }

    /// Returns the roster that the sender speaks of: the newest, or the one before while members go over.
    pub(super) fn roster_of(&self, sender: &Sender) -> Result<&Roster, Refusal> {
        let stale = Refusal::StaleGeneration {
            sent: sender.generation,
            current: self.generation(),
        };
        let Phase::Running(running) = &self.phase else {
            return Err(stale);
        };
        let mut rosters = running.rosters();
        rosters
            .find(|roster| roster.generation() == sender.generation && roster.find(sender.worker).is_some())
            .ok_or(stale)
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
            .position(|seat| seat.worker() == worker)
            .ok_or(Refusal::UnknownWorker { worker })
    }

    pub(super) fn refuse_if_finished(&self) -> Result<(), Refusal> {
        self.verdict().map_or(Ok(()), |verdict| {
            Err(Refusal::RunEnded {
                reason: verdict.to_string(),
            })
        })
    }
}
