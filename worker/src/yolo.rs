//! The learner that trains: a YOLO of crate `model` on this rank's device.

use data::{SlotBatch, ValBatch};
use model::device::{Device, on_pool};
use model::frozen::{Frozen, TooManyFrozen};
use model::head::HeadOutput;
use model::kind::ModelKind;
use model::layout::Layout;
use model::loss::LossGains;
use model::metric::match_detections;
use model::nms::{Detection, NmsConfig, nms};
use model::orthogonal::orthogonalise;
use model::outlet::Outlet;
use model::target::Target;
use model::weights::{self, Metadata};
use model::yolo::Yolo;

use crate::training::learner::Learner;
use crate::training::records::Evaluation;
use crate::training::sum::Contribution;

/// A YOLO with what training and validation need beside it.
pub struct YoloLearner {
    yolo: Yolo,
    names: Vec<String>,
    image_size: u32,
    gains: LossGains,
    nms: NmsConfig,
}

impl YoloLearner {
    /// Builds a model for the given classes on a device, with the published loss gains and validation settings.
    pub fn new(kind: ModelKind, names: Vec<String>, image_size: u32, device: &Device) -> Self {
        let yolo = Yolo::new(kind, names.len(), device);
        Self {
            yolo,
            names,
            image_size,
            gains: LossGains::default(),
            nms: NmsConfig::validation(),
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

    fn slot(&self, batch: &SlotBatch, outlet: Option<&Outlet>) -> Contribution {
        let side = batch.size as usize;
        let images = self.yolo.images(&batch.images, [batch.samples.len(), side, side]);
        let (output, statistics) = match outlet {
            Some(outlet) => self.yolo.train_forward_into(images, outlet),
            None => self.yolo.train_forward(images),
        };
        let targets: Vec<_> = batch.targets.iter().map(|boxes| targets(boxes)).collect();
        let loss = self.yolo.loss(&output, &targets, &self.gains);
        let gradients = loss.total.backward();
        let gradient = match outlet {
            Some(outlet) => {
                outlet.flush();
                Vec::new()
            }
            None => self.yolo.gradient(gradients),
        };
        Contribution {
            gradient,
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

    fn contribute(&mut self, batch: &SlotBatch, outlet: Option<&Outlet>) -> Contribution {
        on_pool(self.yolo.device(), || self.slot(batch, outlet))
    }

    fn evaluate(&mut self, batch: &ValBatch) -> Evaluation {
        on_pool(self.yolo.device(), || self.validation_batch(batch))
    }

    fn orthogonalise(&self, matrix: &[f32], shape: [usize; 2]) -> Vec<f32> {
        let device = self.yolo.device();
        on_pool(device, || orthogonalise(matrix, shape, device))
    }

    fn weights(&self, parameters: &[f32], buffers: &[f32]) -> Vec<u8> {
        let metadata = Metadata {
            kind: self.yolo.kind(),
            names: self.names.clone(),
            image_size: self.image_size,
        };
        // Invariant: the flat vectors have the layout's length, and any state of it can be written.
        weights::to_bytes(&metadata, parameters, buffers).expect("a whole state")
    }
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
