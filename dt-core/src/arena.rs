//! All mutable memory of a policy, carved out of one slice of 32-bit words.
//!
//! The sizes are `const fn`s of the configuration, so firmware can make the arena a `static`.
//!
//! What lives when, within one step (T ≤ 3 tokens go through together; d, ff: d_model, d_ff):
//!
//! ```text
//!            x (T, d)   computed                                  quantized
//! image      ·          ·                                         columns of a convolution; maps: see `encoder`
//! embed      written    x before the norm                         one input, quantized
//! norm       read       normalized x (T, d)  ───────────────────► quantized (T, d)
//! qkv        ·          q (T, d) │ k, v (T, 2d)                   read
//! store      ·          q        │ k, v → cache
//! attention  ·          q → out  │ scores, integer sums           q, then attention weights, quantized
//! projection added to   out      ───────────────────────────────► quantized (T, d)
//!                       out · W (T, d)                            read
//!     or, folded: the normalized x is q, in `quantized` already, and out is added to x
//!     or, convolved: the normalized x (T, d) goes into the cache, and a token's sum (1, d) from there is added to x
//! mlp        ·          hidden (T, ff) ─────────────────────────► quantized (T, ff)
//!            added to   hidden · W (T, d)                         read
//! head       normalized (1, d)                ──────────────────► quantized (1, d)
//!     and of the action token, where states or returns are predicted
//!     or, gated: values, gates (1, 2d), of which computed has room: it takes q, k and v of T tokens
//! ```
//!
//! A perceptron has the states it sees (context_len · state_dim) in `history`, and one hidden layer at a time in `computed` (ff),
//! each quantized before the next.

use crate::attention;
use crate::cache::layer_words;
use crate::config::{Attention, Config};
use crate::encoder;
use crate::linear::{GROUP, Input};
use crate::slices::{Guaranteed, floats, part, plus, take, times};

pub(crate) const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Length of every area in 32-bit words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    cache: usize,
    x: usize,
    computed: usize,
    quantized: usize,
    maps: usize,
    state: usize,
    action: usize,
    predicted: usize,
    history: usize,
    timesteps: usize,
}

impl Layout {
    pub(crate) const fn new(config: &Config) -> Self {
        match config.is_mlp() {
            false => Self::transformer(config),
            true => Self::mlp(config),
        }
    }

    const fn mlp(config: &Config) -> Self {
        let (seen, width) = (config.seen_len() as usize, config.d_ff as usize);
        Self {
            cache: 0,
            x: 0,
            computed: width,
            quantized: Input::words(config.dtype, 1, max(seen, width)),
            state: config.state_dim as usize,
            action: config.act_dim as usize,
            predicted: 0,
            history: seen,
            timesteps: 0,
            maps: 0,
        }
    }

    const fn transformer(config: &Config) -> Self {
        let d = config.d_model as usize;
        let ff = config.d_ff as usize;
        let s = config.kept_state_len() as usize;
        let a = config.act_dim as usize;
        let k = config.context_len as usize;
        let window = matches!(config.attention, Attention::Window);
        let keys_values = if config.is_folded() {
            config.folded_rows() as usize
        } else {
            times(2, d)
        };
        // A convolution has neither keys and values nor scores; a gated linear unit has room all the same.
        let (keys_values_or_scores, attending) = match config.is_convolved() {
            false => (
                max(times(GROUP, keys_values), attention::score_words(config)),
                attention::widest(config),
            ),
            true => (0, 0),
        };
        let widest = max(max(max(d, ff), max(s, a)), attending);
        Self {
            cache: times(config.n_layer as usize, layer_words(config)),
            x: times(GROUP, d),
            computed: max(
                plus(times(GROUP, d), keys_values_or_scores),
                times(GROUP, ff),
            ),
            quantized: max(
                Input::words(config.dtype, GROUP, widest),
                encoder::input_words(config),
            ),
            maps: encoder::map_words(config),
            state: s,
            action: a,
            predicted: config.predictions_len() as usize,
            history: if window {
                times(k, plus(1, plus(s, a)))
            } else {
                0
            },
            timesteps: if window { k } else { 0 },
        }
    }

    pub(crate) const fn words(&self) -> usize {
        let work = plus(
            plus(self.cache, plus(self.x, self.maps)),
            plus(self.computed, self.quantized),
        );
        let books = plus(plus(self.state, times(2, self.action)), self.predicted);
        plus(plus(work, books), plus(self.history, self.timesteps))
    }
}

/// The arena's areas.
pub(crate) struct Memory<'m> {
    pub(crate) work: Work<'m>,
    /// State of the newest timestep ([`Config::kept_state_len`]): normalized (state_dim), or the embedding of an image (d_model).
    pub(crate) state: &'m mut [f32],
    /// Scaled action last applied (act_dim).
    pub(crate) action: &'m mut [f32],
    /// Window attention: a ring of K records `[return-to-go, state, action]`. A perceptron: the last K states, the newest last.
    pub(crate) history: &'m mut [f32],
    /// Their timesteps (K).
    pub(crate) timesteps: &'m mut [u32],
}

/// What the forward pass computes with; see the module's table.
pub(crate) struct Work<'m> {
    /// Keys and values of every layer.
    pub(crate) cache: &'m mut [u32],
    /// Residual stream.
    pub(crate) x: &'m mut [f32],
    /// Whatever a layer computes, one thing after the other.
    pub(crate) computed: &'m mut [f32],
    /// Input of a linear layer, [`Input`].
    pub(crate) quantized: &'m mut [u32],
    /// The maps of an image on its way ([`encoder`]).
    pub(crate) maps: &'m mut [u32],
    /// Unscaled action (act_dim).
    pub(crate) output: &'m mut [f32],
    /// What the newest action token that has run predicts: state, return-to-go ([`Config::predictions_len`]).
    pub(crate) predicted: &'m mut [f32],
}

impl<'m> Memory<'m> {
    /// Carves `words` (at least `layout.words()` long).
    pub(crate) fn carve(layout: &Layout, words: &'m mut [u32]) -> Self {
        let mut rest = words;
        let mut take = |len| take(&mut rest, len);
        Self {
            work: Work {
                cache: take(layout.cache),
                x: floats(take(layout.x)),
                computed: floats(take(layout.computed)),
                quantized: take(layout.quantized),
                maps: take(layout.maps),
                output: floats(take(layout.action)),
                predicted: floats(take(layout.predicted)),
            },
            state: floats(take(layout.state)),
            action: floats(take(layout.action)),
            history: floats(take(layout.history)),
            timesteps: take(layout.timesteps),
        }
    }
}

/// The cache of one layer.
pub(crate) fn layer_cache<'c>(
    config: &Config,
    cache: &'c mut [u32],
    layer: usize,
) -> &'c mut [u32] {
    cache.get_mut(part(layer, layer_words(config))).guaranteed()
}
