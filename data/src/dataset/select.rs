//! Training on a part of the data: the first images, some classes, or all objects as one class.

use super::{Dataset, DatasetError, Split};

/// What of a dataset is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Which part of the training images, above 0 and at most 1: the first ones by name. Other splits stay whole.
    pub fraction: f64,
    /// The classes whose objects count; all if empty. Images without any of them stay, as background, and so do all names.
    pub classes: Vec<u32>,
    /// Whether all objects become one class.
    pub single_class: bool,
}

impl Default for Selection {
    /// Everything.
    fn default() -> Self {
        Self {
            fraction: 1.0,
            classes: Vec::new(),
            single_class: false,
        }
    }
}

impl Dataset {
    /// Returns what is selected of the dataset; a pure function of both, so the same on all hosts. The
    /// [fingerprint](Dataset::fingerprint) is that of what is left.
    ///
    /// # Errors
    /// When a class does not exist, or no object is left of those that were there.
    ///
    /// # Source
    /// Keys of the same names in Ultralytics: classes are filtered first, then all become one.
    pub fn select(mut self, selection: &Selection) -> Result<Self, DatasetError> {
        if self.split == Split::Train {
            // An image that had to be skipped does not count, unlike there.
            let wanted = (self.len() as f64 * selection.fraction).round_ties_even() as usize;
            self.samples.truncate(wanted.max(1));
        }
        if let Some(&class) = (selection.classes.iter()).find(|&&class| class as usize >= self.names.len()) {
            return Err(DatasetError::UnknownClass {
                class,
                names: self.names.clone(),
            });
        }
        if !selection.classes.is_empty() {
            let had_objects = self.box_count() > 0;
            for sample in &mut self.samples {
                sample
                    .labels
                    .retain(|label| selection.classes.contains(&label.class));
            }
            if had_objects && self.box_count() == 0 {
                return Err(DatasetError::NoObjectLeft {
                    split: self.split,
                    images: self.len(),
                });
            }
        }
        if selection.single_class {
            self.names = vec![SINGLE_CLASS.to_owned()];
            self.categories = vec![1];
            for label in self.samples.iter_mut().flat_map(|sample| &mut sample.labels) {
                label.class = 0;
            }
        }
        Ok(self)
    }
}

/// The name of the class that all objects become, as Ultralytics calls it.
pub const SINGLE_CLASS: &str = "item";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, SHAPES};

    fn shapes(split: Split) -> Dataset {
        Dataset::open(SHAPES, split, &Limits::default()).unwrap()
    }

    fn selected(selection: &Selection) -> Dataset {
        shapes(Split::Train).select(selection).unwrap()
    }

    fn fraction(fraction: f64) -> Selection {
        Selection {
            fraction,
            ..Selection::default()
        }
    }

    #[test]
    fn everything_is_the_default() {
        let (all, selected) = (shapes(Split::Train), selected(&Selection::default()));
        assert_eq!(all.fingerprint(), selected.fingerprint());
        assert_eq!(all.samples, selected.samples);
    }

    #[test]
    fn a_fraction_takes_the_first_training_images_only() {
        let all = shapes(Split::Train);
        let half = selected(&fraction(0.5));
        assert_eq!(half.samples, all.samples[..all.len() / 2]);
        assert_eq!(selected(&fraction(1e-9)).len(), 1);
        let validation = shapes(Split::Val);
        let whole = validation.len();
        assert_eq!(validation.select(&fraction(0.1)).unwrap().len(), whole);
    }

    #[test]
    fn a_half_image_is_rounded_as_python_rounds() {
        let mut dataset = shapes(Split::Train);
        for (images, wanted) in [(5, 2), (7, 4), (1, 1)] {
            dataset.samples = shapes(Split::Train).samples;
            dataset.samples.truncate(images);
            dataset = dataset.select(&fraction(0.5)).unwrap();
            assert_eq!(dataset.len(), wanted, "half of {images}");
        }
    }

    #[test]
    fn classes_are_filtered_and_images_without_them_stay() {
        let all = shapes(Split::Train);
        let two = selected(&Selection {
            classes: vec![3, 1],
            ..Selection::default()
        });
        assert_eq!((two.len(), &two.names), (all.len(), &all.names));
        for (all, two) in all.samples.iter().zip(&two.samples) {
            let wanted: Vec<_> = (all.labels.iter().copied())
                .filter(|label| [1, 3].contains(&label.class))
                .collect();
            assert_eq!(two.labels, wanted);
        }
        assert!(two.samples.iter().any(|sample| sample.labels.is_empty()));
    }

    #[test]
    fn all_objects_become_one_class() {
        let one = selected(&Selection {
            classes: vec![2],
            single_class: true,
            ..Selection::default()
        });
        assert_eq!(one.names, ["item"]);
        let labels = || one.samples.iter().flat_map(|sample| &sample.labels);
        assert!(labels().count() > 0 && labels().all(|label| label.class == 0));
        let of_two = shapes(Split::Train);
        let of_two = of_two.samples.iter().flat_map(|sample| &sample.labels);
        assert_eq!(labels().count(), of_two.filter(|label| label.class == 2).count());
    }

    #[test]
    fn the_fingerprint_follows_the_selection() {
        let mut prints: Vec<String> = [
            Selection::default(),
            fraction(0.5),
            Selection {
                classes: vec![0],
                ..Selection::default()
            },
            Selection {
                single_class: true,
                ..Selection::default()
            },
        ]
        .iter()
        .map(|selection| selected(selection).fingerprint())
        .collect();
        prints.sort();
        prints.dedup();
        assert_eq!(prints.len(), 4);
    }

    #[test]
    fn a_class_that_does_not_exist_and_one_without_objects_are_refused() {
        let classes = |classes: Vec<u32>| Selection {
            classes,
            ..Selection::default()
        };
        let error = shapes(Split::Train).select(&classes(vec![0, 4])).unwrap_err();
        assert!(error.to_string().contains("class 4"), "{error}");
        let mut dataset = shapes(Split::Train);
        dataset.names.push("unicorn".into());
        let error = dataset.select(&classes(vec![4])).unwrap_err();
        assert!(matches!(error, DatasetError::NoObjectLeft { .. }), "{error}");
    }
}
