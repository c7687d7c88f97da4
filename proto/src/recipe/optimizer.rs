//! The optimizers by name.

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
}

impl From<OptimizerKind> for &'static str {
    fn from(kind: OptimizerKind) -> Self {
        match kind {
            OptimizerKind::Auto => "auto",
            OptimizerKind::Sgd => "SGD",
            OptimizerKind::AdamW => "AdamW",
        }
    }
}

impl fmt::Display for OptimizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((*self).into())
    }
}

impl FromStr for OptimizerKind {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        [Self::Auto, Self::Sgd, Self::AdamW]
            .into_iter()
            .find(|kind| kind.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| RecipeError::OutOfRange {
                key: "optimizer",
                value: format!("{text:?}"),
                allowed: "auto, SGD or AdamW".into(),
            })
    }
}

impl TryFrom<String> for OptimizerKind {
    type Error = RecipeError;

    fn try_from(text: String) -> Result<Self, RecipeError> {
        text.parse()
    }
}
