//! The confusion matrix: what was found (rows) for what is there (columns), background last.

use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_9X15, FONT_10X20};
use embedded_graphics::pixelcolor::Rgb888;
use image::{Rgb, RgbImage};

use crate::canvas::{Canvas, Label, text_size};
use crate::curves::shortened;
use crate::palette::{blues, ink};

/// Draws a matrix. `cells[found][there]` are counts, or shares of a column if `normalised`; the last row and column are
/// the background.
///
/// # Panics
/// When the matrix is not a square of one more than the names.
pub fn draw_matrix(title: &str, names: &[String], cells: &[Vec<f64>], normalised: bool) -> RgbImage {
    let count = names.len() + 1;
    assert!(
        cells.len() == count && cells.iter().all(|row| row.len() == count),
        "a square matrix with a background"
    );
    let look = Look::of(names, count);
    let side = look.cell * count as i32;
    let (left, top) = (look.margin, TITLE_HEIGHT);
    let mut picture = RgbImage::from_pixel(
        (left + side + SCALE_SPACE) as u32,
        (top + side + look.margin) as u32,
        Rgb([255; 3]),
    );
    let mut canvas = Canvas(&mut picture);
    let high = if normalised {
        1.0
    } else {
        cells
            .iter()
            .flatten()
            .fold(1.0, |high: f64, &cell| high.max(cell))
    };
    for (row, values) in cells.iter().enumerate() {
        for (column, &value) in values.iter().enumerate() {
            let (x, y) = (left + column as i32 * look.cell, top + row as i32 * look.cell);
            let colour = blues(value / high);
            canvas.fill([x, y, x + look.cell, y + look.cell], colour);
            if let Some(font) = look.number_font {
                write_number(&mut canvas, value, normalised, [x, y], look.cell, (font, colour));
            }
        }
    }
    canvas.frame([left, top, left + side, top + side]);
    draw_names(&mut canvas, names, &look, [left, top], side);
    draw_words(&mut canvas, title, &look, [left, top], side);
    draw_scale(&mut canvas, [left + side + 40, top], side, high, normalised);
    picture
}

/// Sizes that depend on the number of classes and their names.
struct Look {
    /// Side of a cell in pixels.
    cell: i32,
    /// Room for names, left and below.
    margin: i32,
    name_font: &'static MonoFont<'static>,
    /// None where numbers would not fit.
    number_font: Option<&'static MonoFont<'static>>,
}

impl Look {
    fn of(names: &[String], count: usize) -> Self {
        let cell = (SIDE_WANTED / count as i32).clamp(CELL_MIN, CELL_MAX);
        let name_font = if cell >= 20 { &FONT_9X15 } else { &FONT_6X10 };
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let letters = longest.clamp(BACKGROUND.len(), NAME_LETTERS) as u32;
        Self {
            cell,
            margin: (letters * name_font.character_size.width) as i32 + 60,
            name_font,
            number_font: match cell {
                ..28 => None,
                28..56 => Some(&FONT_6X10),
                56..80 => Some(&FONT_9X15),
                _ => Some(&FONT_10X20),
            },
        }
    }
}

fn write_number(
    canvas: &mut Canvas<'_>,
    value: f64,
    normalised: bool,
    [x, y]: [i32; 2],
    cell: i32,
    (font, ground): (&'static MonoFont<'static>, Rgb888),
) {
    // An empty cell says it by its colour.
    if value < if normalised { 0.005 } else { 0.5 } || !value.is_finite() {
        return;
    }
    let text = if normalised {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    };
    let [width, height] = text_size(&text, font).map(|length| length as i32);
    // A number of many digits in a narrow cell would run into the next.
    if width > cell {
        return;
    }
    let label = Label {
        text: &text,
        font,
        colour: ink(ground),
        ground: None,
    };
    canvas.write(&label, x + (cell - width) / 2, y + (cell - height) / 2);
}

fn draw_names(canvas: &mut Canvas<'_>, names: &[String], look: &Look, [left, top]: [i32; 2], side: i32) {
    let all = names.iter().map(String::as_str).chain([BACKGROUND]);
    for (number, name) in all.enumerate() {
        let text = shortened(name, NAME_LETTERS);
        let label = Label::black(&text, look.name_font);
        let [width, height] = text_size(&text, look.name_font).map(|length| length as i32);
        let middle = number as i32 * look.cell + look.cell / 2;
        canvas.write(&label, left - 8 - width, top + middle - height / 2);
        canvas.write_upwards(&label, left + middle - height / 2, top + side + 8 + width);
    }
}

fn draw_words(canvas: &mut Canvas<'_>, title: &str, look: &Look, [left, top]: [i32; 2], side: i32) {
    let width = |text: &str| text_size(text, &FONT_10X20)[0] as i32;
    let centred = |text: &str| left + (side - width(text)) / 2;
    canvas.write(&Label::black(title, &FONT_10X20), centred(title).max(0), 16);
    canvas.write(
        &Label::black(THERE, &FONT_10X20),
        centred(THERE),
        top + side + look.margin - 32,
    );
    canvas.write_upwards(
        &Label::black(FOUND, &FONT_10X20),
        8,
        top + (side + width(FOUND)) / 2,
    );
}

/// A bar that tells which colour means how much.
fn draw_scale(canvas: &mut Canvas<'_>, [x, y]: [i32; 2], side: i32, high: f64, normalised: bool) {
    for row in 0..side {
        let share = 1.0 - f64::from(row) / f64::from(side - 1).max(1.0);
        canvas.fill([x, y + row, x + 24, y + row + 1], blues(share));
    }
    canvas.frame([x, y, x + 24, y + side]);
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let text = if normalised {
            format!("{share:.2}")
        } else {
            format!("{:.0}", share * high)
        };
        let row = y + side - (share * f64::from(side)) as i32;
        canvas.write(&Label::black(&text, &FONT_9X15), x + 32, row - 8);
    }
}

const BACKGROUND: &str = "background";
const FOUND: &str = "Predicted";
const THERE: &str = "True";
const SIDE_WANTED: i32 = 800;
const CELL_MIN: i32 = 12;
const CELL_MAX: i32 = 160;
const TITLE_HEIGHT: i32 = 52;
const NAME_LETTERS: usize = 20;
/// Room for the scale on the right.
const SCALE_SPACE: i32 = 140;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cell_is_dark_and_an_empty_one_white() {
        let names = ["a".to_owned(), "b".to_owned()];
        let cells = [vec![40.0, 0.0, 3.0], vec![2.0, 0.0, 0.0], vec![0.0, 5.0, 0.0]];
        let picture = draw_matrix("Confusion matrix", &names, &cells, false);
        let look = Look::of(&names, 3);
        // Near the upper left corner of a cell, away from its number.
        let pixel = |row: i32, column: i32| {
            let (x, y) = (
                look.margin + column * look.cell + 5,
                TITLE_HEIGHT + row * look.cell + 5,
            );
            picture.get_pixel(x as u32, y as u32).0
        };
        assert_eq!(pixel(0, 0), [8, 48, 107]);
        assert_eq!(pixel(1, 1), [255, 255, 255]);
        assert!(pixel(2, 1)[0] < 255 && pixel(2, 1)[0] > 200, "an eighth is pale");
    }

    #[test]
    fn one_class_and_eighty_classes_fit() {
        for count in [1, 3, 80] {
            let names: Vec<String> = (0..count).map(|class| format!("class {class}")).collect();
            let cells = vec![vec![0.5; count + 1]; count + 1];
            let picture = draw_matrix("Confusion matrix, normalised", &names, &cells, true);
            assert!(
                picture.width() < 1600 && picture.height() < 1600,
                "{count} classes"
            );
        }
    }
}
