//! Causal attention of a few tokens over the cached tokens they can see (Vaswani et al. 2017).

use core::ops::Range;

use crate::arena::max;
use crate::cache::{F32Cache, Int8Cache, Visible, padded_slots};
use crate::config::{Config, Dtype, MAX_CONTEXT_LEN, Math, TOKENS_PER_STEP};
use crate::kernels;
use crate::linear::{GROUP, interleave};
use crate::ops;
use crate::quant::{NonFinite, q_max, rne};
use crate::slices::{Guaranteed, floats, halves, integers, part, plus, rows, rows_mut, times};

/// Attention weights are integers, in units of 2⁻²⁰ of the largest.
const EXP_ONE: f32 = 1_048_576.0;

/// The sum of those of all visible tokens fits an `i32`.
const _: () = assert!(
    (TOKENS_PER_STEP * MAX_CONTEXT_LEN as usize) as f64 * EXP_ONE as f64 <= i32::MAX as f64
);

/// 32-bit words that [`forward`] needs for scores and the integer sums they come from.
pub(crate) const fn score_words(config: &Config) -> usize {
    let slots = padded_slots(config);
    match config.dtype {
        Dtype::F32 => slots,
        Dtype::Int8 | Dtype::Int4 => times(GROUP, plus(slots, max(slots, config.d_head()))),
    }
}

/// Columns of the widest vectors that [`forward`] quantizes into `quantized`.
pub(crate) const fn widest(config: &Config) -> usize {
    max(padded_slots(config), config.d_head())
}

/// What brings the product of a query and a key to the argument of softmax's exponential: 1/√d_head, and log₂e where that is
/// a power of two ([`Math::Polynomial`]).
pub(crate) fn score_factor(config: &Config) -> f32 {
    let one = match config.math {
        Math::Polynomial => core::f32::consts::LOG2_E,
        Math::Libm | Math::Micromath => 1.0,
    };
    one / libm::sqrtf(config.d_head() as f32)
}

/// Softmax's exponential, of what [`score_factor`] has scaled; at most 0. Where it is to be fast, it is called by its name.
#[inline(never)]
fn exponential(math: Math, x: f32) -> f32 {
    match math {
        Math::Polynomial => ops::exp2(x),
        Math::Libm | Math::Micromath => ops::exp(math, x),
    }
}

/// Attends with the queries of the tokens in `visible`, (T, d_model), which the heads' outputs
/// replace. Queries that are quantized already, as folded attention's are, lie in `quantized` instead, with
/// their scales in `query_scales`. `cache` is that of one layer, `quantized` and `scores_and_sums` are overwritten.
///
/// # Errors
/// [`NonFinite`] if a query is, a visible token's score, or an attention weight.
pub(crate) fn forward(
    config: &Config,
    queries: &mut [f32],
    query_scales: Option<[f32; GROUP]>,
    visible: &[Visible],
    cache: &mut [u32],
    quantized: &mut [u32],
    scores_and_sums: &mut [u32],
) -> Result<(), NonFinite> {
    match config.dtype {
        Dtype::F32 => {
            let cache = F32Cache::carve(config, cache);
            let scores = floats(scores_and_sums);
            let (d, d_head) = (config.d_model as usize, config.d_head());
            for (query, visible) in rows_mut(queries, d).zip(visible) {
                for (head, query) in (0..config.n_head as usize).zip(rows_mut(query, d_head)) {
                    head_f32(config, query, &cache, part(head, d_head), visible, scores)?;
                }
            }
        }
        Dtype::Int8 | Dtype::Int4 => {
            for (head, cache) in (0..config.n_head as usize).zip(Int8Cache::heads(config, cache)) {
                let attention = Int8Head {
                    config,
                    cache,
                    columns: part(head, config.d_head()),
                };
                attention.forward(queries, query_scales, visible, quantized, scores_and_sums)?;
            }
        }
    }
    Ok(())
}

/// One head of one token.
#[inline(never)]
fn head_f32(
    config: &Config,
    query: &mut [f32],
    cache: &F32Cache<'_>,
    part: Range<usize>,
    visible: &Visible,
    scores: &mut [f32],
) -> Result<(), NonFinite> {
    let d = config.d_model as usize;
    let factor = score_factor(config);
    let mut max = Maximum::default();
    for (score, slot) in scores.iter_mut().zip(visible.slots()) {
        *score = ops::dot(query, vector(cache.keys, times(slot, d), &part)) * factor;
        if let Some(bias) = cache.key_biases.get(slot) {
            *score += bias;
        }
        max.include(*score);
    }
    let max = max.finite()?;
    query.fill(0.0);
    let mut total = 0.0;
    let values = visible
        .slots()
        .map(|slot| vector(cache.values, times(slot, d), &part));
    for (score, value) in scores.iter().zip(values) {
        let weight = exponential(config.math, *score - max);
        total += weight;
        for (out, value) in query.iter_mut().zip(value) {
            *out += weight * value;
        }
    }
    let inverse = 1.0 / total;
    for out in query {
        *out *= inverse;
    }
    Ok(())
}

/// One head's part of the vector at `start`.
fn vector<'c>(vectors: &'c [f32], start: usize, part: &Range<usize>) -> &'c [f32] {
    vectors
        .get(plus(start, part.start)..plus(start, part.end))
        .guaranteed()
}

/// The largest of some scores.
struct Maximum {
    max: f32,
    /// ±0 as long as all are finite: a product of 0 with anything else is NaN, which stays.
    poison: f32,
}

impl Default for Maximum {
    fn default() -> Self {
        Self {
            max: f32::NEG_INFINITY,
            poison: 0.0,
        }
    }
}

impl Maximum {
    #[inline(always)]
    fn include(&mut self, score: f32) {
        if score > self.max {
            self.max = score;
        }
        self.poison += score * 0.0;
    }

    /// # Errors
    /// [`NonFinite`] if a score was: −∞ would become a plausible weight of 0, and the difference of two infinities is NaN,
    /// which would become a plausible integer.
    fn finite(self) -> Result<f32, NonFinite> {
        if self.poison == 0.0 {
            Ok(self.max)
        } else {
            Err(NonFinite)
        }
    }
}

/// One head of an int8 layer, for all tokens at once: two matrix products and, between them, a
/// softmax per token.
struct Int8Head<'a> {
    config: &'a Config,
    cache: Int8Cache<'a>,
    /// The head's columns in queries and outputs.
    columns: Range<usize>,
}

impl Int8Head<'_> {
    fn forward(
        &self,
        queries: &mut [f32],
        query_scales: Option<[f32; GROUP]>,
        visible: &[Visible],
        quantized: &mut [u32],
        scores_and_sums: &mut [u32],
    ) -> Result<(), NonFinite> {
        let (d, d_head) = (self.config.d_model as usize, self.config.d_head());
        let (slots, tokens) = (self.cache.key_scales.len(), visible.len());
        let (scores, sums) = scores_and_sums
            .split_at_mut_checked(times(tokens, slots))
            .guaranteed();
        let (scores, sums) = (floats(scores), integers(sums));
        let mut scales = [0.0; GROUP];
        let mut totals = [0; GROUP];
        let factor = score_factor(self.config);

        // Sums (T, slots): of all slots, whether the token sees them or not.
        let q = match query_scales {
            Some(known) => {
                scales = known;
                &*halves(quantized)
                    .get_mut(..times(tokens, d_head))
                    .guaranteed()
            }
            None => {
                let parts = rows(queries, d).map(|row| row.get(self.columns.clone()).guaranteed());
                interleave(
                    parts,
                    [tokens, d_head],
                    q_max(d_head),
                    &mut scales,
                    quantized,
                )?
            }
        };
        products([tokens, slots], self.cache.keys, q, sums);
        let each = rows_mut(scores, slots).zip(rows(sums, slots));
        let each = each.zip(visible).zip(&mut totals).zip(scales);
        for ((((scores, sums), visible), total), scale) in each {
            let max = self.score(scores, sums, visible, scale * factor)?;
            *total = self.weigh(scores, visible, max);
        }

        // Weighted values (T, d_head): the weights of slots that a token does not see are zero.
        let weight_max = q_max(times(TOKENS_PER_STEP, self.config.context_len as usize));
        let weights = rows(scores, slots);
        let q = interleave(weights, [tokens, slots], weight_max, &mut scales, quantized)?;
        products([tokens, d_head], self.cache.values, q, sums);
        let each = rows_mut(queries, d)
            .zip(rows(sums, d_head))
            .zip(scales)
            .zip(totals);
        for (((row, sums), scale), total) in each {
            let out = row.get_mut(self.columns.clone()).guaranteed();
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

    /// Turns the integer sums of visible tokens into scores, those of all others into zeros. Returns the largest score.
    ///
    /// # Errors
    /// [`NonFinite`] if a visible token's score is.
    fn score(
        &self,
        scores: &mut [f32],
        sums: &[i32],
        visible: &Visible,
        scale: f32,
    ) -> Result<f32, NonFinite> {
        let mut max = Maximum::default();
        for run in &visible.runs {
            let part = scores.get_mut(run.clone()).guaranteed();
            let sums = sums.get(run.clone()).guaranteed();
            let key_scales = self.cache.key_scales.get(run.clone()).guaranteed();
            let keys = sums.iter().zip(key_scales);
            match self.cache.key_biases.get(run.clone()) {
                Some(biases) => {
                    for ((score, (&sum, key_scale)), bias) in part.iter_mut().zip(keys).zip(biases)
                    {
                        *score = sum as f32 * (scale * key_scale) + bias;
                        max.include(*score);
                    }
                }
                None => {
                    for (score, (&sum, key_scale)) in part.iter_mut().zip(keys) {
                        *score = sum as f32 * (scale * key_scale);
                        max.include(*score);
                    }
                }
            }
        }
        let [old, new] = &visible.runs;
        for hidden in [new.end..old.start, old.end..scores.len()] {
            scores.get_mut(hidden).guaranteed().fill(0.0);
        }
        max.finite()
    }

    /// Turns the scores of visible tokens, at most `max`, into softmax numerators, each times the scale of its value. Returns the
    /// denominator.
    #[inline(never)]
    fn weigh(&self, scores: &mut [f32], visible: &Visible, max: f32) -> i32 {
        match self.config.math {
            Math::Polynomial => self.weigh_by(ops::exp2, scores, visible, max),
            math @ (Math::Libm | Math::Micromath) => {
                self.weigh_by(|x| exponential(math, x), scores, visible, max)
            }
        }
    }

    #[inline(always)]
    fn weigh_by(
        &self,
        exponential: impl Fn(f32) -> f32,
        scores: &mut [f32],
        visible: &Visible,
        max: f32,
    ) -> i32 {
        let mut total = 0;
        for run in &visible.runs {
            let scores = scores.get_mut(run.clone()).guaranteed();
            let scales = self.cache.value_scales.get(run.clone()).guaranteed();
            for (score, value_scale) in scores.iter_mut().zip(scales) {
                let weight = rne(exponential(*score - max) * EXP_ONE);
                // At most 2²⁰ each: no sum of them overflows, see `EXP_ONE`.
                total = i32::wrapping_add(total, weight);
                *score = weight as f32 * value_scale;
            }
        }
        total
    }
}

/// See [`kernels::products`].
fn products([tokens, rows]: [usize; 2], packed: &[i8], x: &[i16], sums: &mut [i32]) {
    let sums = sums.get_mut(..times(tokens, rows)).guaranteed();
    match tokens {
        1 => kernels::products::<1>(packed, x, sums),
        2 => kernels::products::<2>(packed, x, sums),
        _ => kernels::products::<GROUP>(packed, x, sums),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_score_that_is_not_finite_fails_whatever_the_others_are() {
        let maximum = |scores: &[f32]| {
            let mut maximum = Maximum::default();
            scores.iter().for_each(|&score| maximum.include(score));
            maximum.finite()
        };
        assert_eq!(maximum(&[-3.0, f32::MIN, 2.0, -0.0]), Ok(2.0));
        assert_eq!(maximum(&[f32::MIN]), Ok(f32::MIN));
        for bad in [f32::NEG_INFINITY, f32::INFINITY, f32::NAN] {
            for scores in [[bad, 1.0, 2.0], [1.0, bad, 2.0], [1.0, 2.0, bad]] {
                assert_eq!(maximum(&scores), Err(NonFinite), "{scores:?}");
            }
        }
    }
}
