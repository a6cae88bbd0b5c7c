//! All mutable memory of a policy, carved out of one slice of 32-bit words.
//!
//! The sizes are `const fn`s of the configuration, so firmware can make the arena a `static`.

use crate::cache::{Cache, layer_words};
use crate::config::{Attention, Config, Dtype, TOKENS_PER_STEP};
use crate::kernels::padded_cols;
use crate::model::GROUP;
use crate::slices;

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Length of every area in 32-bit words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    cache: usize,
    residual: usize,
    wide: usize,
    quantized: usize,
    scores: usize,
    weights: usize,
    head: usize,
    query: usize,
    state: usize,
    action: usize,
    output: usize,
    history: usize,
    timesteps: usize,
}

impl Layout {
    pub(crate) const fn new(config: &Config) -> Self {
        let d = config.d_model as usize;
        let ff = config.d_ff as usize;
        let s = config.state_dim as usize;
        let a = config.act_dim as usize;
        let k = config.context_len as usize;
        let visible = TOKENS_PER_STEP * k;
        let d_head = config.d_head();
        let int8 = matches!(config.dtype, Dtype::Int8);
        let window = matches!(config.attention, Attention::Window);
        // Largest token that is ever quantized.
        let widest = max(max(d, ff), max(padded_cols(s), padded_cols(a)));
        Self {
            cache: config.n_layer as usize * layer_words(config),
            residual: GROUP * d,
            wide: GROUP * max(3 * d, ff),
            quantized: if int8 {
                (GROUP * widest).div_ceil(2)
            } else {
                0
            },
            scores: visible,
            weights: if int8 { visible.div_ceil(2) } else { 0 },
            head: d_head,
            query: if int8 { d_head.div_ceil(2) } else { 0 },
            state: s,
            action: a,
            output: a,
            history: if window { k * (1 + s + a) } else { 0 },
            timesteps: if window { k } else { 0 },
        }
    }

    pub(crate) const fn words(&self) -> usize {
        self.cache
            + 2 * self.residual
            + self.wide
            + self.quantized
            + self.scores
            + self.weights
            + self.head
            + self.query
            + self.state
            + self.action
            + self.output
            + self.history
            + self.timesteps
    }
}

/// The arena's areas. Shapes in comments; T ≤ 3 tokens go through together.
pub(crate) struct Memory<'m> {
    pub(crate) work: Work<'m>,
    /// Normalized state of the newest timestep (state_dim).
    pub(crate) state: &'m mut [f32],
    /// Scaled action last applied (act_dim).
    pub(crate) action: &'m mut [f32],
    /// Window attention: a ring of K records `[return-to-go, state, action]`.
    pub(crate) history: &'m mut [f32],
    /// Their timesteps (K).
    pub(crate) timesteps: &'m mut [u32],
}

/// What the forward pass computes with.
pub(crate) struct Work<'m> {
    /// Keys and values of every layer.
    pub(crate) cache: &'m mut [u32],
    /// Residual stream (T, d_model).
    pub(crate) x: &'m mut [f32],
    /// Normalized residual, then attention output, then MLP output (T, d_model).
    pub(crate) h: &'m mut [f32],
    /// Keys and values (T, 2·d_model) and queries (T, d_model), later the MLP's hidden layer (T, d_ff).
    pub(crate) wide: &'m mut [f32],
    /// Quantized input of a linear layer (T, padded cols).
    pub(crate) quantized: &'m mut [i16],
    /// Attention of one token and head.
    pub(crate) scratch: Scratch<'m>,
    /// Unscaled action (act_dim).
    pub(crate) output: &'m mut [f32],
}

/// What the attention of one token and head computes with.
pub(crate) struct Scratch<'m> {
    /// Scores of the visible tokens (3K).
    pub(crate) scores: &'m mut [f32],
    /// Quantized attention weights (3K).
    pub(crate) weights: &'m mut [i16],
    /// Integer sums over values (d_head).
    pub(crate) head: &'m mut [i32],
    /// Quantized query (d_head).
    pub(crate) query: &'m mut [i16],
}

impl<'m> Memory<'m> {
    /// Carves `words` (at least `layout.words()` long).
    pub(crate) fn carve(layout: &Layout, words: &'m mut [u32]) -> Self {
        let mut rest = words;
        let mut take = |len| slices::take(&mut rest, len);
        Self {
            work: Work {
                cache: take(layout.cache),
                x: floats(take(layout.residual)),
                h: floats(take(layout.residual)),
                wide: floats(take(layout.wide)),
                quantized: halves(take(layout.quantized)),
                scratch: Scratch {
                    scores: floats(take(layout.scores)),
                    weights: halves(take(layout.weights)),
                    head: bytemuck::try_cast_slice_mut(take(layout.head)).unwrap_or_default(),
                    query: halves(take(layout.query)),
                },
                output: floats(take(layout.output)),
            },
            state: floats(take(layout.state)),
            action: floats(take(layout.action)),
            history: floats(take(layout.history)),
            timesteps: take(layout.timesteps),
        }
    }
}

// Casting words to types of no larger size and alignment cannot fail.

fn floats(words: &mut [u32]) -> &mut [f32] {
    bytemuck::try_cast_slice_mut(words).unwrap_or_default()
}

fn halves(words: &mut [u32]) -> &mut [i16] {
    bytemuck::try_cast_slice_mut(words).unwrap_or_default()
}

/// The cache of one layer.
pub(crate) fn layer_cache<'c>(config: &Config, cache: &'c mut [u32], layer: usize) -> Cache<'c> {
    let words = layer_words(config);
    let start = layer * words;
    Cache::carve(
        config,
        cache.get_mut(start..start + words).unwrap_or_default(),
    )
}
