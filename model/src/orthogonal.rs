//! The nearest orthogonal matrix, nearly: what MuSGD makes of an update.

use burn::tensor::{Device, Tensor, TensorData};

use crate::decode::floats;

/// Returns `values`, a matrix of so many rows and columns in row-major order, with all singular values near 1.
///
/// Five Newton-Schulz iterations with a quintic polynomial: what comes out lies between 0.5 and 1.5, but for singular
/// values that were less than about a thousandth of the matrix' norm. The polynomial is odd, so singular vectors stay.
///
/// # Source
/// Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", with its coefficients. Computed in
/// `f32`, where others take `bf16`.
///
/// # Panics
/// When `values` are not `rows * columns`.
pub fn orthogonalise(values: &[f32], [rows, columns]: [usize; 2], device: &Device) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns, "values of another matrix");
    let matrix = Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, columns]), device);
    // The products below have the length of the first side.
    let wide = if rows > columns {
        matrix.transpose()
    } else {
        matrix
    };
    let norm = wide.clone().square().sum().sqrt().add_scalar(NORM_MIN);
    let mut matrix = wide.div(norm.reshape([1, 1]));
    for _ in 0..ITERATIONS {
        let square = matrix.clone().matmul(matrix.clone().transpose());
        let factor = square.clone().mul_scalar(CUBIC) + square.clone().matmul(square).mul_scalar(QUINTIC);
        matrix = matrix.clone().mul_scalar(LINEAR) + factor.matmul(matrix);
    }
    let matrix = if rows > columns {
        matrix.transpose()
    } else {
        matrix
    };
    floats(matrix.into_data())
}

const ITERATIONS: usize = 5;
/// Coefficients of `a x + b x^3 + c x^5`, which Jordan et al. chose for the steepest slope at zero.
const LINEAR: f32 = 3.4445;
const CUBIC: f32 = -4.7750;
const QUINTIC: f32 = 2.0315;
/// Keeps the division finite where an update is zero.
const NORM_MIN: f32 = 1e-7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagonal_matrix_gets_ones_of_the_same_sign_and_keeps_its_zeros() {
        let values = [3.0, 0.0, 0.0, 0.0, -0.5, 0.0];
        let result = orthogonalise(&values, [2, 3], &Device::flex());
        for (before, after) in values.iter().zip(&result) {
            if *before == 0.0 {
                assert!(after.abs() < 1e-6, "{result:?}");
            } else {
                assert!((0.5..1.5).contains(&(after * before.signum())), "{result:?}");
            }
        }
    }

    #[test]
    fn a_tall_matrix_is_the_transpose_of_a_wide_one() {
        let wide = [1.0, 2.0, -1.0, 0.5, 0.0, 3.0];
        let tall = [1.0, 0.5, 2.0, 0.0, -1.0, 3.0];
        let wide = orthogonalise(&wide, [2, 3], &Device::flex());
        let tall = orthogonalise(&tall, [3, 2], &Device::flex());
        for (row, column) in (0..2).flat_map(|row| (0..3).map(move |column| (row, column))) {
            assert!((wide[row * 3 + column] - tall[column * 2 + row]).abs() < 1e-6);
        }
        // Rows of length about 1, nearly at right angles.
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        assert!((0.25..2.25).contains(&dot(&wide[..3], &wide[..3])), "{wide:?}");
        assert!(dot(&wide[..3], &wide[3..]).abs() < 0.5, "{wide:?}");
    }

    #[test]
    fn nothing_stays_nothing() {
        assert_eq!(orthogonalise(&[0.0; 4], [2, 2], &Device::flex()), [0.0; 4]);
    }
}
