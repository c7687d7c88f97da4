//! Overlap of boxes on the host, in plain `f32`.
//!
//! Boxes are `[left, top, right, bottom]` with `left <= right` and `top <= bottom`, in any unit. The small
//! constants follow the common PyTorch implementations, so that overlaps agree with theirs to the last few bits.
//!
//! # Source
//! CIoU: Zheng et al. 2020, "Distance-IoU Loss", equations 8 to 11 (<https://arxiv.org/abs/1911.08287>).

use std::f32::consts::PI;

/// Keeps divisions finite for boxes without area.
pub const EPSILON: f32 = 1e-7;

/// Returns the area of a box.
pub fn area(xyxy: [f32; 4]) -> f32 {
    (xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1])
}

/// Returns the area that two boxes share, 0 when they do not touch.
pub fn intersection(a: [f32; 4], b: [f32; 4]) -> f32 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    width * height
}

/// Returns the intersection over the union of two boxes, in `[0, 1]`.
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let shared = intersection(a, b);
    shared / (area(a) + area(b) - shared + EPSILON)
}

/// Returns the complete IoU: the IoU less a penalty for distant centres and one for different aspect ratios.
///
/// At most 1, and negative for boxes that are far apart.
pub fn ciou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let (width_a, height_a) = (a[2] - a[0], a[3] - a[1] + EPSILON);
    let (width_b, height_b) = (b[2] - b[0], b[3] - b[1] + EPSILON);
    let shared = intersection(a, b);
    let iou = shared / (width_a * height_a + width_b * height_b - shared + EPSILON);

    let hull_width = a[2].max(b[2]) - a[0].min(b[0]);
    let hull_height = a[3].max(b[3]) - a[1].min(b[1]);
    let diagonal = hull_width * hull_width + hull_height * hull_height + EPSILON;
    let (dx, dy) = (b[0] + b[2] - a[0] - a[2], b[1] + b[3] - a[1] - a[3]);
    let distance = (dx * dx + dy * dy) / 4.0;

    let angle = (width_b / height_b).atan() - (width_a / height_a).atan();
    let aspect = 4.0 / (PI * PI) * angle * angle;
    let trade_off = aspect / (1.0 - iou + aspect + EPSILON);
    iou - (distance / diagonal + aspect * trade_off)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_overlapping_squares_share_a_third() {
        let overlap = iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]);
        assert!((overlap - 1.0 / 3.0).abs() < 1e-6, "{overlap}");
    }

    #[test]
    fn ciou_of_equal_aspects_subtracts_the_centre_distance_only() {
        // IoU 1/3, centres 1 apart, hull 3 x 2: 1/3 - 1/13.
        let overlap = ciou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]);
        assert!((overlap - (1.0 / 3.0 - 1.0 / 13.0)).abs() < 1e-6, "{overlap}");
    }

    #[test]
    fn ciou_of_concentric_boxes_subtracts_the_aspect_term_only() {
        // 4 x 2 around 2 x 2: IoU 1/2, v = 4/pi^2 (atan 2 - atan 1)^2.
        let v = 4.0 / (PI * PI) * (2f32.atan() - 1f32.atan()).powi(2);
        let expected = 0.5 - v * v / (0.5 + v);
        let overlap = ciou([1.0, 0.0, 3.0, 2.0], [0.0, 0.0, 4.0, 2.0]);
        assert!((overlap - expected).abs() < 1e-6, "{overlap} {expected}");
    }

    #[test]
    fn boxes_without_area_give_finite_overlaps() {
        let point = [5.0, 5.0, 5.0, 5.0];
        assert_eq!(iou(point, point), 0.0);
        assert!(ciou(point, point).is_finite());
    }

    fn any_box() -> impl Strategy<Value = [f32; 4]> {
        (0f32..600.0, 0f32..600.0, 0f32..300.0, 0f32..300.0).prop_map(|(x, y, w, h)| [x, y, x + w, y + h])
    }

    proptest! {
        #[test]
        fn iou_is_symmetric_and_within_zero_and_one(a in any_box(), b in any_box()) {
            let overlap = iou(a, b);
            prop_assert_eq!(overlap, iou(b, a));
            prop_assert!((0.0..=1.0).contains(&overlap), "{}", overlap);
        }

        #[test]
        fn ciou_is_symmetric_and_below_iou(a in any_box(), b in any_box()) {
            let overlap = ciou(a, b);
            prop_assert!((overlap - ciou(b, a)).abs() < 1e-5);
            prop_assert!(overlap <= iou(a, b) + 1e-5 && overlap > -3.0);
        }
    }
}
