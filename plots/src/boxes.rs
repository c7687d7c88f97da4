//! Boxes with labels on a photo.

use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_7X13_BOLD, FONT_9X15_BOLD};
use embedded_graphics::prelude::{Drawable, Primitive};
use embedded_graphics::primitives::{PrimitiveStyleBuilder, Rectangle, StrokeAlignment};
use image::RgbImage;

use crate::canvas::{Canvas, Label, text_size};
use crate::palette::{ink, on_photo};

/// A box to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledBox {
    /// Corners `[x1, y1, x2, y2]` in pixels of the picture.
    pub xyxy: [f32; 4],
    /// Class index; chooses the colour.
    pub class: u32,
    /// Text above the box.
    pub label: String,
}

/// Draws `boxes` on `picture`, in order, later ones on top.
pub fn draw_boxes(picture: &mut RgbImage, boxes: &[LabelledBox]) {
    let side = picture.width().max(picture.height());
    let font = if side >= LARGE {
        &FONT_9X15_BOLD
    } else {
        &FONT_7X13_BOLD
    };
    let stroke = (side / 320).clamp(1, 4);
    for labelled in boxes {
        draw_box(picture, labelled, stroke, font);
    }
}

/// The same for a photo of a few hundred pixels, with small letters.
pub(crate) fn draw_small_boxes(picture: &mut RgbImage, boxes: &[LabelledBox]) {
    for labelled in boxes {
        draw_box(picture, labelled, 2, &FONT_6X10);
    }
}

fn draw_box(picture: &mut RgbImage, labelled: &LabelledBox, stroke: u32, font: &'static MonoFont<'static>) {
    let mut canvas = Canvas(picture);
    let colour = on_photo(labelled.class);
    let [x1, y1, x2, y2] = labelled.xyxy.map(|edge| edge.round() as i32);
    let size = Size::new((x2 - x1).max(1) as u32, (y2 - y1).max(1) as u32);
    let outline = PrimitiveStyleBuilder::new()
        .stroke_color(colour)
        .stroke_width(stroke)
        .stroke_alignment(StrokeAlignment::Inside)
        .build();
    let Ok(()) = Rectangle::new(Point::new(x1, y1), size)
        .into_styled(outline)
        .draw(&mut canvas);

    let [text_width, text_height] = text_size(&labelled.label, font).map(|length| length as i32);
    // Above the box where there is room, inside it otherwise; never beyond the picture's edges.
    let top = if y1 >= text_height { y1 - text_height } else { y1 };
    let left = x1.min(canvas.0.width() as i32 - text_width).max(0);
    let label = Label {
        text: &labelled.label,
        font,
        colour: ink(colour),
        ground: Some(colour),
    };
    canvas.write(&label, left, top);
}

/// From this side on, in pixels, letters are larger.
const LARGE: u32 = 1000;

#[cfg(test)]
mod tests {
    use image::Rgb;

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
