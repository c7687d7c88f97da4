//! The learner that trains: a YOLO of crate `model` on this rank's device.

use std::iter;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::thread;

use data::ValBatch;
use model::device::{Device, on_pool};
use model::frozen::{Frozen, TooManyFrozen};
use model::head::HeadOutput;
use model::kind::Architecture;
use model::layout::Layout;
use model::loss::LossGains;
use model::metric::match_detections;
use model::nms::{Detection, NmsConfig, nms};
use model::orthogonal::orthogonalise;
use model::target::Target;
use model::weights::{self, Metadata};
use model::yolo::{Forward, Yolo};

use crate::training::feed::Contribution;
use crate::training::learner::{Learner, Slot};
use crate::training::records::Evaluation;

/// A YOLO with what training and validation need beside it.
pub struct YoloLearner {
    yolo: Yolo,
    names: Vec<String>,
    image_size: u32,
    gains: LossGains,
    nms: NmsConfig,
    slots_at_once: NonZeroUsize,
}

impl YoloLearner {
    /// Builds a model on a device, with the published loss gains and validation settings.
    ///
    /// # Panics
    /// If there are not as many names as classes.
    pub fn new(architecture: Architecture, names: Vec<String>, image_size: u32, device: &Device) -> Self {
        assert_eq!(architecture.classes(), names.len(), "a name for each class");
        let yolo = Yolo::new(architecture, device);
        Self {
            yolo,
            names,
            image_size,
            gains: LossGains::default(),
            nms: NmsConfig::validation(),
            slots_at_once: NonZeroUsize::MIN,
        }
    }

    /// Sets how many slots are computed side by side, each on a thread of its own.
    #[must_use]
    pub fn with_slots_at_once(self, slots_at_once: NonZeroUsize) -> Self {
        Self {
            slots_at_once,
            ..self
        }
    }

    /// Takes the weights of the loss terms.
    #[must_use]
    pub fn with_gains(self, gains: LossGains) -> Self {
        Self { gains, ..self }
    }

    /// Takes the settings of non-maximum suppression in validation.
    #[must_use]
    pub fn with_nms(self, nms: NmsConfig) -> Self {
        Self { nms, ..self }
    }

    /// Holds the first layers fixed.
    ///
    /// # Errors
    /// If that includes the head.
    pub fn with_frozen(self, layers: usize) -> Result<Self, TooManyFrozen> {
        let yolo = self.yolo.with_frozen(layers)?;
        Ok(Self { yolo, ..self })
    }

    /// Returns the model.
    pub fn yolo(&self) -> &Yolo {
        &self.yolo
    }

    /// Returns what is found in each picture of a batch, in pixels of the network input.
    pub fn detect(&self, batch: &ValBatch) -> Vec<Vec<Detection>> {
        on_pool(self.yolo.device(), || self.detections(&self.output(batch)))
    }

    fn output(&self, batch: &ValBatch) -> HeadOutput {
        let shape = [batch.samples.len(), batch.height as usize, batch.width as usize];
        self.yolo.infer(self.yolo.images(&batch.images, shape))
    }

    fn detections(&self, output: &HeadOutput) -> Vec<Vec<Detection>> {
        let candidates = self.yolo.candidates(output);
        candidates
            .iter()
            .map(|candidates| nms(candidates, &self.nms))
            .collect()
    }

    fn slot(&self, Slot { batch, outlet }: &Slot<'_>) -> Contribution {
        let side = batch.size as usize;
        let images = self.yolo.images(&batch.images, [batch.samples.len(), side, side]);
        let Forward {
            output,
            statistics,
            trace,
        } = match outlet {
            Some(outlet) => self.yolo.train_forward_into(images, outlet),
            None => self.yolo.train_forward(images),
        };
        let targets: Vec<_> = batch.targets.iter().map(|boxes| targets(boxes)).collect();
        let loss = self.yolo.loss(&output, &targets, &self.gains);
        Contribution {
            gradient: self.yolo.backward(trace, &loss.total),
            statistics: statistics.into_vec(),
            losses: loss.sums,
            normaliser: loss.normaliser,
            images: batch.samples.len() as u32,
            unreadable: batch.unreadable,
        }
    }

    fn validation_batch(&self, batch: &ValBatch) -> Evaluation {
        let output = self.output(batch);
        let targets: Vec<_> = batch.targets().iter().map(|boxes| targets(boxes)).collect();
        let loss = self.yolo.loss(&output, &targets, &self.gains);
        let images = (self.detections(&output).iter())
            .zip(&targets)
            .map(|(found, truths)| match_detections(found, truths))
            .collect();
        Evaluation {
            losses: loss.sums,
            normaliser: loss.normaliser,
            images,
        }
    }
}

impl Learner for YoloLearner {
    fn layout(&self) -> &Layout {
        self.yolo.layout()
    }

    fn frozen(&self) -> Frozen {
        self.yolo.frozen()
    }

    fn classes(&self) -> usize {
        self.names.len()
    }

    fn load(&mut self, parameters: &[f32], buffers: &[f32]) {
        self.yolo.load(parameters, buffers);
    }

    fn slots_at_once(&self) -> NonZeroUsize {
        self.slots_at_once
    }

    fn contribute(&mut self, slots: &[Slot<'_>]) -> Vec<Contribution> {
        side_by_side(slots, |slot| on_pool(self.yolo.device(), || self.slot(slot)))
    }

    fn evaluate(&mut self, batches: &[ValBatch]) -> Vec<Evaluation> {
        side_by_side(batches, |batch| {
            on_pool(self.yolo.device(), || self.validation_batch(batch))
        })
    }

    fn orthogonalise(&self, matrix: &[f32], shape: [usize; 2]) -> Vec<f32> {
        let device = self.yolo.device();
        on_pool(device, || orthogonalise(matrix, shape, device))
    }

    fn weights(&self, parameters: &[f32], buffers: &[f32]) -> Vec<u8> {
        let metadata = Metadata {
            kind: self.yolo.kind(),
            names: self.names.clone(),
            class_width: self.yolo.architecture().class_width(),
            image_size: self.image_size,
        };
        // Invariant: the flat vectors have the layout's length, and any state of it can be written.
        weights::to_bytes(&metadata, parameters, buffers).expect("a whole state")
    }
}

/// Returns what `work` makes of each item, all at the same time; the first on this thread.
fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let Some((first, rest)) = items.split_first() else {
        return Vec::new();
    };
    thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = rest.iter().map(|item| scope.spawn(move || work(item))).collect();
        let first = work(first);
        let others = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        iter::once(first).chain(others).collect()
    })
}

/// Returns labelled boxes as the objects of metrics and losses.
pub fn targets(boxes: &[data::TargetBox]) -> Vec<Target> {
    boxes
        .iter()
        .map(|labelled| Target {
            class: labelled.class,
            xyxy: labelled.xyxy,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_side_by_side_keeps_its_order() {
        for count in 0..5 {
            let items: Vec<usize> = (0..count).collect();
            let made = side_by_side(&items, |&item| {
                // The first are the last to end.
                (item..count).for_each(|_| thread::yield_now());
                10 * item
            });
            assert_eq!(made, items.iter().map(|item| 10 * item).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "the second of three")]
    fn a_panic_beside_is_passed_on() {
        side_by_side(&[0, 1, 2], |&item| assert_ne!(item, 1, "the second of three"));
    }
}
