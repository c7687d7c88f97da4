//! The recipe on the command line: a file, and flags that win over it.
//!
//! Flags have Ultralytics' names, with `-` or `_`. Their defaults are those of [`Recipe::default`] and are read
//! from there for the help text.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use proto::{Imported, OptimizerKind, Recipe, RecipeError, SumKind, WireKind};
use thiserror::Error;

/// Every recipe argument, for a command to flatten. Each field overrides the recipe's field of that name.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Recipe", rename_all = "kebab-case")]
#[allow(missing_docs)] // Each flag is the recipe's field of the same name and described in its help.
pub struct RecipeArgs {
    /// Recipe file (TOML), or an `args.yaml` of Ultralytics, that gives the values of flags that are absent.
    #[arg(long, alias = "cfg", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[arg(long, value_name = "NAME", help = described("Model: yolov8n, -s, -m, -l or -x, or yolo11n, -s, -m, -l or -x", |r| r.model.clone()))]
    pub model: Option<String>,
    #[arg(long, value_name = "PATH", help = described("Data set: a data.yaml, a folder, or \"shapes\" for the built-in set", |r| r.data.clone()))]
    pub data: Option<String>,
    #[arg(
        long,
        value_name = "FILE",
        help = "Weights to start from (.safetensors or .pt), also for other classes; fresh ones otherwise"
    )]
    pub weights: Option<String>,
    #[arg(long, value_name = "LAYERS", help = described("First layers whose parameters and statistics stay as they start", |r| r.freeze))]
    pub freeze: Option<u32>,
    #[arg(long, value_name = "FRACTION", help = described("Part of the training images that is used: the first ones by name", |r| r.fraction))]
    pub fraction: Option<f64>,
    #[arg(
        long,
        value_name = "N,N",
        value_delimiter = ',',
        help = "Only objects of these classes, by number [default: all]"
    )]
    pub classes: Option<Vec<u32>>,
    #[arg(long, alias = "single_cls", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help = described("Train on all objects as one class", |r| r.single_cls))]
    pub single_cls: Option<bool>,
    #[arg(long, value_name = "N", help = described("Passes over the data", |r| r.epochs))]
    pub epochs: Option<u32>,
    #[arg(long, value_name = "HOURS", help = described("Complete after so many hours, whatever epoch it is: what is trained since the last whole one is saved, not validated; rates follow --epochs; 0 means no limit", |r| r.time))]
    pub time: Option<f64>,
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = images, help = described("Images in a global batch, all workers together", |r| r.batch))]
    pub batch: Option<u32>,
    #[arg(long, value_name = "PIXELS", help = described("Side of the square network input in pixels", |r| r.imgsz))]
    pub imgsz: Option<u32>,
    #[arg(
        long,
        alias = "micro_batch",
        value_name = "N",
        help = "Images in a slot, the unit of work dealt to workers [default: a quarter of the batch, at most 16]"
    )]
    pub micro_batch: Option<u32>,
    #[arg(long, value_name = "NAME", help = described("auto, SGD, AdamW or MuSGD; auto takes AdamW for runs of at most 10000 steps, else MuSGD, and sets lr0, momentum and warmup_bias_lr by itself", |r| r.optimizer))]
    pub optimizer: Option<OptimizerKind>,
    #[arg(long, value_name = "RATE", help = described("Learning rate after the warm-up", |r| r.lr0))]
    pub lr0: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Final learning rate as a fraction of lr0", |r| r.lrf))]
    pub lrf: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Momentum of SGD and MuSGD, or beta 1 of AdamW", |r| r.momentum))]
    pub momentum: Option<f64>,
    #[arg(long, alias = "weight_decay", value_name = "FRACTION", help = described("Weight decay", |r| r.weight_decay))]
    pub weight_decay: Option<f64>,
    #[arg(long, alias = "warmup_epochs", value_name = "EPOCHS", help = described("Length of the warm-up in epochs", |r| r.warmup_epochs))]
    pub warmup_epochs: Option<f64>,
    #[arg(long, alias = "warmup_momentum", value_name = "FRACTION", help = described("Momentum at the start of the warm-up", |r| r.warmup_momentum))]
    pub warmup_momentum: Option<f64>,
    #[arg(long, alias = "warmup_bias_lr", value_name = "RATE", help = described("Learning rate of the biases at the start of the warm-up", |r| r.warmup_bias_lr))]
    pub warmup_bias_lr: Option<f64>,
    #[arg(long, value_name = "N", help = described("Nominal batch: gradients are accumulated until about this many images", |r| r.nbs))]
    pub nbs: Option<u32>,
    #[arg(long, alias = "cos_lr", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help = described("Cosine instead of linear decay of the learning rate", |r| r.cos_lr))]
    pub cos_lr: Option<bool>,
    #[arg(long = "box", value_name = "GAIN", help = described("Weight of the box loss", |r| r.box_gain))]
    pub box_gain: Option<f64>,
    #[arg(long = "cls", value_name = "GAIN", help = described("Weight of the classification loss", |r| r.cls_gain))]
    pub cls_gain: Option<f64>,
    #[arg(long = "dfl", value_name = "GAIN", help = described("Weight of the distribution focal loss", |r| r.dfl_gain))]
    pub dfl_gain: Option<f64>,
    #[arg(long, alias = "cls_pw", value_name = "POWER", help = described("Weigh rare classes more: the power of a class's inverse frequency, 0 to 1", |r| r.cls_pw))]
    pub cls_pw: Option<f64>,
    #[arg(long, value_name = "EPOCHS", help = described("Epochs without improvement after which the run completes early; 0 means never", |r| r.patience))]
    pub patience: Option<u32>,
    #[arg(long, value_name = "N", help = described("Seed of weights, data order and augmentation", |r| r.seed))]
    pub seed: Option<u64>,
    #[arg(long, alias = "hsv_h", value_name = "FRACTION", help = described("Largest change of hue", |r| r.hsv_h))]
    pub hsv_h: Option<f64>,
    #[arg(long, alias = "hsv_s", value_name = "FRACTION", help = described("Largest change of saturation", |r| r.hsv_s))]
    pub hsv_s: Option<f64>,
    #[arg(long, alias = "hsv_v", value_name = "FRACTION", help = described("Largest change of brightness", |r| r.hsv_v))]
    pub hsv_v: Option<f64>,
    #[arg(long, value_name = "DEGREES", help = described("Largest rotation", |r| r.degrees))]
    pub degrees: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Largest shift, as a fraction of the image", |r| r.translate))]
    pub translate: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Largest change of scale", |r| r.scale))]
    pub scale: Option<f64>,
    #[arg(long, value_name = "DEGREES", help = described("Largest shear", |r| r.shear))]
    pub shear: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Largest perspective per pixel, at most 0.001", |r| r.perspective))]
    pub perspective: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Probability of turning an image upside down", |r| r.flipud))]
    pub flipud: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Probability of mirroring an image", |r| r.fliplr))]
    pub fliplr: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Probability of swapping red and blue", |r| r.bgr))]
    pub bgr: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Probability of making a mosaic of four images", |r| r.mosaic))]
    pub mosaic: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Probability of laying a second image over the first", |r| r.mixup))]
    pub mixup: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("Probability of putting a rectangle of a second image into the first", |r| r.cutmix))]
    pub cutmix: Option<f64>,
    #[arg(long, alias = "close_mosaic", value_name = "EPOCHS", help = described("Number of last epochs without mosaic, mixup and cutmix", |r| r.close_mosaic))]
    pub close_mosaic: Option<u32>,
    #[arg(long, alias = "multi_scale", value_name = "FRACTION", help = described("By which fraction of imgsz the input's side changes from step to step", |r| r.multi_scale))]
    pub multi_scale: Option<f64>,
    #[arg(long, value_name = "FRACTION", help = described("IoU above which validation drops the weaker of two boxes of a class", |r| r.iou))]
    pub iou: Option<f64>,
    #[arg(long, alias = "max_det", value_name = "N", help = described("Most detections kept for one image", |r| r.max_det))]
    pub max_det: Option<u32>,
    #[arg(long, alias = "clip_norm", value_name = "NORM", help = described("Largest global L2 norm of the gradient", |r| r.clip_norm))]
    pub clip_norm: Option<f64>,
    #[arg(long, alias = "ema_decay", value_name = "FRACTION", help = described("Decay of the moving average of the weights", |r| r.ema_decay))]
    pub ema_decay: Option<f64>,
    #[arg(long, alias = "ema_tau", value_name = "STEPS", help = described("Steps over which that decay builds up", |r| r.ema_tau))]
    pub ema_tau: Option<f64>,
    #[arg(long, alias = "nonfinite_max", value_name = "STEPS", help = described("Steps in a row with a gradient that is not finite after which the run fails", |r| r.nonfinite_max))]
    pub nonfinite_max: Option<u32>,
    #[arg(long, alias = "bucket_mib", value_name = "MIB", help = described("Size of the largest gradient buckets in MiB", |r| r.bucket_mib))]
    pub bucket_mib: Option<u32>,
    #[arg(long, value_name = "KIND", help = described("How gradients are added up: exact (the same bits for any number of workers) or f32", |r| r.sum))]
    pub sum: Option<SumKind>,
    #[arg(long, value_name = "KIND", help = described("How f32 sums travel: f32, or bf16 (half the bytes; kernels lose bits, all else does not)", |r| r.wire))]
    pub wire: Option<WireKind>,
    #[arg(long, alias = "hash_every", value_name = "STEPS", help = described("Steps between two log lines with the hash of the state; 0 for none", |r| r.hash_every))]
    pub hash_every: Option<u32>,
    #[arg(long, alias = "checkpoint_every", value_name = "STEPS", help = described("Steps between two checkpoints; 0 for none by steps", |r| r.checkpoint_every))]
    pub checkpoint_every: Option<u32>,
    #[arg(long, alias = "save_period", value_name = "EPOCHS", allow_negative_numbers = true, value_parser = period, help = described("Epochs between two checkpoints; 0 or -1 for none by epochs", |r| r.save_period))]
    pub save_period: Option<u32>,
    #[arg(long, alias = "digest_every", value_name = "STEPS", help = described("Steps between two comparisons of the workers' states; 0 for none", |r| r.digest_every))]
    pub digest_every: Option<u32>,
}

/// Why the arguments give no recipe.
#[derive(Debug, Error)]
pub enum RecipeArgsError {
    /// The recipe file cannot be read.
    #[error("cannot read the recipe {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The recipe file is wrong.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: RecipeError,
    },
    /// A value is out of range.
    #[error(transparent)]
    Value(#[from] RecipeError),
}

/// Takes over each flag that was given.
macro_rules! override_with {
    ($recipe:ident, $args:ident, [$($field:ident),* $(,)?]) => {
        $(if let Some(value) = &$args.$field { $recipe.$field = value.clone(); })*
    };
}

impl RecipeArgs {
    /// Reads the file, applies the flags, and checks the result.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown, or a value is out of range.
    pub fn resolve(&self) -> Result<Recipe, RecipeArgsError> {
        let mut recipe = self.import()?.recipe;
        override_with!(
            recipe,
            self,
            [
                model,
                data,
                epochs,
                time,
                batch,
                imgsz,
                optimizer,
                lr0,
                lrf,
                momentum,
                weight_decay,
                warmup_epochs,
                warmup_momentum,
                warmup_bias_lr,
                nbs,
                cos_lr,
                box_gain,
                cls_gain,
                dfl_gain,
                cls_pw,
                patience,
                seed,
                hsv_h,
                hsv_s,
                hsv_v,
                degrees,
                translate,
                scale,
                shear,
                perspective,
                flipud,
                fliplr,
                bgr,
                mosaic,
                mixup,
                cutmix,
                close_mosaic,
                multi_scale,
                iou,
                max_det,
                clip_norm,
                ema_decay,
                ema_tau,
                nonfinite_max,
                bucket_mib,
                sum,
                wire,
                hash_every,
                checkpoint_every,
                save_period,
                digest_every,
                freeze,
                fraction,
                classes,
                single_cls
            ]
        );
        recipe.weights = self.weights.clone().or(recipe.weights);
        recipe.micro_batch = self.micro_batch.or(recipe.micro_batch);
        let recipe = recipe.with_plain_model_name();
        recipe.validate()?;
        Ok(recipe)
    }

    /// Returns the weights that the model is to be taken from: those that are given where neither a flag nor the file names one.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn weights_without_model(&self) -> Result<Option<String>, RecipeArgsError> {
        let Imported {
            recipe,
            is_model_named,
            ..
        } = self.import()?;
        let is_named = self.model.is_some() || is_model_named;
        let weights = self.weights.clone().or(recipe.weights);
        Ok(weights.filter(|_| !is_named))
    }

    /// Returns a sentence about keys of the file that mean something else here, and those that are not used because they do not
    /// matter here, if there are some.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn remark(&self) -> Result<Option<String>, RecipeArgsError> {
        let Imported {
            differing, ignored, ..
        } = self.import()?;
        let path = self.config.as_deref().unwrap_or_else(|| Path::new(""));
        let kinds = [
            ("with another meaning here", differing),
            ("not used, for they do not matter here", ignored),
        ];
        let parts: Vec<_> = kinds
            .into_iter()
            .filter(|(_, keys)| !keys.is_empty())
            .map(|(what, keys)| format!("{what}: {}", keys.join(", ")))
            .collect();
        let sentence = || format!("{}: {}", path.display(), parts.join("; and "));
        Ok((!parts.is_empty()).then(sentence))
    }

    fn import(&self) -> Result<Imported, RecipeArgsError> {
        let Some(path) = self.config.clone() else {
            return Ok(Imported::default());
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) => return Err(RecipeArgsError::Read { path, cause }),
        };
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        let imported = if is_yaml {
            Recipe::from_args_yaml(&text)
        } else {
            Imported::from_toml(&text)
        };
        imported.map_err(|cause| RecipeArgsError::File { path, cause })
    }
}

/// Reads a batch, which others let be chosen by the free memory: -1, or a fraction of it.
fn images(text: &str) -> Result<u32, String> {
    let number = text.parse();
    number.map_err(|_| "give a number of images, for none is chosen by free memory here".to_owned())
}

/// Reads a number of epochs, or -1, which is Ultralytics' word for none.
fn period(text: &str) -> Result<u32, String> {
    if text == "-1" {
        return Ok(0);
    }
    let number = text.parse();
    number.map_err(|_| "give a number of epochs, or 0 or -1 for no checkpoints by epochs".to_owned())
}

/// A help text with the default, which is written down only in [`Recipe::default`].
fn described<T: Display>(text: &str, default: impl Fn(&Recipe) -> T) -> String {
    format!("{text} [default: {}]", default(&Recipe::default()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        recipe: RecipeArgs,
    }

    fn parse(args: &[&str]) -> RecipeArgs {
        Program::try_parse_from([&["program"], args].concat())
            .unwrap()
            .recipe
    }

    #[test]
    fn no_arguments_give_the_default_recipe() {
        assert_eq!(parse(&[]).resolve().unwrap(), Recipe::default());
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, "epochs = 7\nlr0 = 0.5\nbox = 3\n").unwrap();
        let args = parse(&[
            "--config",
            path.to_str().unwrap(),
            "--lr0",
            "0.25",
            "--optimizer",
            "sgd",
        ]);
        let recipe = args.resolve().unwrap();
        assert_eq!((recipe.epochs, recipe.lr0, recipe.box_gain), (7, 0.25, 3.0));
        assert_eq!(recipe.optimizer, OptimizerKind::Sgd);
        assert_eq!(recipe.batch, Recipe::default().batch);
    }

    #[test]
    fn dashes_and_underscores_are_the_same() {
        for flag in ["--weight-decay", "--weight_decay"] {
            assert_eq!(parse(&[flag, "0.1"]).weight_decay, Some(0.1));
        }
        assert_eq!(parse(&["--cos-lr"]).cos_lr, Some(true));
        assert_eq!(parse(&["--cos_lr=false"]).cos_lr, Some(false));
        assert_eq!(parse(&["--single_cls"]).single_cls, Some(true));
        assert_eq!(parse(&["--classes", "2,0"]).classes, Some(vec![2, 0]));
    }

    #[test]
    fn a_file_of_ultralytics_is_a_recipe_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("args.yaml");
        std::fs::write(&path, "model: yolo11s.pt\nepochs: 7\ndevice: 0\nlr0: 0.5\n").unwrap();
        for flag in ["--config", "--cfg"] {
            let args = parse(&[flag, path.to_str().unwrap(), "--lr0", "0.25"]);
            let recipe = args.resolve().unwrap();
            assert_eq!(
                (recipe.model.as_str(), recipe.epochs, recipe.lr0),
                ("yolo11s", 7, 0.25)
            );
            assert_eq!(recipe.weights.as_deref(), Some("yolo11s.pt"));
            let remark = args.remark().unwrap().unwrap();
            assert!(remark.ends_with("do not matter here: device"), "{remark}");
        }
        assert_eq!(parse(&[]).remark().unwrap(), None);
        std::fs::write(&path, "save_period: 5\ndevice: 0\n").unwrap();
        let remark = parse(&["--cfg", path.to_str().unwrap()])
            .remark()
            .unwrap()
            .unwrap();
        assert_eq!(remark.lines().count(), 1, "{remark}");
        assert!(
            remark.contains("with another meaning here: save_period: 5 (") && remark.ends_with(": device"),
            "{remark}"
        );
        std::fs::write(&path, "rect: true\n").unwrap();
        let error = parse(&["--cfg", path.to_str().unwrap()]).resolve().unwrap_err();
        assert!(error.to_string().contains("rect: true"), "{error}");
    }

    #[test]
    fn the_model_is_taken_from_weights_where_nothing_else_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let weights = |name: &str, text: &str, flags: &[&str]| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let args = parse(&[&["--config", path.to_str().unwrap()], flags].concat());
            args.weights_without_model().unwrap()
        };
        let best = Some("w/best.pt".to_owned());
        assert_eq!(weights("args.yaml", "model: w/best.pt", &[]), best);
        assert_eq!(weights("args.yaml", "pretrained: w/best.pt", &[]), best);
        assert_eq!(weights("args.yaml", "model: w/yolo11s.pt", &[]), None);
        assert_eq!(weights("recipe.toml", "weights = 'w/best.pt'", &[]), best);
        assert_eq!(weights("recipe.toml", "model = 'yolo11s'", &[]), None);
        assert_eq!(
            weights("recipe.toml", "lr0 = 0.1", &["--weights", "w/best.pt"]),
            best
        );
        assert_eq!(
            weights("args.yaml", "model: w/best.pt", &["--model", "yolo11s"]),
            None
        );
        assert_eq!(
            parse(&["--weights", "w/best.pt"])
                .weights_without_model()
                .unwrap(),
            best
        );
        assert_eq!(parse(&[]).weights_without_model().unwrap(), None);
    }

    #[test]
    fn values_of_ultralytics_are_understood_or_answered_with_a_sentence() {
        let refusal = |flag: &str, value: &str| {
            let error = Program::try_parse_from(["program", flag, value]).unwrap_err();
            error.to_string()
        };
        for batch in ["-1", "0.7"] {
            let sentence = refusal("--batch", batch);
            assert!(sentence.contains("give a number of images"), "{sentence}");
        }
        assert!(refusal("--save-period", "-2").contains("0 or -1"));
        assert_eq!(parse(&["--save_period", "-1"]).save_period, Some(0));
        assert_eq!(parse(&["--save-period=-1"]).save_period, Some(0));
        assert_eq!(parse(&["--save-period", "5"]).save_period, Some(5));
        let recipe = parse(&["--model", "yolo11n.yaml"]).resolve().unwrap();
        assert_eq!(recipe.model, "yolo11n");
    }

    #[test]
    fn every_recipe_key_has_a_flag() {
        use clap::CommandFactory;
        let command = Program::command();
        let flags: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        let full = Recipe {
            weights: Some("w".into()),
            ..Recipe::default()
        };
        for line in full.resolved().to_toml().lines() {
            let key = line.split(' ').next().unwrap().replace('_', "-");
            assert!(flags.contains(&key.as_str()), "no flag --{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, "lr = 1").unwrap();
        let unknown = parse(&["--config", path.to_str().unwrap()])
            .resolve()
            .unwrap_err();
        assert!(
            unknown.to_string().contains("unknown recipe key `lr`"),
            "{unknown}"
        );
        let missing = parse(&["--config", "/nonexistent.toml"]).resolve().unwrap_err();
        assert!(matches!(missing, RecipeArgsError::Read { .. }));
        let range = parse(&["--lr0", "7"]).resolve().unwrap_err();
        assert!(range.to_string().contains("lr0 = 7 is out of range"), "{range}");
    }
}
