//! The stored results of Ultralytics, made by `tests/reference/augment.py`, and the pictures they were made from.

use serde::Deserialize;

use super::TargetBox;
use crate::picture::Picture;

#[derive(Deserialize)]
pub(super) struct Reference {
    pub(super) perspective: Vec<PerspectiveCase>,
    pub(super) mixup: Vec<MixupCase>,
    pub(super) cutmix: Vec<CutmixCase>,
}

#[derive(Deserialize)]
pub(super) struct PerspectiveCase {
    pub(super) draws: DrawsCase,
    pub(super) canvas: (u32, u32),
    pub(super) side: u32,
    pub(super) boxes: Vec<[f32; 4]>,
    pub(super) kept: Vec<BoxCase>,
    /// Every fourth pixel of every fourth row, the second channel.
    pub(super) pixels: Vec<u8>,
}

#[derive(Deserialize)]
pub(super) struct DrawsCase {
    pub(super) perspective: [f64; 2],
    pub(super) degrees: f64,
    pub(super) scale: f64,
    pub(super) shear: [f64; 2],
    pub(super) shift: [f64; 2],
}

#[derive(Deserialize)]
pub(super) struct MixupCase {
    pub(super) ratio: f64,
    pub(super) pixels: Vec<u8>,
    pub(super) boxes: usize,
}

#[derive(Deserialize)]
pub(super) struct CutmixCase {
    pub(super) side: u32,
    pub(super) lambdas: [f64; 3],
    pub(super) centres: [u32; 6],
    pub(super) pick: usize,
    /// Which of the three rectangles cover no box.
    pub(super) free: Vec<usize>,
    pub(super) boxes: Vec<[f32; 4]>,
    pub(super) others: Vec<[f32; 4]>,
    pub(super) kept: Vec<BoxCase>,
    pub(super) changed: usize,
    pub(super) sum: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct BoxCase {
    pub(super) class: u32,
    pub(super) xyxy: [f32; 4],
}

pub(super) fn load() -> Reference {
    serde_json::from_str(include_str!("../../tests/reference/augment.json")).unwrap()
}

/// The picture of the script.
pub(super) fn pattern(width: u32, height: u32, step: usize) -> Picture {
    let value = |i: usize| {
        let (x, y, channel) = (i / 3 % width as usize, i / 3 / width as usize, i % 3);
        ((x * 2 * step + y * 3 * step + channel * 53) % 256) as u8
    };
    let rgb = (0..width as usize * height as usize * 3).map(value).collect();
    Picture { width, height, rgb }
}

/// Boxes whose classes are numbered from `first`.
pub(super) fn boxes(boxes: &[[f32; 4]], first: u32) -> Vec<TargetBox> {
    (first..)
        .zip(boxes)
        .map(|(class, &xyxy)| TargetBox { class, xyxy })
        .collect()
}

pub(super) fn assert_boxes(found: &[TargetBox], expected: &[BoxCase], tolerance: f32, case: usize) {
    let classes: Vec<u32> = found.iter().map(|target| target.class).collect();
    let wanted: Vec<u32> = expected.iter().map(|target| target.class).collect();
    assert_eq!(classes, wanted, "case {case}");
    for (found, expected) in found.iter().zip(expected) {
        let is_near = found
            .xyxy
            .iter()
            .zip(expected.xyxy)
            .all(|(a, b)| (a - b).abs() < tolerance);
        assert!(is_near, "case {case}: {found:?} {expected:?}");
    }
}
