//! Curves from 0 to 1: precision and recall over each other, or these and F1 over the confidence.

use embedded_graphics::mono_font::iso_8859_1::FONT_9X15;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use image::{Rgb, RgbImage};
use plotters::drawing::IntoDrawingArea;
use plotters::prelude::{LineSeries, RGBColor};
use plotters::style::Color;

use crate::axes::{Axes, Failure};
use crate::canvas::{Canvas, Label};
use crate::palette::on_white;

/// One curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What the legend says.
    pub name: String,
    /// Values at equal steps of x from 0 to 1.
    pub values: Vec<f64>,
}

/// Curves of all classes, and the one over all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct CurveChart {
    /// Above the chart.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Beside the y axis.
    pub y_label: String,
    /// One curve a class.
    pub classes: Vec<Curve>,
    /// The curve of all classes, drawn thick.
    pub all: Curve,
}

/// Draws a chart of 1350 x 900 pixels. Beyond ten classes their curves are thin, grey and without names.
pub fn draw_curves(chart: &CurveChart) -> RgbImage {
    let mut picture = RgbImage::from_pixel(WIDTH + LEGEND_WIDTH, HEIGHT, Rgb([255; 3]));
    // Invariant: a picture in memory takes everything, and the axes go from 0 to 1.
    draw_lines(chart, &mut picture).expect("a drawn chart");
    draw_legend(chart, &mut picture);
    picture
}

fn draw_lines(chart: &CurveChart, picture: &mut RgbImage) -> Result<(), Failure> {
    let root = Canvas(picture).into_drawing_area();
    let (left, _) = root.split_horizontally(WIDTH);
    let axes = Axes {
        title: &chart.title,
        x_label: &chart.x_label,
        y_label: &chart.y_label,
        x: 0.0..1.0,
        y: 0.0..1.03,
        whole_x: false,
    };
    let mut context = axes.draw(&left)?;
    for (number, curve) in chart.classes.iter().enumerate() {
        let (colour, width) = if is_named(chart) {
            (on_white(number), 2)
        } else {
            (GREY, 1)
        };
        context.draw_series(LineSeries::new(
            points(curve),
            plotters_colour(colour).stroke_width(width),
        ))?;
    }
    context.draw_series(LineSeries::new(
        points(&chart.all),
        plotters_colour(BLUE).stroke_width(4),
    ))?;
    root.present()
}

fn points(curve: &Curve) -> impl Iterator<Item = (f64, f64)> {
    let last = curve.values.len().saturating_sub(1).max(1) as f64;
    let finite = |value: f64| {
        if value.is_finite() {
            value.clamp(0.0, 1.0)
        } else {
            0.0
        }
    };
    (curve.values.iter().enumerate()).map(move |(index, &value)| (index as f64 / last, finite(value)))
}

fn draw_legend(chart: &CurveChart, picture: &mut RgbImage) {
    let mut canvas = Canvas(picture);
    let mut row = |text: &str, colour: Rgb888, thickness: i32, number: i32| {
        let (left, middle) = (WIDTH as i32 + 4, 64 + number * 26);
        canvas.fill(
            [
                left,
                middle - thickness / 2,
                left + 30,
                middle - thickness / 2 + thickness,
            ],
            colour,
        );
        let label = Label {
            text: &shortened(text, LEGEND_LETTERS),
            font: &FONT_9X15,
            colour: Rgb888::BLACK,
            ground: None,
        };
        canvas.write(&label, left + 38, middle - 8);
    };
    let named: &[Curve] = if is_named(chart) { &chart.classes } else { &[] };
    for (number, curve) in named.iter().enumerate() {
        row(&curve.name, on_white(number), 2, number as i32);
    }
    row(&chart.all.name, BLUE, 4, named.len() as i32);
}

fn is_named(chart: &CurveChart) -> bool {
    chart.classes.len() <= NAMED_MAX
}

/// Returns a text of at most `letters` letters; its middle is left out where it is longer, for numbers stand at its end.
pub(crate) fn shortened(text: &str, letters: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    if all.len() <= letters {
        return text.to_owned();
    }
    let tail = letters.saturating_sub(2) / 2;
    let head = letters.saturating_sub(2) - tail;
    let [start, end] = [&all[..head], &all[all.len() - tail..]].map(|part| part.iter().collect::<String>());
    format!("{start}..{end}")
}

fn plotters_colour(colour: Rgb888) -> RGBColor {
    RGBColor(colour.r(), colour.g(), colour.b())
}

const WIDTH: u32 = 1050;
const LEGEND_WIDTH: u32 = 300;
const HEIGHT: u32 = 900;
const LEGEND_LETTERS: usize = 28;
/// There are no more colours that stay apart.
const NAMED_MAX: usize = 10;
const GREY: Rgb888 = Rgb888::new(185, 185, 185);
const BLUE: Rgb888 = Rgb888::new(0, 0, 190);

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(classes: usize) -> CurveChart {
        let curve = |name: String, bend: f64| Curve {
            name,
            values: (0..1000)
                .map(|x| 1.0 - (f64::from(x) / 999.0).powf(bend))
                .collect(),
        };
        CurveChart {
            title: "Precision-recall".into(),
            x_label: "Recall".into(),
            y_label: "Precision".into(),
            classes: (0..classes)
                .map(|class| curve(format!("class {class} 0.{class}"), 1.0 + class as f64))
                .collect(),
            all: curve("all classes 0.912 mAP@0.5".into(), 7.0),
        }
    }

    fn has(picture: &RgbImage, colour: Rgb888, columns: std::ops::Range<u32>) -> bool {
        let wanted = Rgb([colour.r(), colour.g(), colour.b()]);
        columns
            .flat_map(|x| (0..picture.height()).map(move |y| (x, y)))
            .any(|(x, y)| *picture.get_pixel(x, y) == wanted)
    }

    #[test]
    fn each_curve_and_its_name_have_a_colour() {
        let picture = draw_curves(&chart(3));
        assert_eq!(picture.dimensions(), (1350, 900));
        for colour in [on_white(0), on_white(1), on_white(2), BLUE] {
            assert!(has(&picture, colour, 80..WIDTH), "{colour:?} in the chart");
            assert!(has(&picture, colour, WIDTH..1350), "{colour:?} in the legend");
        }
    }

    #[test]
    fn many_classes_are_grey_and_nameless() {
        let picture = draw_curves(&chart(11));
        assert!(has(&picture, GREY, 80..WIDTH) && !has(&picture, GREY, WIDTH..1350));
        assert!(has(&picture, BLUE, WIDTH..1350));
    }

    #[test]
    fn a_curve_without_values_and_one_that_is_not_a_number_are_drawn() {
        let mut odd = chart(2);
        odd.classes[0].values.clear();
        odd.classes[1].values = vec![f64::NAN; 7];
        assert_eq!(draw_curves(&odd).dimensions(), (1350, 900));
    }

    #[test]
    fn a_long_name_keeps_its_beginning_and_its_number() {
        assert_eq!(shortened("short 0.5", 9), "short 0.5");
        assert_eq!(shortened("a very long name 0.512", 12), "a ver..0.512");
    }
}
