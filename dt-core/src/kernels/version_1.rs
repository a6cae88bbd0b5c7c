//! Matrices as files of format version 1 pack them: words of four columns of one row, the words of two rows in turn.
//!
//! Such files are to be read, not to be fast: this is portable, and nothing else knows of it.

use super::{padded_cols, scalar};

/// [`super::linear`] of a matrix that is packed so.
pub fn linear(
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32],
    y: &mut [f32],
) {
    let matrix = scalar::Matrix::Int8Version1(packed);
    scalar::linear_by_weight(matrix, x, scale, bias, x_scale, y);
}

/// Where the weight at (`row`, `col`) lies in a matrix of `cols` columns.
pub const fn packed_index(cols: usize, row: usize, col: usize) -> usize {
    let words_per_row = padded_cols(cols) / 4;
    let group = (row / 2)
        .saturating_mul(words_per_row)
        .saturating_add(col / 4);
    let word = group.saturating_mul(2).saturating_add(row % 2);
    let byte = match col % 4 {
        1 => 2,
        2 => 1,
        same => same,
    };
    word.saturating_mul(4).saturating_add(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{self, packed_byte, packed_len};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_the_order_differs(
            (rows, cols) in (1usize..7, 1usize..20),
            weights in proptest::collection::vec(-127i8..=127, 7 * 20),
            x in proptest::collection::vec(-9999i16..=9999, 3 * 20),
        ) {
            let mut packed = vec![0; packed_len(rows, cols)];
            let mut newer = kernels::PACKED_ZEROS.to_le_bytes().map(u8::cast_signed).repeat(packed.len() / 4);
            for row in 0..rows {
                for col in 0..cols {
                    let weight = weights[20 * row + col];
                    packed[packed_index(cols, row, col)] = weight;
                    newer[kernels::packed_index(cols, row, col)] = packed_byte(row, weight);
                }
            }
            let x = &x[..3 * padded_cols(cols)];
            let (scale, bias, x_scale) = (vec![0.5; rows], vec![1.0; rows], [1.0, 2.0, 3.0]);
            let [mut expected, mut y] = [vec![0.0; 3 * rows], vec![0.0; 3 * rows]];
            kernels::linear(&newer, x, &scale, &bias, &x_scale, &mut expected);
            linear(&packed, x, &scale, &bias, &x_scale, &mut y);
            prop_assert_eq!(y, expected);
        }
    }
}
