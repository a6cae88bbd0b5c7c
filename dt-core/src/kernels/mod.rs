//! The inner loops. Above all integer matrix products: packed i8 weights with i16 activations, for
//! up to three tokens at once.
//!
//! Keys and values in the cache are packed matrices too, so the two products of attention are the
//! same kernel as a linear layer. Every kernel computes exactly what [`scalar`] does: integer sums
//! have no order, and floats are computed in the one order of the numerics contract (`BLOB.md`).
//! Kernels differ in speed alone.

#![allow(unsafe_code, reason = "vector instructions")]

#[cfg(arm_dsp)]
mod armv7em;
pub mod scalar;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86;

use crate::int4::Packed;

#[cfg(arm_dsp)]
use armv7em as best;
#[cfg(not(any(arm_dsp, all(target_arch = "x86_64", not(miri)))))]
use scalar as best;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use x86 as best;

/// y (T, rows) = W·x + b for `T` quantized tokens: y\[t, r\] = f32(Σ W\[r, c\]·x\[t, c\]) ·
/// (scale\[r\]·x_scale\[t\]) + bias\[r\].
///
/// `packed` is W (rows, cols) as specified in `BLOB.md`, "Packed i8"; `x` the activations,
/// interleaved (padded cols/4, T, 4); rows is the length of `scale`.
#[inline]
pub fn linear<const T: usize>(
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    best::linear(packed, x, scale, bias, x_scale, y);
}

/// [`linear`] with four-bit weights: `packed` as specified in `BLOB.md`, "Packed int4"; an even
/// number of rows, columns in multiples of four.
#[inline]
pub fn linear_int4<const T: usize>(
    packed: Packed<'_>,
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    best::linear_int4(packed, x, scale, bias, x_scale, y);
}

/// sums (T, rows) = W·x for `T` quantized tokens, as plain integers. Shapes as in [`linear`].
#[inline]
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    best::products::<T>(packed, x, sums);
}

/// The bit pattern of the largest magnitude in `x`; 0 if `x` is empty.
///
/// Magnitudes order as their bit patterns do, and NaN and ∞ sort above every number: one integer
/// maximum finds both.
#[inline]
pub fn magnitude(x: &[f32]) -> u32 {
    best::magnitude(x)
}

/// Rounds `x · inverse` to integers, into every `stride`-th of `groups`. |x · inverse| < 2¹⁵.
#[inline]
pub fn quantize_groups(x: &[[f32; 4]], inverse: f32, groups: &mut [[i16; 4]], stride: usize) {
    best::quantize_groups(x, inverse, groups, stride);
}

/// +0 where x ≤ 0, in place; NaN stays NaN.
#[inline]
pub fn relu(x: &mut [f32]) {
    best::relu(x);
}

/// x += y, over the shorter length.
#[inline]
pub fn add(x: &mut [f32], y: &[f32]) {
    best::add(x, y);
}

/// Layer normalization (Ba et al. 2016) of one token: `out` = (x − μ)/√(σ² + ε) · weight + bias,
/// in the order of the numerics contract.
#[inline]
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    best::layer_norm(x, weight, bias, eps, out);
}

/// Columns of a packed matrix, padded to whole words of four weights.
pub const fn padded_cols(cols: usize) -> usize {
    cols.next_multiple_of(4)
}

/// Length of a packed matrix in bytes.
pub const fn packed_len(rows: usize, cols: usize) -> usize {
    rows.next_multiple_of(2) * padded_cols(cols)
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
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    use super::scalar as fallback;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    use super::x86::sse2 as fallback;
    use super::*;
    use crate::int4;
    use proptest::prelude::*;

    /// What every kernel computes, in one line: W·x with W (rows, cols) and x (tokens, cols).
    fn reference(w: &[Vec<i8>], x: &[Vec<i16>]) -> Vec<Vec<i32>> {
        let dot = |w: &[i8], x: &[i16]| {
            w.iter()
                .zip(x)
                .map(|(&w, &x)| i32::from(w) * i32::from(x))
                .sum()
        };
        x.iter()
            .map(|x| w.iter().map(|w| dot(w, x)).collect())
            .collect()
    }

    fn pack(w: &[Vec<i8>], cols: usize) -> Vec<i8> {
        let mut packed = vec![0; packed_len(w.len(), cols)];
        for (row, values) in w.iter().enumerate() {
            for (col, &value) in values.iter().enumerate() {
                packed[packed_index(cols, row, col)] = value;
            }
        }
        packed
    }

    fn interleave(x: &[Vec<i16>], cols: usize) -> Vec<i16> {
        let mut interleaved = vec![0; x.len() * padded_cols(cols)];
        for (token, values) in x.iter().enumerate() {
            for (col, &value) in values.iter().enumerate() {
                interleaved[interleaved_index(x.len(), token, col)] = value;
            }
        }
        interleaved
    }

    fn parameters(rows: usize) -> (Vec<f32>, Vec<f32>) {
        let parameters = (0..rows)
            .map(|r| r as f32)
            .map(|r| (0.5 + r * 0.37, 3.0 - r));
        parameters.unzip()
    }

    fn x_scales<const T: usize>() -> [f32; T] {
        core::array::from_fn(|t| 0.01 + t as f32 * 0.003)
    }

    fn dequantized(sums: &[Vec<i32>], scale: &[f32], bias: &[f32], x_scale: &[f32]) -> Vec<f32> {
        let tokens = sums.iter().zip(x_scale).flat_map(|(sums, x_scale)| {
            let parameters = scale.iter().zip(bias);
            sums.iter()
                .zip(parameters)
                .map(move |(&sum, (s, b))| sum as f32 * (s * x_scale) + b)
        });
        tokens.collect()
    }

    fn check<const T: usize>(w: &[Vec<i8>], x: &[Vec<i16>]) {
        let (rows, cols) = (w.len(), w[0].len());
        let x = &x[..T];
        let expected = reference(w, x);
        let (packed, interleaved) = (pack(w, cols), interleave(x, cols));

        let (scale, bias) = parameters(rows);
        let x_scale = x_scales::<T>();
        let floats = dequantized(&expected, &scale, &bias, &x_scale);
        for kernel in [linear::<T>, fallback::linear::<T>, scalar::linear::<T>] {
            let mut y = vec![f32::NAN; T * rows];
            kernel(&packed, &interleaved, &scale, &bias, &x_scale, &mut y);
            assert_eq!(y, floats);
        }
        for kernel in [
            products::<T>,
            fallback::products::<T>,
            scalar::products::<T>,
        ] {
            let mut sums = vec![i32::MIN; T * rows];
            kernel(&packed, &interleaved, &mut sums);
            assert_eq!(sums, expected.concat());
        }
    }

    /// On both sides of the widest matrix that the AVX2 kernel has room for.
    #[test]
    fn wide_matrices_equal_the_reference() {
        for cols in [2041, 2048, 2049, 2053] {
            let w: Vec<Vec<i8>> = (0..5)
                .map(|row| {
                    (0..cols)
                        .map(|col| (row * 37 + col * 11) as i8 % 127)
                        .collect()
                })
                .collect();
            let x: Vec<Vec<i16>> = (0..3)
                .map(|token| {
                    (0..cols)
                        .map(|col| (token * 57 + col * 23) as i16 % 500)
                        .collect()
                })
                .collect();
            check::<1>(&w, &x);
            check::<2>(&w, &x);
            check::<3>(&w, &x);
        }
    }

    fn check_int4<const T: usize>(nibbles: &[Vec<i8>], multipliers: &[Vec<u8>], x: &[Vec<i16>]) {
        let (rows, cols) = (nibbles.len(), nibbles[0].len());
        let groups = cols.div_ceil(int4::GROUP_COLS);
        let x = &x[..T];
        let mut bytes = vec![0; int4::packed_len(rows, cols)];
        let mut shared = vec![0; int4::multipliers_len(rows, cols)];
        let mut weights = vec![vec![0; cols]; rows];
        for row in 0..rows {
            for col in 0..cols {
                let (nibble, multiplier) =
                    (nibbles[row][col], multipliers[row][col / int4::GROUP_COLS]);
                bytes[int4::packed_index(cols, row, col)] += int4::encode_nibble(row, nibble);
                weights[row][col] = nibble * multiplier as i8;
            }
            for group in 0..groups {
                shared[row / 2 * groups + group] |= multipliers[row][group] << (row % 2 * 4);
            }
        }
        let packed = Packed {
            nibbles: &bytes,
            multipliers: &shared,
        };
        for (row, weights) in weights.iter().enumerate() {
            for (col, weight) in weights.iter().enumerate() {
                assert_eq!(packed.weight(cols, row, col), Some(*weight));
            }
        }
        let (scale, bias) = parameters(rows);
        let x_scale = x_scales::<T>();
        let expected = dequantized(&reference(&weights, x), &scale, &bias, &x_scale);
        for kernel in [linear_int4::<T>, scalar::linear_int4::<T>] {
            let mut y = vec![f32::NAN; T * rows];
            kernel(
                packed,
                &interleave(x, cols),
                &scale,
                &bias,
                &x_scale,
                &mut y,
            );
            assert_eq!(y, expected);
        }
    }

    #[test]
    fn layer_norm_normalizes() {
        let x = [1.0, 2.0, 3.0, 10.0];
        let mut y = [0.0; 4];
        layer_norm(&x, &[1.0; 4], &[0.0; 4], 1e-5, &mut y);
        let mean = y.iter().sum::<f32>() / 4.0;
        let variance = y.iter().map(|y| y * y).sum::<f32>() / 4.0;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "{y:?}");
    }

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
        fn kernels_equal_the_reference(
            (w, x) in (1usize..8, 1usize..150).prop_flat_map(|(rows, cols)| {
                let w = proptest::collection::vec(proptest::collection::vec(-127i8..=127, cols), rows);
                (w, proptest::collection::vec(proptest::collection::vec(any::<i16>(), cols), 3))
            }),
        ) {
            check::<1>(&w, &x);
            check::<2>(&w, &x);
            check::<3>(&w, &x);
        }

        #[test]
        fn int4_kernels_equal_the_reference(
            (nibbles, multipliers, x) in (1usize..4, 1usize..40).prop_flat_map(|(pairs, quads)| {
                let (rows, cols) = (2 * pairs, 4 * quads);
                let matrix = proptest::collection::vec(proptest::collection::vec(-8i8..=7, cols), rows);
                let groups = proptest::collection::vec(0u8..=15, cols.div_ceil(int4::GROUP_COLS));
                let x = proptest::collection::vec(any::<i16>(), cols);
                (matrix, proptest::collection::vec(groups, rows), proptest::collection::vec(x, 3))
            }),
        ) {
            check_int4::<1>(&nibbles, &multipliers, &x);
            check_int4::<2>(&nibbles, &multipliers, &x);
            check_int4::<3>(&nibbles, &multipliers, &x);
        }

        #[test]
        fn magnitude_is_the_largest(x in proptest::collection::vec(any::<f32>(), 0..40)) {
            let expected = x.iter().map(|x| x.abs().to_bits()).max().unwrap_or_default();
            prop_assert_eq!(magnitude(&x), expected);
            prop_assert_eq!(scalar::magnitude(&x), expected);
        }

        #[test]
        fn quantized_groups_are_rounded(
            x in proptest::collection::vec(proptest::array::uniform4(-1.0f32..1.0), 0..20),
            stride in 1usize..4,
        ) {
            let mut groups = vec![[7; 4]; 20 * 3];
            quantize_groups(&x, 32767.0, &mut groups, stride);
            for (i, group) in groups.into_iter().enumerate() {
                let expected = match x.get(i / stride) {
                    Some(x) if i % stride == 0 => x.map(|x| (x * 32767.0).round_ties_even() as i16),
                    _ => [7; 4],
                };
                prop_assert_eq!(group, expected);
            }
        }
    }
}
