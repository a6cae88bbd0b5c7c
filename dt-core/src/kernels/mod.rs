//! Integer dot products of packed i8 weights with i16 activations.
//!
//! Every kernel computes exactly the sums of the reference in this module's tests; integer sums
//! have no order, so kernels differ in speed alone.

#![allow(unsafe_code, reason = "vector instructions")]

#[cfg(arm_dsp)]
mod armv7em;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(arm_dsp)]
pub use armv7em::{dot, dot_pair, weighted_sum};
#[cfg(not(any(arm_dsp, target_arch = "x86_64")))]
pub use scalar::{dot, dot_pair, weighted_sum};
#[cfg(target_arch = "x86_64")]
pub use x86::{dot, dot_pair, weighted_sum};

/// Columns of a packed matrix, padded to whole words of four weights.
pub const fn padded_cols(cols: usize) -> usize {
    cols.next_multiple_of(4)
}

/// Length of a packed matrix in bytes.
pub const fn packed_len(rows: usize, cols: usize) -> usize {
    rows.next_multiple_of(2) * padded_cols(cols)
}

/// Puts every four values in packed order: (0, 2, 1, 3).
pub fn pack_groups(values: &mut [i8]) {
    for [_, second, third, _] in values.as_chunks_mut::<4>().0 {
        core::mem::swap(second, third);
    }
}

/// Where the activation of `token` for `col` lies among the interleaved activations of `tokens`
/// tokens, (cols/4, tokens, 4): what a kernel needs next lies next.
pub const fn interleaved_index(tokens: usize, token: usize, col: usize) -> usize {
    (col / 4 * tokens + token) * 4 + col % 4
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
#[allow(
    unused_qualifications,
    reason = "some targets have no kernels but the portable ones"
)]
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
            let mut interleaved = vec![0i16; 3 * padded];
            let mut single = vec![0i16; padded];
            for (col, (w, x)) in w.iter().zip(&x).enumerate() {
                for row in 0..2 {
                    packed[packed_index(cols, row, col)] = w[row];
                }
                for token in 0..3 {
                    interleaved[interleaved_index(3, token, col)] = x[token];
                }
                single[interleaved_index(1, 0, col)] = x[1];
            }
            let reference: [[i32; 2]; 3] = core::array::from_fn(|token| {
                core::array::from_fn(|row| {
                    let products = w.iter().zip(&x).map(|(w, x)| i32::from(w[row]) * i32::from(x[token]));
                    products.sum()
                })
            });
            prop_assert_eq!(dot_pair::<3>(&packed, &interleaved), reference);
            prop_assert_eq!(scalar::dot_pair::<3>(&packed, &interleaved), reference);
            prop_assert_eq!(dot_pair::<1>(&packed, &single), [reference[1]]);
            prop_assert_eq!(scalar::dot_pair::<1>(&packed, &single), [reference[1]]);
        }

        #[test]
        fn dot_equals_the_reference(
            pairs in proptest::collection::vec((-127i8..=127, any::<i16>()), 0..70),
        ) {
            let whole = pairs.len() / 4 * 4;
            let (mut k, q): (Vec<i8>, Vec<i16>) = pairs[..whole].iter().copied().unzip();
            let expected: i32 = k.iter().zip(&q).map(|(&k, &q)| i32::from(k) * i32::from(q)).sum();
            pack_groups(&mut k);
            prop_assert_eq!(dot(&q, &k), expected);
            prop_assert_eq!(scalar::dot(&q, &k), expected);
        }

        #[test]
        fn weighted_sum_equals_the_reference(
            rows in proptest::collection::vec((any::<i16>(), proptest::array::uniform16(-127i8..=127)), 0..40),
            part in 0usize..3,
            start: [i16; 8],
        ) {
            let (weights, values): (Vec<i16>, Vec<[i8; 16]>) = rows.iter().copied().unzip();
            let first = 4 * part;
            let expected: [i32; 8] = core::array::from_fn(|i| {
                let products = rows.iter().map(|(w, v)| i32::from(*w) * i32::from(v[first + i]));
                i32::from(start[i]) + products.sum::<i32>()
            });
            let values = values.as_flattened().get(first..).unwrap_or_default();
            let mut sums = start.map(i32::from);
            weighted_sum(&weights, values, 16, &mut sums);
            prop_assert_eq!(sums, expected);
            let mut sums = start.map(i32::from);
            scalar::weighted_sum(&weights, values, 16, &mut sums);
            prop_assert_eq!(sums, expected);
        }
    }
}
