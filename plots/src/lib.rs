//! Pictures of a run, from plain data: what other trainers leave beside their results, under looks that people know.
//!
//! Pure: nothing here reads a file, a clock or a data set, and no font is needed on the machine. A function takes numbers
//! and gives an [`RgbImage`]; where it goes is the caller's business.
//!
//! # Layout
//!
//! | module | picture |
//! |---|---|
//! | [`training`] | losses and metrics by epoch (`results.png`) |
//! | [`curves`] | precision, recall and F1 of each class (`BoxPR_curve.png` and its sisters) |
//! | [`matrix`] | the confusion matrix |
//! | [`labels`] | how often classes occur, where boxes lie and how large they are |
//! | [`sheet`] | photos side by side, with their boxes |
//! | [`boxes`] | boxes with labels on one photo |
//!
//! `canvas` is the picture under all of them: text by `embedded-graphics`, lines and axes by `plotters`.

mod axes;
pub mod boxes;
mod canvas;
pub mod curves;
pub mod labels;
pub mod matrix;
mod palette;
pub mod sheet;
pub mod training;

pub use image::RgbImage;

pub use self::boxes::{LabelledBox, draw_boxes};
pub use self::curves::{Curve, CurveChart, draw_curves};
pub use self::labels::{LabelStatistics, draw_labels};
pub use self::matrix::draw_matrix;
pub use self::sheet::{Tile, draw_sheet};
pub use self::training::{Panel, draw_training};
