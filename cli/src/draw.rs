//! Pictures with labelled boxes on them.
//!
//! Lines and text come from `embedded-graphics`; this file only adapts an RGB image to it and chooses colours.

use std::convert::Infallible;

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyleBuilder;
use embedded_graphics::mono_font::ascii::FONT_7X13_BOLD;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{Drawable, Primitive};
use embedded_graphics::primitives::{PrimitiveStyleBuilder, Rectangle, StrokeAlignment};
use embedded_graphics::text::{Baseline, Text};
use image::{Rgb, RgbImage};

/// A box to draw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LabelledBox {
    /// Corners `[x1, y1, x2, y2]` in pixels of the picture.
    pub(crate) xyxy: [f32; 4],
    /// Class index; chooses the colour.
    pub(crate) class: u32,
    /// Text above the box.
    pub(crate) label: String,
}

/// Draws `boxes` on `picture`, in order, later ones on top.
pub(crate) fn draw_boxes(picture: &mut RgbImage, boxes: &[LabelledBox]) {
    let mut canvas = Canvas(picture);
    let width = (canvas.0.width().max(canvas.0.height()) / 320).clamp(1, 4);
    for labelled in boxes {
        draw_box(&mut canvas, labelled, width);
    }
}

fn draw_box(canvas: &mut Canvas<'_>, labelled: &LabelledBox, width: u32) {
    let colour = PALETTE[labelled.class as usize % PALETTE.len()];
    let [x1, y1, x2, y2] = labelled.xyxy.map(|edge| edge.round() as i32);
    let size = Size::new((x2 - x1).max(1) as u32, (y2 - y1).max(1) as u32);
    let outline = PrimitiveStyleBuilder::new()
        .stroke_color(colour)
        .stroke_width(width)
        .stroke_alignment(StrokeAlignment::Inside)
        .build();
    let Ok(()) = Rectangle::new(Point::new(x1, y1), size)
        .into_styled(outline)
        .draw(canvas);

    let font = &FONT_7X13_BOLD;
    let text_height = font.character_size.height as i32;
    let text_width = font.character_size.width as i32 * labelled.label.chars().count() as i32;
    // Above the box where there is room, inside it otherwise; never beyond the picture's edges.
    let top = if y1 >= text_height { y1 - text_height } else { y1 };
    let left = x1.min(canvas.0.width() as i32 - text_width).max(0);
    let style = MonoTextStyleBuilder::new()
        .font(font)
        .text_color(ink(colour))
        .background_color(colour)
        .build();
    let Ok(_) =
        Text::with_baseline(&labelled.label, Point::new(left, top), style, Baseline::Top).draw(canvas);
}

/// Returns black or white, whichever reads better on `colour`.
fn ink(colour: Rgb888) -> Rgb888 {
    let luma = 299 * u32::from(colour.r()) + 587 * u32::from(colour.g()) + 114 * u32::from(colour.b());
    if luma > 140_000 {
        Rgb888::BLACK
    } else {
        Rgb888::WHITE
    }
}

/// Eight colours that stay apart, also for most colour-blind readers.
///
/// # Source
/// Okabe & Ito, Color Universal Design (2008), with black replaced by white.
const PALETTE: [Rgb888; 8] = [
    Rgb888::new(230, 159, 0),
    Rgb888::new(0, 114, 178),
    Rgb888::new(0, 158, 115),
    Rgb888::new(213, 94, 0),
    Rgb888::new(204, 121, 167),
    Rgb888::new(86, 180, 233),
    Rgb888::new(240, 228, 66),
    Rgb888::new(255, 255, 255),
];

struct Canvas<'a>(&'a mut RgbImage);

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
            if let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y))
                && let Some(pixel) = self.0.get_pixel_mut_checked(x, y)
            {
                *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_over_the_edge_is_drawn_as_far_as_the_picture_goes() {
        let mut picture = RgbImage::new(40, 30);
        let labelled = LabelledBox {
            xyxy: [-5.0, 5.0, 60.0, 20.0],
            class: 1,
            label: "cell 0.93".into(),
        };
        draw_boxes(&mut picture, &[labelled]);
        let colour = Rgb([0, 114, 178]);
        assert_eq!(*picture.get_pixel(20, 19), colour, "the lower edge is drawn");
        assert_eq!(
            *picture.get_pixel(20, 25),
            Rgb([0, 0, 0]),
            "below the box nothing is"
        );
    }
}
