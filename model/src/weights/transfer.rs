//! Starting from weights of another number of classes: what fits is taken, rows of classes go by name, the rest is fresh.

use std::collections::HashMap;
use std::fmt;

use crate::initial::initial_state;
use crate::kind::ModelKind;
use crate::layout::{FlatState, TensorSpec};
use crate::network::Network;
use crate::weights::Weights;

/// What was taken from the file and what starts fresh; `Display` makes a table of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The model.
    pub kind: ModelKind,
    /// Number of classes of the file.
    pub file_classes: usize,
    /// Body, boxes, classes.
    pub parts: Vec<PartCount>,
    /// One entry for each class of the run.
    pub classes: Vec<ClassRow>,
}

/// Tensors of one part of the model, running statistics included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartCount {
    /// What part.
    pub part: &'static str,
    /// Tensors taken whole from the file.
    pub taken: usize,
    /// Tensors that start fresh.
    pub fresh: usize,
    /// Tensors of one row per class; see [`Transfer::classes`].
    pub by_class: usize,
}

/// Where a class of the run starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRow {
    /// Its name.
    pub name: String,
    /// The class number in the file whose rows it takes; fresh when absent.
    pub from: Option<usize>,
}

/// Returns the state of a model with classes of the given names that starts from `weights`, and what happened.
///
/// The model is the one that [`Metadata::tuned_to`](super::Metadata::tuned_to) names. Rows of the head's last projections
/// are matched by class name, repeated names in their order; what has no equal name then goes by names in lower case.
/// Files that do not know their classes' names, or share none with the run, keep their rows by number when there are as
/// many classes. Rows that match nothing are those of `initial_state` for `seed`.
///
/// # Panics
/// If there are no names.
pub fn transfer(weights: &Weights, names: &[String], seed: u64) -> (FlatState, Transfer) {
    let kind = weights.metadata.kind;
    let (network, target) = Network::new(weights.metadata.tuned_to(names.len()));
    let (_, source) = Network::new(weights.metadata.architecture());
    let classes = match_classes(&weights.metadata.names, names);
    let mut parts = PARTS.map(|part| PartCount {
        part,
        taken: 0,
        fresh: 0,
        by_class: 0,
    });
    let head = format!("model.{}.", network.body_len());
    let mut state = initial_state(&target.layout, seed);
    for (flat, specs, from, from_specs) in [
        (
            &mut state.parameters,
            &target.layout.parameters,
            &weights.state.parameters,
            &source.layout.parameters,
        ),
        (
            &mut state.buffers,
            &target.layout.buffers,
            &weights.state.buffers,
            &source.layout.buffers,
        ),
    ] {
        let found: HashMap<&str, &TensorSpec> =
            from_specs.iter().map(|spec| (spec.name.as_str(), spec)).collect();
        for spec in specs {
            let part = &mut parts[part_of(&spec.name, &head)];
            let Some(source) = found.get(spec.name.as_str()) else {
                part.fresh += 1;
                continue;
            };
            let values = &from[source.range.clone()];
            let into = &mut flat[spec.range.clone()];
            if target.class_rows.contains(&spec.name) {
                part.by_class += 1;
                copy_rows(values, into, &classes);
            } else if spec.shape == source.shape {
                part.taken += 1;
                into.copy_from_slice(values);
            } else {
                part.fresh += 1;
            }
        }
    }
    let rows = names.iter().zip(&classes).map(|(name, &from)| ClassRow {
        name: name.clone(),
        from,
    });
    let report = Transfer {
        kind,
        file_classes: weights.metadata.names.len(),
        parts: parts.to_vec(),
        classes: rows.collect(),
    };
    (state, report)
}

/// Returns for each class of the run the class of the file that it starts from.
fn match_classes(file: &[String], run: &[String]) -> Vec<Option<usize>> {
    let mut taken = vec![false; file.len()];
    let mut matched = vec![None; run.len()];
    let are_equal: [fn(&str, &str) -> bool; 2] = [
        |a, b| a == b,
        |a, b| a.trim().to_lowercase() == b.trim().to_lowercase(),
    ];
    for is_same in are_equal {
        for (from, name) in matched.iter_mut().zip(run).filter(|(from, _)| from.is_none()) {
            *from = (0..file.len()).find(|&class| !taken[class] && is_same(&file[class], name));
            if let Some(class) = *from {
                taken[class] = true;
            }
        }
    }
    if file.len() == run.len() && matched.iter().all(Option::is_none) {
        return (0..run.len()).map(Some).collect();
    }
    matched
}

fn copy_rows(from: &[f32], into: &mut [f32], classes: &[Option<usize>]) {
    let len = into.len() / classes.len();
    for (row, class) in into.chunks_mut(len).zip(classes) {
        if let Some(class) = class {
            row.copy_from_slice(&from[class * len..(class + 1) * len]);
        }
    }
}

/// Returns the index in [`PARTS`].
fn part_of(name: &str, head: &str) -> usize {
    match name.strip_prefix(head) {
        None => 0,
        Some(rest) if rest.starts_with("cv2.") => 1,
        Some(_) => 2,
    }
}

const PARTS: [&str; 3] = ["backbone and neck", "head, boxes", "head, classes"];

/// Classes named one by one in the table.
const CLASSES_SHOWN: usize = 100;

impl Transfer {
    /// Whether every number comes from the file.
    pub fn is_whole(&self) -> bool {
        self.parts.iter().all(|part| part.fresh == 0) && self.classes.iter().all(|class| class.from.is_some())
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            file_classes,
            classes,
            ..
        } = self;
        writeln!(
            f,
            "{kind}: {file_classes} classes in the file, {} in the run",
            classes.len()
        )?;
        writeln!(
            f,
            "{:<18} {:>9} {:>6} {:>9}",
            "tensors", "from file", "fresh", "by class"
        )?;
        for PartCount {
            part,
            taken,
            fresh,
            by_class,
        } in &self.parts
        {
            writeln!(f, "{part:<18} {taken:>9} {fresh:>6} {by_class:>9}")?;
        }
        let mapped = classes.iter().filter(|class| class.from.is_some()).count();
        write!(
            f,
            "classes: {mapped} from the file, {} fresh",
            classes.len() - mapped
        )?;
        for ClassRow { name, from } in classes.iter().take(CLASSES_SHOWN) {
            match from {
                Some(from) => write!(f, "\n  {name} <- class {from} of the file")?,
                None => write!(f, "\n  {name} fresh")?,
            }
        }
        match classes.len().saturating_sub(CLASSES_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{Metadata, from_bytes, to_bytes};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn weights(kind: &str, classes: &[&str]) -> Weights {
        let kind: ModelKind = kind.parse().unwrap();
        let layout = Network::new(kind.with_classes(classes.len())).1.layout;
        Weights {
            metadata: Metadata {
                kind,
                names: names(classes),
                class_width: kind.with_classes(classes.len()).class_width(),
                image_size: 64,
            },
            state: initial_state(&layout, 3),
        }
    }

    /// The rows of the middle level's last class projection.
    fn rows(kind: ModelKind, classes: usize, state: &FlatState) -> Vec<Vec<f32>> {
        let layout = Network::new(kind.with_classes(classes)).1.layout;
        let spec = layout.parameter("model.22.cv3.1.2.weight").unwrap();
        let values = &state.parameters[spec.range.clone()];
        values
            .chunks(values.len() / classes)
            .map(<[f32]>::to_vec)
            .collect()
    }

    #[test]
    fn rows_follow_their_class_names() {
        let file = weights("yolov8n", &["cat", "dog", "cat", "cow"]);
        let kind = file.metadata.kind;
        let (state, report) = transfer(&file, &names(&["cow", "cat", "hen", "cat", "cat"]), 9);
        let from: Vec<Option<usize>> = report.classes.iter().map(|class| class.from).collect();
        assert_eq!(from, [Some(3), Some(0), None, Some(2), None]);
        let (old, new) = (rows(kind, 4, &file.state), rows(kind, 5, &state));
        let fresh = rows(
            kind,
            5,
            &initial_state(&Network::new(kind.with_classes(5)).1.layout, 9),
        );
        assert_eq!(
            new,
            [&old[3], &old[0], &fresh[2], &old[2], &fresh[4]].map(Clone::clone)
        );
        let body = Network::new(kind.with_classes(5))
            .1
            .layout
            .parameter("model.22.cv2.0.0.conv.weight")
            .unwrap()
            .range
            .start;
        assert_eq!(state.parameters[..body], file.state.parameters[..body]);
        assert!(report.parts.iter().all(|part| part.fresh == 0) && !report.is_whole());
        let table = report.to_string();
        assert!(table.contains("classes: 3 from the file, 2 fresh"), "{table}");
        assert!(table.contains("cow <- class 3 of the file"), "{table}");
    }

    #[test]
    fn the_same_classes_take_everything() {
        let file = weights("yolov8n", &["cat", "dog", "cat"]);
        let (state, report) = transfer(&file, &file.metadata.names, 9);
        assert_eq!(state, file.state);
        assert!(report.is_whole());
        let (state, report) = transfer(&file, &names(&["0", "1", "2"]), 9);
        assert_eq!(state, file.state, "no name in common, as many classes");
        assert!(report.is_whole());
    }

    #[test]
    fn class_branches_keep_the_width_of_the_file() {
        let many: Vec<String> = (0..80).map(|class| class.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let file = weights("yolov8n", &many);
        let (state, report) = transfer(&file, &names(&["2", "1"]), 9);
        assert!(report.is_whole(), "{report}");
        let tuned = Metadata {
            names: names(&["2", "1"]),
            ..file.metadata
        };
        assert_eq!(
            (tuned.class_width, tuned.architecture().is_as_published()),
            (80, false)
        );
        let bytes = to_bytes(&tuned, &state.parameters, &state.buffers).unwrap();
        let read = from_bytes(&bytes).unwrap();
        assert_eq!((read.metadata, read.state), (tuned, state));
    }

    #[test]
    fn names_that_differ_in_case_are_matched_after_equal_ones() {
        let file = names(&["Car", "car ", "person", "car"]);
        let run = names(&["car", "PERSON", "CAR", "bus"]);
        assert_eq!(match_classes(&file, &run), [Some(3), Some(2), Some(0), None]);
    }
}
