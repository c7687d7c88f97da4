//! The last pass over a training picture: colour, mirror images and channel order, from pixels to planes.

use super::{TargetBox, hsv::Tables};

/// What the last pass does.
pub(super) struct Finish {
    /// Colours are shifted by these.
    pub(super) colours: Option<Tables>,
    /// Turns upside down.
    pub(super) flipud: bool,
    /// Mirrors left to right.
    pub(super) fliplr: bool,
    /// Swaps red and blue.
    pub(super) bgr: bool,
}

impl Finish {
    /// Writes `[side, side, 3]` pixels as planes `[3, side, side]`.
    pub(super) fn write(&self, rgb: &[u8], side: usize, planes: &mut [u8]) {
        let (red, rest) = planes.split_at_mut(side * side);
        let (green, blue) = rest.split_at_mut(side * side);
        let (red, blue) = if self.bgr { (blue, red) } else { (red, blue) };
        for (row, pixels) in rgb.chunks_exact(side * 3).enumerate() {
            let row = if self.flipud { side - 1 - row } else { row };
            let span = row * side..(row + 1) * side;
            let mut targets = [&mut red[span.clone()], &mut green[span.clone()], &mut blue[span]];
            match &self.colours {
                Some(tables) => tables.shift(pixels, targets.each_mut().map(|target| &mut **target)),
                None => separate(pixels, &mut targets),
            }
            if self.fliplr {
                targets.iter_mut().for_each(|target| target.reverse());
            }
        }
    }

    /// Moves the boxes along.
    pub(super) fn move_boxes(&self, boxes: &mut [TargetBox], side: usize) {
        let side = side as f32;
        for target in boxes {
            let [x1, y1, x2, y2] = target.xyxy;
            let [x1, x2] = if self.fliplr {
                [side - x2, side - x1]
            } else {
                [x1, x2]
            };
            let [y1, y2] = if self.flipud {
                [side - y2, side - y1]
            } else {
                [y1, y2]
            };
            target.xyxy = [x1, y1, x2, y2];
        }
    }
}

/// Writes pixels as planes.
fn separate(pixels: &[u8], [red, green, blue]: &mut [&mut [u8]; 3]) {
    let targets = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
    for (pixel, ((red, green), blue)) in pixels.chunks_exact(3).zip(targets) {
        (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Finish = Finish {
        colours: None,
        flipud: false,
        fliplr: false,
        bgr: false,
    };

    fn written(finish: &Finish) -> [Vec<u8>; 3] {
        let rgb: Vec<u8> = (0..9).flat_map(|i| [i, i + 100, i + 200]).collect();
        let mut planes = vec![0; 27];
        finish.write(&rgb, 3, &mut planes);
        [
            planes[..9].to_vec(),
            planes[9..18].to_vec(),
            planes[18..].to_vec(),
        ]
    }

    fn moved(finish: &Finish) -> [f32; 4] {
        let mut boxes = [TargetBox {
            class: 1,
            xyxy: [0.0, 1.0, 1.0, 3.0],
        }];
        finish.move_boxes(&mut boxes, 3);
        boxes[0].xyxy
    }

    #[test]
    fn pixels_and_boxes_are_mirrored_together() {
        assert_eq!(written(&NOTHING)[0], [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(moved(&NOTHING), [0.0, 1.0, 1.0, 3.0]);
        let mirrored = Finish {
            fliplr: true,
            ..NOTHING
        };
        assert_eq!(
            written(&mirrored)[1],
            [102, 101, 100, 105, 104, 103, 108, 107, 106]
        );
        assert_eq!(moved(&mirrored), [2.0, 1.0, 3.0, 3.0]);
        let turned = Finish {
            flipud: true,
            ..mirrored
        };
        assert_eq!(written(&turned)[0], [8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(moved(&turned), [2.0, 0.0, 3.0, 2.0]);
    }

    #[test]
    fn red_and_blue_are_swapped_after_the_colours_are_shifted() {
        let swapped = Finish { bgr: true, ..NOTHING };
        let [first, second, third] = written(&swapped);
        assert_eq!((first[0], second[0], third[0]), (200, 100, 0));
        let tables = || {
            let mut random = crate::random::KeyedRandom::new(crate::random::Purpose::Augment, [3, 0, 0]);
            Tables::draw(&super::super::AugmentConfig::default(), &mut random)
        };
        let shifted = Finish {
            colours: tables(),
            ..NOTHING
        };
        let both = Finish {
            colours: tables(),
            ..swapped
        };
        let [red, green, blue] = written(&shifted);
        assert_eq!(written(&both), [blue, green, red]);
        assert_ne!(written(&shifted), written(&NOTHING));
    }
}
