//! What a rank does with its whole state: meets the others, copies the state of one that is ahead, gives its range to a
//! checkpoint, tells its digest.

use std::ops::Range;

use collective::chunk_range;
use futures_util::future::join_all;
use proto::{Activity, StateDigest};
use tracing::{debug, info, warn};

use super::image::{self, Image};
use super::meeting::{Agreement, Standing, agree};
use super::source::SlotJobs;
use super::state::State;
use super::{Training, TrainingError};
use crate::report::ShardRecord;

impl Training<'_> {
    /// Brings this rank to the step that the generation goes on at, and starts loading for it.
    pub(super) async fn meet(&mut self) -> Result<(), TrainingError> {
        self.parts.reporter.activity(Activity::Waiting);
        let rank = self.parts.ring.group().rank();
        let step = self.state.step;
        if rank == 0 && self.parts.replica.checkpoint_step > Some(step) {
            self.load_checkpoint().await?;
        }
        let own = self.standing();
        let blobs = self
            .parts
            .ring
            .gather(MEETING, own.encode().into())
            .await
            .map_err(|source| TrainingError::Ring { step, source })?;
        let mut standings = Vec::with_capacity(blobs.len());
        for (rank, blob) in blobs.iter().enumerate() {
            standings.push(Standing::decode(blob).map_err(|reason| TrainingError::Records { rank, reason })?);
        }
        let agreement = agree(&standings, &self.parts.replica.damaged);
        let Agreement { standing, behind, .. } = &agreement;
        if behind.contains(&rank) {
            info!(from_step = step, to_step = standing.step, donors = ?agreement.donors, "copying the state of others");
            *self.state = self.heal(&agreement).await?;
            debug!(step = self.state.step, "state copied");
            *self.progressed = standing.progressed;
        } else if !behind.is_empty() {
            info!(step, ?behind, "offering the state to others");
            let image = Image::of(self.state);
            let bytes = image.copy(0..image.len());
            self.parts.replica.offer(bytes, *standing);
        }
        self.parts.reporter.advanced(self.state.step);
        self.parts
            .learner
            .load(&self.state.parameters, &self.state.buffers);
        self.batches = self.parts.source.slots(self.jobs());
        Ok(())
    }

    fn standing(&self) -> Standing {
        let image = Image::of(self.state);
        Standing {
            step: self.state.step,
            epochs: self.state.epochs,
            progressed: *self.progressed,
            total_bytes: image.len() as u64,
            digest: image.digest(),
        }
    }

    /// Returns the slots of this rank from here on, step after step.
    fn jobs(&self) -> SlotJobs {
        let (plan, group, first) = (self.parts.plan.clone(), *self.parts.ring.group(), self.state.step);
        let steps = (first..).map_while(move |step| plan.step(step));
        Box::new(steps.flat_map(move |step| {
            let own = data::shard(step.slots.len(), group.world_size(), group.rank());
            step.jobs(own)
        }))
    }

    /// Copies the state that an agreement names: ranges from all donors at the same time, each checked by its digest,
    /// and the whole again.
    async fn heal(&self, agreement: &Agreement) -> Result<State, TrainingError> {
        let Agreement { standing, donors, .. } = agreement;
        let failed = |reason| TrainingError::Heal {
            step: standing.step,
            reason,
        };
        let ranges = ranges(standing.total_bytes);
        let fetches = (0..donors.len()).map(|first| {
            let own: Vec<_> = ranges
                .iter()
                .cloned()
                .enumerate()
                .skip(first)
                .step_by(donors.len())
                .collect();
            self.fetch(donors, first, own)
        });
        let mut parts = Vec::with_capacity(ranges.len());
        for fetched in join_all(fetches).await {
            parts.extend(fetched.map_err(failed)?);
        }
        parts.sort_by_key(|(index, _)| *index);
        let bytes: Vec<u8> = parts.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let state = image::restore(&bytes, self.state).map_err(|error| failed(error.to_string()))?;
        if Image::of(&state).digest() != standing.digest {
            return Err(failed("what came is not what was offered".to_owned()));
        }
        Ok(state)
    }

    /// Fetches ranges one after the other from donor `first`, and from the next one when it does not give any more.
    async fn fetch(
        &self,
        donors: &[usize],
        first: usize,
        ranges: Vec<(usize, Range<u64>)>,
    ) -> Result<Vec<(usize, Vec<u8>)>, String> {
        let mut fetched = Vec::with_capacity(ranges.len());
        let mut first = first;
        for (index, range) in ranges {
            let mut reason = String::new();
            let mut bytes = None;
            for turn in 0..donors.len() {
                let donor = donors[(first + turn) % donors.len()];
                match self.parts.replica.peers.fetch(donor, range.clone()).await {
                    Ok(copied) => {
                        bytes = Some(copied.bytes);
                        // One that is silent would be waited for at each range.
                        first += turn;
                        break;
                    }
                    Err(failure) => {
                        warn!(
                            donor,
                            failure, "a range of the state was not given; asking the next"
                        );
                        reason = failure;
                    }
                }
            }
            fetched.push((index, bytes.ok_or(reason)?));
        }
        Ok(fetched)
    }

    /// Takes the newest checkpoint from the coordinator.
    async fn load_checkpoint(&mut self) -> Result<(), TrainingError> {
        let peers = &self.parts.replica.peers;
        let mut step = self.parts.replica.checkpoint_step.unwrap_or_default();
        let failed = |step, reason| TrainingError::Heal { step, reason };
        let mut bytes = Vec::new();
        let mut total = u64::MAX;
        let mut digest = None;
        while (bytes.len() as u64) < total {
            let begin = bytes.len() as u64;
            let range = begin..total.min(begin + RANGE_BYTES);
            let part = peers
                .checkpoint(range)
                .await
                .map_err(|reason| failed(step, reason))?;
            if part.bytes.is_empty() {
                return Err(failed(step, "the checkpoint ends before its end".to_owned()));
            }
            bytes.extend(part.bytes);
            (step, total) = (part.header.step, part.header.total_bytes);
            digest = Some(part.header.state_digest);
        }
        let state = image::restore(&bytes, self.state).map_err(|error| failed(step, error.to_string()))?;
        if Some(Image::of(&state).digest()) != digest {
            return Err(failed(step, "the checkpoint's digest does not fit".to_owned()));
        }
        info!(step, "state loaded from the checkpoint");
        *self.state = state;
        *self.progressed = 0;
        Ok(())
    }

    /// Makes a checkpoint, now or at the first step for which no rank has a range of the one before under way: ranks that
    /// each left out another checkpoint would never complete any. Who has put one off asks for it in the control word of each
    /// step, also in the next generation, so all ranks make it after the same step.
    pub(super) fn checkpoint_when_free(&mut self) {
        if self.is_busy {
            self.parts.signals.put_checkpoint_off();
        } else {
            self.checkpoint();
        }
    }

    /// Gives this rank's range of the state to a checkpoint: a copy, so that training goes on at once.
    pub(super) fn checkpoint(&mut self) {
        self.parts.signals.serve_checkpoints();
        let place = (self.state.step, self.state.epochs);
        if self.checkpointed == Some(place) {
            return;
        }
        self.checkpointed = Some(place);
        let group = *self.parts.ring.group();
        let image = Image::of(self.state);
        let own = chunk_range(image.len(), group.world_size(), group.rank());
        let shard = ShardRecord {
            generation: group.generation(),
            step: self.state.step,
            shard: group.rank() as u32,
            shards: group.world_size() as u32,
            offset: own.start as u64,
            bytes: image.copy(own),
            total_bytes: image.len() as u64,
            state_digest: image.digest(),
        };
        self.parts.reporter.checkpoint(shard);
    }

    /// Tells the digest of the state every few steps, for the coordinator to compare.
    pub(super) fn report_digest(&mut self) {
        let every = u64::from(self.parts.recipe.digest_every);
        if every > 0 && self.state.step.is_multiple_of(every) && self.parts.ring.group().world_size() > 1 {
            let digest = StateDigest {
                step: self.state.step,
                blake3: Image::of(self.state).digest(),
            };
            self.parts.reporter.digest(digest);
        }
    }
}

fn ranges(total: u64) -> Vec<Range<u64>> {
    let starts = (0..total).step_by(RANGE_BYTES as usize);
    starts
        .map(|start| start..total.min(start + RANGE_BYTES))
        .collect()
}

/// The operation of a meeting is none of a step's: no run has so many steps.
const MEETING: u64 = u64::MAX;

/// Small enough that several donors share the work of a small model, large enough that a round trip does not count.
const RANGE_BYTES: u64 = 4 << 20;
