//! Thirty-two products and their sums per instruction with `VPDPWSSD`, for sixteen rows at a time.
//!
//! A 16-bit lane of a packed row pair (a, b) holds one column of both: 256·a + u, with u = b + 128. A register of
//! 32 columns gives a by a shift and u by a mask; activations are laid out once per matrix so that a register
//! holds 32 columns of one token:
//!
//! ```text
//! weights       a0 a1 a2 a3 a4 a5 …        u0 u1 u2 u3 u4 u5 …
//! activations   x0 x1 x2 x3 x4 x5 …        x0 x1 x2 x3 x4 x5 …
//! VPDPWSSD        a     a     a   …          u     u     u   …   sixteen 32-bit sums each
//! ```
//!
//! The instruction adds modulo 2³², where `VPDPWSSDS` would saturate, and neither happens. A lane of row a holds some
//! of its products, which fit by the bound of [`crate::unstable::quant::q_max`]. One of row b begins with −128·Σx of the columns it will
//! hold, two of every 32, and adds Σu·x: at most 2·⌈n/32⌉·(128 + 255)·q_max(n) < 2²⁹ for the n ≤ 2048 columns that
//! fit; it ends at Σb·x, so what lanes add up to fits like row a.

use core::arch::x86_64::{
    __m256i, __m512, __m512i, _mm256_maskz_loadu_epi8, _mm512_add_epi32, _mm512_add_ps,
    _mm512_and_si512, _mm512_castsi512_si256, _mm512_cvtepi8_epi16, _mm512_cvtepi32_ps,
    _mm512_inserti64x4, _mm512_mask_storeu_epi32, _mm512_mask_storeu_ps, _mm512_maskz_loadu_epi16,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_permutex2var_epi16, _mm512_set1_epi16,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_srai_epi16,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use core::mem::MaybeUninit;
use core::slice::{Chunks, ChunksMut};

use super::int4::Tables;
use crate::int4::{GROUP_COLS, Packed};
use crate::kernels::interleaved_index;
use crate::slices::rows_mut;

/// Columns that one register holds.
const COLS: usize = 32;

// The columns that share a multiplier.
const _: () = assert!(COLS == GROUP_COLS);

/// Registers of activations in the widest matrix, which bounds the stack: 12 KiB for three tokens.
const MAX_REGISTERS: usize = 64;

/// Row pairs that go together.
const PAIRS: usize = 8;

/// The activations of `T` tokens for [`COLS`] columns.
type Activations<const T: usize> = [__m512i; T];

/// Whether these kernels take activations of this length.
#[inline]
pub fn fits<const T: usize>(x: &[i16]) -> bool {
    (4 * T..=T * COLS * MAX_REGISTERS).contains(&x.len())
}

/// See [`crate::unstable::kernels::linear`]; `x` [fits].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn linear<const T: usize>(
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let pair = 2 * x.len() / T;
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_REGISTERS];
    let x = lay_out::<T, NATURAL>(x, &mut buffer);
    let start = start(x);
    let mut y = Outputs::new(scale, bias, x_scale, y);
    for block in packed.chunks(PAIRS * pair) {
        y.store(sixteen_rows(block, pair, x, &start));
    }
}

/// See [`crate::unstable::kernels::linear_int4`]; `x` [fits].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_REGISTERS];
    let x = lay_out::<T, INT4>(x, &mut buffer);
    let mut y = Outputs::new(scale, bias, x_scale, y);
    let multipliers = packed.multipliers.chunks(PAIRS * groups);
    for (nibbles, multipliers) in packed.nibbles.chunks(PAIRS * cols).zip(multipliers) {
        y.store(sixteen_int4_rows([nibbles, multipliers], [cols, groups], x));
    }
}

/// See [`crate::unstable::kernels::products`]; `x` [fits].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    let pair = 2 * x.len() / T;
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_REGISTERS];
    let x = lay_out::<T, NATURAL>(x, &mut buffer);
    let start = start(x);
    let rows = sums.len() / T;
    let mut sums = rows_mut(sums, rows);
    let mut sums: [_; T] =
        core::array::from_fn(|_| sums.next().unwrap_or_default().chunks_mut(2 * PAIRS));
    for block in packed.chunks(PAIRS * pair) {
        for (sums, of_block) in sums.iter_mut().zip(sixteen_rows(block, pair, x, &start)) {
            let place = sums.next().unwrap_or_default();
            // SAFETY: writes as many values as the slice has, 16 at most.
            unsafe {
                _mm512_mask_storeu_epi32(place.as_mut_ptr(), mask(place.len()) as u16, of_block)
            }
        }
    }
}

/// What a linear layer still writes, and what becomes of its sums.
struct Outputs<'o, const T: usize> {
    scale: Chunks<'o, f32>,
    bias: Chunks<'o, f32>,
    x_scale: &'o [f32; T],
    y: [ChunksMut<'o, f32>; T],
}

impl<'o, const T: usize> Outputs<'o, T> {
    #[inline]
    fn new(scale: &'o [f32], bias: &'o [f32], x_scale: &'o [f32; T], y: &'o mut [f32]) -> Self {
        let mut y = rows_mut(y, scale.len());
        Self {
            scale: scale.chunks(2 * PAIRS),
            bias: bias.chunks(2 * PAIRS),
            x_scale,
            y: core::array::from_fn(|_| y.next().unwrap_or_default().chunks_mut(2 * PAIRS)),
        }
    }

    /// The next sixteen rows, or as many as are left.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn store(&mut self, sums: [__m512i; T]) {
        let scale = floats(self.scale.next().unwrap_or_default());
        let bias = floats(self.bias.next().unwrap_or_default());
        for ((y, sums), x_scale) in self.y.iter_mut().zip(sums).zip(self.x_scale) {
            let scale = _mm512_mul_ps(scale, _mm512_set1_ps(*x_scale));
            let values = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale), bias);
            let place = y.next().unwrap_or_default();
            // SAFETY: writes as many values as the slice has, 16 at most.
            unsafe { _mm512_mask_storeu_ps(place.as_mut_ptr(), mask(place.len()) as u16, values) }
        }
    }
}

/// Of each token, the sums of four row pairs, what is of a row still apart: a b a b four times each.
type Apart<const T: usize> = [[__m512i; PAIRS / 2]; T];

/// The same on the way: row a and row b by themselves.
type Sums<const T: usize> = [[[__m512i; 2]; PAIRS / 2]; T];

/// The dot products of up to eight row pairs, `width` bytes each, with the activations of `T` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn sixteen_rows<const T: usize>(
    block: &[i8],
    width: usize,
    x: &[Activations<T>],
    start: &[__m512i; T],
) -> [__m512i; T] {
    let first = four_pairs(four(block, 0, width), x, start);
    // What comes out in place of pairs that there are none of is not stored.
    let second = if block.len() > PAIRS / 2 * width {
        four_pairs(four(block, PAIRS / 2, width), x, start)
    } else {
        first
    };
    across(&first, &second)
}

/// [`sixteen_rows`] of four-bit weights: nibbles, `cols` bytes for each row pair, and `groups` multipliers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn sixteen_int4_rows<const T: usize>(
    [nibbles, multipliers]: [&[u8]; 2],
    [cols, groups]: [usize; 2],
    x: &[Activations<T>],
) -> [__m512i; T] {
    let half = |i| (four(nibbles, i, cols), four(multipliers, i, groups));
    let (first, first_multipliers) = half(0);
    let first = four_int4_pairs(first, first_multipliers, x);
    let second = if nibbles.len() > PAIRS / 2 * cols {
        let (second, multipliers) = half(PAIRS / 2);
        four_int4_pairs(second, multipliers, x)
    } else {
        first
    };
    across(&first, &second)
}

/// What the sums of odd rows begin with, because their u is b + 128.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn start<const T: usize>(x: &[Activations<T>]) -> [__m512i; T] {
    let mut sums = [_mm512_setzero_si512(); T];
    for x in x {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = dpwssd(*sum, *x, _mm512_set1_epi16(-128));
        }
    }
    sums
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn four_pairs<const T: usize>(
    pairs: [&[i8]; PAIRS / 2],
    x: &[Activations<T>],
    start: &[__m512i; T],
) -> Apart<T> {
    let mut sums = [[[_mm512_setzero_si512(); 2]; PAIRS / 2]; T];
    for (sums, start) in sums.iter_mut().zip(start) {
        for [_, sum] in sums {
            *sum = *start;
        }
    }
    let [(a, a_tail), (b, b_tail), (c, c_tail), (d, d_tail)] = chunks::<_, { 2 * COLS }>(pairs);
    for ((((a, b), c), d), x) in a.iter().zip(b).zip(c).zip(d).zip(x) {
        accumulate(&mut sums, [rows(a), rows(b), rows(c), rows(d)], x);
    }
    if let (false, Some(x)) = (a_tail.is_empty(), x.get(a.len())) {
        let weights = [rows(a_tail), rows(b_tail), rows(c_tail), rows(d_tail)];
        accumulate(&mut sums, weights, x);
    }
    join(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn four_int4_pairs<const T: usize>(
    pairs: [&[u8]; PAIRS / 2],
    [ma, mb, mc, md]: [&[u8]; PAIRS / 2],
    x: &[Activations<T>],
) -> Apart<T> {
    let mut sums = [[[_mm512_setzero_si512(); 2]; PAIRS / 2]; T];
    let [(a, a_tail), (b, b_tail), (c, c_tail), (d, d_tail)] = chunks::<_, COLS>(pairs);
    let nibbles = a.iter().zip(b).zip(c).zip(d);
    let multipliers = ma.iter().zip(mb).zip(mc).zip(md);
    for (((((a, b), c), d), (((ma, mb), mc), md)), x) in nibbles.zip(multipliers).zip(x) {
        let weights = [
            int4_rows(a, *ma),
            int4_rows(b, *mb),
            int4_rows(c, *mc),
            int4_rows(d, *md),
        ];
        accumulate(&mut sums, weights, x);
    }
    // A shorter group: where its bytes end, activations are zero.
    if let (Some(x), [.., ma], [.., mb], [.., mc], [.., md]) = (x.get(a.len()), ma, mb, mc, md) {
        let weights = [
            int4_rows(a_tail, *ma),
            int4_rows(b_tail, *mb),
            int4_rows(c_tail, *mc),
            int4_rows(d_tail, *md),
        ];
        accumulate(&mut sums, weights, x);
    }
    join(sums)
}

/// Adds the products of 32 columns of four row pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn accumulate<const T: usize>(
    sums: &mut Sums<T>,
    weights: [[__m512i; 2]; PAIRS / 2],
    x: &Activations<T>,
) {
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sums, weights) in sums.iter_mut().zip(weights) {
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = dpwssd(*sum, weights, *x);
            }
        }
    }
}

/// Adds the products of two lanes each. Written out, because the compiler makes `VPMADDWD` and `VPADDD` of its
/// intrinsic: a shorter wait for one sum, and twice the work of many.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn dpwssd(mut sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
    // SAFETY: works on registers alone.
    unsafe {
        core::arch::asm!(
            "vpdpwssd {sums}, {weights}, {x}",
            sums = inout(zmm_reg) sums,
            weights = in(zmm_reg) weights,
            x = in(zmm_reg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

#[target_feature(enable = "avx512f")]
#[inline]
fn join<const T: usize>(sums: Sums<T>) -> Apart<T> {
    let mut joined = [[_mm512_setzero_si512(); PAIRS / 2]; T];
    for (joined, sums) in joined.iter_mut().zip(sums) {
        for (joined, [a, b]) in joined.iter_mut().zip(sums) {
            *joined = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        }
    }
    joined
}

/// Adds up what is still apart: the sums of sixteen rows, in order.
#[target_feature(enable = "avx512f")]
#[inline]
fn across<const T: usize>(first: &Apart<T>, second: &Apart<T>) -> [__m512i; T] {
    let mut rows = [_mm512_setzero_si512(); T];
    for ((rows, [a, b, c, d]), [e, f, g, h]) in rows.iter_mut().zip(first).zip(second) {
        let first = quarters(halves(*a, *b), halves(*c, *d));
        let second = quarters(halves(*e, *f), halves(*g, *h));
        *rows = quarters(first, second);
    }
    rows
}

/// Of two row pairs, a b a b and c d c d: a b c d.
#[target_feature(enable = "avx512f")]
#[inline]
fn halves(first: __m512i, second: __m512i) -> __m512i {
    let low = _mm512_unpacklo_epi64(first, second);
    _mm512_add_epi32(low, _mm512_unpackhi_epi64(first, second))
}

/// Of four quarters each, e f g h and i j k l: e+f g+h i+j k+l.
#[target_feature(enable = "avx512f")]
#[inline]
fn quarters(first: __m512i, second: __m512i) -> __m512i {
    let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(first, second);
    let odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(first, second);
    _mm512_add_epi32(even, odd)
}

/// Brings interleaved activations into the order of the registers, in `buffer`; zeros are behind the last.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn lay_out<'b, const T: usize, const ORDER: u64>(
    x: &[i16],
    buffer: &'b mut [MaybeUninit<Activations<T>>],
) -> &'b [Activations<T>] {
    let mut len = 0;
    for (place, x) in buffer.iter_mut().zip(x.chunks(T * COLS)) {
        let (first, second) = x.split_at_checked(T * COLS / 2).unwrap_or((x, &[]));
        let (first, second) = (both(first), both(second));
        let mut tokens = [_mm512_setzero_si512(); T];
        for (place, order) in tokens.iter_mut().zip(&Order::<T, ORDER>::OF_TOKENS) {
            let order = halfwords(order);
            let low = _mm512_permutex2var_epi16(first.0, order, first.1);
            let high = _mm512_permutex2var_epi16(second.0, order, second.1);
            *place = _mm512_inserti64x4::<1>(low, _mm512_castsi512_si256(high));
        }
        place.write(tokens);
        len += 1;
    }
    let written = buffer.get(..len).unwrap_or_default();
    // SAFETY: the loop wrote these, and `MaybeUninit` has the layout of what it holds.
    unsafe { &*(core::ptr::from_ref(written) as *const [Activations<T>]) }
}

/// The order of columns within four, as hexadecimal digits, the first one the lowest.
const NATURAL: u64 = 0x3210;
const INT4: u64 = 0x3120;

/// Where the activations of each of `T` tokens lie among those of sixteen columns.
struct Order<const T: usize, const ORDER: u64>;

impl<const T: usize, const ORDER: u64> Order<T, ORDER> {
    #[expect(clippy::indexing_slicing, reason = "computed by the compiler")]
    const OF_TOKENS: [[i16; COLS / 2]; T] = {
        let mut of_tokens = [[0; COLS / 2]; T];
        let mut i = 0;
        while i < COLS / 2 * T {
            let (token, lane) = (i / (COLS / 2), i % (COLS / 2));
            let col = lane / 4 * 4 + (ORDER >> (lane % 4 * 4) & 15) as usize;
            of_tokens[token][lane] = interleaved_index(T, token, col) as i16;
            i += 1;
        }
        of_tokens
    };
}

/// Up to 64 halfwords, and zeros.
#[target_feature(enable = "avx512bw")]
#[inline]
fn both(values: &[i16]) -> (__m512i, __m512i) {
    let (low, high) = values.split_at_checked(32).unwrap_or((values, &[]));
    (halfwords(low), halfwords(high))
}

/// Up to 32 columns of a row pair as its rows a and u, and zeros.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn rows(pair: &[i8]) -> [__m512i; 2] {
    // SAFETY: reads as many halfwords as the slice has, 32 at most; the load needs no alignment.
    let both = unsafe { _mm512_maskz_loadu_epi16(mask(pair.len() / 2), pair.as_ptr().cast()) };
    [
        _mm512_srai_epi16::<8>(both),
        _mm512_and_si512(both, _mm512_set1_epi16(255)),
    ]
}

/// Up to 32 columns of a four-bit row pair; where there are none, whatever a nibble of zero means.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn int4_rows(nibbles: &[u8], multipliers: u8) -> [__m512i; 2] {
    // SAFETY: reads as many bytes as the slice has, 32 at most.
    let bytes: __m256i =
        unsafe { _mm256_maskz_loadu_epi8(mask(nibbles.len()), nibbles.as_ptr().cast()) };
    let [even, odd] = Tables::of(multipliers).decode(bytes);
    [_mm512_cvtepi8_epi16(even), _mm512_cvtepi8_epi16(odd)]
}

/// Four row pairs of a block from number `start` on, `width` values each; the first of the block in
/// place of those that it lacks.
#[inline]
fn four<W>(block: &[W], start: usize, width: usize) -> [&[W]; PAIRS / 2] {
    core::array::from_fn(|i| {
        let pair = block.get((start + i) * width..(start + i + 1) * width);
        pair.or(block.get(..width)).unwrap_or_default()
    })
}

/// What of row pairs is read at once, and what is left.
#[inline]
fn chunks<W, const N: usize>(pairs: [&[W]; PAIRS / 2]) -> [(&[[W; N]], &[W]); PAIRS / 2] {
    pairs.map(<[W]>::as_chunks)
}

/// The lanes, of sixteen or of 32, that a slice of up to so many values fills.
#[inline]
fn mask(len: usize) -> u32 {
    u32::MAX.unbounded_shr(32u32.saturating_sub(len as u32))
}

/// Up to 32 halfwords, and zeros.
#[target_feature(enable = "avx512bw")]
#[inline]
fn halfwords(values: &[i16]) -> __m512i {
    // SAFETY: reads as many values as the slice has, 32 at most.
    unsafe { _mm512_maskz_loadu_epi16(mask(values.len()), values.as_ptr()) }
}

/// Up to sixteen floats, and zeros.
#[target_feature(enable = "avx512f")]
#[inline]
fn floats(values: &[f32]) -> __m512 {
    // SAFETY: reads as many values as the slice has, 16 at most.
    unsafe { _mm512_maskz_loadu_ps(mask(values.len()) as u16, values.as_ptr()) }
}
