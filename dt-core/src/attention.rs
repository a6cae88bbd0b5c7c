//! Causal attention of a few tokens over the cached tokens they can see (Vaswani et al. 2017).

use core::ops::Range;

use crate::arena::max;
use crate::cache::{F32Cache, Int8Cache, Visible, padded_slots};
use crate::config::{Config, Dtype, MAX_CONTEXT_LEN, Math, TOKENS_PER_STEP};
use crate::kernels;
use crate::linear::{GROUP, interleave};
use crate::ops;
use crate::quant::{NonFinite, q_max, rne};
use crate::slices::{floats, integers, rows, rows_mut};

/// Attention weights are integers, in units of 2⁻²⁰ of the largest.
const EXP_ONE: f32 = 1_048_576.0;

/// The sum of those of all visible tokens fits an `i32`.
const _: () = assert!(
    (TOKENS_PER_STEP * MAX_CONTEXT_LEN as usize) as f64 * EXP_ONE as f64 <= i32::MAX as f64
);

/// 32-bit words of scratch memory that [`forward`] needs.
pub(crate) const fn scratch_words(config: &Config) -> usize {
    let slots = padded_slots(config);
    match config.dtype {
        Dtype::F32 => slots,
        Dtype::Int8 | Dtype::Int4 => GROUP * (slots + max(slots, config.d_head())),
    }
}

/// Columns of the widest vectors that [`forward`] quantizes into `buffer`.
pub(crate) const fn widest(config: &Config) -> usize {
    max(padded_slots(config), config.d_head())
}

/// Attends with the queries of the tokens in `visible`, (T, d_model), which the heads' outputs
/// replace. `cache` is that of one layer, `buffer` and `scratch` are overwritten.
///
/// # Errors
/// [`NonFinite`] if a query is, a score, or an attention weight.
pub(crate) fn forward(
    config: &Config,
    queries: &mut [f32],
    visible: &[Visible],
    cache: &mut [u32],
    buffer: &mut [u32],
    scratch: &mut [u32],
) -> Result<(), NonFinite> {
    // 1/√d_head.
    let scale = 1.0 / libm::sqrtf(config.d_head() as f32);
    match config.dtype {
        Dtype::F32 => {
            let cache = F32Cache::carve(config, cache);
            let scores = floats(scratch);
            let (d, d_head) = (config.d_model as usize, config.d_head());
            for (query, visible) in rows_mut(queries, d).zip(visible) {
                for (head, query) in rows_mut(query, d_head).enumerate() {
                    let part = head * d_head..(head + 1) * d_head;
                    head_f32(config, query, &cache, part, visible, scale, scores);
                }
            }
        }
        Dtype::Int8 | Dtype::Int4 => {
            for (head, cache) in Int8Cache::heads(config, cache).enumerate() {
                let attention = Int8Head {
                    config,
                    cache,
                    columns: head * config.d_head()..(head + 1) * config.d_head(),
                    scale,
                };
                attention.forward(queries, visible, buffer, scratch)?;
            }
        }
    }
    Ok(())
}

/// One head of one token.
fn head_f32(
    config: &Config,
    query: &mut [f32],
    cache: &F32Cache<'_>,
    part: Range<usize>,
    visible: &Visible,
    scale: f32,
    scores: &mut [f32],
) {
    let d = config.d_model as usize;
    let keys = visible
        .slots()
        .map(|slot| vector(cache.keys, slot * d, &part));
    let mut max = f32::NEG_INFINITY;
    for (score, key) in scores.iter_mut().zip(keys) {
        *score = ops::dot(query, key) * scale;
        if *score > max {
            max = *score;
        }
    }
    query.fill(0.0);
    let mut total = 0.0;
    let values = visible
        .slots()
        .map(|slot| vector(cache.values, slot * d, &part));
    for (score, value) in scores.iter().zip(values) {
        let weight = ops::exp(config.math, *score - max);
        total += weight;
        for (out, value) in query.iter_mut().zip(value) {
            *out += weight * value;
        }
    }
    let inverse = 1.0 / total;
    for out in query {
        *out *= inverse;
    }
}

/// One head's part of the vector at `start`.
fn vector<'c>(vectors: &'c [f32], start: usize, part: &Range<usize>) -> &'c [f32] {
    vectors
        .get(start + part.start..start + part.end)
        .unwrap_or_default()
}

/// One head of an int8 layer, for all tokens at once: two matrix products and, between them, a
/// softmax per token.
struct Int8Head<'a> {
    config: &'a Config,
    cache: Int8Cache<'a>,
    /// The head's columns in queries and outputs.
    columns: Range<usize>,
    /// 1/√d_head.
    scale: f32,
}

impl Int8Head<'_> {
    fn forward(
        &self,
        queries: &mut [f32],
        visible: &[Visible],
        buffer: &mut [u32],
        scratch: &mut [u32],
    ) -> Result<(), NonFinite> {
        let (d, d_head) = (self.config.d_model as usize, self.config.d_head());
        let (slots, tokens) = (self.cache.key_scales.len(), visible.len());
        let (scores, sums) = scratch
            .split_at_mut_checked(tokens * slots)
            .unwrap_or_default();
        let (scores, sums) = (floats(scores), integers(sums));
        let mut scales = [0.0; GROUP];
        let mut totals = [0; GROUP];

        // Scores (T, slots): of all slots, whether the token sees them or not.
        let parts = rows(queries, d).map(|row| row.get(self.columns.clone()).unwrap_or_default());
        let q = interleave(parts, [tokens, d_head], q_max(d_head), &mut scales, buffer)?;
        products([tokens, slots], self.cache.keys, q, sums);
        let each = rows_mut(scores, slots).zip(rows(sums, slots));
        let each = each.zip(visible).zip(&mut totals).zip(scales);
        for ((((scores, sums), visible), total), scale) in each {
            let scale = scale * self.scale;
            let keys = sums
                .as_chunks::<4>()
                .0
                .iter()
                .zip(self.cache.key_scales.as_chunks::<4>().0);
            for (score, (sum, key_scale)) in scores.as_chunks_mut::<4>().0.iter_mut().zip(keys) {
                for ((score, sum), key_scale) in score.iter_mut().zip(sum).zip(key_scale) {
                    *score = *sum as f32 * (scale * key_scale);
                }
            }
            *total = softmax(self.config.math, scores, visible, self.cache.value_scales)?;
        }

        // Weighted values (T, d_head): the weights of slots that a token does not see are zero.
        let weight_max = q_max(TOKENS_PER_STEP * self.config.context_len as usize);
        let weights = rows(scores, slots);
        let q = interleave(weights, [tokens, slots], weight_max, &mut scales, buffer)?;
        products([tokens, d_head], self.cache.values, q, sums);
        let each = rows_mut(queries, d)
            .zip(rows(sums, d_head))
            .zip(scales)
            .zip(totals);
        for (((row, sums), scale), total) in each {
            let out = row.get_mut(self.columns.clone()).unwrap_or_default();
            let scale = scale / total as f32;
            for (out, sum) in out
                .as_chunks_mut()
                .0
                .iter_mut()
                .zip(sums.as_chunks::<4>().0)
            {
                *out = sum.map(|sum| sum as f32 * scale);
            }
        }
        Ok(())
    }
}

/// Turns the scores of visible tokens into softmax numerators, each times the scale of its value,
/// and those of all others into zeros. Returns the denominator.
///
/// # Errors
/// [`NonFinite`] if a score is: the difference of two infinities is NaN, and would become a plausible
/// integer.
fn softmax(
    math: Math,
    scores: &mut [f32],
    visible: &Visible,
    value_scales: &[f32],
) -> Result<i32, NonFinite> {
    let mut max = f32::NEG_INFINITY;
    for run in &visible.runs {
        let scores = scores.get(run.clone()).unwrap_or_default();
        if !f32::from_bits(kernels::magnitude(scores)).is_finite() {
            return Err(NonFinite);
        }
        for &score in scores {
            if score > max {
                max = score;
            }
        }
    }
    let mut total = 0;
    for run in &visible.runs {
        let scores = scores.get_mut(run.clone()).unwrap_or_default();
        let scales = value_scales.get(run.clone()).unwrap_or_default();
        for (score, value_scale) in scores.iter_mut().zip(scales) {
            let weight = rne(ops::exp(math, *score - max) * EXP_ONE);
            total += weight;
            *score = weight as f32 * value_scale;
        }
    }
    let [old, new] = &visible.runs;
    for hidden in [new.end..old.start, old.end..scores.len()] {
        scores.get_mut(hidden).unwrap_or_default().fill(0.0);
    }
    Ok(total)
}

/// See [`kernels::products`].
fn products([tokens, rows]: [usize; 2], packed: &[i8], x: &[i16], sums: &mut [i32]) {
    let sums = sums.get_mut(..tokens * rows).unwrap_or_default();
    match tokens {
        1 => kernels::products::<1>(packed, x, sums),
        2 => kernels::products::<2>(packed, x, sums),
        _ => kernels::products::<GROUP>(packed, x, sums),
    }
}
