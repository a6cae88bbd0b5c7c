//! The immutable network, borrowed from the policy file.

use core::ops::Range;

use crate::config::{Config, Dtype, MAX_LAYERS};
use crate::kernels::{dot_pair, packed_index, padded_cols};
use crate::ops;
use crate::quant::{Grid, NonFinite, q_max, rne};
use crate::slices::{rows, rows_mut};

/// Tokens that go through the weights together at most: a\[t−1\], R̂\[t\], s\[t\].
pub(crate) const GROUP: usize = 3;

/// A Decision Transformer whose weights lie where the policy file lies.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    pub(crate) config: Config,
    pub(crate) embed_return: Linear<'a>,
    pub(crate) embed_state: Linear<'a>,
    pub(crate) embed_action: Linear<'a>,
    pub(crate) embed_timestep: Table<'a>,
    pub(crate) embed_ln: Norm<'a>,
    pub(crate) layers: heapless::Vec<Layer<'a>, MAX_LAYERS>,
    pub(crate) ln_f: Norm<'a>,
    pub(crate) head: Linear<'a>,
}

/// One pre-norm transformer block (GPT-2).
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// Norm before attention.
    pub ln_1: Norm<'a>,
    /// d_model → queries, keys, values (3·d_model).
    pub attn_qkv: Linear<'a>,
    /// d_model → d_model, after attention.
    pub attn_proj: Linear<'a>,
    /// Norm before the MLP.
    pub ln_2: Norm<'a>,
    /// d_model → d_ff.
    pub mlp_fc: Linear<'a>,
    /// d_ff → d_model.
    pub mlp_proj: Linear<'a>,
}

impl<'a> Model<'a> {
    /// Dimensions and choices.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The transformer blocks, input side first.
    pub fn layers(&self) -> &[Layer<'a>] {
        &self.layers
    }

    /// The embeddings of return-to-go, state and action, and the action head.
    pub fn ends(&self) -> [(&'static str, &Linear<'a>); 4] {
        [
            ("embed_return", &self.embed_return),
            ("embed_state", &self.embed_state),
            ("embed_action", &self.embed_action),
            ("head", &self.head),
        ]
    }

    /// The per-timestep embedding.
    pub fn embed_timestep(&self) -> &Table<'a> {
        &self.embed_timestep
    }
}

/// Weight and bias of a layer norm, each d_model long.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
}

impl Norm<'_> {
    /// Normalizes each of the tokens in `x` (each d_model long) into `out`.
    pub(crate) fn forward(&self, eps: f32, x: &[f32], out: &mut [f32]) {
        let width = self.weight.len();
        for (x, out) in rows(x, width).zip(rows_mut(out, width)) {
            ops::layer_norm(x, self.weight, self.bias, eps, out);
        }
    }
}

/// The numbers of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weights<'a> {
    /// Row by row.
    F32(&'a [f32]),
    /// Packed (`BLOB.md`), with one scale per row.
    Int8 { packed: &'a [i8], scale: &'a [f32] },
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

    /// The weight at (`row`, `col`) as a real number; `None` outside the matrix.
    pub fn weight(&self, row: usize, col: usize) -> Option<f32> {
        if row >= self.rows || col >= self.cols {
            return None;
        }
        match self.weights {
            Weights::F32(w) => w.get(row * self.cols + col).copied(),
            Weights::Int8 { packed, scale } => {
                let q = packed.get(packed_index(self.cols, row, col))?;
                Some(f32::from(*q) * scale.get(row)?)
            }
        }
    }

    /// The map restricted to some of its outputs; `range` starts and ends at even rows.
    pub(crate) fn outputs(&self, range: Range<usize>) -> Linear<'a> {
        let rows = range.len();
        let weights = match self.weights {
            Weights::F32(w) => Weights::F32(
                w.get(range.start * self.cols..range.end * self.cols)
                    .unwrap_or_default(),
            ),
            Weights::Int8 { packed, scale } => {
                let width = padded_cols(self.cols);
                Weights::Int8 {
                    packed: packed
                        .get(range.start * width..range.end * width)
                        .unwrap_or_default(),
                    scale: scale.get(range.clone()).unwrap_or_default(),
                }
            }
        };
        Linear {
            rows,
            cols: self.cols,
            weights,
            bias: self.bias.get(range).unwrap_or_default(),
        }
    }

    /// y (tokens × rows) = W·x + b for every token of `input`, up to [`GROUP`] of them.
    ///
    /// A weight is loaded once for all tokens.
    pub(crate) fn forward(&self, input: &Input<'_>, y: &mut [f32]) {
        match (self.weights, input) {
            (Weights::F32(w), Input::F32(x)) => self.forward_f32(w, x, y),
            (Weights::Int8 { packed, scale }, Input::Int8 { q, scales }) => match scales.len() {
                1 => self.forward_int8::<1>(packed, scale, q, scales, y),
                2 => self.forward_int8::<2>(packed, scale, q, scales, y),
                _ => self.forward_int8::<GROUP>(packed, scale, q, scales, y),
            },
            // Weights and activations of one model have one dtype.
            _ => {}
        }
    }

    fn forward_f32(&self, weights: &[f32], x: &[f32], y: &mut [f32]) {
        for (x, y) in rows(x, self.cols).zip(rows_mut(y, self.rows)) {
            for ((y, w), b) in y.iter_mut().zip(rows(weights, self.cols)).zip(self.bias) {
                *y = ops::dot(w, x) + b;
            }
        }
    }

    fn forward_int8<const T: usize>(
        &self,
        packed: &[i8],
        scale: &[f32],
        q: &[i16],
        scales: &[f32],
        y: &mut [f32],
    ) {
        let mut pairs = rows(packed, 2 * padded_cols(self.cols));
        let (scale, last_scale) = scale.as_chunks::<2>();
        let (bias, last_bias) = self.bias.as_chunks::<2>();
        let mut y = rows_mut(y, self.rows);
        let y: [_; T] = core::array::from_fn(|_| y.next().unwrap_or_default().as_chunks_mut::<2>());
        let mut y = y.map(|(pairs, last)| (pairs.iter_mut(), last.first_mut()));
        // `pairs` comes last, so that the end of `scale` takes none of it.
        for ((scale, bias), pair) in scale.iter().zip(bias).zip(pairs.by_ref()) {
            let sums = dot_pair::<T>(pair, q);
            for ((sums, (y, _)), x_scale) in sums.iter().zip(&mut y).zip(scales) {
                if let Some(y) = y.next() {
                    y[0] = sums[0] as f32 * (scale[0] * x_scale) + bias[0];
                    y[1] = sums[1] as f32 * (scale[1] * x_scale) + bias[1];
                }
            }
        }
        // An odd last row, paired with padding.
        if let (Some(pair), &[scale], &[bias]) = (pairs.next(), last_scale, last_bias) {
            let sums = dot_pair::<T>(pair, q);
            for ((sums, (_, y)), x_scale) in sums.iter().zip(y).zip(scales) {
                if let Some(y) = y {
                    *y = sums[0] as f32 * (scale * x_scale) + bias;
                }
            }
        }
    }
}

/// The activations of up to [`GROUP`] tokens, ready for a [`Linear`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'s> {
    /// Token by token.
    F32(&'s [f32]),
    /// Interleaved (padded cols/4, tokens, 4), padded with zeros, with one scale per token.
    Int8 { q: &'s [i16], scales: &'s [f32] },
}

impl<'s> Input<'s> {
    /// Prepares `x` (tokens × cols). `q` and `scales` hold the result where the dtype needs it.
    pub(crate) fn new(
        dtype: Dtype,
        x: &'s [f32],
        cols: usize,
        q: &'s mut [i16],
        scales: &'s mut [f32; GROUP],
    ) -> Result<Self, NonFinite> {
        match dtype {
            Dtype::F32 => Ok(Input::F32(x)),
            Dtype::Int8 => {
                let tokens = rows(x, cols).count();
                let groups = q.as_chunks_mut::<4>().0;
                for (token, (x, scale)) in rows(x, cols).zip(scales.iter_mut()).enumerate() {
                    let groups = groups.get_mut(token..).unwrap_or_default();
                    *scale = quantize_groups(x, q_max(cols), groups, tokens)?;
                }
                Ok(Input::Int8 {
                    q: q.get(..tokens * padded_cols(cols)).unwrap_or_default(),
                    scales: scales.get(..tokens).unwrap_or_default(),
                })
            }
        }
    }
}

/// Quantizes one token into every `stride`-th group of four, padding the last with zeros.
fn quantize_groups(
    x: &[f32],
    q_max: i32,
    groups: &mut [[i16; 4]],
    stride: usize,
) -> Result<f32, NonFinite> {
    let grid = Grid::of(x.iter().copied(), q_max)?;
    let quantize = |x: f32| rne(x * grid.inverse) as i16;
    let (whole, tail) = x.as_chunks::<4>();
    let mut at = 0;
    for x in whole {
        if let Some(group) = groups.get_mut(at) {
            *group = x.map(quantize);
        }
        at += stride;
    }
    if let (false, Some(group)) = (tail.is_empty(), groups.get_mut(at)) {
        *group = [0; 4];
        for (q, x) in group.iter_mut().zip(tail) {
            *q = quantize(*x);
        }
    }
    Ok(grid.scale)
}

/// The per-timestep embedding table, (max_ep_len, d_model); may have no rows.
#[derive(Clone, Copy, Debug)]
pub enum Table<'a> {
    /// Row by row.
    F32 {
        /// Row length.
        cols: usize,
        /// Values.
        weight: &'a [f32],
    },
    /// Row by row, with one scale per row.
    Int8 {
        /// Row length.
        cols: usize,
        /// Values in grid steps.
        weight: &'a [i8],
        /// Size of a grid step per row.
        scale: &'a [f32],
    },
}

impl Table<'_> {
    /// Adds a row to `x`; nothing if there is no such row.
    pub(crate) fn add(&self, row: usize, x: &mut [f32]) {
        match *self {
            Table::F32 { cols, weight } => {
                let row = rows(weight, cols).nth(row);
                for (x, w) in x.iter_mut().zip(row.unwrap_or_default()) {
                    *x += w;
                }
            }
            Table::Int8 {
                cols,
                weight,
                scale,
            } => {
                let scale = scale.get(row).copied().unwrap_or_default();
                let row = rows(weight, cols).nth(row);
                for (x, w) in x.iter_mut().zip(row.unwrap_or_default()) {
                    *x += f32::from(*w) * scale;
                }
            }
        }
    }
}
