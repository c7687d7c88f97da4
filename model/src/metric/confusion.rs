//! The confusion matrix: which class was found where which one is.
//!
//! Boxes are matched whatever their classes. Detections choose by descending score, equal scores in the given order: each
//! takes the object it overlaps most among those that are still free, if by more than 0.45; of equal overlaps, the first.
//! The rest is background: an object that nobody took, a detection that took nothing.
//!
//! There is no threshold of scores here: whatever the suppression let through counts.
//!
//! # Source
//! Rule and threshold are those of Ultralytics 8.4.190, compared by behaviour; the tests' figures are its own. Its `val`
//! gives matrix and suppression one confidence, 0.001 unless told, so there too the suppression alone decides.

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
        let mut best_first: Vec<&Detection> = detections.iter().collect();
        best_first.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut is_taken = vec![false; truths.len()];
        for detection in best_first {
            let there = nearest_free(detection, truths, &is_taken).map_or(background, |object| {
                is_taken[object] = true;
                truths[object].class as usize
            });
            self.cells[detection.class as usize][there] += 1;
        }
        for (truth, is_taken) in truths.iter().zip(is_taken) {
            if !is_taken {
                self.cells[background][truth.class as usize] += 1;
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

/// Returns which of the free objects the detection overlaps most, if any enough.
fn nearest_free(detection: &Detection, truths: &[Target], is_taken: &[bool]) -> Option<usize> {
    let free = (truths.iter().enumerate()).filter(|&(object, _)| !is_taken[object]);
    free.map(|(object, truth)| (object, iou(truth.xyxy, detection.xyxy)))
        .filter(|&(_, overlap)| overlap > OVERLAP)
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .map(|(object, _)| object)
}

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
    fn the_threshold_of_overlaps_is_exclusive() {
        let narrow = |width: f32| Detection {
            xyxy: [0.0, 0.0, width, 10.0],
            ..detection(0.0, 0.9, 0)
        };
        // Inside an object of width 10, the overlap is a tenth of the width.
        assert_eq!(
            matrix(&[narrow(4.5)], &[truth(0.0, 0)]),
            [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
        );
        assert_eq!(
            matrix(&[narrow(4.51)], &[truth(0.0, 0)]),
            [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
        );
    }

    #[test]
    fn low_scores_count() {
        let detections = [detection(0.0, 0.002, 0), detection(100.0, 0.002, 1)];
        assert_eq!(
            matrix(&detections, &[truth(0.0, 0)]),
            [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
        );
    }

    #[test]
    fn the_larger_score_wins_not_the_larger_overlap() {
        let mut detections = [detection(2.0, 0.9, 0), detection(0.5, 0.3, 1)];
        let expected = [[0, 1, 0], [0, 0, 1], [0, 0, 0]];
        assert_eq!(matrix(&detections, &[truth(0.0, 1)]), expected);
        detections.reverse();
        assert_eq!(matrix(&detections, &[truth(0.0, 1)]), expected);
    }

    #[test]
    fn of_equal_scores_the_first_chooses_first() {
        let mut detections = [detection(2.0, 0.5, 0), detection(0.5, 0.5, 1)];
        assert_eq!(
            matrix(&detections, &[truth(0.0, 1)]),
            [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
        );
        detections.reverse();
        assert_eq!(
            matrix(&detections, &[truth(0.0, 1)]),
            [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
        );
    }

    #[test]
    fn of_equal_overlaps_the_first_object_is_taken() {
        let mut truths = [truth(0.0, 1), truth(4.0, 0)];
        let between = [detection(2.0, 0.9, 0)];
        assert_eq!(matrix(&between, &truths), [[0, 1, 0], [0, 0, 0], [1, 0, 0]]);
        truths.reverse();
        assert_eq!(matrix(&between, &truths), [[1, 0, 0], [0, 0, 0], [0, 1, 0]]);
    }

    #[test]
    fn a_detection_whose_object_is_taken_takes_the_next_best() {
        // Both overlap the first object most.
        let detections = [detection(0.0, 0.9, 0), detection(1.0, 0.8, 0)];
        let truths = [truth(0.0, 0), truth(4.0, 0)];
        assert_eq!(matrix(&detections, &truths), [[2, 0, 0], [0, 0, 0], [0, 0, 0]]);
    }

    #[test]
    fn classes_do_not_matter_to_the_choice() {
        // One box with two labels, and two objects: the better label takes the nearer object, of the other class.
        let detections = [detection(0.0, 0.9, 1), detection(0.0, 0.8, 0)];
        let truths = [truth(0.0, 0), truth(3.0, 1)];
        assert_eq!(matrix(&detections, &truths), [[0, 1, 0], [1, 0, 0], [0, 0, 0]]);
        // The second label of one object is background.
        assert_eq!(
            matrix(&detections, &truths[..1]),
            [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
        );
    }

    #[test]
    fn a_group_is_dealt_out_by_score() {
        let detections = [
            detection(2.0, 0.9, 0),
            detection(1.0, 0.8, 1),
            detection(6.0, 0.7, 1),
            detection(5.0, 0.6, 0),
        ];
        let truths = [truth(0.0, 1), truth(3.0, 0), truth(6.0, 1), truth(50.0, 0)];
        assert_eq!(matrix(&detections, &truths), [[1, 0, 1], [0, 2, 0], [1, 0, 0]]);
    }

    #[test]
    fn an_empty_side_leaves_the_other_to_the_background() {
        let detections = [
            detection(0.0, 0.9, 0),
            detection(0.0, 0.8, 1),
            detection(20.0, 0.7, 1),
        ];
        let truths = [truth(0.0, 0), truth(20.0, 1), truth(40.0, 1)];
        assert_eq!(matrix(&detections, &[]), [[0, 0, 1], [0, 0, 2], [0, 0, 0]]);
        assert_eq!(matrix(&[], &truths), [[0, 0, 0], [0, 0, 0], [1, 2, 0]]);
        assert_eq!(matrix(&[], &[]), [[0; 3]; 3]);
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
