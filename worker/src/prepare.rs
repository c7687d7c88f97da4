//! Opens what a run needs on this host: device, data and model, and says what was opened.
//!
//! The only place where the recipe meets the configuration types of `data` and `model`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use data::{AugmentConfig, Dataset, Limits, PictureCache, Plan, PlanConfig, Selection, Split};
use model::device::{open_device, share_out};
use model::kind::ModelKind;
use model::layout::FlatState;
use model::loss::LossGains;
use model::nms::NmsConfig;
use model::weights::{self, Weights};
use proto::{DatasetCard, Fingerprint, ModelCard, Recipe, SumKind};
use tracing::{info, warn};

use crate::arithmetic::arithmetic;
use crate::compute::loader_config;
use crate::training::fixed_point::bits_for;
use crate::training::learner::Learner;
use crate::training::optimizer::Optimizer;
use crate::training::schedule::Schedule;
use crate::training::source::Pictures;
use crate::training::state::State;
use crate::yolo::YoloLearner;

/// What this host decides for itself. None of it changes what is computed; device and threads may change rounding, which
/// exact sums compare at join.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Device, as `--device` takes it.
    pub device: String,
    /// Threads to compute with; all cores when absent.
    pub threads: Option<NonZeroUsize>,
    /// Where the data lies on this host, when not where the recipe says.
    pub data: Option<PathBuf>,
    /// Where decoded pictures are shared with other workers of this host.
    pub cache: Option<PathBuf>,
}

impl HostOptions {
    /// Returns the number of threads to compute with.
    pub fn thread_count(&self) -> NonZeroUsize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(cores)
    }
}

/// Everything that was opened.
pub struct Prepared {
    /// Makes batches of both splits.
    pub source: Pictures,
    /// The model on its device.
    pub learner: YoloLearner,
    /// Which samples each step uses.
    pub plan: Plan,
    /// Rates of each step.
    pub schedule: Schedule,
    /// The state that training starts from.
    pub initial: State,
    /// What the coordinator compares.
    pub dataset_card: DatasetCard,
    /// What the coordinator compares.
    pub model_card: ModelCard,
}

/// Opens all that `recipe` names.
///
/// # Errors
/// One sentence about the first thing that cannot be opened.
pub fn prepare(recipe: &Recipe, host: &HostOptions) -> anyhow::Result<Prepared> {
    let device = open_device(&host.device, host.threads)?;
    // Fixed by the recipe, not by this rank's share: what a slot is computed with may change its rounding.
    let slots_at_once = share_out(&device, host.thread_count(), recipe.slots() as usize);
    let path = host.data.clone().unwrap_or_else(|| PathBuf::from(&recipe.data));
    let training = open_split(&path, Split::Train, recipe)?;
    let validation = open_split(&path, Split::Val, recipe)?;
    ensure!(
        training.names == validation.names,
        "the training and validation splits of {} have different classes",
        path.display()
    );

    let most_objects = training.most_objects().max(validation.most_objects());
    let max_detections = detections_kept(recipe.max_det as usize, most_objects);
    if max_detections < most_objects {
        warn!(
            max_detections,
            most_objects, "an image has more objects than detections are kept: recall is capped"
        );
    }
    let start = starting_weights(recipe)?;
    let classes = training.names.len();
    let architecture = match &start {
        Some(weights) => weights.metadata.tuned_to(classes),
        None => recipe.model.parse::<ModelKind>()?.with_classes(classes),
    };
    let learner = YoloLearner::new(architecture, training.names.clone(), recipe.imgsz, &device)
        .with_gains(LossGains {
            r#box: recipe.box_gain as f32,
            cls: recipe.cls_gain as f32,
            dfl: recipe.dfl_gain as f32,
            classes: class_weights(&training.class_counts(), recipe.cls_pw),
        })
        .with_nms(NmsConfig {
            iou: recipe.iou as f32,
            max_detections,
            ..NmsConfig::validation()
        })
        .with_slots_at_once(slots_at_once)
        .with_frozen(recipe.freeze as usize)?;
    let plan = Plan::new(plan_config(recipe, training.len()))?;
    ensure!(
        recipe.sum == SumKind::F32 || bits_for(plan.slots_max()) >= BITS_MIN,
        "a step of {} slots leaves exact sums too few bits; give a larger --micro-batch, or --sum f32",
        plan.slots_max()
    );
    let schedule = Schedule::new(recipe, &plan, training.len(), training.names.len());
    let flat = initial_state(start.as_ref(), recipe.seed, &learner, &training.names);
    let layout = learner.layout();
    let tensors = layout.parameters.len() + layout.buffers.len();
    let initial = State::new(flat, schedule.optimizer.moments(), tensors);
    let model_card = model_card(recipe, host, &learner, &initial, schedule.optimizer);
    info!(
        model = model_card.description,
        optimizer = schedule.optimizer.name(),
        device = host.device,
        backend = ?learner.yolo().device(),
        training_images = training.len(),
        validation_images = validation.len(),
        steps = plan.steps(),
        "opened data and model"
    );
    let dataset_card = DatasetCard {
        fingerprint: combine(&[&training.fingerprint(), &validation.fingerprint()]),
        train_images: training.len() as u64,
        val_images: validation.len() as u64,
        class_names: training.names.clone(),
    };
    let cache = |dataset| -> anyhow::Result<_> {
        let cache = PictureCache::new(dataset, recipe.imgsz, CACHE_BYTES);
        Ok(Arc::new(match &host.cache {
            Some(folder) => shared_in(cache, folder)?,
            None => cache,
        }))
    };
    let (training, validation) = (cache(training)?, cache(validation)?);
    Ok(Prepared {
        source: Pictures::new(
            recipe,
            augment_config(recipe),
            loader_config(slots_at_once),
            training,
            validation,
        ),
        learner,
        plan,
        schedule,
        initial,
        dataset_card,
        model_card,
    })
}

/// Keeps the pictures of a cache in a folder.
///
/// # Errors
/// When the folder cannot be made.
pub fn shared_in(cache: PictureCache, folder: &Path) -> anyhow::Result<PictureCache> {
    let shared = cache.shared_in(folder.to_owned());
    shared.with_context(|| format!("cannot share decoded pictures in {}", folder.display()))
}

/// Returns the factors on the class term: the power of each class's inverse frequency, with a mean of 1. Classes that
/// nothing is labelled as have the mean of the others. Empty, for 1, when `power` is 0.
///
/// # Source
/// `cls_pw` of Ultralytics 8.4.
fn class_weights(counts: &[usize], power: f64) -> Vec<f32> {
    let inverse = |&count: &usize| (count > 0).then(|| (1.0 / count as f64).powf(power));
    let seen: Vec<f64> = counts.iter().filter_map(inverse).collect();
    if power == 0.0 || seen.is_empty() {
        return Vec::new();
    }
    // The others have their mean, so it is the mean of all.
    let mean = seen.iter().sum::<f64>() / seen.len() as f64;
    let factors = counts.iter().map(|count| inverse(count).unwrap_or(mean) / mean);
    factors.map(|factor| factor as f32).collect()
}

/// Returns the augmentation that a recipe asks for.
pub fn augment_config(recipe: &Recipe) -> AugmentConfig {
    AugmentConfig {
        mosaic: recipe.mosaic,
        mixup: recipe.mixup,
        cutmix: recipe.cutmix,
        degrees: recipe.degrees,
        translate: recipe.translate,
        scale: recipe.scale,
        shear: recipe.shear,
        perspective: recipe.perspective,
        hsv_h: recipe.hsv_h,
        hsv_s: recipe.hsv_s,
        hsv_v: recipe.hsv_v,
        flipud: recipe.flipud,
        fliplr: recipe.fliplr,
        bgr: recipe.bgr,
    }
}

/// Returns what of the data a recipe uses.
pub fn selection(recipe: &Recipe) -> Selection {
    Selection {
        fraction: recipe.fraction,
        classes: recipe.classes.clone(),
        single_class: recipe.single_cls,
    }
}

/// Returns what the plan of a recipe depends on, for a training set of so many samples.
pub fn plan_config(recipe: &Recipe, dataset_len: usize) -> PlanConfig {
    PlanConfig {
        dataset_len,
        batch: recipe.batch as usize,
        micro_batch: recipe.micro_batch() as usize,
        nominal_batch: recipe.nbs as usize,
        epochs: recipe.epochs,
        warmup_epochs: recipe.warmup_epochs,
        seed: recipe.seed,
        close_mosaic: recipe.close_mosaic,
        image_size: recipe.imgsz,
        multi_scale: recipe.multi_scale,
    }
}

/// Returns how many detections of an image count in validation: as many as asked for, but where that is the default, as many
/// as any image has objects.
pub fn detections_kept(asked: usize, most_objects: usize) -> usize {
    if asked == Recipe::default().max_det as usize {
        asked.max(most_objects)
    } else {
        asked
    }
}

fn open_split(path: &Path, split: Split, recipe: &Recipe) -> anyhow::Result<Arc<Dataset>> {
    let dataset = Dataset::open(path, split, &Limits::default())?.select(&selection(recipe))?;
    for skipped in dataset.skipped.iter().take(SKIPPED_SHOWN) {
        warn!(%skipped, "image skipped");
    }
    let skipped = dataset.skipped.len();
    if skipped > 0 {
        warn!(skipped, used = dataset.len(), ?split, "images were skipped");
    }
    Ok(Arc::new(dataset))
}

/// Returns what the run starts from, when that is a file.
///
/// # Errors
/// When it cannot be read, or holds another model than the run's.
pub fn starting_weights(recipe: &Recipe) -> anyhow::Result<Option<Weights>> {
    let Some(path) = &recipe.weights else {
        return Ok(None);
    };
    let loaded =
        weights::load(path.as_ref()).with_context(|| format!("cannot start from --weights {path}"))?;
    let (found, wanted) = (loaded.metadata.kind, recipe.model.parse::<ModelKind>()?);
    ensure!(
        found == wanted,
        "cannot start from --weights {path}: it holds {found}, the run trains {wanted}; give --model {found}"
    );
    Ok(Some(loaded))
}

fn initial_state(start: Option<&Weights>, seed: u64, learner: &YoloLearner, names: &[String]) -> FlatState {
    let Some(start) = start else {
        return learner.yolo().initial_state(seed);
    };
    let (state, report) = weights::transfer(start, names, seed);
    for line in report.to_string().lines() {
        info!("weights: {line}");
    }
    state
}

fn model_card(
    recipe: &Recipe,
    host: &HostOptions,
    learner: &YoloLearner,
    initial: &State,
    optimizer: Optimizer,
) -> ModelCard {
    let layout = learner.layout();
    let from = recipe
        .weights
        .as_ref()
        .map(|path| format!(", from {path}"))
        .unwrap_or_default();
    ModelCard {
        // The first state belongs to it: workers that start from other weights must not meet.
        layout_digest: combine(&[&layout.digest(), &initial.hash().state.to_string()]),
        description: format!(
            "{}, {} classes, {} parameters{from}",
            learner.yolo().kind(),
            learner.classes(),
            layout.parameter_count()
        ),
        // MuSGD computes a part of each update on the device, and every rank must get the same.
        arithmetic: if recipe.sum == SumKind::Exact || optimizer == Optimizer::MuSgd {
            arithmetic(
                learner.yolo().device(),
                host.thread_count().get() / learner.slots_at_once(),
            )
        } else {
            String::new()
        },
    }
}

fn combine(digests: &[&str]) -> Fingerprint {
    Fingerprint::of(digests.join(" ").as_bytes())
}

/// Fewest bits of a value in an exact sum: with the room above it, still more than half-precision numbers have.
const BITS_MIN: u32 = 21;

/// So many skipped images are named one by one; the rest is counted.
const SKIPPED_SHOWN: usize = 10;

/// Decoded pictures kept in memory for each split; beyond it they are decoded anew each time.
pub const CACHE_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowded_images_raise_the_default_limit_and_no_other() {
        let cases = [((300, 20), 300), ((300, 900), 900), ((100, 900), 100)];
        for ((asked, most), kept) in cases {
            assert_eq!(detections_kept(asked, most), kept, "{asked} asked, {most} there");
        }
    }

    #[test]
    fn rare_classes_weigh_more_and_unseen_ones_as_the_mean() {
        assert_eq!(class_weights(&[100, 1], 0.0), Vec::<f32>::new());
        assert_eq!(class_weights(&[0, 0], 1.0), Vec::<f32>::new());
        assert_eq!(class_weights(&[300, 100], 1.0), [0.5, 1.5]);
        assert_eq!(class_weights(&[400, 0, 100], 0.5), [2.0 / 3.0, 1.0, 4.0 / 3.0]);
    }
}
