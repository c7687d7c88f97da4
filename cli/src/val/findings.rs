//! What is gathered batch by batch in a validation.

use std::path::Path;
use std::sync::Arc;

use data::{Dataset, ValBatch};
use model::metric::{CONFUSION_CONFIDENCE, ConfusionMatrix, ImageEvidence, match_detections};
use model::nms::Detection;
use plots::{LabelledBox, Tile, draw_sheet};
use worker::yolo::targets;

use crate::outputs::coco_results::{CocoResult, coco_results};
use crate::outputs::save;
use crate::outputs::tiles::{SHEET_TILES, SHEETS, labelled, picture, tile};

/// The findings so far.
pub(super) struct Findings {
    dataset: Arc<Dataset>,
    keeps_results: bool,
    /// What metrics are computed from.
    pub(super) images: Vec<ImageEvidence>,
    /// Which class was found where which one is.
    pub(super) confusion: ConfusionMatrix,
    /// The detections for COCO's evaluation, if they are wanted.
    pub(super) results: Vec<CocoResult>,
}

impl Findings {
    /// Returns none yet.
    pub(super) fn new(dataset: Arc<Dataset>, keeps_results: bool) -> Self {
        Self {
            confusion: ConfusionMatrix::new(dataset.names.len()),
            images: Vec::with_capacity(dataset.len()),
            results: Vec::new(),
            dataset,
            keeps_results,
        }
    }

    /// Adds a batch and what was found in each of its pictures, in pixels of the network input.
    pub(super) fn add(&mut self, batch: &ValBatch, found: &[Vec<Detection>]) {
        for (index, (found, truths)) in found.iter().zip(batch.targets()).enumerate() {
            let truths = targets(&truths);
            self.images.push(match_detections(found, &truths));
            self.confusion.add(found, &truths);
            if self.keeps_results {
                let in_picture = |found: &Detection| Detection {
                    xyxy: batch.letterboxes[index].to_original(found.xyxy),
                    ..*found
                };
                let found: Vec<Detection> = found.iter().map(in_picture).collect();
                self.results
                    .extend(coco_results(&self.dataset, batch.samples[index], &found));
            }
        }
    }

    /// Draws one of the first batches twice: with the objects that are there, and with what was found.
    pub(super) fn draw_batch(
        &self,
        folder: &Path,
        batch: &ValBatch,
        found: &[Vec<Detection>],
    ) -> anyhow::Result<()> {
        let number = batch.index;
        if number as usize >= SHEETS {
            return Ok(());
        }
        let names = &self.dataset.names;
        let labels = batch.targets().into_iter().map(|truths| {
            let boxes = truths.iter();
            boxes
                .map(|truth| labelled(names, truth.class, truth.xyxy, None))
                .collect()
        });
        let sheet = draw_sheet(&self.tiles(batch, labels));
        save(&sheet, folder, &format!("val_batch{number}_labels.jpg"))?;
        let predictions = found.iter().map(|found| {
            let seen = found.iter().filter(|found| found.score > CONFUSION_CONFIDENCE);
            // The best is drawn last, on top.
            seen.rev()
                .map(|found| labelled(names, found.class, found.xyxy, Some(found.score)))
                .collect()
        });
        let sheet = draw_sheet(&self.tiles(batch, predictions));
        save(&sheet, folder, &format!("val_batch{number}_pred.jpg"))
    }

    fn tiles(&self, batch: &ValBatch, boxes: impl Iterator<Item = Vec<LabelledBox>>) -> Vec<Tile> {
        let image_len = 3 * batch.width as usize * batch.height as usize;
        (batch.images.chunks_exact(image_len))
            .zip(&batch.samples)
            .zip(boxes)
            .take(SHEET_TILES)
            .map(|((planes, &sample), boxes)| {
                let photo = picture(planes, batch.width, batch.height);
                tile(&self.dataset, sample, photo, boxes)
            })
            .collect()
    }
}
