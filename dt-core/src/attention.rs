//! Causal attention of one token over the cached tokens it can see (Vaswani et al. 2017).

use core::ops::Range;

use crate::arena::Scratch;
use crate::cache::{Cache, Visible};
use crate::config::{Config, Math, TOKENS_PER_STEP};
use crate::kernels;
use crate::ops;
use crate::quant::{NonFinite, q_max, quantize, rne};
use crate::slices::{rows, rows_mut};

/// Attention weights are integers, in units of 2⁻²⁰ of the largest.
const EXP_ONE: f32 = 1_048_576.0;

/// The attention of one model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    d_model: usize,
    d_head: usize,
    n_head: usize,
    /// 1/√d_head.
    scale: f32,
    /// Grid of the attention weights, small enough for sums over 3K tokens.
    weight_max: i32,
    math: Math,
}

impl Attention {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            d_model: config.d_model as usize,
            d_head: config.d_head(),
            n_head: config.n_head as usize,
            scale: 1.0 / libm::sqrtf(config.d_head() as f32),
            weight_max: q_max(TOKENS_PER_STEP * config.context_len as usize),
            math: config.math,
        }
    }

    pub(crate) fn d_head(&self) -> usize {
        self.d_head
    }

    /// Attends with one token's `query` (d_model) and writes the heads' outputs to `out` (d_model).
    pub(crate) fn forward(
        &self,
        query: &[f32],
        cache: &Cache<'_>,
        visible: &Visible,
        scratch: &mut Scratch<'_>,
        out: &mut [f32],
    ) -> Result<(), NonFinite> {
        let heads = rows(query, self.d_head).zip(rows_mut(out, self.d_head));
        for (head, (query, out)) in heads.enumerate() {
            match cache {
                Cache::F32 { keys, values } => {
                    let keys = self.vectors(keys, visible, head);
                    let values = self.vectors(values, visible, head);
                    self.head_f32(query, keys, values, visible.len(), scratch, out);
                }
                Cache::Int8 {
                    keys,
                    values,
                    key_scales,
                    value_scales,
                } => {
                    let key_scales = self.scales(key_scales, visible, head);
                    let value_scales = self.scales(value_scales, visible, head);
                    let keys = self.vectors(keys, visible, head).zip(key_scales);
                    let values = self.vectors(values, visible, head);
                    let len = visible.len();
                    self.head_int8(query, keys, values, value_scales, len, scratch, out)?;
                }
            }
        }
        Ok(())
    }

    fn head_f32<'c>(
        &self,
        query: &[f32],
        keys: impl Iterator<Item = &'c [f32]>,
        values: impl Iterator<Item = &'c [f32]>,
        len: usize,
        scratch: &mut Scratch<'_>,
        out: &mut [f32],
    ) {
        let scores = scratch.scores.get_mut(..len).unwrap_or_default();
        for (score, key) in scores.iter_mut().zip(keys) {
            *score = ops::dot(query, key) * self.scale;
        }
        let max = largest(scores);
        let mut total = 0.0;
        for score in &mut *scores {
            *score = ops::exp(self.math, *score - max);
            total += *score;
        }
        out.fill(0.0);
        for (weight, value) in scores.iter().zip(values) {
            for (out, value) in out.iter_mut().zip(value) {
                *out += weight * value;
            }
        }
        let inverse = 1.0 / total;
        for out in out {
            *out *= inverse;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one cache, taken apart")]
    fn head_int8<'c>(
        &self,
        query: &[f32],
        keys: impl Iterator<Item = (&'c [i8], f32)>,
        values: impl Iterator<Item = &'c [i8]>,
        value_scales: impl Iterator<Item = f32>,
        len: usize,
        scratch: &mut Scratch<'_>,
        out: &mut [f32],
    ) -> Result<(), NonFinite> {
        let scores = scratch.scores.get_mut(..len).unwrap_or_default();
        let query_scale = quantize(query, q_max(self.d_head), scratch.query)? * self.scale;
        for (score, (key, key_scale)) in scores.iter_mut().zip(keys) {
            *score = kernels::dot(scratch.query, key) as f32 * (query_scale * key_scale);
        }
        let max = largest(scores);
        // From here on `scores` holds softmax numerators, each times the scale of its value.
        let mut total = 0;
        for (score, value_scale) in scores.iter_mut().zip(value_scales) {
            let weight = rne(ops::exp(self.math, *score - max) * EXP_ONE);
            total += weight;
            *score = weight as f32 * value_scale;
        }
        let weights = scratch.weights.get_mut(..len).unwrap_or_default();
        let weight_scale = quantize(scores, self.weight_max, weights)?;
        scratch.head.fill(0);
        for (&weight, value) in weights.iter().zip(values) {
            kernels::accumulate(scratch.head, weight, value);
        }
        let scale = weight_scale / total as f32;
        for (out, &sum) in out.iter_mut().zip(&*scratch.head) {
            *out = sum as f32 * scale;
        }
        Ok(())
    }

    /// One head's part of every visible token's cached vector.
    fn vectors<'c, T>(
        &self,
        buffer: &'c [T],
        visible: &Visible,
        head: usize,
    ) -> impl Iterator<Item = &'c [T]> {
        let part = head * self.d_head..(head + 1) * self.d_head;
        visible.rows(buffer, self.d_model, part)
    }

    /// One head's scale of every visible token's cached vector.
    fn scales(&self, buffer: &[f32], visible: &Visible, head: usize) -> impl Iterator<Item = f32> {
        visible
            .rows(buffer, self.n_head, head..head + 1)
            .map(|scale| scale.first().copied().unwrap_or_default())
    }
}

impl Visible {
    /// Number of visible tokens.
    fn len(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }

    /// The part `part` of each visible slot's row in `buffer` (slots, row_len), oldest first.
    fn rows<'c, T>(
        &self,
        buffer: &'c [T],
        row_len: usize,
        part: Range<usize>,
    ) -> impl Iterator<Item = &'c [T]> {
        let [old, new] = self.runs.clone().map(move |run| {
            let run = run.start * row_len..run.end * row_len;
            rows(buffer.get(run).unwrap_or_default(), row_len)
        });
        old.chain(new)
            .map(move |row| row.get(part.clone()).unwrap_or_default())
    }
}

fn largest(scores: &[f32]) -> f32 {
    let mut max = f32::NEG_INFINITY;
    for &score in scores {
        if score > max {
            max = score;
        }
    }
    max
}
