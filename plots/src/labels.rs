//! What a data set holds: how often each class occurs, how large boxes are, where they lie.

use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_9X15, FONT_10X20};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use image::{Rgb, RgbImage};

use crate::canvas::{Canvas, FRAME, Label, text_size};
use crate::curves::shortened;
use crate::palette::{blues, on_white};

/// The labels of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelStatistics {
    /// Class names.
    pub names: Vec<String>,
    /// Class and box of each object: centre x, centre y, width, height, as fractions of the image.
    pub boxes: Vec<(u32, [f32; 4])>,
}

/// Draws four panels of 700 x 700 pixels: objects of each class; boxes on a common centre; where centres lie; widths and
/// heights.
pub fn draw_labels(statistics: &LabelStatistics) -> RgbImage {
    let mut picture = RgbImage::from_pixel(2 * PANEL as u32, 2 * PANEL as u32, Rgb([255; 3]));
    let mut canvas = Canvas(&mut picture);
    let inside = |column: i32, row: i32| {
        let (left, top) = (column * PANEL, row * PANEL);
        [left + 90, top + 50, left + PANEL - 30, top + PANEL - 70]
    };
    draw_histogram(&mut canvas, inside(0, 0), statistics);
    draw_outlines(&mut canvas, inside(1, 0), statistics);
    let centre = |[x, y, _, _]: [f32; 4]| [x, 1.0 - y];
    let extent = |[_, _, width, height]: [f32; 4]| [width, height];
    let all = || statistics.boxes.iter().map(|(_, bounds)| *bounds);
    let [centres, extents] = [inside(0, 1), inside(1, 1)];
    draw_density(&mut canvas, centres, all().map(centre));
    write_words(&mut canvas, centres, ["Centres of boxes", "x", "y from below"]);
    draw_density(&mut canvas, extents, all().map(extent));
    write_words(&mut canvas, extents, ["Sizes of boxes", "width", "height"]);
    picture
}

fn draw_histogram(canvas: &mut Canvas<'_>, [left, top, right, bottom]: [i32; 4], of: &LabelStatistics) {
    let mut counts = vec![0u64; of.names.len()];
    for (class, _) in &of.boxes {
        if let Some(count) = counts.get_mut(*class as usize) {
            *count += 1;
        }
    }
    let high = counts.iter().copied().max().unwrap_or(0).max(1);
    let classes = counts.len().max(1) as i32;
    // Names run upwards below the bars, where they are.
    let names_height = if classes <= NAMED_MAX { 130 } else { 0 };
    let floor = bottom - names_height + 40;
    let step = f64::from(right - left) / f64::from(classes);
    for (class, &count) in counts.iter().enumerate() {
        let from = left + (class as f64 * step + step * 0.1) as i32;
        let to = (left + ((class + 1) as f64 * step - step * 0.1) as i32).max(from + 1);
        let height = (count as f64 / high as f64 * f64::from(floor - top - 24)).round() as i32;
        canvas.fill([from, floor - height, to, floor], on_white(class));
        let number = count.to_string();
        let [width, _] = text_size(&number, &FONT_9X15).map(|length| length as i32);
        if f64::from(width) < step {
            let label = Label::black(&number, &FONT_9X15);
            canvas.write(&label, i32::midpoint(from, to) - width / 2, floor - height - 18);
        }
        if classes <= NAMED_MAX {
            let font: &'static MonoFont<'static> = if step >= 16.0 { &FONT_9X15 } else { &FONT_6X10 };
            let name = shortened(&of.names[class], if step >= 16.0 { 14 } else { 20 });
            let [width, height] = text_size(&name, font).map(|length| length as i32);
            canvas.write_upwards(
                &Label::black(&name, font),
                i32::midpoint(from, to) - height / 2,
                floor + 8 + width,
            );
        }
    }
    canvas.fill([left, floor, right, floor + 2], FRAME);
    // The scale: from nothing to the most frequent class.
    for (number, y) in [(high, top + 24), (0, floor)] {
        let number = number.to_string();
        let [width, height] = text_size(&number, &FONT_9X15).map(|length| length as i32);
        canvas.write(
            &Label::black(&number, &FONT_9X15),
            left - 6 - width,
            y - height / 2,
        );
    }
    write_words(
        canvas,
        [left, top, right, bottom],
        ["Objects of each class", "", "objects"],
    );
}

/// Outlines of the first boxes, all with one centre.
fn draw_outlines(canvas: &mut Canvas<'_>, inside: [i32; 4], of: &LabelStatistics) {
    let [left, top, right, bottom] = inside;
    let (middle_x, middle_y) = (i32::midpoint(left, right), i32::midpoint(top, bottom));
    for &(class, [_, _, width, height]) in of.boxes.iter().take(OUTLINES_MAX) {
        let half = |share: f32, length: i32| (share.clamp(0.0, 1.0) * length as f32 / 2.0) as i32;
        let (x, y) = (half(width, right - left), half(height, bottom - top));
        let [x1, y1, x2, y2] = [middle_x - x, middle_y - y, middle_x + x, middle_y + y];
        for edge in [
            [x1, y1, x2, y1 + 1],
            [x1, y2, x2 + 1, y2 + 1],
            [x1, y1, x1 + 1, y2],
            [x2, y1, x2 + 1, y2],
        ] {
            canvas.fill(edge, on_white(class as usize));
        }
    }
    canvas.frame(inside);
    let shown = of.boxes.len().min(OUTLINES_MAX);
    write_words(
        canvas,
        inside,
        [&format!("{shown} boxes on one centre"), "width", "height"],
    );
}

/// How many points fall into each of 50 x 50 cells, both axes from 0 to 1, y upwards.
fn draw_density(canvas: &mut Canvas<'_>, inside: [i32; 4], points: impl Iterator<Item = [f32; 2]>) {
    let [left, top, right, bottom] = inside;
    let cells = density(points);
    let high = cells.iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
    let edge = |index: usize, from: i32, to: i32| from + (to - from) * index as i32 / CELLS as i32;
    for (row, counts) in cells.iter().enumerate() {
        for (column, &count) in counts.iter().enumerate() {
            let cell = [
                edge(column, left, right),
                edge(CELLS - 1 - row, top, bottom),
                edge(column + 1, left, right),
                edge(CELLS - row, top, bottom),
            ];
            // A root, so that rare cells are seen beside frequent ones.
            let share = (count as f64 / high).sqrt();
            let colour = if count > 0 {
                blues(0.12 + 0.88 * share)
            } else {
                Rgb888::WHITE
            };
            canvas.fill(cell, colour);
        }
    }
    canvas.frame(inside);
    for tick in 0..=5 {
        let share = f64::from(tick) / 5.0;
        let text = format!("{share:.1}");
        let x = left + (share * f64::from(right - left)) as i32;
        let y = bottom - (share * f64::from(bottom - top)) as i32;
        canvas.write(&Label::black(&text, &FONT_9X15), x - 13, bottom + 8);
        canvas.write(&Label::black(&text, &FONT_9X15), left - 38, y - 8);
    }
}

/// Counts points by cell, `[row from below][column]`; points outside count at the border.
fn density(points: impl Iterator<Item = [f32; 2]>) -> Vec<[u64; CELLS]> {
    let mut cells = vec![[0; CELLS]; CELLS];
    let index = |share: f32| ((share.clamp(0.0, 1.0) * CELLS as f32) as usize).min(CELLS - 1);
    for [x, y] in points {
        cells[index(y)][index(x)] += 1;
    }
    cells
}

fn write_words(canvas: &mut Canvas<'_>, [left, top, right, bottom]: [i32; 4], [title, x, y]: [&str; 3]) {
    let width = |text: &str| text_size(text, &FONT_10X20)[0] as i32;
    let centred = |text: &str| i32::midpoint(left, right) - width(text) / 2;
    canvas.write(&Label::black(title, &FONT_10X20), centred(title), top - 34);
    canvas.write(&Label::black(x, &FONT_10X20), centred(x), bottom + 34);
    canvas.write_upwards(
        &Label::black(y, &FONT_10X20),
        left - 76,
        i32::midpoint(top, bottom) + width(y) / 2,
    );
}

const PANEL: i32 = 700;
/// Names of more classes would lie on each other.
const NAMED_MAX: i32 = 50;
/// More outlines are one dark square.
const OUTLINES_MAX: usize = 500;
/// Cells of a density, along each axis.
const CELLS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics() -> LabelStatistics {
        LabelStatistics {
            names: vec!["red".into(), "white".into(), "platelet".into()],
            boxes: vec![
                (0, [0.5, 0.5, 0.2, 0.2]),
                (0, [0.1, 0.9, 0.3, 0.2]),
                (2, [0.5, 0.5, 1.0, 1.0]),
            ],
        }
    }

    #[test]
    fn points_are_counted_where_they_lie() {
        let cells = density([[0.0, 0.0], [0.01, 0.01], [1.0, 0.5], [7.0, -1.0]].into_iter());
        assert_eq!((cells[0][0], cells[25][49], cells[0][49]), (2, 1, 1));
        assert_eq!(cells.iter().flatten().sum::<u64>(), 4);
    }

    #[test]
    fn bars_are_as_high_as_their_counts() {
        let picture = draw_labels(&statistics());
        assert_eq!(picture.dimensions(), (1400, 1400));
        let height = |class: usize| {
            let colour = on_white(class);
            let wanted = Rgb([colour.r(), colour.g(), colour.b()]);
            let column = 90 + (class as u32 * 2 + 1) * 580 / 6;
            (0..700)
                .filter(|&y| *picture.get_pixel(column, y) == wanted)
                .count()
        };
        assert!(height(0) > 300, "{}", height(0));
        assert_eq!(height(1), 0);
        assert!(height(0).abs_diff(2 * height(2)) <= 2);
    }

    #[test]
    fn no_box_and_many_classes_are_drawn() {
        let nothing = LabelStatistics {
            names: vec!["a".into()],
            boxes: Vec::new(),
        };
        assert_eq!(draw_labels(&nothing).dimensions(), (1400, 1400));
        let many = LabelStatistics {
            names: (0..80).map(|class| format!("class {class}")).collect(),
            boxes: (0..80).map(|class| (class, [0.5, 0.5, 0.1, 0.1])).collect(),
        };
        assert_eq!(draw_labels(&many).dimensions(), (1400, 1400));
    }
}
