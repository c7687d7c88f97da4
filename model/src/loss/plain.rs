//! The box terms evaluated by the book on the host in `f64`, for tests to compare with.

use super::foreground::Foreground;
use crate::head::DISTANCE_BINS;

/// The box and distribution terms without gains, evaluated in `f64` by the book.
pub(super) struct Plain {
    pub(super) overlap: f64,
    pub(super) focal: f64,
    /// The trade-off of the aspect term, per positive.
    pub(super) trade_offs: Vec<f64>,
}

impl Plain {
    /// `held` replaces the trade-offs.
    pub(super) fn new(foreground: &Foreground, logit: impl Fn(usize) -> f64, held: Option<&[f64]>) -> Self {
        let mut plain = Self {
            overlap: 0.0,
            focal: 0.0,
            trade_offs: Vec::new(),
        };
        for (index, &row) in foreground.rows.iter().enumerate() {
            let weight = f64::from(foreground.scores[index]);
            let [x, y] = foreground.points[index].map(f64::from);
            let truth = foreground.boxes[index].map(f64::from);
            let edges = [x - truth[0], y - truth[1], truth[2] - x, truth[3] - y];
            let mut distances = [0f64; 4];
            for side in 0..4 {
                let first = (row * 4 + side) * DISTANCE_BINS;
                let total: f64 = (0..DISTANCE_BINS).map(|bin| logit(first + bin).exp()).sum();
                let log_probability = |bin: usize| logit(first + bin) - total.ln();
                distances[side] = (0..DISTANCE_BINS)
                    .map(|bin| bin as f64 * log_probability(bin).exp())
                    .sum();
                let edge = edges[side].clamp(0.0, 14.99);
                let (below, share) = (edge.floor() as usize, edge.fract());
                let entropy = -(1.0 - share) * log_probability(below) - share * log_probability(below + 1);
                plain.focal += weight * entropy / 4.0;
            }
            let [left, top, right, bottom] = distances;
            let predicted = [x - left, y - top, x + right, y + bottom];
            let (without_aspect, aspect, trade_off) = complete_iou(predicted, truth);
            let trade_off = held.map_or(trade_off, |held| held[index]);
            plain.trade_offs.push(trade_off);
            plain.overlap += weight * (1.0 - (without_aspect - trade_off * aspect));
        }
        plain
    }
}

/// Returns IoU less the distance term, the aspect term, and the aspect term's trade-off.
fn complete_iou(a: [f64; 4], b: [f64; 4]) -> (f64, f64, f64) {
    let extent = |low: f64, high: f64| (high - low).max(0.0);
    let shared = extent(a[0].max(b[0]), a[2].min(b[2])) * extent(a[1].max(b[1]), a[3].min(b[3]));
    let (wa, ha, wb, hb) = (a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]);
    let iou = shared / (wa * ha + wb * hb - shared);
    let hull = (a[2].max(b[2]) - a[0].min(b[0])).powi(2) + (a[3].max(b[3]) - a[1].min(b[1])).powi(2);
    let offset = (b[0] + b[2] - a[0] - a[2]).powi(2) + (b[1] + b[3] - a[1] - a[3]).powi(2);
    let turn = 2.0 / std::f64::consts::PI * ((wb / hb).atan() - (wa / ha).atan());
    let aspect = turn * turn;
    (iou - offset / 4.0 / hull, aspect, aspect / (1.0 - iou + aspect))
}
