//! The training loop: the algorithm of a run, free of sockets and of tensors.
//!
//! [`Training::run`] is the whole of it. A step sums what its slots contribute, first on this rank, then around
//! the ring; every rank then holds the same sums, so it applies the same update and takes the same decisions.
//! What happens at an epoch's end is in [`epoch`]; the forward and backward pass is the [`Learner`]'s.
//!
//! A [`Training`] is one rank's part in one generation. It begins with a [meeting](meeting), at which ranks that are
//! behind copy the state of one that is ahead, and ends with the run or with the generation; the state outlives it and
//! is whole between steps: a step that is not applied leaves no trace in it.
//!
//! Calling order: [`Training::new`], then [`Training::run`] once, where blocking is allowed: on a thread of its own, else what is summed up
//! beside the computing waits for its end.

mod adder;
mod clip;
pub mod epoch;
mod error;
pub mod feed;
pub mod fixed_point;
mod healing;
pub mod image;
pub mod learner;
pub mod meeting;
pub mod optimizer;
mod places;
pub mod records;
pub mod schedule;
pub mod source;
pub mod state;
pub mod sum;
mod threads;
mod update;

use std::num::NonZeroUsize;
use std::ops::Range;

use data::{Plan, SlotBatch, StepPlan};
use model::layout::Layout;
use proto::{Activity, Recipe, SumKind};
use tracing::{debug, warn};

pub use self::error::TrainingError;
use self::feed::{Arrival, Control, Feed};
use self::learner::{Learner, Slot};
use self::schedule::Schedule;
use self::source::{SlotBatches, Source};
use self::state::State;
use self::sum::{StepSum, Totals, Unsettled};
use self::threads::worth_starting;
use self::update::Update;
use crate::replica::Replica;
use crate::report::Reporter;
use crate::ring::Ring;
use crate::signals::Signals;

/// How a rank's part in a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs were done.
    Completed,
    /// No better epoch for `patience` epochs.
    OutOfPatience {
        /// The best epoch, counted from zero.
        best: u32,
    },
    /// A process was asked to stop; all ranks stopped after the same step.
    Stopped,
    /// All ranks go over to the next generation after the same step.
    Switched,
}

/// What a rank's part in a generation is given.
pub struct Parts<'a> {
    /// The hyper-parameters.
    pub recipe: &'a Recipe,
    /// The data plan.
    pub plan: &'a Plan,
    /// Rates and optimizer.
    pub schedule: &'a Schedule,
    /// Makes batches.
    pub source: &'a dyn Source,
    /// What computes.
    pub learner: &'a mut dyn Learner,
    /// Threads of this process.
    pub threads: NonZeroUsize,
    /// The peers.
    pub ring: Ring,
    /// Where states come from and go to.
    pub replica: Replica,
    /// Where progress and weights go.
    pub reporter: &'a mut dyn Reporter,
    /// What this process is asked to do.
    pub signals: &'a Signals,
}

/// One rank's part in one generation.
pub struct Training<'a> {
    parts: Parts<'a>,
    layout: Layout,
    state: &'a mut State,
    /// The newest generation in which a step was applied to the state.
    progressed: &'a mut u64,
    sum: StepSum,
    /// For loops over flat vectors.
    threads: NonZeroUsize,
    batches: SlotBatches,
    /// Step and epoch of the newest checkpoint that this rank gave its part to.
    checkpointed: Option<(u64, u32)>,
    /// Whether some rank had a range of a checkpoint under way in the last step.
    is_busy: bool,
}

impl<'a> Training<'a> {
    /// Returns a part that goes on at `state`, which a step of generation `progressed` was last applied to.
    pub fn new(parts: Parts<'a>, state: &'a mut State, progressed: &'a mut u64) -> Self {
        let layout = parts.learner.layout().clone();
        let recipe = parts.recipe;
        let sum = StepSum::new(recipe.sum, &layout, parts.plan.slots_max(), recipe.bucket_bytes())
            .travelling_as(recipe.wire);
        let threads = worth_starting(parts.threads, layout.parameters_len());
        Self {
            parts,
            layout,
            state,
            progressed,
            sum,
            threads,
            batches: Box::new(std::iter::empty()),
            checkpointed: None,
            is_busy: false,
        }
    }

    /// Ends the hold on the ring.
    pub fn into_ring(self) -> Ring {
        self.parts.ring
    }

    /// Trains until the run or the generation ends.
    ///
    /// # Errors
    /// When the ring breaks, a batch or a state cannot be had, or no step can be applied. The state is then that of the last step,
    /// applied or skipped.
    pub async fn run(&mut self) -> Result<Ending, TrainingError> {
        self.meet().await?;
        self.parts.reporter.activity(Activity::Training);
        loop {
            if let Some(last) = self.unvalidated_epoch() {
                self.finish_epoch(&last).await?;
            }
            if let Some(best) = self.best_out_of_patience() {
                return Ok(Ending::OutOfPatience { best });
            }
            let Some(step) = self.parts.plan.step(self.state.step) else {
                return Ok(Ending::Completed);
            };
            let totals = self.sum_slots(&step).await?;
            let rates = self.parts.schedule.rates(&step);
            if self.apply(&step, &totals, &rates)? == Update::Applied {
                let Totals {
                    losses,
                    images,
                    unreadable,
                    ..
                } = totals;
                self.state.progress.add(losses, images, unreadable);
            }
            *self.progressed = self.parts.ring.group().generation().0;
            self.parts.replica.withdraw();
            self.report_step(&step, &totals);
            if let Some(ending) = self.obey(&step, totals.control).await? {
                return Ok(ending);
            }
        }
    }

    /// Does what ranks asked for in the control word of a step: the same on every rank.
    async fn obey(&mut self, step: &StepPlan, control: Control) -> Result<Option<Ending>, TrainingError> {
        let is_stopping = control.stop > 0;
        let is_switching = control.switch as usize == self.parts.ring.group().world_size();
        if step.is_last_of_epoch && is_stopping {
            self.finish_epoch(step).await?;
        }
        let every = u64::from(self.parts.recipe.checkpoint_every);
        let is_due = every > 0 && self.state.step.is_multiple_of(every);
        self.is_busy = control.busy > 0;
        if is_stopping {
            self.checkpoint();
        } else if is_due || control.checkpoint > 0 {
            self.checkpoint_when_free();
        }
        self.report_digest();
        if is_stopping {
            if !step.is_last_of_epoch {
                self.save_last();
            }
            return Ok(Some(Ending::Stopped));
        }
        Ok(is_switching.then_some(Ending::Switched))
    }

    /// Leaves in `sum` what all slots of the step add up to over all ranks, and returns the totals.
    ///
    /// A step whose sums cannot be used is computed again: on every rank alike, for all hold the same sums. Where only
    /// one rank's memory was damaged, it alone asks for the step again, and the ring breaks: the next generation
    /// computes the step. Whatever happens, a step that is not applied leaves no trace.
    async fn sum_slots(&mut self, step: &StepPlan) -> Result<Totals, TrainingError> {
        let (exponents, redone) = (self.state.exponents.clone(), self.state.progress.redone);
        let summed = self.attempt_sums(step).await;
        if summed.is_err() {
            self.state.exponents = exponents;
            self.state.progress.redone = redone;
        }
        summed
    }

    async fn attempt_sums(&mut self, step: &StepPlan) -> Result<Totals, TrainingError> {
        self.parts
            .learner
            .load(&self.state.parameters, &self.state.buffers);
        let own = self.shard(step.slots.len()).len();
        let slots_at_once = self.parts.learner.slots_at_once().get();
        let mut batches = Vec::with_capacity(own);
        let mut reason = String::new();
        for _ in 0..ATTEMPTS_MAX {
            self.sum.clear();
            let mut done = 0;
            // The last slots are left to the exchange.
            while done + slots_at_once < own {
                self.load_batches(step, done + slots_at_once, &mut batches)?;
                let slots: Vec<_> = batches[done..]
                    .iter()
                    .take(slots_at_once)
                    .map(Slot::whole)
                    .collect();
                let contributions = self.parts.learner.contribute(&slots);
                self.parts.reporter.worked();
                for (slot, contribution) in slots.iter().zip(&contributions) {
                    self.sum.add(slot.batch.slot, contribution, &self.state.exponents);
                }
                done += slots_at_once;
            }
            self.load_batches(step, own, &mut batches)?;
            self.exchange(step.step, &batches[done..]).await?;
            match self
                .sum
                .settle(step.slots.len(), &self.state.exponents, self.threads)
            {
                Ok(totals) => return Ok(totals),
                Err(unsettled) => reason = self.resolve(step.step, unsettled),
            }
            self.state.progress.redone += 1;
        }
        Err(TrainingError::Unsettled {
            step: step.step,
            attempts: ATTEMPTS_MAX,
            reason,
        })
    }

    /// Computes this rank's last slots, if it has some, while what is known of their gradients is summed up with the peers'.
    async fn exchange(&mut self, step: u64, last: &[SlotBatch]) -> Result<(), TrainingError> {
        let Parts {
            recipe,
            learner,
            reporter,
            ring,
            signals,
            ..
        } = &mut self.parts;
        ring.wait_for(signals.resumed()).await;
        let next = ring.group().generation().0 + 1;
        // Slots that are computed side by side arrive in any order, and plain sums depend on it: there they are added whole, in
        // the order of the slots.
        let in_pieces = last.len() == 1 || recipe.sum == SumKind::Exact;
        let (feed, arriving) = Feed::new();
        let exchange = self
            .sum
            .exchange(step, last.len(), ring, arriving, &self.state.exponents);
        let slot = |batch| Slot {
            batch,
            outlet: in_pieces.then(|| feed.outlet(batch.slot)),
        };
        let slots: Vec<_> = last.iter().map(slot).collect();
        let contributions = learner.contribute(&slots);
        reporter.worked();
        for (batch, contribution) in last.iter().zip(contributions) {
            feed.tell(Arrival::Slot(batch.slot, contribution));
        }
        feed.tell(Arrival::Control(Control {
            stop: u32::from(signals.is_stopping()),
            checkpoint: u32::from(signals.is_checkpoint_wanted()),
            switch: u32::from(signals.next_generation() == next),
            busy: u32::from(reporter.is_range_under_way()),
        }));
        exchange
            .await
            .map_err(|source| TrainingError::Ring { step, source })
    }

    /// Waits until the first `count` batches of this rank's share of a step are there.
    fn load_batches(
        &mut self,
        step: &StepPlan,
        count: usize,
        batches: &mut Vec<SlotBatch>,
    ) -> Result<(), TrainingError> {
        while batches.len() < count {
            // Invariant: the loader was given exactly the slots of this rank, in this order.
            let batch = self.batches.next().expect("a batch for each slot")?;
            assert_eq!(batch.step, step.step, "the loader is at another step");
            batches.push(batch);
        }
        Ok(())
    }

    /// Makes the next attempt possible, and says what was wrong.
    fn resolve(&mut self, step: u64, unsettled: Unsettled) -> String {
        match unsettled {
            Unsettled::DoesNotFit { magnitudes } => {
                for (index, &magnitude) in magnitudes.iter().enumerate() {
                    let exponent = self.state.exponents.of(index);
                    if magnitude > exponent {
                        let specs = self.layout.parameters.iter().chain(&self.layout.buffers);
                        let tensor = specs.map(|tensor| tensor.name.as_str()).nth(index);
                        debug!(
                            step,
                            tensor, magnitude, exponent, "does not fit; the step is computed again"
                        );
                    }
                }
                self.state.exponents.raise(&magnitudes);
                "a gradient does not fit its exponent".to_owned()
            }
            Unsettled::Damaged { bucket } => {
                warn!(
                    step,
                    bucket, "a sum was damaged on its way; the step is computed again"
                );
                format!("bucket {bucket} is not the sum of what was sent")
            }
        }
    }

    /// Returns this rank's share of `items` things that are dealt in order.
    fn shard(&self, items: usize) -> Range<usize> {
        let group = self.parts.ring.group();
        data::shard(items, group.world_size(), group.rank())
    }
}

/// A step is computed again once for each surprise; more than these in one step is no surprise any more.
const ATTEMPTS_MAX: u32 = 4;
