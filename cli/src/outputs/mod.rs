//! What commands leave behind for people to look at: pictures under the names that users of Ultralytics know, results in
//! COCO's format, label files. Numbers come from `data` and `model`, drawing from `plots`.

pub(crate) mod coco_results;
pub(crate) mod curves;
pub(crate) mod label_file;
pub(crate) mod run;
pub(crate) mod tiles;

use std::path::Path;

use anyhow::Context;
use plots::RgbImage;

/// Whether pictures are drawn.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct PlotArgs {
    /// Draw pictures of the results; the default
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set, overrides_with = "no_plots")]
    plots: bool,
    /// Draw no pictures
    #[arg(long, overrides_with = "plots")]
    no_plots: bool,
}

impl PlotArgs {
    /// Whether pictures are asked for.
    pub(crate) fn are_wanted(self) -> bool {
        self.plots && !self.no_plots
    }
}

/// Writes a picture as PNG or JPEG, as its name says.
pub(crate) fn save(picture: &RgbImage, folder: &Path, name: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    picture
        .save(&path)
        .with_context(|| format!("cannot write {}", path.display()))
}
