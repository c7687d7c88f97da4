//! Reading the `args.yaml` that Ultralytics leaves beside a run, as a recipe.
//!
//! Its keys are of four kinds: those that a recipe has, under the same name; a few that say the same in another way
//! (`model: yolo11n.pt`), or not quite the same, which is then told; those that would change the training and are not to be
//! had here, which are refused unless they stand at their default; and those that say nothing about the training. A key of no
//! kind is refused: it may be a new one.
//!
//! # Source
//! Names and defaults as version 8.4 documents and writes them, and a few that older versions write.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{MODELS, Recipe, RecipeError};

/// A recipe from a file, and what became of the file's keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// The recipe. Values are not checked yet.
    pub recipe: Recipe,
    /// Whether the file names the model, and not at most weights that hold one.
    pub is_model_named: bool,
    /// Keys that are used and mean something else here: each with its value, and the difference.
    pub differing: Vec<String>,
    /// Keys without a meaning here that stand at something else than their default.
    pub ignored: Vec<String>,
}

impl Recipe {
    /// Reads an `args.yaml`; keys that are absent or null have their defaults.
    ///
    /// # Errors
    /// Text that is no YAML; or all keys together that are unknown or would change the training.
    pub fn from_args_yaml(text: &str) -> Result<Imported, RecipeError> {
        let args: BTreeMap<String, Value> =
            serde_saphyr::from_str(text).map_err(|error| RecipeError::ArgsSyntax {
                reason: error.to_string().lines().next().unwrap_or_default().to_owned(),
            })?;
        let mut used = Map::new();
        let (mut refused, mut differing, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in &args {
            let shown = || format!("{key}: {}", show(value));
            if is_quantised(key, value, &args) {
                refused.push(format!("{} (training for 8-bit integers)", shown()));
            } else if let Some(default) = default_of(&NO_MATTER, key) {
                if !is_same(value, &default) {
                    ignored.push(key.clone());
                }
            } else if let Some(default) = default_of(&NOT_HERE, key) {
                if !is_same(value, &default) {
                    refused.push(shown());
                }
            } else if SAME.contains(&key.as_str()) {
                if !value.is_null() {
                    used.insert(key.clone(), value.clone());
                }
            } else if !OTHERWISE.contains(&key.as_str()) {
                refused.push(format!("{} (an unknown key)", shown()));
            } else if let Err(reason) = translate(key, value, &args, &mut used) {
                refused.push(format!("{} ({reason})", shown()));
            } else if let Some(difference) = difference(key, value, &args) {
                differing.push(format!("{} ({difference})", shown()));
            }
        }
        if !refused.is_empty() {
            return Err(RecipeError::ArgsRefused { keys: refused });
        }
        Ok(Imported {
            is_model_named: used.contains_key("model"),
            recipe: typed(used)?,
            differing,
            ignored,
        })
    }
}

/// Puts what a key says into the recipe's own words.
fn translate(
    key: &str,
    value: &Value,
    args: &BTreeMap<String, Value>,
    used: &mut Map<String, Value>,
) -> Result<(), &'static str> {
    match (key, value) {
        // Said together with the model.
        ("pretrained", Value::Bool(_) | Value::Null) => {}
        ("pretrained", Value::String(path)) => {
            used.insert("weights".into(), json!(path));
        }
        ("model", Value::String(name)) => {
            let (file, stem) = stem(name);
            if MODELS.contains(&stem.as_str()) {
                used.insert("model".into(), json!(stem));
            }
            let is_weights = file.ends_with(".pt") || file.ends_with(".safetensors");
            if is_weights && is_pretrained(args) {
                used.insert("weights".into(), json!(name));
            } else if !MODELS.contains(&stem.as_str()) {
                return Err("no model of this name here");
            }
        }
        // What is saved besides last and best; here these are whole checkpoints, which have a default of their own.
        ("save_period", Value::Number(period)) => {
            if let Some(period) = period.as_i64().filter(|&period| period > 0) {
                used.insert("save_period".into(), json!(period));
            }
        }
        // Formerly yes or no.
        ("multi_scale", Value::Bool(is_on)) => {
            used.insert("multi_scale".into(), json!(if *is_on { 0.5 } else { 0.0 }));
        }
        ("time" | "multi_scale" | "batch" | "imgsz" | "freeze", Value::Null) => {}
        ("time", _) | ("multi_scale", Value::Number(_)) => {
            used.insert(key.into(), value.clone());
        }
        ("batch", Value::Number(batch)) if batch.as_u64().is_some_and(|batch| batch > 0) => {
            used.insert(key.into(), value.clone());
        }
        ("batch", _) => return Err("a batch chosen by free memory; give a number"),
        ("imgsz" | "freeze", Value::Number(_)) => {
            used.insert(key.into(), value.clone());
        }
        ("imgsz", Value::Array(sides)) if !sides.is_empty() && sides.iter().all(|side| *side == sides[0]) => {
            used.insert(key.into(), sides[0].clone());
        }
        ("imgsz", _) => return Err("images are square here"),
        ("freeze", Value::Array(layers))
            if layers
                .iter()
                .zip(0..)
                .all(|(layer, place)| *layer == json!(place)) =>
        {
            used.insert(key.into(), json!(layers.len()));
        }
        ("freeze", _) => return Err("only the first layers can be frozen, by their number"),
        ("classes", Value::Null) => {}
        ("classes", Value::Number(_)) => {
            used.insert(key.into(), json!([value]));
        }
        ("classes", Value::Array(_)) => {
            used.insert(key.into(), value.clone());
        }
        ("task", Value::String(task)) if task == "detect" => {}
        ("task", _) => return Err("only detectors are trained here"),
        _ => return Err("not a value of this key"),
    }
    Ok(())
}

/// Returns what is different here about a key that is used, if something is.
fn difference(key: &str, value: &Value, args: &BTreeMap<String, Value>) -> Option<&'static str> {
    let is_positive = || value.as_f64().is_some_and(|number| number > 0.0);
    match key {
        "time" if is_positive() => {
            Some("only ends the run, rates follow epochs; there the number of epochs follows from it")
        }
        "save_period" if is_positive() => {
            Some("epochs between two checkpoints, of which the newest are kept; there each epochN.pt is kept")
        }
        "model" if has_no_ending(&show(value)) && is_pretrained(args) => {
            Some("fresh, unless weights are given; there the pretrained ones, and nothing is downloaded here")
        }
        _ => None,
    }
}

/// Whether a model's name has no ending that tells if weights are meant.
fn has_no_ending(model: &str) -> bool {
    let (file, stem) = stem(model);
    file == stem
}

/// Whether training starts from the weights that the model's name stands for.
fn is_pretrained(args: &BTreeMap<String, Value>) -> bool {
    !matches!(
        args.get("pretrained"),
        Some(Value::Bool(false) | Value::String(_))
    )
}

/// Whether a key asks for training that prepares for 8-bit integers; other kinds of numbers do not concern training.
fn is_quantised(key: &str, value: &Value, args: &BTreeMap<String, Value>) -> bool {
    let shown = show(value).to_lowercase();
    match key {
        "quantize" => ["8", "int8", "w8a8"].contains(&shown.as_str()),
        // Older than `quantize`, which wins where both are there.
        "int8" => !args.contains_key("quantize") && !["null", "none", "false", "0"].contains(&shown.as_str()),
        _ => false,
    }
}

/// File name and stem of a path.
fn stem(path: &str) -> (String, String) {
    let file = path.rsplit(['/', '\\']).next().unwrap_or_default().to_lowercase();
    let stem = file
        .rsplit_once('.')
        .map_or(file.as_str(), |(stem, _)| stem)
        .to_owned();
    (file, stem)
}

/// Reads the values one by one, so that a wrong one is named.
fn typed(used: Map<String, Value>) -> Result<Recipe, RecipeError> {
    for (key, value) in &used {
        let alone = Value::Object([(key.clone(), value.clone())].into_iter().collect());
        if let Err(error) = serde_json::from_value::<Recipe>(alone) {
            return Err(RecipeError::ArgsRefused {
                keys: vec![format!("{key}: {} ({error})", show(value))],
            });
        }
    }
    serde_json::from_value(Value::Object(used)).map_err(|error| RecipeError::ArgsSyntax {
        reason: error.to_string(),
    })
}

fn default_of(table: &[(&str, &str)], key: &str) -> Option<Value> {
    let (_, text) = table.iter().find(|(name, _)| *name == key)?;
    serde_json::from_str(text).ok()
}

/// Whether two values are the same, whatever way a number is written. Null stands for the default.
fn is_same(value: &Value, default: &Value) -> bool {
    match (value.as_f64(), default.as_f64()) {
        (Some(value), Some(default)) => value == default,
        _ => value.is_null() || value == default,
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Keys that a recipe has, with the same meaning.
#[rustfmt::skip]
const SAME: [&str; 37] = [
    "data", "epochs", "patience", "optimizer", "seed", "single_cls", "cos_lr", "close_mosaic", "fraction", "iou",
    "max_det", "lr0", "lrf", "momentum", "weight_decay", "warmup_epochs", "warmup_momentum", "warmup_bias_lr", "box",
    "cls", "dfl", "cls_pw", "nbs", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud",
    "fliplr", "bgr", "mosaic", "mixup", "cutmix",
];

/// Keys that are said otherwise here, or not with every value, or that mean something else.
const OTHERWISE: [&str; 10] = [
    "time",
    "model",
    "pretrained",
    "batch",
    "imgsz",
    "freeze",
    "classes",
    "save_period",
    "multi_scale",
    "task",
];

/// Keys that would change what is trained or reported, with the only value that can be had here, as JSON.
const NOT_HERE: [(&str, &str); 12] = [
    ("mode", "\"train\""),
    ("resume", "false"),
    ("rect", "false"),
    ("cls_remap", "true"),
    ("distill_model", "null"),
    ("copy_paste", "0"),
    ("val", "true"),
    ("split", "\"val\""),
    ("conf", "null"),
    ("agnostic_nms", "false"),
    ("augmentations", "null"),
    ("label_smoothing", "0"),
];

/// Keys of other tasks and other commands, of the machine, and of what is shown or kept; with their defaults, as JSON.
#[rustfmt::skip]
const NO_MATTER: [(&str, &str); 67] = [
    // The machine.
    ("device", "null"), ("workers", "8"), ("cache", "false"), ("amp", "true"), ("deterministic", "true"),
    ("compile", "false"), ("channels_last", "null"), ("half", "false"), ("quantize", "null"), ("int8", "false"),
    // Where results go, and which.
    ("project", "null"), ("name", "null"), ("exist_ok", "false"), ("save_dir", "null"), ("save", "true"),
    ("plots", "true"), ("verbose", "true"), ("profile", "false"), ("save_json", "false"), ("save_hybrid", "false"),
    ("cfg", "null"), ("dis", "6"),
    // Other tasks.
    ("overlap_mask", "true"), ("mask_ratio", "4"), ("dropout", "0"), ("pose", "12"), ("kobj", "1"), ("rle", "1"),
    ("angle", "1"), ("dlog", "1"), ("dgrad", "0.5"), ("dlam", "1"), ("copy_paste_mode", "\"flip\""),
    ("auto_augment", "\"randaugment\""), ("erasing", "0.4"), ("crop_fraction", "1"), ("retina_masks", "false"),
    // Prediction and tracking.
    ("source", "null"), ("vid_stride", "1"), ("stream_buffer", "false"), ("visualize", "false"), ("augment", "false"),
    ("embed", "null"), ("show", "false"), ("save_frames", "false"), ("save_txt", "false"), ("save_conf", "false"),
    ("save_crop", "false"), ("show_labels", "true"), ("show_conf", "true"), ("show_boxes", "true"),
    ("line_width", "null"), ("tracker", "\"tracktrack.yaml\""), ("dnn", "false"), ("line_thickness", "null"), ("hide_labels", "false"), ("hide_conf", "false"), ("boxes", "true"),
    // Export.
    ("format", "\"torchscript\""), ("keras", "false"), ("optimize", "false"), ("dynamic", "false"),
    ("simplify", "true"), ("opset", "null"), ("workspace", "null"), ("nms", "null"), ("end2end", "null"),
];

#[cfg(test)]
#[path = "ultralytics_tests.rs"]
mod tests;
