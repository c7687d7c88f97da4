//! A picture to draw on: for `embedded-graphics`, which knows text, and for `plotters`, which knows axes and lines.
//!
//! Fonts are the bitmap fonts that `embedded-graphics` brings along, in Latin-1; other letters become a question mark.
//! Text can be turned by a quarter, for the names under a matrix.

use std::convert::Infallible;

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::MonoTextStyleBuilder;
use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_6X13, FONT_7X13_BOLD, FONT_9X15, FONT_10X20};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::Drawable;
use embedded_graphics::text::{Baseline, Text};
use image::{Rgb, RgbImage};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontTransform,
};

/// A picture that is being drawn.
pub(crate) struct Canvas<'a>(pub(crate) &'a mut RgbImage);

/// Text on a picture.
pub(crate) struct Label<'a> {
    pub(crate) text: &'a str,
    pub(crate) font: &'static MonoFont<'static>,
    pub(crate) colour: Rgb888,
    /// Painted under the text, if any.
    pub(crate) ground: Option<Rgb888>,
}

impl<'a> Label<'a> {
    /// Black text on whatever is there.
    pub(crate) const fn black(text: &'a str, font: &'static MonoFont<'static>) -> Self {
        Self {
            text,
            font,
            colour: Rgb888::BLACK,
            ground: None,
        }
    }
}

impl Canvas<'_> {
    /// Draws a thin frame around a rectangle.
    pub(crate) fn frame(&mut self, [left, top, right, bottom]: [i32; 4]) {
        for edge in [
            [left - 1, top - 1, right + 1, top],
            [left - 1, bottom, right + 1, bottom + 1],
            [left - 1, top - 1, left, bottom + 1],
            [right, top - 1, right + 1, bottom + 1],
        ] {
            self.fill(edge, FRAME);
        }
    }

    /// Writes text with its upper left corner at `(x, y)`.
    pub(crate) fn write(&mut self, label: &Label<'_>, x: i32, y: i32) {
        let style = MonoTextStyleBuilder::new()
            .font(label.font)
            .text_color(label.colour);
        let style = match label.ground {
            Some(ground) => style.background_color(ground).build(),
            None => style.build(),
        };
        let Ok(_) = Text::with_baseline(label.text, Point::new(x, y), style, Baseline::Top).draw(self);
    }

    /// Writes text that runs upwards, the lower left corner of its picture at `(x, y)`.
    pub(crate) fn write_upwards(&mut self, label: &Label<'_>, x: i32, y: i32) {
        let [width, height] = text_size(label.text, label.font);
        let mut upright = RgbImage::from_pixel(width, height, Rgb([0; 3]));
        let mask = Label {
            text: label.text,
            font: label.font,
            colour: Rgb888::WHITE,
            ground: None,
        };
        Canvas(&mut upright).write(&mask, 0, 0);
        for (column, row, pixel) in upright.enumerate_pixels() {
            if pixel.0[0] > 0 {
                self.set(Point::new(x + row as i32, y - 1 - column as i32), label.colour);
            }
        }
    }

    /// Fills a rectangle, as far as it lies on the picture.
    pub(crate) fn fill(&mut self, [left, top, right, bottom]: [i32; 4], colour: Rgb888) {
        for y in top..bottom {
            for x in left..right {
                self.set(Point::new(x, y), colour);
            }
        }
    }

    fn set(&mut self, point: Point, colour: Rgb888) {
        if let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y))
            && let Some(pixel) = self.0.get_pixel_mut_checked(x, y)
        {
            *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
        }
    }
}

/// Returns width and height of a text in pixels.
pub(crate) fn text_size(text: &str, font: &MonoFont<'_>) -> [u32; 2] {
    let cell = font.character_size;
    [cell.width * text.chars().count() as u32, cell.height]
}

/// Returns the font for a size that `plotters` was asked for, in pixels.
pub(crate) fn font_of(size: f64) -> &'static MonoFont<'static> {
    match size as u32 {
        0..=10 => &FONT_6X10,
        11..=13 => &FONT_6X13,
        14 => &FONT_7X13_BOLD,
        15..=17 => &FONT_9X15,
        _ => &FONT_10X20,
    }
}

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, colour) in pixels {
            self.set(point, colour);
        }
        Ok(())
    }
}

/// What `plotters` reports when drawing fails; a picture in memory takes everything.
pub(crate) type Failure = DrawingErrorKind<Infallible>;

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    fn ensure_prepared(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, colour: BackendColor) -> Result<(), Failure> {
        if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
            && let Some(pixel) = self.0.get_pixel_mut_checked(x, y)
        {
            let (red, green, blue) = colour.rgb;
            for (level, new) in pixel.0.iter_mut().zip([red, green, blue]) {
                *level =
                    (f64::from(*level) * (1.0 - colour.alpha) + f64::from(new) * colour.alpha).round() as u8;
            }
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<(), Failure> {
        let (red, green, blue) = style.color().rgb;
        let label = Label {
            text,
            font: font_of(style.size()),
            colour: Rgb888::new(red, green, blue),
            ground: None,
        };
        let [width, height] = text_size(text, label.font).map(|length| length as i32);
        let across = match style.anchor().h_pos {
            HPos::Left => 0,
            HPos::Center => width / 2,
            HPos::Right => width,
        };
        let down = match style.anchor().v_pos {
            VPos::Top => 0,
            VPos::Center => height / 2,
            VPos::Bottom => height,
        };
        match style.transform() {
            FontTransform::Rotate270 => self.write_upwards(&label, x - down, y + across),
            // Nothing here asks for the other two.
            _ => self.write(&label, x - across, y - down),
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(&self, text: &str, style: &S) -> Result<(u32, u32), Failure> {
        let [width, height] = text_size(text, font_of(style.size()));
        Ok((width, height))
    }
}

/// Colour of frames and base lines.
pub(crate) const FRAME: Rgb888 = Rgb888::new(90, 90, 90);

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(picture: &RgbImage) -> [u32; 4] {
        let dark = picture.enumerate_pixels().filter(|(_, _, pixel)| pixel.0[0] == 0);
        dark.fold(
            [u32::MAX, u32::MAX, 0, 0],
            |[left, top, right, bottom], (x, y, _)| [left.min(x), top.min(y), right.max(x), bottom.max(y)],
        )
    }

    #[test]
    fn text_that_runs_upwards_is_the_same_text_turned() {
        let label = Label {
            text: "Lj",
            font: &FONT_9X15,
            colour: Rgb888::BLACK,
            ground: None,
        };
        let mut level = RgbImage::from_pixel(40, 40, Rgb([255; 3]));
        Canvas(&mut level).write(&label, 5, 10);
        let mut turned = RgbImage::from_pixel(40, 40, Rgb([255; 3]));
        Canvas(&mut turned).write_upwards(&label, 10, 35);
        let [left, top, right, bottom] = ink(&level);
        assert!(left >= 5 && top >= 10 && right < 23 && bottom < 25);
        // x of the one is height of the other.
        assert_eq!(ink(&turned), [top, 39 - right, bottom, 39 - left]);
    }

    #[test]
    fn a_half_transparent_pixel_is_mixed() {
        let mut picture = RgbImage::from_pixel(2, 1, Rgb([200, 100, 0]));
        let colour = BackendColor {
            alpha: 0.5,
            rgb: (0, 100, 100),
        };
        Canvas(&mut picture).draw_pixel((1, 0), colour).unwrap();
        Canvas(&mut picture).draw_pixel((-1, 7), colour).unwrap();
        assert_eq!(picture.get_pixel(1, 0).0, [100, 100, 50]);
        assert_eq!(picture.get_pixel(0, 0).0, [200, 100, 0]);
    }
}
