//! Task-aligned assignment: which anchors learn which object, and how strongly.
//!
//! An anchor is a candidate for an object when its centre lies in the object's box. Candidates are ranked by
//! `score^alpha * overlap^beta`; the best few become positives, and an anchor claimed by several objects goes to the
//! one it overlaps most. It runs on the host in plain `f32` in a fixed order, so that all devices choose alike.
//!
//! Only pairs inside a box are ever evaluated. A candidate whose metric is 0 is never chosen; it would carry a target
//! score of 0, and which of several such anchors a framework picks depends on its sorting.
//!
//! # Source
//! TOOD (Feng et al. 2021, <https://arxiv.org/abs/2108.07755>), section 3.2, with YOLOv8's published settings. As in
//! Ultralytics 8.4: box sides shorter than the second stride are widened to it for the centre test (a tiny object has
//! candidates too), and a contested anchor goes to the largest overlap among all objects around it.

use crate::boxes::{ciou, intersection};
use crate::head::AnchorGrid;
use crate::target::Target;

/// The settings of the assigner.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignConfig {
    /// Positives per object before contested anchors are settled.
    pub positives: usize,
    /// Exponent of the class probability.
    pub alpha: f32,
    /// Exponent of the overlap.
    pub beta: f32,
}

impl Default for AssignConfig {
    /// The settings YOLOv8 is trained with.
    fn default() -> Self {
        Self {
            positives: 10,
            alpha: 0.5,
            beta: 6.0,
        }
    }
}

/// An anchor whose centre lies in the box of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Index of the anchor in the grid.
    pub anchor: usize,
    /// Index of the object in the image's targets.
    pub truth: usize,
}

/// An anchor that learns an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positive {
    /// Index of the anchor in the grid.
    pub anchor: usize,
    /// Index of the object in the image's targets.
    pub truth: usize,
    /// The class probability to learn, in `[0, 1]`; also the weight of the box terms.
    pub score: f32,
}

/// Returns all pairs of an object and an anchor centred in its box, by object, then by anchor.
pub fn candidates(grid: &AnchorGrid, truths: &[Target]) -> Vec<Pair> {
    let Some(finest) = grid.levels.first() else {
        return Vec::new();
    };
    let shortest_side = grid.levels.get(1).unwrap_or(finest).stride;
    let mut pairs = Vec::new();
    for (truth, target) in truths.iter().enumerate() {
        let [left, top, right, bottom] = target.xyxy;
        let (left, right) = widened(left, right, shortest_side);
        let (top, bottom) = widened(top, bottom, shortest_side);
        let mut first = 0;
        for level in &grid.levels {
            let columns = centres_within(left, right, level.width, level.stride);
            for row in centres_within(top, bottom, level.height, level.stride) {
                let start = first + row * level.width;
                pairs.extend(columns.clone().map(|column| Pair {
                    anchor: start + column,
                    truth,
                }));
            }
            first += level.height * level.width;
        }
    }
    pairs
}

/// Returns the positives of one image, by anchor; each anchor appears at most once.
///
/// # Shapes
/// `pairs` as [`candidates`] returns them; `probabilities` (of the object's class) and `predicted` (xyxy in the unit of
/// the targets) have one entry per pair.
///
/// # Panics
/// When the three slices differ in length.
pub fn assign(
    config: &AssignConfig,
    pairs: &[Pair],
    probabilities: &[f32],
    predicted: &[[f32; 4]],
    truths: &[Target],
) -> Vec<Positive> {
    assert_eq!(pairs.len(), probabilities.len(), "one probability per pair");
    assert_eq!(pairs.len(), predicted.len(), "one box per pair");
    let aligned: Vec<Aligned> = (0..pairs.len())
        .map(|index| {
            let truth = truths[pairs[index].truth].xyxy;
            Aligned::new(config, probabilities[index], truth, predicted[index])
        })
        .collect();
    let chosen = settle(pairs, &aligned, claims(config, pairs, &aligned));
    scored(pairs, &aligned, &chosen, truths.len())
}

/// How well a candidate's prediction fits its object.
struct Aligned {
    metric: f32,
    overlap: f32,
}

impl Aligned {
    fn new(config: &AssignConfig, probability: f32, truth: [f32; 4], predicted: [f32; 4]) -> Self {
        // The complete IoU of boxes that share nothing is never positive.
        if intersection(truth, predicted) <= 0.0 {
            return Self {
                metric: 0.0,
                overlap: 0.0,
            };
        }
        let overlap = ciou(truth, predicted).max(0.0);
        Self {
            metric: probability.powf(config.alpha) * overlap.powf(config.beta),
            overlap,
        }
    }
}

/// Returns the indices of the best pairs of each object. Equal metrics: the lower anchor first.
fn claims(config: &AssignConfig, pairs: &[Pair], aligned: &[Aligned]) -> Vec<usize> {
    let mut claims = Vec::new();
    let mut first = 0;
    for of_one_truth in pairs.chunk_by(|a, b| a.truth == b.truth) {
        let range = first..first + of_one_truth.len();
        first = range.end;
        let mut ranked: Vec<usize> = range.filter(|&i| aligned[i].metric > 0.0).collect();
        if ranked.len() > config.positives {
            ranked.select_nth_unstable_by(config.positives, |&a, &b| {
                let (metric_a, metric_b) = (aligned[a].metric, aligned[b].metric);
                metric_b.total_cmp(&metric_a).then(a.cmp(&b))
            });
            ranked.truncate(config.positives);
        }
        claims.extend(ranked);
    }
    claims
}

/// Returns the pairs that stay, by anchor: a contested anchor goes to the object it overlaps most, the first of equals.
fn settle(pairs: &[Pair], aligned: &[Aligned], mut claims: Vec<usize>) -> Vec<usize> {
    claims.sort_unstable_by_key(|&index| (pairs[index].anchor, index));
    let mut contested: Vec<(usize, Option<usize>)> = claims
        .chunk_by(|&a, &b| pairs[a].anchor == pairs[b].anchor)
        .filter(|claimants| claimants.len() > 1)
        .map(|claimants| (pairs[claimants[0]].anchor, None))
        .collect();
    if contested.is_empty() {
        return claims;
    }
    for (index, pair) in pairs.iter().enumerate() {
        if let Ok(found) = contested.binary_search_by_key(&pair.anchor, |&(anchor, _)| anchor) {
            let best = &mut contested[found].1;
            if best.is_none_or(|best| aligned[index].overlap > aligned[best].overlap) {
                *best = Some(index);
            }
        }
    }
    let is_contested = |index: &usize| {
        contested
            .binary_search_by_key(&pairs[*index].anchor, |&(anchor, _)| anchor)
            .is_ok()
    };
    claims.retain(|index| !is_contested(index));
    claims.extend(contested.iter().filter_map(|&(_, winner)| winner));
    claims.sort_unstable_by_key(|&index| pairs[index].anchor);
    claims
}

/// Scales the metrics of each object's positives so that the best one gets the object's best overlap.
fn scored(pairs: &[Pair], aligned: &[Aligned], chosen: &[usize], truths: usize) -> Vec<Positive> {
    let mut best_metric = vec![0f32; truths];
    let mut best_overlap = vec![0f32; truths];
    for &index in chosen {
        let truth = pairs[index].truth;
        best_metric[truth] = best_metric[truth].max(aligned[index].metric);
        best_overlap[truth] = best_overlap[truth].max(aligned[index].overlap);
    }
    let score = |index: usize, truth: usize| {
        aligned[index].metric * best_overlap[truth] / (best_metric[truth] + EPSILON)
    };
    chosen
        .iter()
        .map(|&index| {
            let Pair { anchor, truth } = pairs[index];
            Positive {
                anchor,
                truth,
                score: score(index, truth),
            }
        })
        .collect()
}

/// Returns the side `[from, to]`, widened about its middle to at least `shortest`.
fn widened(from: f32, to: f32, shortest: f32) -> (f32, f32) {
    let middle = (from + to) / 2.0;
    let length = to - from;
    let half = if length < shortest { shortest } else { length } / 2.0;
    (middle - half, middle + half)
}

/// Returns which of `count` cells of one axis have their centre strictly between `from` and `to`.
fn centres_within(from: f32, to: f32, count: usize, stride: f32) -> std::ops::Range<usize> {
    let inside = |cell: usize| {
        let centre = (cell as f32 + 0.5) * stride;
        centre - from > EPSILON && to - centre > EPSILON
    };
    // A first guess from the division, one cell too wide on both sides; the test itself decides.
    let guess = |edge: f32| (edge / stride).clamp(0.0, count as f32) as usize;
    let (low, high) = (guess(from).saturating_sub(1), (guess(to) + 2).min(count));
    let start = (low..high).find(|&cell| inside(cell)).unwrap_or(high);
    let end = (start..high).find(|&cell| !inside(cell)).unwrap_or(high);
    start..end
}

/// Margin of the centre test, and what keeps the division by the best metric finite.
const EPSILON: f32 = 1e-9;

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
