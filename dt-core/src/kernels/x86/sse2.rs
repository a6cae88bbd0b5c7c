//! Eight products per instruction with `PMADDWD`, for two rows at a time.

use core::arch::x86_64::{
    _mm_add_epi32, _mm_and_si128, _mm_cvtps_epi32, _mm_cvtsi128_si64, _mm_loadu_ps, _mm_madd_epi16,
    _mm_mul_ps, _mm_packs_epi32, _mm_set1_epi16, _mm_set1_ps, _mm_setzero_si128, _mm_shuffle_epi32,
    _mm_srai_epi16, _mm_storel_epi64, _mm_sub_epi16, _mm_unpackhi_epi64, _mm_unpacklo_epi64,
};

use super::load64;
use crate::int4::Packed;
use crate::kernels::scalar::{linear_by, linear_int4_by, products_by};

/// See [`crate::unstable::kernels::linear`].
pub fn linear<const T: usize>(
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    linear_by(dot_pair, packed, x, scale, bias, x_scale, y);
}

/// See [`crate::unstable::kernels::linear_int4`].
pub fn linear_int4<const T: usize>(
    packed: Packed<'_>,
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    linear_int4_by(dot_pair, packed, x, scale, bias, x_scale, y);
}

/// See [`crate::unstable::kernels::products`].
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    products_by(dot_pair::<T>, packed, x, sums);
}

/// See [`crate::unstable::kernels::quantize_groups`].
pub fn quantize_groups(x: &[[f32; 4]], inverse: f32, groups: &mut [[i16; 4]], stride: usize) {
    let mut rest = groups;
    for x in x {
        if let Some(group) = rest.first_mut() {
            // SAFETY: SSE2. Reads the 16 bytes of `x` and writes the 8 of `group`; neither needs
            // an alignment. The conversion rounds to the nearest integer, ties to even.
            unsafe {
                let scaled = _mm_mul_ps(_mm_loadu_ps(x.as_ptr()), _mm_set1_ps(inverse));
                let rounded = _mm_cvtps_epi32(scaled);
                let rounded = _mm_packs_epi32(rounded, rounded);
                _mm_storel_epi64(group.as_mut_ptr().cast(), rounded);
            }
        }
        rest = rest.get_mut(stride..).unwrap_or_default();
    }
}

/// The dot products of one packed row pair with the activations of `T` tokens.
#[inline]
fn dot_pair<const T: usize>(pair: &[i8], x: &[i16]) -> [[i32; 2]; T] {
    let groups = x.as_chunks::<4>().0.as_chunks::<T>().0;
    // SAFETY: SSE2 is part of x86-64.
    let zero = unsafe { _mm_setzero_si128() };
    let mut sums = [zero; T];
    for (weights, x) in pair.as_chunks::<8>().0.iter().zip(groups) {
        let both = load64(weights);
        // SAFETY: SSE2. Row a is the high byte of each half, row b, plus 128, the low one.
        let weights = unsafe {
            let low = _mm_and_si128(both, _mm_set1_epi16(255));
            let b = _mm_sub_epi16(low, _mm_set1_epi16(128));
            _mm_unpacklo_epi64(_mm_srai_epi16::<8>(both), b)
        };
        for (sum, x) in sums.iter_mut().zip(x) {
            let x = load64(x);
            // SAFETY: SSE2. The same activations for both rows.
            unsafe {
                let x = _mm_unpacklo_epi64(x, x);
                *sum = _mm_add_epi32(*sum, _mm_madd_epi16(weights, x));
            }
        }
    }
    // Lanes are row a, row a, row b, row b.
    sums.map(|sum| {
        // SAFETY: SSE2.
        let both = unsafe {
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
            [sum, _mm_unpackhi_epi64(sum, sum)].map(|lanes| _mm_cvtsi128_si64(lanes))
        };
        both.map(|lanes| lanes as i32)
    })
}
