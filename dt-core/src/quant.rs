//! Symmetric quantization: scales, rounding and the bound that keeps integer sums from overflowing.
//!
//! Used by the engine for activations and cache, and at export for weights.

use crate::kernels;

/// Largest magnitude of a quantized weight, key or value. −128 is never used, so that negation
/// and the accumulator bound of [`q_max`] hold.
pub const WEIGHT_MAX: i32 = 127;

/// Largest quantized activation for a sum of `terms` products with weights in ±127:
/// min(32767, ⌊(2³¹ − 1) / (127 · terms)⌋), so that the sum and every partial sum, in any order and
/// grouping, fit an `i32`. `BLOB.md`, "No integer sum overflows", has the proof.
pub const fn q_max(terms: usize) -> i32 {
    let bound = match (i32::MAX as usize / WEIGHT_MAX as usize).checked_div(terms) {
        Some(bound) => bound,
        None => i16::MAX as usize,
    };
    if bound > i16::MAX as usize {
        i16::MAX as i32
    } else {
        bound as i32
    }
}

/// 1.5 · 2²³: adding it leaves the nearest integer (ties to even) in the low mantissa bits.
const ROUNDING: f32 = 12_582_912.0;

/// Rounds to the nearest integer, ties to even. Exact for |x| ≤ 2²²; any other input gives some
/// integer, never a panic.
///
/// One addition and one subtraction, so the result is the same wherever IEEE 754 is.
#[inline]
pub fn rne(x: f32) -> i32 {
    (x + ROUNDING)
        .to_bits()
        .wrapping_sub(ROUNDING.to_bits())
        .cast_signed()
}

/// A value inside the network is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NonFinite;

impl core::fmt::Display for NonFinite {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a value inside the network is NaN or infinite")
    }
}

impl core::error::Error for NonFinite {}

/// The quantization grid of one vector.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Multiplier from values to grid steps; 0 when the vector is all zero.
    pub inverse: f32,
    /// Size of a grid step; 0 when the vector is all zero.
    pub scale: f32,
}

impl Grid {
    /// The grid step nearest to `x`, one of the values the grid was made for.
    #[inline]
    pub fn quantize(&self, x: f32) -> i32 {
        rne(x * self.inverse)
    }

    /// The grid on which the largest magnitude of `x` is `q_max` steps.
    ///
    /// # Errors
    /// [`NonFinite`] if any value is NaN or infinite.
    #[inline]
    pub fn of(x: &[f32], q_max: i32) -> Result<Self, NonFinite> {
        let max = f32::from_bits(kernels::magnitude(x));
        if !max.is_finite() {
            return Err(NonFinite);
        }
        let q_max = q_max as f32;
        let inverse = q_max / max;
        Ok(if inverse.is_finite() {
            Self {
                inverse,
                scale: max / q_max,
            }
        } else {
            Self {
                inverse: 0.0,
                scale: 0.0,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn q_max_is_the_largest_that_cannot_overflow() {
        for terms in 1..=8192usize {
            let worst = |q: i64| q * 127 * terms as i64;
            let q = i64::from(q_max(terms));
            assert!(worst(q) <= i64::from(i32::MAX), "{terms}");
            assert!(q == 32767 || worst(q + 1) > i64::from(i32::MAX), "{terms}");
        }
        assert_eq!(q_max(0), 32767);
    }

    #[test]
    fn all_zero_and_denormal_input_has_scale_zero() {
        for x in [[0.0f32, -0.0], [f32::from_bits(1), 0.0]] {
            let grid = Grid::of(&x, 32767).unwrap();
            assert_eq!(grid.scale, 0.0);
            assert_eq!(x.map(|x| grid.quantize(x)), [0, 0]);
        }
    }

    #[test]
    fn non_finite_input_is_an_error() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Grid::of(&[1.0, bad], 127).unwrap_err(), NonFinite, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn rne_agrees_with_round_ties_even(x in -4_194_304.0f32..4_194_304.0) {
            prop_assert_eq!(rne(x), x.round_ties_even() as i32);
            prop_assert_eq!(rne(x.trunc() + 0.5), (x.trunc() + 0.5).round_ties_even() as i32);
        }

        #[test]
        fn error_is_half_a_step_and_the_range_is_kept(
            x in proptest::collection::vec(proptest::num::f32::NORMAL | proptest::num::f32::ZERO, 1..40),
            terms in 1usize..2000,
        ) {
            let q_max = q_max(terms);
            let grid = Grid::of(&x, q_max).unwrap();
            for x in x {
                let q = grid.quantize(x);
                prop_assert!(q.abs() <= q_max);
                let (x, scale) = (f64::from(x), f64::from(grid.scale));
                // Half a step, the rounding of inverse and scale themselves, and what vanishes
                // because its inverse would overflow.
                let bound = 0.5 * scale + 4.0 * f64::from(f32::EPSILON) * x.abs() + 1e-34;
                prop_assert!((x - f64::from(q) * scale).abs() <= bound, "{x} {q} {scale}");
            }
        }
    }
}
