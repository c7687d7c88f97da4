//! Mirror images, in place.

use super::TargetBox;

/// Mirrors left to right. `rgb` is `[side, side, 3]`.
pub(super) fn left_to_right(rgb: &mut [u8], side: usize, boxes: &mut [TargetBox]) {
    for row in rgb.chunks_exact_mut(side * 3) {
        let (left, right) = row.split_at_mut(side / 2 * 3);
        for (left, right) in left.chunks_exact_mut(3).zip(right.rchunks_exact_mut(3)) {
            left.swap_with_slice(right);
        }
    }
    for target in boxes {
        let [x1, y1, x2, y2] = target.xyxy;
        target.xyxy = [side as f32 - x2, y1, side as f32 - x1, y2];
    }
}

/// Mirrors upside down. `rgb` is `[side, side, 3]`.
pub(super) fn upside_down(rgb: &mut [u8], side: usize, boxes: &mut [TargetBox]) {
    let stride = side * 3;
    let (upper, lower) = rgb.split_at_mut(side / 2 * stride);
    for (upper, lower) in upper
        .chunks_exact_mut(stride)
        .zip(lower.rchunks_exact_mut(stride))
    {
        upper.swap_with_slice(lower);
    }
    for target in boxes {
        let [x1, y1, x2, y2] = target.xyxy;
        target.xyxy = [x1, side as f32 - y2, x2, side as f32 - y1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(side: usize) -> Vec<u8> {
        (0..side * side)
            .flat_map(|i| [i as u8, i as u8 + 100, i as u8 + 200])
            .collect()
    }

    fn first_channel(rgb: &[u8]) -> Vec<u8> {
        rgb.chunks_exact(3).map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn pixels_and_boxes_are_mirrored_together() {
        let mut rgb = numbered(3);
        let mut boxes = [TargetBox {
            class: 1,
            xyxy: [0.0, 1.0, 1.0, 3.0],
        }];
        left_to_right(&mut rgb, 3, &mut boxes);
        assert_eq!(first_channel(&rgb), [2, 1, 0, 5, 4, 3, 8, 7, 6]);
        assert_eq!(boxes[0].xyxy, [2.0, 1.0, 3.0, 3.0]);
        upside_down(&mut rgb, 3, &mut boxes);
        assert_eq!(first_channel(&rgb), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(boxes[0].xyxy, [2.0, 0.0, 3.0, 2.0]);
        assert_eq!(rgb[..3], [8, 108, 208], "channels stay in order");
    }

    #[test]
    fn twice_is_not_at_all() {
        for side in 1..8 {
            let mut rgb = numbered(side);
            for _ in 0..2 {
                left_to_right(&mut rgb, side, &mut []);
                upside_down(&mut rgb, side, &mut []);
            }
            assert_eq!(rgb, numbered(side));
        }
    }
}
