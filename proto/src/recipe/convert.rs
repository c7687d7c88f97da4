//! The recipe to and from its wire message. A received recipe is validated, so a [`Recipe`] from the wire is valid.

use super::{OptimizerKind, Recipe, SumKind, WireKind};
use crate::parse::{ParseError, known};
use crate::wire;

/// Lists the fields that have one name and one type on both sides, so that none is forgotten.
macro_rules! convert {
    ($from:ident => $to:ident { $($field:ident),* $(,)? } $($own:ident: $value:expr),* $(,)?) => {
        $to { $($field: $from.$field,)* $($own: $value,)* }
    };
}

impl From<Recipe> for wire::Recipe {
    fn from(recipe: Recipe) -> Self {
        let micro_batch = recipe.micro_batch();
        let optimizer = match recipe.optimizer {
            OptimizerKind::Auto => wire::Optimizer::Auto,
            OptimizerKind::Sgd => wire::Optimizer::Sgd,
            OptimizerKind::AdamW => wire::Optimizer::Adamw,
            OptimizerKind::MuSgd => wire::Optimizer::Musgd,
        };
        let sum = match recipe.sum {
            SumKind::Exact => wire::Sum::Exact,
            SumKind::F32 => wire::Sum::F32,
        };
        let travels = match recipe.wire {
            WireKind::F32 => wire::Wire::F32,
            WireKind::Bf16 => wire::Wire::Bf16,
        };
        convert!(recipe => Self {
            model, data, weights, epochs, batch, imgsz, lr0, lrf, momentum, weight_decay, warmup_epochs,
            warmup_momentum, warmup_bias_lr, nbs, cos_lr, patience, seed, hsv_h, hsv_s, hsv_v, degrees, translate,
            scale, shear, perspective, flipud, fliplr, bgr, mosaic, mixup, cutmix, close_mosaic, multi_scale, iou,
            max_det, clip_norm, ema_decay, ema_tau, nonfinite_max, bucket_mib, hash_every, freeze,
            checkpoint_every, save_period, digest_every, fraction, classes, single_cls, cls_pw,
            time,
        }
            micro_batch: micro_batch,
            optimizer: optimizer.into(),
            sum: sum.into(),
            wire: travels.into(),
            r#box: recipe.box_gain,
            cls: recipe.cls_gain,
            dfl: recipe.dfl_gain,
        )
    }
}

impl TryFrom<wire::Recipe> for Recipe {
    type Error = ParseError;

    fn try_from(recipe: wire::Recipe) -> Result<Self, ParseError> {
        let optimizer = known("optimizer", recipe.optimizer, |optimizer| match optimizer {
            wire::Optimizer::Unspecified => None,
            wire::Optimizer::Auto => Some(OptimizerKind::Auto),
            wire::Optimizer::Sgd => Some(OptimizerKind::Sgd),
            wire::Optimizer::Adamw => Some(OptimizerKind::AdamW),
            wire::Optimizer::Musgd => Some(OptimizerKind::MuSgd),
        })?;
        let sum = known("sum", recipe.sum, |sum| match sum {
            wire::Sum::Unspecified => None,
            wire::Sum::Exact => Some(SumKind::Exact),
            wire::Sum::F32 => Some(SumKind::F32),
        })?;
        let travels = known("wire", recipe.wire, |travels| match travels {
            wire::Wire::Unspecified => None,
            wire::Wire::F32 => Some(WireKind::F32),
            wire::Wire::Bf16 => Some(WireKind::Bf16),
        })?;
        let parsed = convert!(recipe => Self {
            model, data, weights, epochs, batch, imgsz, lr0, lrf, momentum, weight_decay, warmup_epochs,
            warmup_momentum, warmup_bias_lr, nbs, cos_lr, patience, seed, hsv_h, hsv_s, hsv_v, degrees, translate,
            scale, shear, perspective, flipud, fliplr, bgr, mosaic, mixup, cutmix, close_mosaic, multi_scale, iou,
            max_det, clip_norm, ema_decay, ema_tau, nonfinite_max, bucket_mib, hash_every, freeze,
            checkpoint_every, save_period, digest_every, fraction, classes, single_cls, cls_pw,
            time,
        }
            micro_batch: Some(recipe.micro_batch),
            optimizer: optimizer,
            sum: sum,
            wire: travels,
            box_gain: recipe.r#box,
            cls_gain: recipe.cls,
            dfl_gain: recipe.dfl,
        );
        parsed.validate()?;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecipeError;

    /// A recipe in which no two values of one type are equal, so that swapped fields are seen.
    fn distinct() -> Recipe {
        let mut number = 0.0;
        let mut next = || {
            number += 0.01;
            number
        };
        Recipe {
            model: "yolov8s".into(),
            data: "photos.yaml".into(),
            weights: Some("start.safetensors".into()),
            freeze: 9,
            fraction: next(),
            classes: vec![25, 3],
            single_cls: true,
            epochs: 11,
            time: next(),
            batch: 64,
            imgsz: 320,
            micro_batch: Some(13),
            optimizer: OptimizerKind::AdamW,
            lr0: next(),
            lrf: next(),
            momentum: next(),
            weight_decay: next(),
            warmup_epochs: next(),
            warmup_momentum: next(),
            warmup_bias_lr: next(),
            nbs: 14,
            cos_lr: false,
            box_gain: next(),
            cls_gain: next(),
            dfl_gain: next(),
            cls_pw: next(),
            patience: 15,
            seed: 16,
            hsv_h: next(),
            hsv_s: next(),
            hsv_v: next(),
            degrees: next(),
            translate: next(),
            scale: next(),
            shear: next(),
            // Its range ends at 0.001.
            perspective: 0.0007,
            flipud: next(),
            fliplr: next(),
            bgr: next(),
            mosaic: next(),
            mixup: next(),
            cutmix: next(),
            close_mosaic: 17,
            multi_scale: next(),
            iou: next(),
            max_det: 18,
            clip_norm: next(),
            ema_decay: next(),
            ema_tau: 1.5,
            nonfinite_max: 19,
            bucket_mib: 20,
            sum: SumKind::F32,
            wire: WireKind::Bf16,
            hash_every: 21,
            checkpoint_every: 22,
            save_period: 23,
            digest_every: 24,
        }
    }

    #[test]
    fn every_value_survives_the_wire() {
        for recipe in [distinct(), Recipe::default().resolved()] {
            assert_eq!(Recipe::try_from(wire::Recipe::from(recipe.clone())), Ok(recipe));
        }
    }

    #[test]
    fn a_recipe_from_the_wire_is_validated() {
        let mut recipe = wire::Recipe::from(distinct());
        recipe.lr0 = 7.0;
        assert!(matches!(
            Recipe::try_from(recipe),
            Err(ParseError::Recipe(RecipeError::OutOfRange { key: "lr0", .. }))
        ));
    }
}
