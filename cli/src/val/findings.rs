//! What is gathered batch by batch in a validation.

use std::path::Path;
use std::sync::Arc;

use data::{Dataset, ValBatch};
use model::metric::{ConfusionMatrix, ImageEvidence, match_detections};
use model::nms::{Detection, NmsConfig};
use plots::{LabelledBox, Tile, draw_sheet};
use worker::yolo::targets;

use crate::outputs::coco_results::{CocoResult, coco_results};
use crate::outputs::save;
use crate::outputs::tiles::{SHEET_TILES, SHEETS, labelled, picture, tile};

/// The findings so far.
pub(super) struct Findings {
    dataset: Arc<Dataset>,
    keeps_results: bool,
    /// Number of files that could not be decoded.
    unreadable: usize,
    /// The first of them, and why.
    first_unreadable: Option<String>,
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
            unreadable: 0,
            first_unreadable: None,
        }
    }

    /// Adds a batch and what was found in each of its pictures, in pixels of the network input.
    pub(super) fn add(&mut self, batch: &ValBatch, found: &[Vec<Detection>]) {
        self.unreadable += batch.unreadable as usize;
        if batch.unreadable > 0 && self.first_unreadable.is_none() {
            self.first_unreadable = self.find_unreadable(batch);
        }
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

    /// Returns what is worth saying about files that could not be decoded, if there were any.
    pub(super) fn unreadable_remark(&self) -> Option<String> {
        let first = (self.first_unreadable.as_ref())
            .map_or_else(String::new, |first| format!("; the first: {first}"));
        (self.unreadable > 0).then(|| {
            format!(
                "{} of {} images could not be decoded, and what is in them counts as missed{first}",
                self.unreadable,
                self.images.len()
            )
        })
    }

    /// The loader keeps no reasons, for they are seldom asked for: the batch is read once more.
    fn find_unreadable(&self, batch: &ValBatch) -> Option<String> {
        batch.samples.iter().find_map(|&sample| {
            let error = self.dataset.picture(sample).err()?;
            Some(format!("{}: {error}", self.dataset.sample(sample).name))
        })
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
        let confidence = NmsConfig::prediction().confidence;
        let predictions = found.iter().map(|found| {
            let seen = found.iter().filter(|found| found.score > confidence);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use std::fs;
    use std::num::NonZeroUsize;

    use data::{Limits, Picture, PictureCache, Split, ValLoader, val_batches};
    use worker::compute::loader_config;

    use super::*;

    #[test]
    fn files_that_cannot_be_decoded_are_counted_and_the_first_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["images", "labels"] {
            fs::create_dir(path(name)).unwrap();
        }
        for name in ["a", "b"] {
            let picture = Picture::filled(40, 30, [90; 3]);
            picture.write(&path(&format!("images/{name}.png"))).unwrap();
            fs::write(path(&format!("labels/{name}.txt")), "0 0.5 0.5 0.2 0.2\n").unwrap();
        }
        fs::write(path("data.yaml"), "val: images\nnames: [thing]\n").unwrap();
        let dataset = Dataset::open(path("data.yaml"), Split::Val, &Limits::default()).unwrap();
        fs::write(path("images/b.png"), "no picture any more").unwrap();

        let dataset = Arc::new(dataset);
        let jobs = val_batches(&dataset, 64, 2);
        let cache = Arc::new(PictureCache::new(Arc::clone(&dataset), 64, 0));
        let mut findings = Findings::new(dataset, false);
        assert_eq!(findings.unreadable_remark(), None);
        for batch in ValLoader::start(cache, jobs.into_iter(), loader_config(NonZeroUsize::MIN)) {
            findings.add(&batch.unwrap(), &[Vec::new(), Vec::new()]);
        }
        assert_eq!(
            findings.unreadable_remark().unwrap(),
            "1 of 2 images could not be decoded, and what is in them counts as missed; the first: images/b.png: \
             the file is no JPEG, PNG, WebP, BMP or TIFF"
        );
    }
}
