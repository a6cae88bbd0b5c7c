//! Sixteen products per instruction with `VPMADDWD`, for four rows at a time.
//!
//! A packed row pair (a, b) is a row of groups, four columns of both: a0 a2 a1 a3 b0 b2 b1 b3.
//! Two groups widen to one register of 16-bit weights; activations are laid out once per matrix
//! so that one register holds those of a token for two groups, each twice:
//!
//! ```text
//! weights       a0 a2 a1 a3  b0 b2 b1 b3 | a4 a6 a5 a7  b4 b6 b5 b7
//! activations   x0 x2 x1 x3  x0 x2 x1 x3 | x4 x6 x5 x7  x4 x6 x5 x7
//! VPMADDWD        a     a      b     b   |   a     a      b     b      eight 32-bit sums
//! ```

use core::arch::x86_64::{
    __m128, __m128i, __m256i, _mm_add_epi32, _mm_add_ps, _mm_cvtepi32_ps, _mm_loadu_ps,
    _mm_loadu_si128, _mm_mul_ps, _mm_set1_ps, _mm_setzero_si128, _mm_shufflehi_epi16,
    _mm_shufflelo_epi16, _mm_storeu_ps, _mm_storeu_si128, _mm_unpacklo_epi64, _mm256_add_epi32,
    _mm256_castsi128_si256, _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_extracti128_si256,
    _mm256_hadd_epi32, _mm256_madd_epi16, _mm256_permute4x64_epi64, _mm256_setzero_si256,
};
use core::mem::MaybeUninit;

use super::{ORDER, load64, scalar};
use crate::slices::{copy, rows_mut};

/// Pairs of groups in the widest matrix, which bounds the stack: 24 KiB for three tokens.
const MAX_PAIRS: usize = 256;

/// Whether these kernels take activations of this length.
#[inline]
pub fn fits<const T: usize>(x: &[i16]) -> bool {
    !x.is_empty() && x.len() <= 8 * T * MAX_PAIRS
}

/// See [`crate::kernels::linear`]; `x` [fits].
#[target_feature(enable = "avx2")]
pub fn linear<const T: usize>(
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let mut blocks = four_rows::<T>(packed, x);
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_PAIRS];
    let x = lay_out::<T>(x, &mut buffer);
    let mut y = rows_mut(y, scale.len());
    let y: [_; T] = core::array::from_fn(|_| y.next().unwrap_or_default().as_chunks_mut::<4>());
    let mut y = y.map(|(whole, tail)| (whole.iter_mut(), tail));
    let (scale, scale_tail) = scale.as_chunks::<4>();
    let (bias, bias_tail) = bias.as_chunks::<4>();
    // `blocks` comes last, so that the end of `scale` takes none of it.
    for ((scale, bias), weights) in scale.iter().zip(bias).zip(blocks.by_ref()) {
        let sums = dot_products(weights, x);
        for ((sums, (y, _)), x_scale) in sums.iter().zip(&mut y).zip(x_scale) {
            if let Some(y) = y.next() {
                let scale = _mm_mul_ps(floats(scale), _mm_set1_ps(*x_scale));
                store(
                    y,
                    _mm_add_ps(_mm_mul_ps(_mm_cvtepi32_ps(*sums), scale), floats(bias)),
                );
            }
        }
    }
    // One to three rows that are left.
    if let Some(weights) = blocks.next() {
        let sums = dot_products(weights, x);
        for ((sums, (_, y)), x_scale) in sums.iter().zip(y).zip(x_scale) {
            let outputs = y.iter_mut().zip(scale_tail).zip(bias_tail);
            for (((y, scale), bias), sum) in outputs.zip(lanes(*sums)) {
                *y = sum as f32 * (scale * x_scale) + bias;
            }
        }
    }
}

/// See [`crate::kernels::products`]; `x` [fits].
#[target_feature(enable = "avx2")]
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    let blocks = four_rows::<T>(packed, x);
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_PAIRS];
    let x = lay_out::<T>(x, &mut buffer);
    let rows = sums.len() / T;
    let mut sums = rows_mut(sums, rows);
    let mut sums: [_; T] = core::array::from_fn(|_| sums.next().unwrap_or_default().chunks_mut(4));
    for weights in blocks {
        for (sums, of_block) in sums.iter_mut().zip(dot_products(weights, x)) {
            copy(&lanes(of_block), sums.next().unwrap_or_default());
        }
    }
}

/// See [`crate::kernels::magnitude`]: the portable loop, which the compiler turns into `VPMAXSD`.
#[target_feature(enable = "avx2")]
pub fn magnitude(x: &[f32]) -> u32 {
    scalar::magnitude(x)
}

/// The row pairs of a packed matrix, two by two; the last one may come alone, and twice.
fn four_rows<'w, const T: usize>(
    packed: &'w [i8],
    x: &[i16],
) -> impl Iterator<Item = [&'w [i8]; 2]> {
    let pair = 2 * x.len() / T;
    packed.chunks(2 * pair).map(move |block| {
        block
            .split_at_checked(pair)
            .filter(|(_, second)| !second.is_empty())
            .map_or([block; 2], |(first, second)| [first, second])
    })
}

/// The dot products of four rows with the activations of `T` tokens.
#[target_feature(enable = "avx2")]
#[inline]
fn dot_products<const T: usize>([first, second]: [&[i8]; 2], x: &[[__m256i; T]]) -> [__m128i; T] {
    let mut sums = [[_mm256_setzero_si256(); T]; 2];
    let (first, first_tail) = first.as_chunks::<16>();
    let (second, second_tail) = second.as_chunks::<16>();
    for ((first, second), x) in first.iter().zip(second).zip(x) {
        accumulate(&mut sums, [load128(first), load128(second)], x);
    }
    // A group without a partner.
    if let (Some(first), Some(second), Some(x)) = (
        first_tail.first_chunk::<8>(),
        second_tail.first_chunk::<8>(),
        x.get(first.len()),
    ) {
        accumulate(&mut sums, [load64(first), load64(second)], x);
    }
    let [first, second] = &sums;
    let mut of_tokens = [_mm_setzero_si128(); T];
    for ((sums, first), second) in of_tokens.iter_mut().zip(first).zip(second) {
        // a a b b | a a b b and c c d d | c c d d: what is still apart of a sum.
        let halves = _mm256_hadd_epi32(*first, *second);
        let low = _mm256_castsi256_si128(halves);
        *sums = _mm_add_epi32(low, _mm256_extracti128_si256::<1>(halves));
    }
    of_tokens
}

/// Adds the products of two groups of both row pairs.
#[target_feature(enable = "avx2")]
#[inline]
fn accumulate<const T: usize>(
    sums: &mut [[__m256i; T]; 2],
    weights: [__m128i; 2],
    x: &[__m256i; T],
) {
    for (sums, weights) in sums.iter_mut().zip(weights) {
        let weights = _mm256_cvtepi8_epi16(weights);
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(weights, *x));
        }
    }
}

/// Brings interleaved activations into the order of the registers, in `buffer`.
#[target_feature(enable = "avx2")]
#[inline]
fn lay_out<'b, const T: usize>(
    x: &[i16],
    buffer: &'b mut [MaybeUninit<[__m256i; T]>],
) -> &'b [[__m256i; T]] {
    let groups = x.as_chunks::<4>().0.as_chunks::<T>().0;
    let mut len = 0;
    for (place, pair) in buffer.iter_mut().zip(groups.chunks(2)) {
        // What stands for the partner that an odd last group lacks meets weights of zero.
        let (Some(group), Some(partner)) = (pair.first(), pair.last()) else {
            break;
        };
        let mut tokens = [_mm256_setzero_si256(); T];
        for ((place, x), partner) in tokens.iter_mut().zip(group).zip(partner) {
            let x = _mm_unpacklo_epi64(load64(x), load64(partner));
            let x = _mm_shufflehi_epi16::<ORDER>(_mm_shufflelo_epi16::<ORDER>(x));
            *place = _mm256_permute4x64_epi64::<0b01_01_00_00>(_mm256_castsi128_si256(x));
        }
        place.write(tokens);
        len += 1;
    }
    let written = buffer.get(..len).unwrap_or_default();
    // SAFETY: the loop wrote these, and `MaybeUninit` has the layout of what it holds.
    unsafe { &*(core::ptr::from_ref(written) as *const [[__m256i; T]]) }
}

/// Sixteen bytes.
#[inline]
fn load128(bytes: &[i8; 16]) -> __m128i {
    // SAFETY: reads the bytes of the array; the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Four floats.
#[inline]
fn floats(values: &[f32; 4]) -> __m128 {
    // SAFETY: reads the 16 bytes of the array; the load needs no alignment.
    unsafe { _mm_loadu_ps(values.as_ptr()) }
}

#[inline]
fn store(place: &mut [f32; 4], values: __m128) {
    // SAFETY: writes the 16 bytes of the array; the store needs no alignment.
    unsafe { _mm_storeu_ps(place.as_mut_ptr(), values) }
}

#[inline]
fn lanes(sums: __m128i) -> [i32; 4] {
    let mut lanes = [0; 4];
    // SAFETY: writes the 16 bytes of the array; the store needs no alignment.
    unsafe { _mm_storeu_si128(lanes.as_mut_ptr().cast(), sums) };
    lanes
}
