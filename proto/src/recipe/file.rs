//! Recipe files: TOML in and out, and the digest of a recipe.

use super::{Imported, Recipe, RecipeError};
use crate::identity::Fingerprint;

impl Recipe {
    /// Reads a recipe; keys that are absent have their defaults. Values are not checked yet.
    ///
    /// # Errors
    /// An unknown key by name, or the line that does not parse.
    pub fn from_toml(text: &str) -> Result<Self, RecipeError> {
        Ok(Imported::from_toml(text)?.recipe)
    }

    /// Writes the recipe as TOML, one line per key in a fixed order.
    pub fn to_toml(&self) -> String {
        // Invariant: a flat struct of numbers and text; validated seeds fit a TOML integer.
        toml::to_string(self).expect("a recipe is a flat table")
    }

    /// Digest of the resolved recipe: equal digests train alike on equal data.
    pub fn digest(&self) -> Fingerprint {
        Fingerprint::of(self.clone().resolved().to_toml().as_bytes())
    }
}

impl Imported {
    /// Reads a recipe file as [`Recipe::from_toml`] does: every key means what it says.
    ///
    /// # Errors
    /// As there.
    pub fn from_toml(text: &str) -> Result<Self, RecipeError> {
        let syntax = |error: toml::de::Error| RecipeError::Syntax {
            line: error
                .span()
                .map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
            reason: error.message().lines().next().unwrap_or_default().to_owned(),
        };
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(RecipeError::UnknownKey {
                key: key.clone(),
                nearest: nearest(key),
            });
        }
        Ok(Self {
            recipe: toml::from_str(text).map_err(syntax)?,
            is_model_named: table.contains_key("model"),
            ..Self::default()
        })
    }
}

/// The key within a small edit distance, ignoring `-` against `_`.
fn nearest(key: &str) -> Option<&'static str> {
    let key = key.replace('-', "_").to_lowercase();
    KEYS.into_iter()
        .map(|known| (distance(&key, known), known))
        .filter(|(distance, _)| *distance <= TYPING_ERRORS_MAX)
        .min()
        .map(|(_, known)| known)
}

/// Levenshtein distance of two short texts.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// Two slips still look like the word that was meant.
const TYPING_ERRORS_MAX: usize = 2;

/// Every key of a recipe file.
#[rustfmt::skip]
const KEYS: [&str; 57] = [
    "model", "data", "weights", "epochs", "batch", "imgsz", "micro_batch", "optimizer", "lr0", "lrf", "momentum",
    "weight_decay", "warmup_epochs", "warmup_momentum", "warmup_bias_lr", "nbs", "cos_lr", "box", "cls", "dfl",
    "patience", "seed", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud",
    "fliplr", "bgr", "mosaic", "mixup", "cutmix", "close_mosaic", "multi_scale", "iou", "max_det", "clip_norm",
    "ema_decay", "ema_tau", "nonfinite_max", "bucket_mib", "sum", "wire", "hash_every", "freeze", "checkpoint_every",
    "save_period", "digest_every", "fraction", "classes", "single_cls", "cls_pw", "time",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Recipe {
        Recipe {
            weights: Some("start.safetensors".into()),
            ..Recipe::default()
        }
        .resolved()
    }

    #[test]
    fn the_list_of_keys_is_that_of_the_struct() {
        let table: toml::Table = toml::from_str(&full().to_toml()).unwrap();
        let mut written: Vec<_> = table.keys().map(String::as_str).collect();
        let mut listed = KEYS.to_vec();
        written.sort_unstable();
        listed.sort_unstable();
        assert_eq!(written, listed);
    }

    #[test]
    fn a_recipe_survives_its_file_and_gaps_are_filled_with_defaults() {
        assert_eq!(Recipe::from_toml(&full().to_toml()), Ok(full()));
        let read = Recipe::from_toml("epochs = 3\ndegrees = 5\noptimizer = \"sgd\"\nbox = 1").unwrap();
        assert_eq!((read.epochs, read.degrees, read.box_gain), (3, 5.0, 1.0));
        assert_eq!(read.optimizer, crate::OptimizerKind::Sgd);
        assert_eq!(read.batch, Recipe::default().batch);
    }

    #[test]
    fn a_file_says_whether_it_names_the_model() {
        for (text, expected) in [("model = \"yolo11s\"", true), ("weights = \"best.pt\"", false)] {
            let imported = Imported::from_toml(text).unwrap();
            assert_eq!(imported.is_model_named, expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_the_one_that_was_meant() {
        let sentence = |text: &str| Recipe::from_toml(text).unwrap_err().to_string();
        assert_eq!(
            sentence("epoch = 3"),
            "unknown recipe key `epoch`, did you mean `epochs`?"
        );
        assert_eq!(
            sentence("weight-decay = 1"),
            "unknown recipe key `weight-decay`, did you mean `weight_decay`?"
        );
        assert_eq!(sentence("workers = 1"), "unknown recipe key `workers`");
    }

    #[test]
    fn a_wrong_type_is_refused_with_its_line() {
        let error = Recipe::from_toml("lr0 = 0.1\nepochs = \"many\"").unwrap_err();
        assert!(matches!(error, RecipeError::Syntax { line: 2, .. }), "{error:?}");
        let error = Recipe::from_toml("lr0 = = 1").unwrap_err();
        assert!(matches!(error, RecipeError::Syntax { line: 1, .. }), "{error:?}");
        assert!(Recipe::from_toml("epochs = -1").is_err());
    }

    #[test]
    fn the_digest_sees_values_not_spelling() {
        assert_eq!(Recipe::default().digest(), Recipe::default().resolved().digest());
        let other = Recipe {
            seed: 1,
            ..Recipe::default()
        };
        assert_ne!(other.digest(), Recipe::default().digest());
    }
}
