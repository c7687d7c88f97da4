//! Pictures of a training run: what its data looks like, and how it went.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use data::{Augmenter, Dataset, PictureCache, Plan, SampleId, SampleRequest};
use plots::{LabelStatistics, Panel, draw_labels, draw_sheet, draw_training};
use proto::Recipe;
use worker::prepare::{augment_config, plan_config};

use super::save;
use super::tiles::{SHEET_TILES, SHEETS, labelled, picture, tile};

/// Draws `results.png` from the folder's `results.csv`.
///
/// # Errors
/// When a file cannot be read or written, or a column is missing.
pub(crate) fn draw_results(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("results.csv");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let panels = panels(&text).with_context(|| path.display().to_string())?;
    save(&draw_training(&panels), folder, "results.png")
}

/// Reads the columns that are drawn. Blanks around values are passed over; what is no number becomes a gap.
fn panels(text: &str) -> anyhow::Result<Vec<Panel>> {
    let mut rows = (text.lines()).map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
    let header = rows.next().unwrap_or_default();
    let place = |name: &str| {
        (header.iter().position(|&column| column == name))
            .with_context(|| format!("there is no column {name}"))
    };
    let rows: Vec<Vec<&str>> = rows.collect();
    let number = |row: &Vec<&str>, column: usize| {
        row.get(column)
            .and_then(|text| text.parse().ok())
            .unwrap_or(f64::NAN)
    };
    let epoch = place("epoch")?;
    PANELS
        .iter()
        .map(|&title| {
            let column = place(title)?;
            let points = rows.iter().map(|row| (number(row, epoch), number(row, column)));
            Ok(Panel {
                title: title.to_owned(),
                points: points.collect(),
            })
        })
        .collect()
}

/// Draws `labels.jpg`, and the first batches as the run with this recipe trains on them: `train_batch0.jpg` and so on.
///
/// # Errors
/// When a picture cannot be written.
pub(crate) fn draw_data(folder: &Path, recipe: &Recipe, dataset: &Arc<Dataset>) -> anyhow::Result<()> {
    let labels = dataset.samples.iter().flat_map(|sample| &sample.labels);
    let statistics = LabelStatistics {
        names: dataset.names.clone(),
        boxes: labels.map(|label| (label.class, label.bounds)).collect(),
    };
    save(&draw_labels(&statistics), folder, "labels.jpg")?;
    let plan = Plan::new(plan_config(recipe, dataset.len()))?;
    let cache = PictureCache::new(Arc::clone(dataset), recipe.imgsz, 0);
    let mut augmenter = Augmenter::new(augment_config(recipe), recipe.seed);
    for (number, requests) in first_batches(&plan, recipe).into_iter().enumerate() {
        let tiles = requests.iter().take(SHEET_TILES).map(|&request| {
            let image = augmenter.image(&cache, request);
            let photo = picture(&image.pixels, request.image_size, request.image_size);
            let boxes = (image.boxes.iter())
                .map(|target| labelled(&dataset.names, target.class, target.xyxy, None))
                .collect();
            tile(dataset, request.sample, photo, boxes)
        });
        let sheet = draw_sheet(&tiles.collect::<Vec<_>>());
        save(&sheet, folder, &format!("train_batch{number}.jpg"))?;
    }
    Ok(())
}

/// The pictures of the first batches. A step has one or more of them, each cut into slots.
fn first_batches(plan: &Plan, recipe: &Recipe) -> Vec<Vec<SampleRequest>> {
    let steps = (0..).map_while(|step| plan.step(step));
    let batches = steps.flat_map(|step| {
        let request = |sample: &SampleId| SampleRequest {
            epoch: step.epoch,
            sample: *sample,
            mosaic: step.mosaic,
            image_size: step.image_size,
        };
        let slots = step.slots.chunks(recipe.slots() as usize);
        slots
            .map(|slots| slots.iter().flat_map(|slot| &slot.samples).map(request).collect())
            .collect::<Vec<_>>()
    });
    batches.take(SHEETS).collect()
}

/// The columns that are drawn, in the order of Ultralytics' picture.
const PANELS: [&str; 10] = [
    "train/box_loss",
    "train/cls_loss",
    "train/dfl_loss",
    "metrics/precision(B)",
    "metrics/recall(B)",
    "val/box_loss",
    "val/cls_loss",
    "val/dfl_loss",
    "metrics/mAP50(B)",
    "metrics/mAP50-95(B)",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use data::{Limits, SHAPES, Split};

    use super::*;

    #[test]
    fn columns_are_found_by_name_and_gaps_stay_gaps() {
        let header = format!("epoch,time,{},lr/pg0", PANELS.join(","));
        let row = |epoch: u32, first: &str| format!("{epoch},1.5,{first},1,2,3,4,5,6,7,8,9,0.01");
        let text = format!("{header}\n{}\n   2 , 3, nan\n", row(1, "0.5"));
        let panels = panels(&text).unwrap();
        assert_eq!(panels.len(), 10);
        assert_eq!(panels[0].points[0], (1.0, 0.5));
        assert_eq!(panels[9].title, "metrics/mAP50-95(B)");
        assert_eq!(panels[9].points[0], (1.0, 9.0));
        assert!(panels[0].points[1].0 == 2.0 && panels[0].points[1].1.is_nan());
        assert!(panels[3].points[1].1.is_nan(), "a row that was cut off");
        let error = super::panels("epoch,time\n").unwrap_err();
        assert!(error.to_string().contains("train/box_loss"), "{error}");
    }

    #[test]
    fn first_batches_are_those_of_the_plan() {
        let dataset = Dataset::open(SHAPES, Split::Train, &Limits::default()).unwrap();
        for (nbs, warmup_epochs) in [(64, 0.0), (64, 3.0), (10, 0.0)] {
            let recipe = Recipe {
                batch: 10,
                micro_batch: Some(4),
                nbs,
                warmup_epochs,
                imgsz: 64,
                ..Recipe::default()
            };
            let plan = Plan::new(plan_config(&recipe, dataset.len())).unwrap();
            let batches = first_batches(&plan, &recipe);
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 10]);
            let drawn = batches.iter().flatten().map(|request| request.sample);
            let steps = (0..).map_while(|step| plan.step(step));
            let trained = steps.flat_map(|step| {
                let slots = step.slots.into_iter();
                slots.flat_map(|slot| slot.samples).collect::<Vec<_>>()
            });
            assert!(drawn.eq(trained.take(30)), "nbs {nbs}");
        }
    }
}
