//! What a detection head returns: raw logits per anchor, and where the anchors lie.
//!
//! The grid is a value on the host, so that the assigner, the loss and the decoder agree on it without
//! asking the device.

use burn::tensor::Tensor;

/// Bins of the distribution over one box distance (`reg_max` of the published models).
///
/// # Source
/// Generalized Focal Loss (Li et al. 2020); 16 in all published YOLOv8 models.
pub const DISTANCE_BINS: usize = 16;

/// Raw output of the detection head over all levels, finest level first, rows before columns.
#[derive(Clone, Debug)]
pub struct HeadOutput {
    /// Logits over the bins of the distances left, top, right, bottom.
    ///
    /// # Shapes
    /// `[B, A, 4 * DISTANCE_BINS]`
    pub distances: Tensor<3>,
    /// Class logits.
    ///
    /// # Shapes
    /// `[B, A, classes]`
    pub scores: Tensor<3>,
    /// The anchors in the order of axis 1 of both tensors.
    pub grid: AnchorGrid,
}

/// One feature map of the head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Rows of cells.
    pub height: usize,
    /// Columns of cells.
    pub width: usize,
    /// Side of a cell in pixels of the network input.
    pub stride: f32,
}

/// The anchors of a head: one point at the centre of each cell of each level.
#[derive(Clone, Debug, PartialEq)]
pub struct AnchorGrid {
    /// Cell centres `[x, y]`, in cells of their own level.
    pub points: Vec<[f32; 2]>,
    /// The stride of each point's level, in pixels.
    pub strides: Vec<f32>,
    /// The levels, finest first.
    pub levels: Vec<Level>,
}

impl AnchorGrid {
    /// Returns the grid of the given levels: level after level, rows before columns.
    pub fn new(levels: Vec<Level>) -> Self {
        let mut points = Vec::new();
        let mut strides = Vec::new();
        for level in &levels {
            for row in 0..level.height {
                for column in 0..level.width {
                    points.push([column as f32 + 0.5, row as f32 + 0.5]);
                    strides.push(level.stride);
                }
            }
        }
        Self {
            points,
            strides,
            levels,
        }
    }

    /// Returns the number of anchors `A`.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are no anchors.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_run_over_levels_then_rows_then_columns() {
        let grid = AnchorGrid::new(vec![
            Level {
                height: 2,
                width: 3,
                stride: 8.0,
            },
            Level {
                height: 1,
                width: 1,
                stride: 16.0,
            },
        ]);
        assert_eq!(grid.len(), 7);
        assert_eq!(grid.points[1], [1.5, 0.5]);
        assert_eq!(grid.points[3], [0.5, 1.5]);
        assert_eq!(grid.points[6], [0.5, 0.5]);
        assert_eq!(grid.strides[5], 8.0);
        assert_eq!(grid.strides[6], 16.0);
    }
}
