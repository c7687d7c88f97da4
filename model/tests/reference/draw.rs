//! Inputs drawn from a formula that gives the same bits in Rust and in `make.py`.

/// Numbers in `[-0.5, 0.5)`: the high bits of SplitMix64's mixer over (seed, index).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<f32> {
    (0..length as u64)
        .map(|index| {
            let mut bits = (seed << 32 | index).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((bits ^ bits >> 31) >> 40) as f32 / (1u32 << 24) as f32 - 0.5
        })
        .collect()
}

/// Boxes in quarter pixels, from 2 pixels to half of the image.
pub(crate) fn random_boxes(seed: u64, count: usize, sides: [f32; 2]) -> Vec<[f32; 4]> {
    let draws: Vec<f32> = noise(seed, count * 4).iter().map(|x| x + 0.5).collect();
    draws
        .chunks_exact(4)
        .map(|draw| {
            let extent: [f32; 2] = std::array::from_fn(|axis| {
                (draw[2 + axis] * draw[2 + axis] * (sides[axis] / 2.0 - 2.0) * 4.0).floor() / 4.0 + 2.0
            });
            let low: [f32; 2] =
                std::array::from_fn(|axis| (draw[axis] * (sides[axis] - extent[axis]) * 4.0).floor() / 4.0);
            [low[0], low[1], low[0] + extent[0], low[1] + extent[1]]
        })
        .collect()
}

/// Replaces every box that has an original by a moved copy of it, then keeps all boxes at least a pixel wide and high.
pub(crate) fn copy_moved(
    boxes: &mut [[f32; 4]],
    shift: &[f32],
    original: impl Fn(&[[f32; 4]], usize) -> Option<[f32; 4]>,
) {
    for index in 0..boxes.len() {
        if let Some(original) = original(boxes, index) {
            boxes[index] = std::array::from_fn(|i| original[i] + shift[index * 4 + i]);
        }
    }
    for xyxy in boxes {
        xyxy[2] = xyxy[2].max(xyxy[0] + 1.0);
        xyxy[3] = xyxy[3].max(xyxy[1] + 1.0);
    }
}
