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
    _mm_mul_ps, _mm_set1_ps, _mm_setzero_si128, _mm_shufflehi_epi16, _mm_shufflelo_epi16,
    _mm_storeu_ps, _mm_storeu_si128, _mm_unpacklo_epi64, _mm256_add_epi32, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_castsi128_si256, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_inserti128_si256, _mm256_madd_epi16,
    _mm256_set1_epi16, _mm256_setzero_si256, _mm256_srai_epi16, _mm256_sub_epi16,
    _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};
use core::mem::MaybeUninit;
use core::slice::{Iter, IterMut};

use super::int4::Tables;
use super::{ORDER, load64, scalar};
use crate::int4::{GROUP_COLS, Packed};
use crate::slices::{copy, rows_mut};

/// Pairs of groups in the widest matrix, which bounds the stack: 24 KiB for three tokens.
const MAX_PAIRS: usize = 256;

/// Whether these kernels take activations of this length.
#[inline]
pub fn fits<const T: usize>(x: &[i16]) -> bool {
    (4 * T..=8 * T * MAX_PAIRS).contains(&x.len())
}

/// See [`crate::unstable::kernels::linear`]; `x` [fits].
#[target_feature(enable = "avx2")]
pub fn linear<const T: usize>(
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let pair = 2 * x.len() / T;
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_PAIRS];
    let x = lay_out::<T, false>(x, &mut buffer);
    let mut y = Outputs::new(scale, bias, x_scale, y);
    for block in packed.chunks(2 * pair) {
        y.store(dot_products(two(block, pair), x));
    }
}

/// See [`crate::unstable::kernels::linear_int4`]; `x` [fits].
#[target_feature(enable = "avx2")]
pub fn linear_int4<const T: usize>(
    packed: Packed<'_>,
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let cols = x.len() / T;
    let groups = cols.div_ceil(GROUP_COLS);
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_PAIRS];
    let x = lay_out::<T, true>(x, &mut buffer);
    let mut y = Outputs::new(scale, bias, x_scale, y);
    let multipliers = packed.multipliers.chunks(2 * groups);
    for (nibbles, multipliers) in packed.nibbles.chunks(2 * cols).zip(multipliers) {
        let pairs = two(nibbles, cols);
        y.store(int4_dot_products(pairs, two(multipliers, groups), x));
    }
}

/// See [`crate::unstable::kernels::products`]; `x` [fits].
#[target_feature(enable = "avx2")]
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    let pair = 2 * x.len() / T;
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_PAIRS];
    let x = lay_out::<T, false>(x, &mut buffer);
    let rows = sums.len() / T;
    let mut sums = rows_mut(sums, rows);
    let mut sums: [_; T] = core::array::from_fn(|_| sums.next().unwrap_or_default().chunks_mut(4));
    for block in packed.chunks(2 * pair) {
        for (sums, of_block) in sums.iter_mut().zip(dot_products(two(block, pair), x)) {
            copy(&lanes(of_block), sums.next().unwrap_or_default());
        }
    }
}

/// See [`crate::unstable::kernels::magnitude`]: the portable loop, which the compiler turns into `VPMAXSD`.
#[target_feature(enable = "avx2")]
pub fn magnitude(x: &[f32]) -> u32 {
    scalar::magnitude(x)
}

/// What a linear layer still writes, and what becomes of its sums: by fours, then one to three.
struct Outputs<'o, const T: usize> {
    scale: (Iter<'o, [f32; 4]>, &'o [f32]),
    bias: (Iter<'o, [f32; 4]>, &'o [f32]),
    x_scale: &'o [f32; T],
    y: [(IterMut<'o, [f32; 4]>, &'o mut [f32]); T],
}

impl<'o, const T: usize> Outputs<'o, T> {
    #[inline]
    fn new(scale: &'o [f32], bias: &'o [f32], x_scale: &'o [f32; T], y: &'o mut [f32]) -> Self {
        let mut y = rows_mut(y, scale.len());
        let by_fours = |values: &'o [f32]| {
            let (whole, tail) = values.as_chunks();
            (whole.iter(), tail)
        };
        Self {
            scale: by_fours(scale),
            bias: by_fours(bias),
            x_scale,
            y: core::array::from_fn(|_| {
                let (whole, tail) = y.next().unwrap_or_default().as_chunks_mut();
                (whole.iter_mut(), tail)
            }),
        }
    }

    /// The next four rows, or as many as are left.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn store(&mut self, sums: [__m128i; T]) {
        let outputs = self.y.iter_mut().zip(sums).zip(self.x_scale);
        if let (Some(scale), Some(bias)) = (self.scale.0.next(), self.bias.0.next()) {
            for (((y, _), sums), x_scale) in outputs {
                if let Some(y) = y.next() {
                    let scale = _mm_mul_ps(floats(scale), _mm_set1_ps(*x_scale));
                    let values = _mm_mul_ps(_mm_cvtepi32_ps(sums), scale);
                    store(y, _mm_add_ps(values, floats(bias)));
                }
            }
        } else {
            for (((_, y), sums), x_scale) in outputs {
                let rows = y.iter_mut().zip(self.scale.1).zip(self.bias.1);
                for (((y, scale), bias), sum) in rows.zip(lanes(sums)) {
                    *y = sum as f32 * (scale * x_scale) + bias;
                }
            }
        }
    }
}

/// The row pairs of a block, `width` values each; the first twice where there is no second.
#[inline]
fn two<W>(block: &[W], width: usize) -> [&[W]; 2] {
    block
        .split_at_checked(width)
        .filter(|(_, second)| !second.is_empty())
        .map_or([block; 2], |(first, second)| [first, second])
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
    across(sums)
}

/// [`dot_products`] of four-bit weights: nibbles and multipliers.
#[target_feature(enable = "avx2")]
#[inline]
fn int4_dot_products<const T: usize>(
    [first, second]: [&[u8]; 2],
    [first_multipliers, second_multipliers]: [&[u8]; 2],
    x: &[[__m256i; T]],
) -> [__m128i; T] {
    let mut sums = [[_mm256_setzero_si256(); 2]; T];
    let nibbles = first.chunks(GROUP_COLS).zip(second.chunks(GROUP_COLS));
    let multipliers = first_multipliers.iter().zip(second_multipliers);
    for (((first, second), (m, n)), x) in nibbles.zip(multipliers).zip(x.chunks(GROUP_COLS / 8)) {
        let tables = Tables::of_two([*m, *n]);
        for ((first, second), x) in first.chunks(16).zip(second.chunks(16)).zip(x.chunks(2)) {
            let bytes = _mm256_castsi128_si256(up_to_128(first));
            let bytes = _mm256_inserti128_si256::<1>(bytes, up_to_128(second));
            let [ac, bd] = tables.decode(bytes);
            if let Some(x) = x.first() {
                // Each byte twice is a lane whose high byte is the weight.
                let [ac, bd] = [_mm256_unpacklo_epi8(ac, ac), _mm256_unpacklo_epi8(bd, bd)];
                add_products(
                    &mut sums,
                    [_mm256_srai_epi16::<8>(ac), _mm256_srai_epi16::<8>(bd)],
                    x,
                );
            }
            if let Some(x) = x.get(1) {
                let [ac, bd] = [_mm256_unpackhi_epi8(ac, ac), _mm256_unpackhi_epi8(bd, bd)];
                add_products(
                    &mut sums,
                    [_mm256_srai_epi16::<8>(ac), _mm256_srai_epi16::<8>(bd)],
                    x,
                );
            }
        }
    }
    across(sums)
}

/// Adds up what is still apart: the sums of four rows, in order.
#[target_feature(enable = "avx2")]
#[inline]
fn across<const T: usize>(sums: [[__m256i; 2]; T]) -> [__m128i; T] {
    let mut of_tokens = [_mm_setzero_si128(); T];
    for (of_token, [sums_ac, sums_bd]) in of_tokens.iter_mut().zip(sums) {
        // a a b b | c c d d, then a b a b | c d c d.
        let halves = _mm256_hadd_epi32(sums_ac, sums_bd);
        let sums = _mm256_hadd_epi32(halves, halves);
        *of_token = _mm_unpacklo_epi64(
            _mm256_castsi256_si128(sums),
            _mm256_extracti128_si256::<1>(sums),
        );
    }
    of_tokens
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
    add_products(sums, [rows_ac, rows_bd], x);
}

/// The same of weights that are halfwords already.
#[target_feature(enable = "avx2")]
#[inline]
fn add_products<const T: usize>(
    sums: &mut [[__m256i; 2]; T],
    [rows_ac, rows_bd]: [__m256i; 2],
    x: &[__m256i; T],
) {
    for ([sums_ac, sums_bd], x) in sums.iter_mut().zip(x) {
        *sums_ac = _mm256_add_epi32(*sums_ac, _mm256_madd_epi16(rows_ac, *x));
        *sums_bd = _mm256_add_epi32(*sums_bd, _mm256_madd_epi16(rows_bd, *x));
    }
}

/// Brings interleaved activations into the order of the registers, in `buffer`; for packed int4, if that is what the
/// weights are.
#[target_feature(enable = "avx2")]
#[inline]
fn lay_out<'b, const T: usize, const INT4: bool>(
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
            let mut x = _mm_unpacklo_epi64(load64(x), load64(partner));
            if INT4 {
                x = _mm_shufflehi_epi16::<ORDER>(_mm_shufflelo_epi16::<ORDER>(x));
            }
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

/// Sixteen bytes or fewer, and zeros.
#[inline]
fn up_to_128(bytes: &[u8]) -> __m128i {
    let mut padded = [0; 16];
    let whole = bytes.try_into().unwrap_or_else(|_| {
        copy(bytes, &mut padded);
        &padded
    });
    // SAFETY: reads the bytes of the array; the load needs no alignment.
    unsafe { _mm_loadu_si128(core::ptr::from_ref::<[u8; 16]>(whole).cast()) }
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
