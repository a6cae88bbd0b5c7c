//! Integer dot products of packed i8 weights with i16 activations.
//!
//! Every kernel computes exactly the sums of the reference in this module's tests; integer sums
//! have no order, so kernels differ in speed alone.

mod scalar;

pub use scalar::{accumulate, dot, dot_pair};

/// Columns of a packed matrix, padded to whole words of four weights.
pub const fn padded_cols(cols: usize) -> usize {
    cols.next_multiple_of(4)
}

/// Length of a packed matrix in bytes.
pub const fn packed_len(rows: usize, cols: usize) -> usize {
    rows.next_multiple_of(2) * padded_cols(cols)
}

/// Where the weight at (`row`, `col`) lies in a packed matrix of `cols` columns (`BLOB.md`,
/// "Packed i8").
pub const fn packed_index(cols: usize, row: usize, col: usize) -> usize {
    let words_per_row = padded_cols(cols) / 4;
    let word = ((row / 2) * words_per_row + col / 4) * 2 + row % 2;
    let byte = match col % 4 {
        1 => 2,
        2 => 1,
        same => same,
    };
    word * 4 + byte
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_is_a_bijection(rows in 1usize..9, cols in 1usize..30) {
            let mut seen = vec![false; packed_len(rows, cols)];
            for row in 0..rows.next_multiple_of(2) {
                for col in 0..padded_cols(cols) {
                    let i = packed_index(cols, row, col);
                    prop_assert!(!seen[i]);
                    seen[i] = true;
                }
            }
            prop_assert!(seen.iter().all(|&seen| seen));
        }

        #[test]
        fn dot_pair_equals_the_reference(
            w in proptest::collection::vec([-127i8..=127, -127i8..=127], 1..70),
            x in proptest::collection::vec([any::<i16>(), any::<i16>(), any::<i16>()], 70),
        ) {
            let cols = w.len();
            let padded = padded_cols(cols);
            let mut packed = vec![0i8; packed_len(2, cols)];
            let mut tokens = vec![0i16; 3 * padded];
            for (col, (w, x)) in w.iter().zip(&x).enumerate() {
                for row in 0..2 {
                    packed[packed_index(cols, row, col)] = w[row];
                }
                for token in 0..3 {
                    tokens[token * padded + col] = x[token];
                }
            }
            let tokens: [&[i16]; 3] = core::array::from_fn(|t| &tokens[t * padded..(t + 1) * padded]);
            let got = dot_pair(&packed, tokens);
            for (token, got) in got.iter().enumerate() {
                for (row, got) in got.iter().enumerate() {
                    let expected: i32 = w.iter().zip(&x).map(|(w, x)| i32::from(w[row]) * i32::from(x[token])).sum();
                    prop_assert_eq!(*got, expected);
                }
            }
        }

        #[test]
        fn dot_and_accumulate_equal_the_reference(
            pairs in proptest::collection::vec((-127i8..=127, any::<i16>()), 0..70),
            weight in any::<i16>(),
        ) {
            let (k, q): (Vec<i8>, Vec<i16>) = pairs.iter().copied().unzip();
            let expected: i32 = pairs.iter().map(|&(k, q)| i32::from(k) * i32::from(q)).sum();
            prop_assert_eq!(dot(&q, &k), expected);
            let mut sums: Vec<i32> = q.iter().map(|&q| i32::from(q)).collect();
            accumulate(&mut sums, weight, &k);
            for ((sum, q), k) in sums.iter().zip(&q).zip(&k) {
                prop_assert_eq!(*sum, i32::from(*q) + i32::from(weight) * i32::from(*k));
            }
        }
    }
}
