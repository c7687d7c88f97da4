//! Choices by name: optimizers, and how gradients are added up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::RecipeError;

/// An optimizer. Its text is Ultralytics' name for it; any case is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum OptimizerKind {
    /// Chosen by the workers from the length of the run.
    Auto,
    /// Stochastic gradient descent with Nesterov momentum.
    Sgd,
    /// Adam with decoupled weight decay.
    AdamW,
    /// SGD, and for matrices an orthogonalised update beside it.
    MuSgd,
}

/// How gradients are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum SumKind {
    /// As fixed-point integers: the same bits for any order and any world size.
    Exact,
    /// As 32-bit floating-point numbers.
    F32,
}

/// How plain sums travel between workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum WireKind {
    /// As 32-bit floating-point numbers.
    F32,
    /// Kernels as bfloat16 numbers, all else as 32-bit ones.
    Bf16,
}

/// Gives an enum its names as text, in recipe files and on command lines.
macro_rules! named {
    ($kind:ident, $key:literal, $allowed:literal, [$($variant:ident = $name:literal),* $(,)?]) => {
        impl From<$kind> for &'static str {
            fn from(kind: $kind) -> Self {
                match kind {
                    $($kind::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str((*self).into())
            }
        }

        impl FromStr for $kind {
            type Err = RecipeError;

            fn from_str(text: &str) -> Result<Self, RecipeError> {
                [$(Self::$variant),*]
                    .into_iter()
                    .find(|kind| kind.to_string().eq_ignore_ascii_case(text))
                    .ok_or_else(|| RecipeError::OutOfRange {
                        key: $key,
                        value: format!("{text:?}"),
                        allowed: $allowed.into(),
                    })
            }
        }

        impl TryFrom<String> for $kind {
            type Error = RecipeError;

            fn try_from(text: String) -> Result<Self, RecipeError> {
                text.parse()
            }
        }
    };
}

named!(
    OptimizerKind,
    "optimizer",
    "auto, SGD, AdamW or MuSGD",
    [Auto = "auto", Sgd = "SGD", AdamW = "AdamW", MuSgd = "MuSGD"]
);
named!(SumKind, "sum", "exact or f32", [Exact = "exact", F32 = "f32"]);
named!(WireKind, "wire", "f32 or bf16", [F32 = "f32", Bf16 = "bf16"]);
