//! The portable kernels: plain loops that any target compiles, and the meaning of all others.

use super::{RUN, Run, interleaved_index, packed_byte, packed_index, version_1};
use crate::int4::{GROUP_COLS, Packed, decode_group};
use crate::ops;
use crate::slices::{copy, rows, rows_mut};

/// See [`super::linear`].
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

/// See [`super::products`].
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    products_by(dot_pair::<T>, packed, x, sums);
}

/// See [`super::linear_int4`].
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

/// [`super::linear`] out of the dot products of one row pair.
#[inline]
pub(super) fn linear_by<const T: usize>(
    dot_pair: impl Fn(&[i8], &[i16]) -> [[i32; 2]; T],
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let sums = row_pairs::<T>(packed, x).map(|pair| dot_pair(pair, x));
    dequantize(sums, scale, bias, x_scale, y);
}

/// [`super::linear_int4`]: decodes a group of a row pair at a time for the int8 kernel.
#[inline]
pub(super) fn linear_int4_by<const T: usize>(
    dot_pair: impl Fn(&[i8], &[i16]) -> [[i32; 2]; T],
    packed: Packed<'_>,
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let cols = x.len().checked_div(T).unwrap_or_default();
    let pairs = rows(packed.nibbles, cols);
    let multipliers = rows(packed.multipliers, cols.div_ceil(GROUP_COLS));
    let sums = pairs.zip(multipliers).map(|(pair, multipliers)| {
        let mut totals = [[0i32; 2]; T];
        let groups = pair.chunks(GROUP_COLS).zip(x.chunks(T * GROUP_COLS));
        for ((group, x), &multipliers) in groups.zip(multipliers) {
            let mut weights = [0; 2 * GROUP_COLS];
            decode_group(group, multipliers, &mut weights);
            let sums = dot_pair(weights.get(..2 * group.len()).unwrap_or_default(), x);
            for (total, sum) in totals
                .as_flattened_mut()
                .iter_mut()
                .zip(sums.as_flattened())
            {
                *total = total.wrapping_add(*sum);
            }
        }
        totals
    });
    dequantize(sums, scale, bias, x_scale, y);
}

/// A quantized matrix, however it is packed.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(arm_dsp),
    allow(dead_code, reason = "other kernels are made for every shape")
)]
pub(super) enum Matrix<'w> {
    Int8(&'w [i8]),
    Int8Version1(&'w [i8]),
    Int4(Packed<'w>),
}

impl Matrix<'_> {
    /// The weight at (`row`, `col`) of `cols` columns.
    fn weight(self, cols: usize, row: usize, col: usize) -> Option<i8> {
        match self {
            Self::Int8(packed) => {
                let byte = packed.get(packed_index(cols, row, col))?;
                Some(packed_byte(row, *byte))
            }
            Self::Int8Version1(packed) => {
                packed.get(version_1::packed_index(cols, row, col)).copied()
            }
            Self::Int4(packed) => packed.weight(cols, row, col),
        }
    }
}

/// [`super::linear`] for what no kernel is made for, weight by weight: small code rather than fast, so one for all packings and
/// numbers of tokens.
#[cold]
#[inline(never)]
pub(super) fn linear_by_weight(
    matrix: Matrix<'_>,
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32],
    y: &mut [f32],
) {
    let tokens = x_scale.len();
    let cols = x.len().checked_div(tokens).unwrap_or_default();
    let each = x_scale.iter().zip(rows_mut(y, scale.len()));
    for (token, (x_scale, y)) in (0..tokens).zip(each) {
        let outputs = y.iter_mut().zip(scale).zip(bias);
        for (row, ((y, scale), bias)) in (0..scale.len()).zip(outputs) {
            let mut sum = 0i32;
            for col in 0..cols {
                let x = x.get(interleaved_index(tokens, token, col));
                if let Some((weight, x)) = matrix.weight(cols, row, col).zip(x) {
                    sum = sum.wrapping_add(i32::from(weight) * i32::from(*x));
                }
            }
            *y = sum as f32 * (scale * x_scale) + bias;
        }
    }
}

/// Turns the integer sums of each row pair into outputs.
#[inline]
fn dequantize<const T: usize>(
    sums: impl Iterator<Item = [[i32; 2]; T]>,
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let mut y = rows_mut(y, scale.len());
    let mut y: [_; T] = core::array::from_fn(|_| y.next().unwrap_or_default().chunks_mut(2));
    let outputs = scale.chunks(2).zip(bias.chunks(2));
    for ((scale, bias), sums) in outputs.zip(sums) {
        for ((sums, y), x_scale) in sums.iter().zip(&mut y).zip(x_scale) {
            let y = y.next().unwrap_or_default();
            for (((y, &sum), scale), bias) in y.iter_mut().zip(sums).zip(scale).zip(bias) {
                *y = sum as f32 * (scale * x_scale) + bias;
            }
        }
    }
}

/// [`super::products`] out of the dot products of one row pair.
#[inline]
pub(super) fn products_by<const T: usize>(
    dot_pair: impl Fn(&[i8], &[i16]) -> [[i32; 2]; T],
    packed: &[i8],
    x: &[i16],
    sums: &mut [i32],
) {
    let rows = sums.len().checked_div(T).unwrap_or_default();
    let mut sums = rows_mut(sums, rows);
    let mut sums: [_; T] = core::array::from_fn(|_| sums.next().unwrap_or_default().chunks_mut(2));
    for pair in row_pairs::<T>(packed, x) {
        for (sums, dots) in sums.iter_mut().zip(dot_pair(pair, x)) {
            copy(&dots, sums.next().unwrap_or_default());
        }
    }
}

/// The row pairs of a packed matrix, as wide as the activations of `T` tokens.
#[inline]
fn row_pairs<'w, const T: usize>(packed: &'w [i8], x: &[i16]) -> impl Iterator<Item = &'w [i8]> {
    let cols = x.len().checked_div(T).unwrap_or_default();
    rows(packed, 2 * cols)
}

/// The dot products of one packed row pair with the activations of `T` tokens.
///
/// `pair` holds 2·cols weights in packed order, cols a multiple of 4; `x` the interleaved
/// activations. Returns `[row 2p, row 2p + 1]` per token.
#[inline]
pub(super) fn dot_pair<const T: usize>(pair: &[i8], x: &[i16]) -> [[i32; 2]; T] {
    let mut sums = [[0i32; 2]; T];
    for (&[b0, a0, b1, a1, b2, a2, b3, a3], x) in pair.as_chunks::<8>().0.iter().zip(groups::<T>(x))
    {
        let b = [b0, b1, b2, b3].map(|byte| packed_byte(1, byte));
        for ([sum_a, sum_b], x) in sums.iter_mut().zip(&x) {
            *sum_a = sum_a.wrapping_add(dot4([a0, a1, a2, a3], x));
            *sum_b = sum_b.wrapping_add(dot4(b, x));
        }
    }
    sums
}

/// The interleaved activations of `T` tokens, four columns at a time.
#[inline]
pub(super) fn groups<const T: usize>(x: &[i16]) -> impl Iterator<Item = [[i16; 4]; T]> {
    let groups = x.as_chunks::<4>().0.as_chunks::<T>().0;
    groups.iter().map(|group| {
        let of = |token, col| group.as_flattened().get(interleaved_index(T, token, col));
        core::array::from_fn(|token| {
            core::array::from_fn(|col| of(token, col).copied().unwrap_or_default())
        })
    })
}

#[inline]
pub(super) fn dot4(w: [i8; 4], x: &[i16; 4]) -> i32 {
    let products = w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x));
    products.sum()
}

/// See [`super::magnitude`].
#[inline]
pub fn magnitude(x: &[f32]) -> u32 {
    let mut top = 0;
    for x in x {
        let magnitude = x.to_bits() & 0x7fff_ffff;
        if magnitude > top {
            top = magnitude;
        }
    }
    top
}

/// See [`super::quantize_groups`].
#[inline]
pub fn quantize_groups(x: &[[f32; 4]], inverse: f32, runs: &mut [Run], stride: usize) {
    let mut rest = runs;
    for x in x.as_flattened().as_chunks::<RUN>().0 {
        if let Some(run) = rest.first_mut() {
            *run = x.map(|x| crate::quant::rne(x * inverse) as i16);
        }
        rest = rest.get_mut(stride..).unwrap_or_default();
    }
}

/// See [`super::relu`].
#[inline]
pub fn relu(x: &mut [f32]) {
    for x in x {
        *x = if *x <= 0.0 && *x > f32::NEG_INFINITY {
            0.0
        } else {
            *x
        };
    }
}

/// See [`super::add`].
#[inline]
pub fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// See [`super::layer_norm`].
#[inline]
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) -> f32 {
    let n = x.len() as f32;
    let mean = ops::sum(x) / n;
    for (out, x) in out.iter_mut().zip(x) {
        let centred = x - mean;
        *out = centred * centred;
    }
    let variance = ops::sum(out) / n;
    let inverse = 1.0 / libm::sqrtf(variance + eps);
    for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        *out = ((x - mean) * inverse) * weight + bias;
    }
    inverse
}
