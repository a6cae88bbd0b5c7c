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
                    self.head_f32(head, query, keys, values, visible, scratch, out);
                }
                Cache::Int8 {
                    keys,
                    values,
                    key_scales,
                    value_scales,
                } => {
                    let keys = (&**keys, &**key_scales);
                    let values = (&**values, &**value_scales);
                    self.head_int8(head, query, keys, values, visible, scratch, out)?;
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one cache, taken apart")]
    fn head_f32(
        &self,
        head: usize,
        query: &[f32],
        keys: &[f32],
        values: &[f32],
        visible: &Visible,
        scratch: &mut Scratch<'_>,
        out: &mut [f32],
    ) {
        let scores = scratch.scores.get_mut(..visible.len()).unwrap_or_default();
        for (scores, run) in visible.split(scores) {
            for (score, key) in scores.iter_mut().zip(self.vectors(keys, run, head)) {
                *score = ops::dot(query, key) * self.scale;
            }
        }
        let max = largest(scores);
        let mut total = 0.0;
        for score in &mut *scores {
            *score = ops::exp(self.math, *score - max);
            total += *score;
        }
        out.fill(0.0);
        for (weights, run) in visible.split(scores) {
            for (weight, value) in weights.iter().zip(self.vectors(values, run, head)) {
                for (out, value) in out.iter_mut().zip(value) {
                    *out += *weight * value;
                }
            }
        }
        let inverse = 1.0 / total;
        for out in out {
            *out *= inverse;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one cache, taken apart")]
    fn head_int8(
        &self,
        head: usize,
        query: &[f32],
        (keys, key_scales): (&[i8], &[f32]),
        (values, value_scales): (&[i8], &[f32]),
        visible: &Visible,
        scratch: &mut Scratch<'_>,
        out: &mut [f32],
    ) -> Result<(), NonFinite> {
        let scores = scratch.scores.get_mut(..visible.len()).unwrap_or_default();
        let query_scale = quantize(query, q_max(self.d_head), scratch.query)? * self.scale;
        for (scores, run) in visible.split(scores) {
            let scales = self.scales(key_scales, run.clone(), head);
            let keys = self.vectors(keys, run, head).zip(scales);
            for (score, (key, key_scale)) in scores.iter_mut().zip(keys) {
                *score = kernels::dot(scratch.query, key) as f32 * (query_scale * key_scale);
            }
        }
        let max = largest(scores);
        // From here on `scores` holds softmax numerators, each times the scale of its value.
        let mut total = 0;
        for (scores, run) in visible.split(scores) {
            let scales = self.scales(value_scales, run, head);
            for (score, value_scale) in scores.iter_mut().zip(scales) {
                let weight = rne(ops::exp(self.math, *score - max) * EXP_ONE);
                total += weight;
                *score = weight as f32 * value_scale;
            }
        }
        let weights = scratch.weights.get_mut(..scores.len()).unwrap_or_default();
        let weight_scale = quantize(scores, self.weight_max, weights)?;
        scratch.head.fill(0);
        for (weights, run) in visible.split(weights) {
            let values = values.get(run.start * self.d_model + head * self.d_head..);
            let values = values.unwrap_or_default();
            kernels::weighted_sum(weights, values, self.d_model, scratch.head);
        }
        let scale = weight_scale / total as f32;
        for (out, &sum) in out.iter_mut().zip(&*scratch.head) {
            *out = sum as f32 * scale;
        }
        Ok(())
    }

    /// One head's part of the cached vectors in a run of slots.
    fn vectors<'c, T>(
        &self,
        buffer: &'c [T],
        run: Range<usize>,
        head: usize,
    ) -> impl Iterator<Item = &'c [T]> {
        let part = head * self.d_head..(head + 1) * self.d_head;
        slot_rows(buffer, self.d_model, run)
            .map(move |row| row.get(part.clone()).unwrap_or_default())
    }

    /// One head's scales of the cached vectors in a run of slots.
    fn scales(&self, buffer: &[f32], run: Range<usize>, head: usize) -> impl Iterator<Item = f32> {
        slot_rows(buffer, self.n_head, run)
            .map(move |scales| scales.get(head).copied().unwrap_or_default())
    }
}

fn slot_rows<T>(buffer: &[T], row_len: usize, run: Range<usize>) -> impl Iterator<Item = &[T]> {
    let run = run.start * row_len..run.end * row_len;
    rows(buffer.get(run).unwrap_or_default(), row_len)
}

impl Visible {
    /// Number of visible tokens.
    fn len(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }

    /// Splits what belongs to the visible tokens, oldest first, into the runs they come in.
    fn split<'s, T>(&self, buffer: &'s mut [T]) -> [(&'s mut [T], Range<usize>); 2] {
        let [old, new] = self.runs.clone();
        let (of_old, of_new) = buffer.split_at_mut_checked(old.len()).unwrap_or_default();
        [(of_old, old), (of_new, new)]
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
