//! The recipe: every hyper-parameter of a run, with its default and the reason for it.
//!
//! Names and defaults are those that Ultralytics' users know, so that a command line or a recipe file carries
//! over. A setting that is not of theirs says so. The coordinator reads, validates and resolves the recipe;
//! workers get it over the wire and take nothing from their own command line.
//!
//! | file | holds |
//! |---|---|
//! | `validate` | the allowed range of every value |
//! | `file` | TOML in and out, the digest |
//! | `ultralytics` | `args.yaml` in |
//! | `convert` | to and from the wire message |
//! | `error` | what can be wrong, in one sentence |
//! | `named` | choices by name: optimizers, sums |

mod convert;
mod error;
mod file;
mod named;
mod ultralytics;
mod validate;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::error::RecipeError;
pub use self::named::{OptimizerKind, SumKind, WireKind};
pub use self::ultralytics::Imported;
pub use self::validate::MODELS;

/// All hyper-parameters of a run. Defaults are in [`Recipe::default`], allowed ranges in [`Recipe::validate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Model: one of [`MODELS`].
    pub model: String,
    /// Path of a data.yaml or data set folder, or "shapes" for the built-in set.
    pub data: String,
    /// Path of the weights to start from; fresh weights when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Number of first layers whose parameters and statistics stay as they start.
    pub freeze: u32,
    /// Part of the training images that is used: the first ones by name.
    pub fraction: f64,
    /// Classes whose objects are trained on and validated; all if empty.
    pub classes: Vec<u32>,
    /// Whether all objects are one class, "item".
    pub single_cls: bool,
    /// Passes over the data.
    pub epochs: u32,
    /// Hours after which the run completes, whatever epoch it is in; 0 for no limit. Counted from the first generation, waits
    /// included; a coordinator that takes over counts from the last recorded epoch. Rates follow `epochs`, and an epoch
    /// that is broken off is saved but not validated.
    pub time: f64,
    /// Images in a global batch, whatever the world size.
    pub batch: u32,
    /// Side of the square network input in pixels.
    pub imgsz: u32,
    /// Images in a slot, the unit of work that is dealt to ranks; see [`Recipe::micro_batch`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<u32>,
    /// The optimizer.
    pub optimizer: OptimizerKind,
    /// Learning rate after the warm-up.
    pub lr0: f64,
    /// Final learning rate as a fraction of `lr0`.
    pub lrf: f64,
    /// Momentum of SGD and MuSGD, or beta 1 of AdamW.
    pub momentum: f64,
    /// Weight decay at the nominal batch.
    pub weight_decay: f64,
    /// Length of the warm-up in epochs.
    pub warmup_epochs: f64,
    /// Momentum at the start of the warm-up.
    pub warmup_momentum: f64,
    /// Learning rate of the biases at the start of the warm-up.
    pub warmup_bias_lr: f64,
    /// Nominal batch: gradients are accumulated until about this many images.
    pub nbs: u32,
    /// Cosine instead of linear decay of the learning rate.
    pub cos_lr: bool,
    /// Weight of the box loss; the key is `box`.
    #[serde(rename = "box")]
    pub box_gain: f64,
    /// Weight of the classification loss; the key is `cls`.
    #[serde(rename = "cls")]
    pub cls_gain: f64,
    /// Weight of the distribution focal loss; the key is `dfl`.
    #[serde(rename = "dfl")]
    pub dfl_gain: f64,
    /// Power of the inverse frequency of a class that weighs its part of the classification loss; 0 weighs all alike.
    pub cls_pw: f64,
    /// Epochs without improvement after which the run completes early; see [`Recipe::early_stop`].
    pub patience: u32,
    /// Seed of weights, data order and augmentation.
    pub seed: u64,
    /// Largest change of hue, as a fraction of the circle.
    pub hsv_h: f64,
    /// Largest change of saturation, as a fraction.
    pub hsv_s: f64,
    /// Largest change of brightness, as a fraction.
    pub hsv_v: f64,
    /// Largest rotation in degrees.
    pub degrees: f64,
    /// Largest shift, as a fraction of the image.
    pub translate: f64,
    /// Largest change of scale, as a fraction.
    pub scale: f64,
    /// Largest shear in degrees.
    pub shear: f64,
    /// Largest perspective per pixel.
    pub perspective: f64,
    /// Probability of turning an image upside down.
    pub flipud: f64,
    /// Probability of mirroring an image.
    pub fliplr: f64,
    /// Probability of swapping red and blue.
    pub bgr: f64,
    /// Probability of making a mosaic of four images.
    pub mosaic: f64,
    /// Probability of laying a second image over the first.
    pub mixup: f64,
    /// Probability of putting a rectangle of a second image into the first.
    pub cutmix: f64,
    /// Number of last epochs without mosaic, mixup and cutmix.
    pub close_mosaic: u32,
    /// By which fraction of `imgsz` the input's side changes from step to step, up or down.
    pub multi_scale: f64,
    /// IoU above which validation drops the weaker of two boxes of one class.
    pub iou: f64,
    /// Most detections kept for one image.
    pub max_det: u32,
    /// Largest global L2 norm of the gradient.
    pub clip_norm: f64,
    /// Decay of the moving average of the weights.
    pub ema_decay: f64,
    /// Steps over which that decay builds up.
    pub ema_tau: f64,
    /// Steps in a row with a gradient that is not finite after which the run fails.
    pub nonfinite_max: u32,
    /// Size of the largest gradient buckets in MiB. Those of the default keep a network's links busy; within one host, smaller ones
    /// ([`ONE_HOST_BUCKET_MIB`]) are still in the caches when their sums come back.
    pub bucket_mib: u32,
    /// How gradients are added up.
    pub sum: SumKind,
    /// How plain sums travel between workers.
    pub wire: WireKind,
    /// Steps between two log lines with the hash of the state; 0 for none.
    pub hash_every: u32,
    /// Steps between two checkpoints; 0 for none by steps.
    pub checkpoint_every: u32,
    /// Epochs between two checkpoints; 0 for none by epochs.
    pub save_period: u32,
    /// Steps between two comparisons of the ranks' states; 0 for none.
    pub digest_every: u32,
}

impl Default for Recipe {
    /// The recipe of a plain `train`.
    fn default() -> Self {
        Self {
            // The smallest model and the built-in data: something trains before anything is downloaded.
            model: "yolov8n".into(),
            data: "shapes".into(),
            weights: None,
            freeze: 0,
            // All of the data, as it is labelled.
            fraction: 1.0,
            classes: Vec::new(),
            single_cls: false,
            // Ultralytics' defaults of the same names, tuned on COCO.
            epochs: 100,
            time: 0.0,
            batch: 16,
            imgsz: 640,
            // Not of Ultralytics: a slot per worker for up to four workers.
            micro_batch: None,
            // Short runs converge faster with AdamW, long ones take MuSGD, as in Ultralytics 8.4; `auto` decides by length.
            optimizer: OptimizerKind::Auto,
            lr0: 0.01,
            lrf: 0.01,
            momentum: 0.937,
            weight_decay: 0.0005,
            warmup_epochs: 3.0,
            warmup_momentum: 0.8,
            warmup_bias_lr: 0.1,
            nbs: 64,
            cos_lr: false,
            box_gain: 7.5,
            cls_gain: 0.5,
            dfl_gain: 1.5,
            cls_pw: 0.0,
            patience: 100,
            // 0 there as well: the same command gives the same run.
            seed: 0,
            // Mild colour changes, no rotation, a wide range of scales: photos taken upright.
            hsv_h: 0.015,
            hsv_s: 0.7,
            hsv_v: 0.4,
            degrees: 0.0,
            translate: 0.1,
            scale: 0.5,
            shear: 0.0,
            perspective: 0.0,
            flipud: 0.0,
            fliplr: 0.5,
            bgr: 0.0,
            mosaic: 1.0,
            mixup: 0.0,
            cutmix: 0.0,
            // The last epochs see whole images, as validation does.
            close_mosaic: 10,
            multi_scale: 0.0,
            iou: 0.7,
            max_det: 300,
            // Fixed inside Ultralytics' trainer; settings here.
            clip_norm: 10.0,
            ema_decay: 0.9999,
            ema_tau: 2000.0,
            // Not of Ultralytics: a rare overflow is skipped, a diverged run ends before it wastes an hour.
            nonfinite_max: 10,
            // Not of Ultralytics: several buckets for yolov8n, so that sending overlaps with computing and little is left
            // to send at the end, and still large enough that latency hardly counts (BENCHMARKS.md, all-reduce).
            bucket_mib: 4,
            // Not of Ultralytics: the weights then do not depend on the number of workers.
            sum: SumKind::Exact,
            wire: WireKind::F32,
            hash_every: 0,
            // The end of an epoch is where people look for something to resume from.
            checkpoint_every: 0,
            save_period: 1,
            // Not of Ultralytics: hashing yolov8n's state takes about 15 ms, so this costs next to nothing.
            digest_every: 50,
        }
    }
}

impl Recipe {
    /// Images in a slot: the value given, or else a quarter of the batch, rounded up, at most 16.
    ///
    /// It does not depend on the world size, because BatchNorm sees one slot at a time: the same recipe must
    /// mean the same training on any number of workers. A quarter serves up to four workers; more of them
    /// want it set.
    pub fn micro_batch(&self) -> u32 {
        self.micro_batch.unwrap_or_else(|| {
            self.batch
                .div_ceil(DEFAULT_SLOTS)
                .clamp(1, DEFAULT_MICRO_BATCH_MAX)
        })
    }

    /// Size of the largest gradient buckets in bytes.
    pub fn bucket_bytes(&self) -> usize {
        (self.bucket_mib as usize) << 20
    }

    /// Number of slots in a full batch, which bounds the useful number of workers.
    pub fn slots(&self) -> u32 {
        self.batch.div_ceil(self.micro_batch().max(1))
    }

    /// Epochs without improvement after which the run completes early; `None` for `patience = 0`, which is
    /// how Ultralytics spells "never".
    pub fn early_stop(&self) -> Option<u32> {
        (self.patience > 0).then_some(self.patience)
    }

    /// Time of training after which the run completes.
    pub fn time_limit(&self) -> Option<Duration> {
        (self.time > 0.0).then(|| Duration::from_secs_f64(self.time * 3600.0))
    }

    /// The same recipe with every value filled in, as it is sent to workers and stored with the run.
    #[must_use]
    pub fn resolved(self) -> Self {
        Self {
            micro_batch: Some(self.micro_batch()),
            ..self
        }
    }

    /// The same recipe with the plain name of the model, where it is written with the ending of Ultralytics' files or in another
    /// case: `yolo11n` for `YOLO11n.yaml`.
    #[must_use]
    pub fn with_plain_model_name(mut self) -> Self {
        let lower = self.model.trim().to_ascii_lowercase();
        let name = lower.strip_suffix(".yaml").unwrap_or(&lower);
        if let Some(known) = MODELS.into_iter().find(|known| *known == name) {
            self.model = known.to_owned();
        }
        self
    }

    /// Checks that every worker of this many gets a slot of a full batch.
    ///
    /// # Errors
    /// When there are more workers than slots, or the world size itself is out of range; the sentence says
    /// what to change.
    pub fn check_world_size(&self, world_size: usize) -> Result<(), RecipeError> {
        if world_size == 0 || world_size > crate::MAX_WORLD_SIZE {
            return Err(RecipeError::WorldSize { world_size });
        }
        let slots = self.slots();
        if world_size > slots as usize {
            return Err(RecipeError::TooFewSlots {
                world_size,
                slots,
                batch: self.batch,
                micro_batch: self.micro_batch(),
            });
        }
        Ok(())
    }
}

/// A small cluster's worth of workers.
const DEFAULT_SLOTS: u32 = 4;

/// BatchNorm statistics hardly get better beyond this, and memory of small GPUs ends.
const DEFAULT_MICRO_BATCH_MAX: u32 = 16;

/// What suits workers of one host, whose links are Unix sockets: see [`Recipe::bucket_mib`].
pub const ONE_HOST_BUCKET_MIB: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_slot_is_a_quarter_of_the_batch() {
        for (batch, expected) in [(1, 1), (2, 1), (4, 1), (5, 2), (16, 4), (64, 16), (200, 16)] {
            let recipe = Recipe {
                batch,
                ..Recipe::default()
            };
            assert_eq!(recipe.micro_batch(), expected, "batch {batch}");
            assert_eq!(recipe.clone().resolved().micro_batch, Some(expected));
        }
    }

    #[test]
    fn more_workers_than_slots_are_refused_with_a_hint_that_helps() {
        let recipe = Recipe::default();
        assert_eq!(recipe.check_world_size(4), Ok(()));
        let error = recipe.check_world_size(5).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("--micro-batch 3, or take fewer workers"),
            "{error}"
        );
        let helped = Recipe {
            micro_batch: Some(3),
            ..recipe
        };
        assert_eq!(helped.check_world_size(5), Ok(()));
        let error = helped.check_world_size(17).unwrap_err();
        assert!(error.to_string().contains("--batch 17"), "{error}");
        assert!(helped.check_world_size(0).is_err());
        assert!(helped.check_world_size(65).is_err());
    }

    #[test]
    fn a_model_may_be_named_as_its_file_is() {
        for (written, expected) in [
            ("yolo11n", "yolo11n"),
            ("YOLO11x.yaml", "yolo11x"),
            ("yolov9c.yaml", "yolov9c.yaml"),
            ("best.pt", "best.pt"),
        ] {
            let recipe = Recipe {
                model: written.into(),
                ..Recipe::default()
            };
            assert_eq!(recipe.with_plain_model_name().model, expected);
        }
    }

    #[test]
    fn patience_zero_means_never() {
        assert_eq!(Recipe::default().early_stop(), Some(100));
        assert_eq!(
            Recipe {
                patience: 0,
                ..Recipe::default()
            }
            .early_stop(),
            None
        );
    }
}
