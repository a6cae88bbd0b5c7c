//! Linear layers and what goes into them.

use core::ops::Range;

use crate::config::Dtype;
use crate::int4;
use crate::kernels::{self, RUN, Run, packed_byte, packed_index, padded_cols, version_1};
use crate::ops;
use crate::quant::{Grid, NonFinite, q_max};
use crate::slices::{Guaranteed, copy, floats, halves, minus, plus, rows, rows_mut, times};

/// Tokens that go through the weights together at most: a\[t−1\], R̂\[t\], s\[t\].
pub(crate) const GROUP: usize = 3;

/// The numbers of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weights<'a> {
    /// Row by row.
    F32(&'a [f32]),
    /// Packed (`BLOB.md`), with one scale per row.
    Int8 { packed: &'a [i8], scale: &'a [f32] },
    /// The same as files of format version 1 pack it.
    Int8Version1 { packed: &'a [i8], scale: &'a [f32] },
    /// Packed in four bits (`BLOB.md`), with one scale per row.
    Int4 {
        packed: int4::Packed<'a>,
        scale: &'a [f32],
    },
}

/// An affine map y = W·x + b.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) weights: Weights<'a>,
    pub(crate) bias: &'a [f32],
}

impl<'a> Linear<'a> {
    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Added to the outputs (rows).
    pub fn bias(&self) -> &'a [f32] {
        self.bias
    }

    /// The weight at (`row`, `col`) as a real number; `None` outside the matrix.
    pub fn weight(&self, row: usize, col: usize) -> Option<f32> {
        if row >= self.rows || col >= self.cols {
            return None;
        }
        match self.weights {
            Weights::F32(w) => w.get(plus(times(row, self.cols), col)).copied(),
            Weights::Int8 { packed, scale } => {
                let q = packed.get(packed_index(self.cols, row, col))?;
                Some(f32::from(packed_byte(row, *q)) * scale.get(row)?)
            }
            Weights::Int8Version1 { packed, scale } => {
                let q = packed.get(version_1::packed_index(self.cols, row, col))?;
                Some(f32::from(*q) * scale.get(row)?)
            }
            Weights::Int4 { packed, scale } => {
                let q = packed.weight(self.cols, row, col)?;
                Some(f32::from(q) * scale.get(row)?)
            }
        }
    }

    /// The map restricted to some of its outputs; `range` starts and ends at even rows.
    pub(crate) fn outputs(&self, range: Range<usize>) -> Linear<'a> {
        let weights = match self.weights {
            Weights::F32(w) => Weights::F32(
                w.get(times(range.start, self.cols)..times(range.end, self.cols))
                    .guaranteed(),
            ),
            Weights::Int8 { packed, scale } => Weights::Int8 {
                packed: packed_rows(packed, self.cols, &range),
                scale: scale.get(range.clone()).guaranteed(),
            },
            Weights::Int8Version1 { packed, scale } => Weights::Int8Version1 {
                packed: packed_rows(packed, self.cols, &range),
                scale: scale.get(range.clone()).guaranteed(),
            },
            Weights::Int4 { packed, scale } => Weights::Int4 {
                packed: packed.rows(self.cols, range.clone()),
                scale: scale.get(range.clone()).guaranteed(),
            },
        };
        Linear {
            rows: range.len(),
            cols: self.cols,
            weights,
            bias: self.bias.get(range).guaranteed(),
        }
    }

    /// y (T, rows) = W·x + b for the T ≤ [`GROUP`] tokens of `input`.
    ///
    /// A weight is loaded once for all tokens.
    pub(crate) fn forward(&self, input: &Input<'_>, y: &mut [f32]) {
        match (self.weights, input) {
            (Weights::F32(w), Input::F32(x)) => self.forward_f32(w, x, y),
            (_, Input::Int8 { q, scales, tokens }) => {
                let &[first, second, _] = scales;
                match tokens {
                    1 => self.forward_quantized(q, &[first], y),
                    2 => self.forward_quantized(q, &[first, second], y),
                    _ => self.forward_quantized(q, scales, y),
                }
            }
            // Weights and activations of one model go together.
            _ => {}
        }
    }

    fn forward_quantized<const T: usize>(&self, q: &[i16], scales: &[f32; T], y: &mut [f32]) {
        match self.weights {
            Weights::F32(_) => {}
            Weights::Int8 { packed, scale } => {
                kernels::linear(packed, q, scale, self.bias, scales, y);
            }
            Weights::Int8Version1 { packed, scale } => {
                version_1::linear(packed, q, scale, self.bias, scales, y);
            }
            Weights::Int4 { packed, scale } => {
                kernels::linear_int4(packed, q, scale, self.bias, scales, y);
            }
        }
    }

    #[inline(never)]
    fn forward_f32(&self, weights: &[f32], x: &[f32], y: &mut [f32]) {
        for (x, y) in rows(x, self.cols).zip(rows_mut(y, self.rows)) {
            for ((y, w), b) in y.iter_mut().zip(rows(weights, self.cols)).zip(self.bias) {
                *y = ops::dot(w, x) + b;
            }
        }
    }
}

/// Some rows of a packed matrix; `range` starts and ends at even ones.
fn packed_rows<'a>(packed: &'a [i8], cols: usize, range: &Range<usize>) -> &'a [i8] {
    let width = padded_cols(cols);
    let part = packed.get(times(range.start, width)..times(range.end, width));
    part.unwrap_or_default()
}

/// The activations of up to [`GROUP`] tokens, ready for a [`Linear`].
#[derive(Debug)]
pub(crate) enum Input<'s> {
    /// Token by token.
    F32(&'s [f32]),
    /// Interleaved ([`kernels::interleaved_index`]), padded with zeros, with one scale per token.
    Int8 {
        q: &'s mut [i16],
        scales: [f32; GROUP],
        tokens: usize,
    },
}

impl<'s> Input<'s> {
    /// 32-bit words of buffer that [`Input::new`] needs for so many tokens.
    pub(crate) const fn words(dtype: Dtype, tokens: usize, cols: usize) -> usize {
        match dtype {
            Dtype::F32 => times(tokens, cols),
            Dtype::Int8 | Dtype::Int4 => times(tokens, padded_cols(cols)) / 2,
        }
    }

    /// Prepares `x` (T, cols) in `buffer`; `x` is not needed after that.
    pub(crate) fn new(
        dtype: Dtype,
        x: &[f32],
        cols: usize,
        buffer: &'s mut [u32],
    ) -> Result<Self, NonFinite> {
        match dtype {
            Dtype::F32 => {
                let copied = floats(buffer).get_mut(..x.len()).guaranteed();
                copy(x, copied);
                Ok(Input::F32(copied))
            }
            Dtype::Int8 | Dtype::Int4 => {
                let tokens = rows(x, cols).fold(0, |count, _| plus(count, 1));
                let mut scales = [0.0; GROUP];
                let q = interleave(
                    rows(x, cols),
                    [tokens, cols],
                    q_max(cols),
                    &mut scales,
                    buffer,
                )?;
                Ok(Input::Int8 { q, scales, tokens })
            }
        }
    }

    /// Copies activations in f32 to `to`; others are left where they are.
    pub(crate) fn copy_floats(&self, to: &mut [f32]) {
        if let Input::F32(x) = self {
            copy(x, to);
        }
    }

    /// The scales of integer activations; none in f32.
    pub(crate) fn scales(&self) -> Option<[f32; GROUP]> {
        match self {
            Input::F32(_) => None,
            Input::Int8 { scales, .. } => Some(*scales),
        }
    }

    /// The last `count` tokens alone.
    pub(crate) fn last(self, cols: usize, count: usize) -> Self {
        match self {
            Input::F32(x) => Input::F32(x.get(minus(x.len(), times(count, cols))..).guaranteed()),
            Input::Int8 { q, scales, tokens } => {
                let first = minus(tokens, count);
                let runs: &mut [Run] = q.as_chunks_mut().0;
                let len = padded_cols(cols) / RUN;
                // Each place lies at or before where it is filled from.
                for i in 0..len {
                    for token in 0..count {
                        let run = runs
                            .get(plus(times(i, tokens), plus(first, token)))
                            .copied();
                        let place = runs.get_mut(plus(times(i, count), token));
                        if let (Some(run), Some(place)) = (run, place) {
                            *place = run;
                        }
                    }
                }
                let mut kept = [0.0; GROUP];
                copy(
                    scales.get(first..tokens).guaranteed(),
                    kept.get_mut(..count).guaranteed(),
                );
                Input::Int8 {
                    q: q.get_mut(..times(RUN, times(len, count))).guaranteed(),
                    scales: kept,
                    tokens: count,
                }
            }
        }
    }
}

/// Quantizes vectors of `cols` values, one for each of `tokens` tokens, to ±`q_max`, each on its
/// own grid: interleaved in `buffer`, padded with zeros, and their scales in
/// `scales`.
///
/// # Errors
/// [`NonFinite`] if any value is NaN or infinite.
pub(crate) fn interleave<'x, 's>(
    vectors: impl Iterator<Item = &'x [f32]>,
    [tokens, cols]: [usize; 2],
    q_max: i32,
    scales: &mut [f32; GROUP],
    buffer: &'s mut [u32],
) -> Result<&'s mut [i16], NonFinite> {
    let q = halves(buffer)
        .get_mut(..times(tokens, padded_cols(cols)))
        .guaranteed();
    for (token, (x, scale)) in (0..GROUP).zip(vectors.zip(scales)) {
        let grid = Grid::of(x, q_max)?;
        let (whole, tail) = x.as_chunks::<4>();
        let runs = q.as_chunks_mut().0.get_mut(token..).guaranteed();
        kernels::quantize_groups(whole, grid.inverse, runs, tokens);
        if !tail.is_empty() {
            let mut group = [0.0; 4];
            copy(tail, &mut group);
            let runs = runs.get_mut(times(4 / RUN * whole.len(), tokens)..);
            let runs = runs.guaranteed();
            kernels::quantize_groups(&[group], grid.inverse, runs, tokens);
        }
        *scale = grid.scale;
    }
    Ok(q)
}
