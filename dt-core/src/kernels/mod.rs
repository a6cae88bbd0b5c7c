//! The inner loops. Above all integer matrix products: packed i8 weights with i16 activations, for
//! up to three tokens at once.
//!
//! Keys and values in the cache are packed matrices too, so the two products of attention are the
//! same kernel as a linear layer. Every kernel computes exactly what [`scalar`] does: integer sums
//! have no order, and floats are computed in the one order of the numerics contract (`BLOB.md`).
//! Kernels differ in speed alone.
//!
//! All of them are total. Where slices have other lengths than they should, no kernel panics or touches anything beside them:
//! outputs for which something is missing stay as they are, or become some number, which may differ from kernel to kernel.
//! Integer sums beyond the bound of [`q_max`](crate::quant::q_max) wrap.

#![allow(unsafe_code, reason = "vector instructions")]

#[cfg(arm_dsp)]
mod arm;
#[cfg(all(arm_dsp, not(arm_mve)))]
mod armv7em;
#[cfg(arm_mve)]
mod mve;
#[cfg(neon_kernels)]
mod neon;
pub mod scalar;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
pub mod version_1;
#[cfg(sse2_kernels)]
mod x86;

use crate::int4::Packed;
use crate::slices::round_up;

// `build.rs` decides; these are what a wrong decision would miscompile without a word.
#[cfg(all(arm_dsp, not(all(target_arch = "arm", target_abi = "eabihf"))))]
compile_error!("kernels in Arm assembly take floats in registers: the target's ABI must be eabihf");

#[cfg(all(arm_dsp, not(arm_mve)))]
use armv7em as best;
#[cfg(arm_mve)]
use mve as best;
#[cfg(neon_kernels)]
use neon as best;
#[cfg(not(any(arm_dsp, neon_kernels, sse2_kernels)))]
use scalar as best;
#[cfg(sse2_kernels)]
use x86 as best;

/// y (T, rows) = W·x + b for `T` quantized tokens: y\[t, r\] = f32(Σ W\[r, c\]·x\[t, c\]) ·
/// (scale\[r\]·x_scale\[t\]) + bias\[r\].
///
/// `packed` is W (rows, cols) as specified in `BLOB.md`, "Packed i8"; `x` the activations,
/// interleaved ([`interleaved_index`]); rows is the length of `scale`.
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

/// Rounds `x · inverse` to integers, into every `stride`-th of `runs`. |x · inverse| < 2¹⁵.
#[inline]
pub fn quantize_groups(x: &[[f32; 4]], inverse: f32, runs: &mut [Run], stride: usize) {
    best::quantize_groups(x, inverse, runs, stride);
}

/// +0 where x ≤ 0, in place. −∞ and NaN stay what they are: whoever quantizes or reads them next finds them.
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
///
/// Returns 1/√(σ² + ε), which is positive unless the variance is not finite: then nothing else shows it, since ∞ makes
/// `out` the plain bias.
#[inline]
#[must_use]
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) -> f32 {
    best::layer_norm(x, weight, bias, eps, out)
}

/// Columns of a packed matrix, padded to whole words of four weights.
pub const fn padded_cols(cols: usize) -> usize {
    round_up(cols, 4)
}

/// Length of a packed matrix in bytes.
pub const fn packed_len(rows: usize, cols: usize) -> usize {
    round_up(rows, 2).saturating_mul(padded_cols(cols))
}

/// Columns of a token that lie side by side among the interleaved activations of several.
pub const RUN: usize = if cfg!(all(arm_dsp, not(arm_mve))) {
    2
} else {
    4
};

/// So many activations.
pub type Run = [i16; RUN];

/// Where the activation of `token` for `col` lies among the interleaved activations of `tokens`
/// tokens, (cols/[`RUN`], tokens, `RUN`): what a kernel needs next lies next.
pub const fn interleaved_index(tokens: usize, token: usize, col: usize) -> usize {
    let run = (col / RUN).saturating_mul(tokens).saturating_add(token);
    run.saturating_mul(RUN).saturating_add(col % RUN)
}

/// Where the weight at (`row`, `col`) lies in a packed matrix of `cols` columns (`BLOB.md`,
/// "Packed i8").
pub const fn packed_index(cols: usize, row: usize, col: usize) -> usize {
    let pair = (row / 2).saturating_mul(padded_cols(cols));
    let halfword = pair.saturating_add(col);
    halfword.saturating_mul(2).saturating_add(1 - row % 2)
}

/// The byte that stands for `weight` in `row` of a packed matrix, and the weight for which a byte
/// stands: odd rows are stored plus 128.
#[inline]
pub const fn packed_byte(row: usize, weight: i8) -> i8 {
    if row.is_multiple_of(2) {
        weight
    } else {
        weight ^ i8::MIN
    }
}

/// A word of a packed matrix in which every weight is zero.
pub const PACKED_ZEROS: u32 = 0x0080_0080;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kernel_passes_the_suite() {
        for kernels in suite::available() {
            let count = suite::Suite::new().run(&kernels);
            assert!(
                count.is_ok_and(|count| count > 1000),
                "{}: {count:?}",
                kernels.name
            );
        }
    }

    #[test]
    fn layer_norm_normalizes() {
        let x = [1.0, 2.0, 3.0, 10.0];
        let mut y = [0.0; 4];
        let inverse = layer_norm(&x, &[1.0; 4], &[0.0; 4], 1e-5, &mut y);
        assert!((inverse - 12.5f32.sqrt().recip()).abs() < 1e-6);
        let mean = y.iter().sum::<f32>() / 4.0;
        let variance = y.iter().map(|y| y * y).sum::<f32>() / 4.0;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "{y:?}");
    }

    #[test]
    fn packed_bytes_are_those_of_the_specification() {
        // BLOB.md, "Packed i8".
        let (rows, mut packed) = ([[1i8, 2, 3, 4], [-1, -2, -3, 127]], [0; 8]);
        for (r, row) in rows.iter().enumerate() {
            for (c, &weight) in row.iter().enumerate() {
                packed[packed_index(4, r, c)] = packed_byte(r, weight).cast_unsigned();
                assert_eq!(packed_byte(r, packed_byte(r, weight)), weight);
            }
        }
        assert_eq!(packed, [0x7f, 1, 0x7e, 2, 0x7d, 3, 0xff, 4]);
        let zeros = [packed_byte(1, 0), packed_byte(0, 0)].map(i8::cast_unsigned);
        assert_eq!(PACKED_ZEROS.to_le_bytes(), [zeros, zeros].concat()[..]);
    }

    #[test]
    fn layer_norm_of_a_variance_that_overflows_says_so() {
        for kernels in suite::available() {
            for x in [[1e30; 16], [f32::NAN; 16], [f32::INFINITY; 16]] {
                let mut x = x;
                x[3] = -x[3];
                let mut y = [0.0; 16];
                let inverse = (kernels.floats.layer_norm)(&x, &[1.0; 16], &[0.5; 16], 1e-5, &mut y);
                assert!(inverse == 0.0 || inverse.is_nan(), "{inverse}");
            }
        }
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
    }
}
