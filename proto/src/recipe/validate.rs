//! The allowed range of every value of a recipe.
//!
//! A value outside would crash later, on every worker, or train nothing. Wide on purpose: an odd experiment is
//! nobody's business here.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{Recipe, RecipeError, SumKind, WireKind};

/// The models that a recipe can name.
pub const MODELS: [&str; 10] = [
    "yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x", "yolo11n", "yolo11s", "yolo11m", "yolo11l",
    "yolo11x",
];

impl Recipe {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value that is out of range, with its key and what is allowed.
    pub fn validate(&self) -> Result<(), RecipeError> {
        self.validate_what()?;
        self.validate_optimization()?;
        self.validate_augmentation()?;
        self.validate_evaluation()
    }

    fn validate_what(&self) -> Result<(), RecipeError> {
        if !MODELS.contains(&self.model.as_str()) {
            return Err(out_of_range(
                "model",
                format!("{:?}", self.model),
                &MODELS.join(", "),
            ));
        }
        path("data", &self.data)?;
        if let Some(weights) = &self.weights {
            path("weights", weights)?;
        }
        // The least that is left is one image.
        within("fraction", self.fraction, f64::MIN_POSITIVE..=1.0)
            .map_err(|_| out_of_range("fraction", self.fraction, "above 0, at most 1"))?;
        within("classes", self.classes.len(), 0..=CLASSES_MAX).map_err(|_| {
            out_of_range(
                "classes",
                format!("{} numbers", self.classes.len()),
                "at most 10000",
            )
        })?;
        within("epochs", self.epochs, 1..=100_000)?;
        within("batch", self.batch, 1..=65_536)?;
        within("imgsz", self.imgsz, STRIDE..=4096)?;
        if !self.imgsz.is_multiple_of(STRIDE) {
            return Err(out_of_range("imgsz", self.imgsz, "a multiple of 32"));
        }
        within("micro_batch", self.micro_batch(), 1..=self.batch)?;
        within("patience", self.patience, 0..=100_000)?;
        // A TOML integer has 63 bits.
        within("seed", self.seed, 0..=i64::MAX as u64)
    }

    fn validate_optimization(&self) -> Result<(), RecipeError> {
        for (key, value) in [
            ("lr0", self.lr0),
            ("lrf", self.lrf),
            ("momentum", self.momentum),
            ("weight_decay", self.weight_decay),
            ("warmup_momentum", self.warmup_momentum),
            ("warmup_bias_lr", self.warmup_bias_lr),
            ("ema_decay", self.ema_decay),
            ("cls_pw", self.cls_pw),
        ] {
            within(key, value, FRACTION)?;
        }
        within("time", self.time, 0.0..=100_000.0)?;
        within("warmup_epochs", self.warmup_epochs, 0.0..=10_000.0)?;
        within("nbs", self.nbs, 1..=65_536)?;
        within("box", self.box_gain, 0.0..=1000.0)?;
        within("cls", self.cls_gain, 0.0..=1000.0)?;
        within("dfl", self.dfl_gain, 0.0..=1000.0)?;
        within("clip_norm", self.clip_norm, 1e-6..=1e9)?;
        within("ema_tau", self.ema_tau, 1.0..=1e9)?;
        within("nonfinite_max", self.nonfinite_max, 1..=100_000)?;
        within("bucket_mib", self.bucket_mib, 1..=1024)?;
        if self.wire == WireKind::Bf16 && self.sum == SumKind::Exact {
            return Err(out_of_range("wire", self.wire, "f32, or bf16 with sum = f32"));
        }
        within("checkpoint_every", self.checkpoint_every, 0..=1_000_000)?;
        within("save_period", self.save_period, 0..=100_000)?;
        within("digest_every", self.digest_every, 0..=1_000_000)?;
        within("hash_every", self.hash_every, 0..=1_000_000)?;
        // How many layers there are is the model's business.
        within("freeze", self.freeze, 0..=1000)
    }

    fn validate_augmentation(&self) -> Result<(), RecipeError> {
        for (key, value) in [
            ("hsv_h", self.hsv_h),
            ("hsv_s", self.hsv_s),
            ("hsv_v", self.hsv_v),
            ("translate", self.translate),
            ("scale", self.scale),
            ("flipud", self.flipud),
            ("fliplr", self.fliplr),
            ("bgr", self.bgr),
            ("mosaic", self.mosaic),
            ("mixup", self.mixup),
            ("cutmix", self.cutmix),
        ] {
            within(key, value, FRACTION)?;
        }
        within("degrees", self.degrees, 0.0..=180.0)?;
        // At 90 degrees an image is sheared to nothing.
        within("shear", self.shear, 0.0..=80.0)?;
        // Beyond it the corners of a mosaic lie behind the eye.
        within("perspective", self.perspective, 0.0..=0.001)?;
        // Below 1, so that a size is left.
        within("multi_scale", self.multi_scale, 0.0..=0.95)?;
        within("close_mosaic", self.close_mosaic, 0..=100_000)
    }

    fn validate_evaluation(&self) -> Result<(), RecipeError> {
        within("iou", self.iou, FRACTION)?;
        within("max_det", self.max_det, 1..=30_000)
    }
}

/// NaN is in no range.
fn within<T: PartialOrd + Display>(
    key: &'static str,
    value: T,
    allowed: RangeInclusive<T>,
) -> Result<(), RecipeError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let words = format!("{} to {}", allowed.start(), allowed.end());
    Err(out_of_range(key, value, &words))
}

fn path(key: &'static str, value: &str) -> Result<(), RecipeError> {
    if value.trim().is_empty() || value.contains('\0') {
        return Err(out_of_range(key, format!("{value:?}"), "a path"));
    }
    Ok(())
}

fn out_of_range(key: &'static str, value: impl Display, allowed: &str) -> RecipeError {
    RecipeError::OutOfRange {
        key,
        value: value.to_string(),
        allowed: allowed.to_owned(),
    }
}

const FRACTION: RangeInclusive<f64> = 0.0..=1.0;

/// More classes than a data set has; which there are is the data set's business.
const CLASSES_MAX: usize = 10_000;

/// The coarsest feature map of the model: the input must divide into it.
const STRIDE: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_recipe_is_valid() {
        assert_eq!(Recipe::default().validate(), Ok(()));
        assert_eq!(Recipe::default().resolved().validate(), Ok(()));
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_range() {
        type Change = fn(&mut Recipe);
        let cases: [(&str, Change, &str); 11] = [
            ("fraction = 0", |r| r.fraction = 0.0, "above 0, at most 1"),
            ("fraction = NaN", |r| r.fraction = f64::NAN, "above 0, at most 1"),
            ("lr0 = 2", |r| r.lr0 = 2.0, "0 to 1"),
            ("momentum = NaN", |r| r.momentum = f64::NAN, "0 to 1"),
            ("epochs = 0", |r| r.epochs = 0, "1 to 100000"),
            ("batch = 0", |r| r.batch = 0, "1 to 65536"),
            ("imgsz = 100", |r| r.imgsz = 100, "a multiple of 32"),
            ("micro_batch = 17", |r| r.micro_batch = Some(17), "1 to 16"),
            ("micro_batch = 0", |r| r.micro_batch = Some(0), "1 to 16"),
            (
                "model = \"yolo\"",
                |r| r.model = "yolo".into(),
                "yolov8n, yolov8s",
            ),
            ("data = \"\"", |r| r.data = String::new(), "a path"),
        ];
        for (what, change, allowed) in cases {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            let sentence = recipe.validate().unwrap_err().to_string();
            assert!(
                sentence.contains(what) && sentence.contains(allowed),
                "{sentence}"
            );
        }
    }
}
