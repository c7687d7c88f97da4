//! The confusion matrix: which class was found where which one is.
//!
//! Boxes are matched whatever their classes: only detections above a confidence of 0.25, and only overlaps above 0.45. Each
//! detection points at the object that it overlaps most, each object takes the best of those that point at it. The rest is
//! background: an object that nothing was matched to, a detection that was matched to nothing.
//!
//! # Source
//! The rule and the two thresholds are those of Ultralytics 8.4, compared by behaviour.

use crate::boxes::iou;
use crate::nms::Detection;
use crate::target::Target;

/// Counts by class found and class that is there; the background is the last of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    /// `[found][there]`, one more of each than there are classes.
    cells: Vec<Vec<u64>>,
}

impl ConfusionMatrix {
    /// Returns an empty matrix.
    pub fn new(classes: usize) -> Self {
        Self {
            cells: vec![vec![0; classes + 1]; classes + 1],
        }
    }

    /// Counts one image.
    ///
    /// # Units
    /// Detections and truths in the same pixels.
    ///
    /// # Panics
    /// When a class is not one of the matrix.
    pub fn add(&mut self, detections: &[Detection], truths: &[Target]) {
        let background = self.cells.len() - 1;
        let confident: Vec<&Detection> = (detections.iter())
            .filter(|detection| detection.score > CONFIDENCE)
            .collect();
        // The best detection of each object so far, with its overlap.
        let mut best: Vec<Option<(usize, f32)>> = vec![None; truths.len()];
        for (index, detection) in confident.iter().enumerate() {
            let overlaps = truths.iter().map(|truth| iou(truth.xyxy, detection.xyxy));
            let nearest = (overlaps.enumerate())
                .filter(|&(_, overlap)| overlap > OVERLAP)
                .reduce(|best, next| if next.1 > best.1 { next } else { best });
            if let Some((object, overlap)) = nearest
                && best[object].is_none_or(|(_, other)| overlap > other)
            {
                best[object] = Some((index, overlap));
            }
        }
        let mut is_matched = vec![false; confident.len()];
        for (truth, best) in truths.iter().zip(best) {
            let found = best.map_or(background, |(index, _)| {
                is_matched[index] = true;
                confident[index].class as usize
            });
            self.cells[found][truth.class as usize] += 1;
        }
        for (detection, is_matched) in confident.iter().zip(is_matched) {
            if !is_matched {
                self.cells[detection.class as usize][background] += 1;
            }
        }
    }

    /// Returns the counts, `[found][there]`, background last.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.cells
    }

    /// Returns the share of each column's sum; 0 in a column without any.
    pub fn normalised(&self) -> Vec<Vec<f64>> {
        let sum = |there: usize| self.cells.iter().map(|row| row[there]).sum::<u64>().max(1) as f64;
        let sums: Vec<f64> = (0..self.cells.len()).map(sum).collect();
        let share = |row: &Vec<u64>| {
            row.iter()
                .zip(&sums)
                .map(|(&count, sum)| count as f64 / sum)
                .collect()
        };
        self.cells.iter().map(share).collect()
    }
}

/// Only detections above it are looked at.
pub const CONFIDENCE: f32 = 0.25;
/// Only overlaps above it match.
const OVERLAP: f32 = 0.45;

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(x: f32, score: f32, class: u32) -> Detection {
        Detection {
            xyxy: [x, 0.0, x + 10.0, 10.0],
            score,
            class,
        }
    }

    fn truth(x: f32, class: u32) -> Target {
        Target {
            class,
            xyxy: [x, 0.0, x + 10.0, 10.0],
        }
    }

    fn matrix(detections: &[Detection], truths: &[Target]) -> Vec<Vec<u64>> {
        let mut matrix = ConfusionMatrix::new(2);
        matrix.add(detections, truths);
        matrix.counts().to_vec()
    }

    #[test]
    fn right_wrong_missed_and_invented_each_have_their_cell() {
        let detections = [
            detection(0.0, 0.9, 0),
            detection(100.0, 0.8, 1),
            detection(300.0, 0.7, 1),
        ];
        let truths = [truth(1.0, 0), truth(101.0, 0), truth(200.0, 1)];
        // Found 0 for 0; 1 for 0; nothing for 1; and a 1 where there is nothing.
        assert_eq!(matrix(&detections, &truths), [[1, 0, 0], [1, 0, 1], [0, 1, 0]]);
    }

    #[test]
    fn both_thresholds_are_exclusive() {
        assert_eq!(matrix(&[detection(0.0, 0.25, 0)], &[truth(0.0, 0)])[2][0], 1);
        assert_eq!(matrix(&[detection(0.0, 0.2501, 0)], &[truth(0.0, 0)])[0][0], 1);
        // Moved by 4 of 10, boxes overlap by 6 / 14 = 0.43; by 3.5, by 6.5 / 13.5 = 0.48.
        assert_eq!(
            matrix(&[detection(4.0, 0.9, 0)], &[truth(0.0, 0)]),
            [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
        );
        assert_eq!(matrix(&[detection(3.5, 0.9, 0)], &[truth(0.0, 0)])[0][0], 1);
    }

    #[test]
    fn the_larger_overlap_wins_not_the_larger_score() {
        let detections = [detection(2.0, 0.9, 0), detection(0.5, 0.3, 1)];
        assert_eq!(
            matrix(&detections, &[truth(0.0, 1)]),
            [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
        );
    }

    #[test]
    fn a_detection_whose_object_is_taken_does_not_look_for_another() {
        // Both point at the first object, the second one's overlap is smaller; it would also reach the second object.
        let detections = [detection(0.0, 0.9, 0), detection(1.0, 0.8, 0)];
        let truths = [truth(0.0, 0), truth(4.0, 0)];
        assert_eq!(matrix(&detections, &truths), [[1, 0, 1], [0, 0, 0], [1, 0, 0]]);
    }

    #[test]
    fn shares_are_of_columns() {
        let mut matrix = ConfusionMatrix::new(2);
        for _ in 0..3 {
            matrix.add(&[detection(0.0, 0.9, 0)], &[truth(0.0, 0)]);
        }
        matrix.add(&[], &[truth(0.0, 0)]);
        assert_eq!(
            matrix.normalised(),
            [[0.75, 0.0, 0.0], [0.0; 3], [0.25, 0.0, 0.0]]
        );
    }
}
