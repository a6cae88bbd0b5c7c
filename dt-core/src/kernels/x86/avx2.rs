//! Sixteen products per instruction with `VPMADDWD`, for four rows at a time.
//!
//! A 16-bit lane of a packed row pair (a, b) holds one column of both. Two groups of two pairs, (a, b) and (c, d), are
//! one register, from which a shift and a mask make one of rows a and c and one of rows b and d; activations are laid
//! out once per matrix so that one register holds those of a token for two groups twice:
//!
//! ```text
//! weights       a0 a1 a2 a3 a4 a5 a6 a7 | c0 c1 c2 c3 c4 c5 c6 c7
//! activations   x0 x1 x2 x3 x4 x5 x6 x7 | x0 x1 x2 x3 x4 x5 x6 x7
//! VPMADDWD        a     a     a     a   |   c     c     c     c      eight 32-bit sums
//! ```

use core::arch::x86_64::{
    __m128, __m128i, __m256i, _mm_add_ps, _mm_cvtepi32_ps, _mm_loadu_ps, _mm_loadu_si128,
    _mm_mul_ps, _mm_set1_ps, _mm_storeu_ps, _mm_storeu_si128, _mm_unpacklo_epi64, _mm256_add_epi32,
    _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_castsi128_si256, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_inserti128_si256, _mm256_madd_epi16,
    _mm256_set1_epi16, _mm256_setzero_si256, _mm256_srai_epi16, _mm256_sub_epi16,
};
use core::mem::MaybeUninit;

use super::{load64, scalar};
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
    let mut sums = [[_mm256_setzero_si256(); 2]; T];
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
    sums.map(|[sums_ac, sums_bd]| {
        // a a b b | c c d d, then a b a b | c d c d: what is still apart of a sum.
        let halves = _mm256_hadd_epi32(sums_ac, sums_bd);
        let sums = _mm256_hadd_epi32(halves, halves);
        _mm_unpacklo_epi64(
            _mm256_castsi256_si128(sums),
            _mm256_extracti128_si256::<1>(sums),
        )
    })
}

/// Adds the products of two groups of both row pairs.
#[target_feature(enable = "avx2")]
#[inline]
fn accumulate<const T: usize>(
    sums: &mut [[__m256i; 2]; T],
    [first, second]: [__m128i; 2],
    x: &[__m256i; T],
) {
    let both = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(first), second);
    // The high byte of each lane, and the low one, which is 128 too large.
    let rows_ac = _mm256_srai_epi16::<8>(both);
    let low = _mm256_and_si256(both, _mm256_set1_epi16(255));
    let rows_bd = _mm256_sub_epi16(low, _mm256_set1_epi16(128));
    for ([sums_ac, sums_bd], x) in sums.iter_mut().zip(x) {
        *sums_ac = _mm256_add_epi32(*sums_ac, _mm256_madd_epi16(rows_ac, *x));
        *sums_bd = _mm256_add_epi32(*sums_bd, _mm256_madd_epi16(rows_bd, *x));
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
        let Some(group) = pair.first() else {
            break;
        };
        // What stands for the weights that an odd last group lacks may be anything.
        let partner = pair.get(1).unwrap_or(&[[0; 4]; T]);
        let mut tokens = [_mm256_setzero_si256(); T];
        for ((place, x), partner) in tokens.iter_mut().zip(group).zip(partner) {
            let x = _mm_unpacklo_epi64(load64(x), load64(partner));
            *place = _mm256_broadcastsi128_si256(x);
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
