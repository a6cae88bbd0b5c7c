//! Single-head attention with its matrices multiplied out ([`Mixer::Folded`](dt_core::config::Mixer::Folded)).
//!
//! With q = Wq·h + bq, k = Wk·h + bk and one head, the score of a token h for a token h′ is
//! q·k′ = hᵀ(WqᵀWk)h′ + (Wkᵀbq)·h′ + terms without h′, which softmax cancels; and since its weights p sum to 1,
//! Wo·Σp(Wv·h′ + bv) + bo = Σp(WoWv)h′ + (Wo·bv + bo).

use dt_core::blob::{Affine, MixerParameters};

use crate::run::checkpoint::{CheckpointError, Weights};

/// A layer's folded matrices.
pub struct Folded {
    /// (2·d + 2, d): WqᵀWk, WoWv, Wkᵀbq, and a row of zeros.
    weight: Vec<f32>,
    /// (2·d + 2): nothing is moved.
    bias: Vec<f32>,
    /// (d): Wo·bv + bo.
    out: Vec<f32>,
}

impl Folded {
    /// Folds the attention of layer `i`, whose width is `d`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn of(weights: &Weights, i: usize, d: usize) -> Result<Self, CheckpointError> {
        let affine = |module: &str, rows: usize| {
            let name = |part: &str| format!("layers.{i}.{module}.{part}");
            Ok(Affine {
                weight: weights.get(&name("weight"), &[rows, d])?,
                bias: weights.get(&name("bias"), &[rows])?,
            })
        };
        Ok(Self::new(
            &affine("attn_qkv", 3 * d)?,
            &affine("attn_proj", d)?,
        ))
    }

    /// Folds `qkv` (3·d, d) and `proj` (d, d), in f64.
    pub fn new(qkv: &Affine<'_>, proj: &Affine<'_>) -> Self {
        let d = proj.bias.len();
        let [query, key, value] = [0, 1, 2].map(|i| &qkv.weight[i * d * d..][..d * d]);
        let [query_bias, _, value_bias] = [0, 1, 2].map(|i| &qkv.bias[i * d..][..d]);
        let mut weight = Vec::with_capacity((2 * d + 2) * d);
        for i in 0..d {
            weight.extend(combine(d, (0..d).map(|r| query[r * d + i]), key));
        }
        for row in proj.weight.chunks(d) {
            weight.extend(combine(d, row.iter().copied(), value));
        }
        weight.extend(combine(d, query_bias.iter().copied(), key));
        weight.resize((2 * d + 2) * d, 0.0);
        let out = proj.weight.chunks(d).zip(proj.bias).map(|(row, &bias)| {
            let terms = row.iter().zip(value_bias);
            let sum: f64 = terms.map(|(&w, &b)| f64::from(w) * f64::from(b)).sum();
            (sum + f64::from(bias)) as f32
        });
        Self {
            out: out.collect(),
            bias: vec![0.0; 2 * d + 2],
            weight,
        }
    }

    /// As dt-core takes them.
    pub fn parameters(&self) -> MixerParameters<'_> {
        MixerParameters::Folded {
            key_value: Affine {
                weight: &self.weight,
                bias: &self.bias,
            },
            bias: &self.out,
        }
    }

    /// The matrix, as it would be without quantization.
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }
}

/// Σ factorᵣ · rowᵣ over the rows (of d values) of `matrix`: one row of a product of matrices.
fn combine(
    d: usize,
    factors: impl Iterator<Item = f32>,
    matrix: &[f32],
) -> impl Iterator<Item = f32> {
    let mut sums = vec![0.0; d];
    for (factor, row) in factors.zip(matrix.chunks(d)) {
        for (sum, &w) in sums.iter_mut().zip(row) {
            *sum += f64::from(factor) * f64::from(w);
        }
    }
    sums.into_iter().map(|sum: f64| sum as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const D: usize = 8;

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn affine(weight: &[f32], bias: &[f32], h: &[f64]) -> Vec<f64> {
        let rows = weight.chunks(D).zip(bias);
        rows.map(|(row, &b)| {
            let row: Vec<f64> = row.iter().map(|&w| f64::from(w)).collect();
            dot(&row, h) + f64::from(b)
        })
        .collect()
    }

    /// Scores differ by a number per query, so differences of scores have to agree; every transposition, exchange and
    /// missing bias changes them.
    #[test]
    fn scores_and_outputs_are_those_of_attention() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut random = |n: usize| -> Vec<f32> {
            let mut numbers = vec![0.0; n];
            numbers.fill_with(|| rng.random_range(-1.0..1.0f32));
            numbers
        };
        let (qkv, qkv_bias) = (random(3 * D * D), random(3 * D));
        let (proj, proj_bias) = (random(D * D), random(D));
        let tokens: Vec<Vec<f64>> = (0..3)
            .map(|_| random(D).into_iter().map(f64::from).collect())
            .collect();
        let folded = Folded::new(
            &Affine {
                weight: &qkv,
                bias: &qkv_bias,
            },
            &Affine {
                weight: &proj,
                bias: &proj_bias,
            },
        );

        let parts: Vec<Vec<f64>> = tokens.iter().map(|h| affine(&qkv, &qkv_bias, h)).collect();
        let ours: Vec<Vec<f64>> = tokens
            .iter()
            .map(|h| affine(&folded.weight, &folded.bias, h))
            .collect();
        let score = |i: usize, j: usize| dot(&parts[i][..D], &parts[j][D..2 * D]);
        let our_score = |i: usize, j: usize| dot(&tokens[i], &ours[j][..D]) + ours[j][2 * D];
        for (i, j, k) in [(0, 1, 2), (1, 0, 2), (2, 2, 0)] {
            let (expected, got) = (score(i, j) - score(i, k), our_score(i, j) - our_score(i, k));
            assert!((expected - got).abs() < 1e-5, "{got}, not {expected}");
            // The wrong way round it would not do.
            let transposed = |i, j| our_score(j, i);
            let wrong = transposed(i, j) - transposed(i, k);
            assert!((expected - wrong).abs() > 0.1, "{wrong}, not {expected}");
        }

        let p = [0.5, 0.2, 0.3];
        let mix = |values: &dyn Fn(usize) -> Vec<f64>| -> Vec<f64> {
            let each = (0..D).map(|i| (0..3).map(|j| p[j] * values(j)[i]).sum());
            each.collect()
        };
        let expected = affine(&proj, &proj_bias, &mix(&|j| parts[j][2 * D..].to_vec()));
        let got = mix(&|j| ours[j][D..2 * D].to_vec());
        for ((got, bias), expected) in got.iter().zip(&folded.out).zip(expected) {
            let got = got + f64::from(*bias);
            assert!((expected - got).abs() < 1e-5, "{got}, not {expected}");
        }
        assert!(ours.iter().all(|row| row[2 * D + 1] == 0.0));
    }
}
