//! A chart's axes, as all charts here have them: light grid, few ticks, title above.

use std::convert::Infallible;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    BLACK, Cartesian2d, ChartBuilder, ChartContext, Color, DrawingArea, DrawingAreaErrorKind, IntoFont,
    RGBColor,
};

use crate::canvas::Canvas;

/// A part of the picture.
pub(crate) type Area<'a> = DrawingArea<Canvas<'a>, Shift>;

/// A chart with linear axes.
pub(crate) type Chart<'a, 'b> = ChartContext<'a, Canvas<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// What plotters reports; a picture in memory takes everything.
pub(crate) type Failure = DrawingAreaErrorKind<Infallible>;

/// What the axes say.
pub(crate) struct Axes<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_label: &'a str,
    pub(crate) y_label: &'a str,
    pub(crate) x: Range<f64>,
    pub(crate) y: Range<f64>,
    /// Whether ticks on the x axis are whole numbers.
    pub(crate) whole_x: bool,
}

impl Axes<'_> {
    /// Draws the axes into an area.
    pub(crate) fn draw<'a, 'b>(&self, area: &'a Area<'b>) -> Result<Chart<'a, 'b>, Failure> {
        let (width, height) = area.dim_in_pixel();
        let is_small = width < SMALL;
        let (title, text) = if is_small { (15, 13) } else { (20, 15) };
        let grid = RGBColor(225, 225, 225);
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(18)
            .caption(self.title, ("", title).into_font().color(&BLACK))
            .x_label_area_size(if self.x_label.is_empty() { 24 } else { 52 })
            .y_label_area_size(if self.y_label.is_empty() { 52 } else { 72 })
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        let whole = |value: &f64| {
            if (value - value.round()).abs() < 1e-6 {
                format!("{value:.0}")
            } else {
                String::new()
            }
        };
        let decimals = decimals(&self.y);
        let plain = |value: &f64| format!("{value:.decimals$}");
        let fraction = |value: &f64| format!("{value:.1}");
        let mut mesh = chart.configure_mesh();
        mesh.axis_style(RGBColor(90, 90, 90))
            .light_line_style(plotters::style::TRANSPARENT)
            .bold_line_style(grid.filled())
            .label_style(("", text).into_font().color(&BLACK))
            .axis_desc_style(("", title).into_font().color(&BLACK))
            .x_labels((width / 90).clamp(3, 11) as usize)
            .y_labels((height / 50).clamp(3, 11) as usize)
            .y_label_formatter(&plain)
            .x_desc(self.x_label)
            .y_desc(self.y_label);
        if self.whole_x {
            mesh.x_label_formatter(&whole);
        } else {
            mesh.x_label_formatter(&fraction);
        }
        mesh.draw()?;
        drop(mesh);
        Ok(chart)
    }
}

/// Returns a range around all finite values, a little wider than they need; 0 to 1 without any.
pub(crate) fn range_of(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return 0.0..1.0;
    }
    let margin = if high > low {
        (high - low) * 0.06
    } else {
        low.abs().max(0.1) * 0.1
    };
    low - margin..high + margin
}

/// Digits after the point that tell the ticks of a range apart.
fn decimals(range: &Range<f64>) -> usize {
    let step = (range.end - range.start).abs() / 10.0;
    (-step.log10().floor()).clamp(0.0, 6.0) as usize
}

/// Below this width in pixels, letters are smaller.
const SMALL: u32 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_never_empty_and_holds_every_finite_value() {
        assert_eq!(range_of([f64::NAN, f64::INFINITY].into_iter()), 0.0..1.0);
        let one = range_of([2.0, 2.0].into_iter());
        assert!(one.start < 2.0 && one.end > 2.0);
        let many = range_of([1.0, f64::NAN, -3.0, 7.0].into_iter());
        assert!(many.start < -3.0 && many.end > 7.0 && many.end < 8.0);
        let zero = range_of([0.0].into_iter());
        assert!(zero.start < 0.0 && zero.end > 0.0);
    }

    #[test]
    fn ticks_have_the_digits_that_tell_them_apart() {
        assert_eq!(decimals(&(0.0..1.0)), 1);
        assert_eq!(decimals(&(0.0..0.05)), 3);
        assert_eq!(decimals(&(0.0..200.0)), 0);
    }
}
