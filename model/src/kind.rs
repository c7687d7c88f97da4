//! Which published model: family and size, by the names its users know (`yolov8n`, `yolo11x.yaml`, ...).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::table::graph;

/// A family of models: one graph, one head, one loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// YOLOv8: anchor-free, C2f blocks, distributions over box distances.
    V8,
    /// YOLO11: as YOLOv8, with C3k2 blocks, attention at the coarsest level and depthwise class branches.
    V11,
}

/// How deep and wide a member of a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// Nano.
    N,
    /// Small.
    S,
    /// Medium.
    M,
    /// Large.
    L,
    /// Extra large.
    X,
}

/// A model by name.
///
/// # Examples
/// ```
/// use model::kind::ModelKind;
/// let kind: ModelKind = "yolov8n.yaml".parse().unwrap();
/// assert_eq!(kind.to_string(), "yolov8n");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelKind {
    /// The family.
    pub family: Family,
    /// The size.
    pub size: Size,
}

/// All that the tensors of a model depend on.
///
/// # Examples
/// ```
/// use model::kind::ModelKind;
/// let kind: ModelKind = "yolo11n".parse().unwrap();
/// let tuned = kind.with_classes(2).with_class_width(80);
/// assert_eq!(kind.with_classes(2).class_width(), 64);
/// assert_ne!(tuned, kind.with_classes(2));
/// assert_eq!(tuned.with_class_width(64), kind.with_classes(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    kind: ModelKind,
    classes: usize,
    class_width: usize,
}

impl Architecture {
    /// Returns it with class branches of another width: a model that was tuned from weights for other classes keeps
    /// those of its origin, whose width may follow from another number of classes.
    #[must_use]
    pub fn with_class_width(self, class_width: usize) -> Self {
        Self { class_width, ..self }
    }

    /// Returns the model.
    pub fn kind(&self) -> ModelKind {
        self.kind
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the channels of the branches that tell classes.
    pub fn class_width(&self) -> usize {
        self.class_width
    }

    /// Whether the class branches are as wide as published for this number of classes.
    pub fn is_as_published(&self) -> bool {
        *self == self.kind.with_classes(self.classes)
    }
}

/// The text names no known model.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("unknown model `{name}`: known are {}", known_names())]
pub struct UnknownModel {
    /// What was asked for.
    pub name: String,
}

impl ModelKind {
    /// All models: family after family, small ones first.
    pub const ALL: [Self; 10] = [
        Self::new(Family::V8, Size::N),
        Self::new(Family::V8, Size::S),
        Self::new(Family::V8, Size::M),
        Self::new(Family::V8, Size::L),
        Self::new(Family::V8, Size::X),
        Self::new(Family::V11, Size::N),
        Self::new(Family::V11, Size::S),
        Self::new(Family::V11, Size::M),
        Self::new(Family::V11, Size::L),
        Self::new(Family::V11, Size::X),
    ];

    const fn new(family: Family, size: Size) -> Self {
        Self { family, size }
    }

    /// Returns the model for a number of classes, as published: the class branches are as wide as the finest level that
    /// the head reads, or as there are classes, up to 100, if these are more.
    pub fn with_classes(self, classes: usize) -> Architecture {
        let (rows, scale) = graph(self);
        // Invariant: the last row of every table is a head, whose first input is a row with channels of its own.
        let finest = rows
            .last()
            .and_then(|head| rows[head.from[0] as usize].block.channels());
        let finest = scale.channels(finest.expect("a head reads blocks"));
        Architecture {
            kind: self,
            classes,
            class_width: finest.max(classes.min(CLASSES_WIDENING_MAX)),
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V8 => "yolov8",
            Family::V11 => "yolo11",
        };
        let size = match self.size {
            Size::N => 'n',
            Size::S => 's',
            Size::M => 'm',
            Size::L => 'l',
            Size::X => 'x',
        };
        write!(f, "{family}{size}")
    }
}

impl FromStr for ModelKind {
    type Err = UnknownModel;

    /// Parses `yolov8n` or `yolov8n.yaml`, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownModel> {
        let lower = text.trim().to_ascii_lowercase();
        let name = lower.strip_suffix(".yaml").unwrap_or(&lower);
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == name)
            .ok_or_else(|| UnknownModel { name: text.into() })
    }
}

/// More classes than these widen no class branch.
const CLASSES_WIDENING_MAX: usize = 100;

fn known_names() -> String {
    ModelKind::ALL.map(|kind| kind.to_string()).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_to_its_kind() {
        for kind in ModelKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(format!("{kind}.yaml").parse(), Ok(kind));
        }
    }

    #[test]
    fn class_branches_are_as_wide_as_published() {
        let width = |name: &str, classes| {
            name.parse::<ModelKind>()
                .unwrap()
                .with_classes(classes)
                .class_width()
        };
        let cases = [
            ("yolov8n", 1, 64),
            ("yolov8n", 80, 80),
            ("yolo11n", 365, 100),
            ("yolo11s", 80, 128),
        ];
        for (name, classes, expected) in cases {
            assert_eq!(width(name, classes), expected, "{name} with {classes} classes");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "yolov5n".parse::<ModelKind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown model `yolov5n`: known are yolov8n, yolov8s, yolov8m, yolov8l, yolov8x, \
             yolo11n, yolo11s, yolo11m, yolo11l, yolo11x"
        );
        assert!("yolov8n.pt".parse::<ModelKind>().is_err());
        assert!("".parse::<ModelKind>().is_err());
    }
}
