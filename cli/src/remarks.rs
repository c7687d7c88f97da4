//! What is said on standard error about data before it is used: what there is, what was left out, and why.

use std::collections::BTreeMap;

use data::{Dataset, SkipReason};

/// Says what a data set holds, which of its images were skipped, and how many have no label file.
pub(crate) fn describe(dataset: &Dataset) {
    for line in lines(dataset) {
        eprintln!("{line}");
    }
}

/// Returns how many files of formats that are not read were passed over, in a line; nothing when there are none.
pub(crate) fn unread_formats<'a>(extensions: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for extension in extensions {
        *counts.entry(extension).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(extension, count)| format!("{count} .{extension}"))
        .collect();
    (!counts.is_empty()).then(|| {
        format!(
            "skipped files of formats that are not read: {}; convert them to JPEG or PNG",
            counts.join(", ")
        )
    })
}

fn lines(dataset: &Dataset) -> Vec<String> {
    let unread = dataset
        .skipped
        .iter()
        .filter_map(|skipped| match &skipped.reason {
            SkipReason::UnsupportedFormat { extension } => Some(extension.as_str()),
            _ => None,
        });
    let others = dataset
        .skipped
        .iter()
        .filter(|skipped| !matches!(skipped.reason, SkipReason::UnsupportedFormat { .. }));
    let more = others.clone().count().saturating_sub(SKIPPED_SHOWN);
    let backgrounds = dataset.unannotated();

    let mut lines = vec![dataset.description()];
    lines.extend(unread_formats(unread));
    lines.extend(
        others
            .take(SKIPPED_SHOWN)
            .map(|skipped| format!("skipped {skipped}")),
    );
    if more > 0 {
        lines.push(format!("skipped {more} more"));
    }
    if backgrounds > 0 {
        lines.push(format!(
            "{backgrounds} of the {} images have no label file and count as background",
            dataset.len()
        ));
    }
    lines
}

/// Enough to see what is wrong with all of them.
const SKIPPED_SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use data::{Limits, SHAPES, Skipped, Split};

    use super::*;

    fn skipped(file: &str, reason: SkipReason) -> Skipped {
        Skipped {
            file: file.into(),
            line: None,
            reason,
        }
    }

    #[test]
    fn the_first_skipped_images_are_named_and_the_others_counted() {
        let mut dataset = Dataset::open(SHAPES, Split::Val, &Limits::default()).unwrap();
        assert_eq!(lines(&dataset), [dataset.description()]);
        for (number, extension) in ["heic", "avif", "heic"].into_iter().enumerate() {
            let reason = SkipReason::UnsupportedFormat {
                extension: extension.into(),
            };
            dataset.skipped.push(skipped(&number.to_string(), reason));
        }
        for number in 0..7 {
            let file = format!("{number}.jpg");
            dataset.skipped.push(skipped(&file, SkipReason::MissingImage));
        }
        dataset.samples[3].is_annotated = false;
        let lines = lines(&dataset);
        let [description, unread, first, .., more, backgrounds] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(lines.len(), 4 + SKIPPED_SHOWN);
        assert!(
            description.contains("48 val images (10 skipped)"),
            "{description}"
        );
        assert!(unread.contains("not read: 1 .avif, 2 .heic;"), "{unread}");
        assert_eq!(first, "skipped 0.jpg: the image does not exist");
        assert_eq!(more, "skipped 2 more");
        assert_eq!(
            backgrounds,
            "1 of the 48 images have no label file and count as background"
        );
    }
}
