//! Losses and metrics by epoch, a panel each.

use image::{Rgb, RgbImage};
use plotters::chart::SeriesLabelPosition;
use plotters::drawing::IntoDrawingArea;
use plotters::element::{Circle, PathElement};
use plotters::prelude::{LineSeries, RGBColor, WHITE};
use plotters::style::Color;

use crate::axes::{Axes, Failure, range_of};
use crate::canvas::Canvas;

/// One figure by epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Its name, as `results.csv` has it.
    pub title: String,
    /// Epoch and value. Values that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Draws panels in rows of five, 400 x 360 pixels each: the values, and a smooth line through them.
pub fn draw_training(panels: &[Panel]) -> RgbImage {
    let columns = panels.len().clamp(1, COLUMNS);
    let rows = panels.len().div_ceil(columns).max(1);
    let mut picture = RgbImage::from_pixel(WIDTH * columns as u32, HEIGHT * rows as u32, Rgb([255; 3]));
    // Invariant: a picture in memory takes everything, and `range_of` gives no empty range.
    draw(panels, (rows, columns), &mut picture).expect("drawn panels");
    picture
}

fn draw(panels: &[Panel], grid: (usize, usize), picture: &mut RgbImage) -> Result<(), Failure> {
    let root = Canvas(picture).into_drawing_area();
    for (index, (panel, area)) in panels.iter().zip(root.split_evenly(grid)).enumerate() {
        let points: Vec<(f64, f64)> = (panel.points.iter().copied())
            .filter(|(epoch, value)| epoch.is_finite() && value.is_finite())
            .collect();
        let axes = Axes {
            title: &panel.title,
            x_label: "",
            y_label: "",
            x: range_of(points.iter().map(|point| point.0)),
            y: range_of(points.iter().map(|point| point.1)),
            whole_x: true,
        };
        let mut chart = axes.draw(&area)?;
        let values = LineSeries::new(points.iter().copied(), VALUES.stroke_width(2));
        chart
            .draw_series(values)?
            .label("each epoch")
            .legend(|place| key(place, VALUES));
        // Points of a long run would lie on each other.
        if points.len() <= POINTS_MAX {
            let dots = points.iter().map(|&point| Circle::new(point, 3, VALUES.filled()));
            chart.draw_series(dots)?;
        }
        if points.len() > 2 {
            let line = LineSeries::new(smooth(&points), SMOOTH.stroke_width(2));
            chart
                .draw_series(line)?
                .label("smoothed")
                .legend(|place| key(place, SMOOTH));
            // Losses fall: there is room above the end of the first panel, which speaks for all.
            if index == 0 {
                chart
                    .configure_series_labels()
                    .position(SeriesLabelPosition::UpperRight)
                    .label_font(("", 13))
                    .background_style(WHITE)
                    .border_style(FRAME)
                    .draw()?;
            }
        }
    }
    root.present()
}

/// A short line in the colour of a series, beside its name.
fn key((x, y): (i32, i32), colour: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2))
}

/// The values, each averaged with its neighbours by a bell of three epochs; the ends are mirrored.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let last = points.len() as i64 - 1;
    let mirrored = |index: i64| {
        let span = 2 * (last + 1);
        let index = index.rem_euclid(span);
        (if index > last { span - 1 - index } else { index }) as usize
    };
    let bell = |offset: i64| (-((offset * offset) as f64) / (2.0 * SIGMA * SIGMA)).exp();
    let reach = (4.0 * SIGMA) as i64;
    let total: f64 = (-reach..=reach).map(bell).sum();
    (0..=last)
        .map(|index| {
            let value = |offset: i64| points[mirrored(index + offset)].1 * bell(offset);
            let sum: f64 = (-reach..=reach).map(value).sum();
            (points[index as usize].0, sum / total)
        })
        .collect()
}

const COLUMNS: usize = 5;
const WIDTH: u32 = 400;
const HEIGHT: u32 = 360;
const POINTS_MAX: usize = 60;
/// Width of the bell in epochs.
const SIGMA: f64 = 3.0;
const VALUES: RGBColor = RGBColor(0, 114, 178);
const FRAME: RGBColor = RGBColor(200, 200, 200);
const SMOOTH: RGBColor = RGBColor(230, 159, 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(values: &[f64]) -> Panel {
        Panel {
            title: "train/box_loss".into(),
            points: (1..).map(f64::from).zip(values.iter().copied()).collect(),
        }
    }

    fn has(picture: &RgbImage, colour: RGBColor) -> bool {
        let wanted = Rgb([colour.0, colour.1, colour.2]);
        picture.pixels().any(|pixel| *pixel == wanted)
    }

    #[test]
    fn ten_panels_fill_two_rows() {
        let panels = vec![panel(&[3.0, 2.0, 1.5, 1.4]); 10];
        let picture = draw_training(&panels);
        assert_eq!(picture.dimensions(), (2000, 720));
        assert!(has(&picture, VALUES) && has(&picture, SMOOTH));
        // The last panel is drawn as well.
        let last = (1600..2000).flat_map(|x| (360..720).map(move |y| (x, y)));
        assert!(
            last.filter(|&(x, y)| picture.get_pixel(x, y).0 == [0, 114, 178])
                .count()
                > 100
        );
    }

    #[test]
    fn no_epoch_one_epoch_and_no_number_are_drawn() {
        for values in [&[][..], &[1.0], &[f64::NAN, f64::INFINITY], &[0.0, 0.0, 0.0]] {
            assert_eq!(draw_training(&[panel(values)]).dimensions(), (400, 360));
        }
        assert!(has(&draw_training(&[panel(&[1.0])]), VALUES));
    }

    #[test]
    fn smoothing_keeps_a_constant_and_the_epochs() {
        let constant: Vec<(f64, f64)> = (1..20).map(|epoch| (f64::from(epoch), 0.7)).collect();
        for ((epoch, value), (wanted, _)) in smooth(&constant).into_iter().zip(&constant) {
            assert!(epoch == *wanted && (value - 0.7).abs() < 1e-12);
        }
        let step: Vec<(f64, f64)> = (0..9)
            .map(|epoch| (f64::from(epoch), f64::from(u8::from(epoch > 3))))
            .collect();
        let smooth: Vec<f64> = smooth(&step).into_iter().map(|point| point.1).collect();
        assert!(
            smooth.windows(2).all(|pair| pair[0] < pair[1]),
            "{smooth:?} rises"
        );
    }
}
