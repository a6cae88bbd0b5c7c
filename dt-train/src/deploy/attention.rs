//! What each token of a policy looks at: its attention weights, for people.
//!
//! Of a run they are libtorch's. A controller forgets them as it goes, and is to pay nothing for being looked at; so those of
//! a policy file are computed anew, from its weights as real numbers, in f32 and as plainly as can be. They lack what the engine
//! rounds besides: what goes into matrices, and what the cache keeps.

use std::iter::repeat_n;

use dt_core::blob::Blob;
use dt_core::config::{Attention, Config, Encoder, Order, TOKENS_PER_STEP};
use dt_core::unstable::model::{Linear, Mixing, Model, Norm};
use dt_core::unstable::ops::{activate, tanh};
use dt_core::unstable::quant::NonFinite;

use super::predict::Context;

/// Attention weights over the N tokens of a context, of which the last action, a placeholder, is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Layers, heads.
    pub shape: [usize; 2],
    /// Names of the tokens.
    pub tokens: Vec<String>,
    /// (layer, head, N, N): how much the token of a row takes from that of a column. A row's sum is 1.
    pub values: Vec<f32>,
}

impl Weights {
    /// Names of the tokens of `timesteps` timesteps from number `first` of a context on, up to the last state: `R0`, `s0`, `a0`,
    /// `R1`, …; R is the return-to-go. Where the state comes first, up to the last return-to-go.
    pub fn names(config: &Config, first: usize, timesteps: usize) -> Vec<String> {
        let kinds = match config.order {
            Order::ReturnFirst => ["R", "s", "a"],
            Order::StateFirst => ["s", "R", "a"],
        };
        let of_step = |t| kinds.map(|kind| format!("{kind}{t}"));
        let mut names: Vec<_> = (first..first + timesteps).flat_map(of_step).collect();
        names.pop();
        names
    }

    /// The matrix (N, N) of a head.
    ///
    /// # Panics
    /// If there is no such head.
    pub fn head(&self, layer: usize, head: usize) -> &[f32] {
        let len = self.tokens.len() * self.tokens.len();
        &self.values[(layer * self.shape[1] + head) * len..][..len]
    }
}

/// Refuses the networks that [`of_file`] does not compute.
///
/// # Errors
/// In words.
pub fn check_file(config: &Config) -> Result<(), &'static str> {
    if config.is_convolved() {
        return Err("convolutions mix its tokens: there is no attention");
    }
    if config.is_mlp() {
        return Err("a perceptron has no attention");
    }
    match config.encoder {
        Encoder::Linear => Ok(()),
        _ => Err("of a policy file that sees images attention is not computed; ask its run"),
    }
}

/// Those of a policy file, for the part of a context that its newest timestep sees; its first timestep is number `first`.
///
/// # Errors
/// A value inside the network is NaN or infinite.
pub fn of_file(blob: &Blob<'_>, context: &Context, first: usize) -> Result<Weights, NonFinite> {
    let model = blob.model();
    let config = model.config();
    let tokens = Weights::names(config, first, context.len());
    let mut x = embedded(model, context);
    x.truncate(tokens.len());
    let mut values = Vec::new();
    for layer in model.layers() {
        let normed: Vec<_> = x.iter().map(|x| norm(&layer.ln_1, x, config)).collect();
        let heads = match layer.mixer {
            Mixing::Attention { qkv, proj } => {
                let qkv = Matrix::new(&qkv).of_all(&normed);
                let heads = mixed(config, &qkv, &mut values);
                Matrix::new(&proj).of_all(&heads)
            }
            Mixing::Folded { key_value, bias } => {
                // The query is the layer's input, the projection is in the values; keys have biases of their own.
                let keys_values = Matrix::new(&key_value).of_all(&normed);
                let queries = normed.into_iter().zip(keys_values);
                let qkv: Vec<_> = queries.map(|(x, kv)| [x, kv].concat()).collect();
                let mut heads = mixed(config, &qkv, &mut values);
                heads.iter_mut().for_each(|head| add(head, bias));
                heads
            }
            Mixing::Convolution(_) => unreachable!("refused by check_file"),
        };
        let (fc, proj) = (Matrix::new(&layer.mlp_fc), Matrix::new(&layer.mlp_proj));
        for (x, head) in x.iter_mut().zip(&heads) {
            add(x, head);
            let mut hidden = fc.of(&norm(&layer.ln_2, x, config));
            activate(config.activation, config.math, &mut hidden);
            add(x, &proj.of(&hidden));
        }
    }
    let all = values.iter().chain(x.iter().flatten());
    match { all }.all(|value| value.is_finite()) {
        true => Ok(Weights {
            shape: [config.n_layer, config.n_head].map(|n| n as usize),
            tokens,
            values,
        }),
        false => Err(NonFinite),
    }
}

/// Tokens (N, d_model) behind the embedding's norm, the last action among them.
fn embedded(model: &Model<'_>, context: &Context) -> Vec<Vec<f32>> {
    let (embedding, config) = (model.embedding(), model.config());
    let linears = [embedding.return_to_go, embedding.state, embedding.action];
    let [of_return, of_state, of_action] = linears.map(|linear| Matrix::new(&linear));
    let last = config.max_ep_len.saturating_sub(1);
    let tokens = (0..context.len()).flat_map(|t| {
        let mut tokens = [
            of_return.of(&[context.returns_to_go[t]]),
            of_state.of(&context.states[t]),
            of_action.of(&context.actions[t]),
        ];
        if config.is_state_first() {
            tokens.swap(0, 1);
        }
        let now = match config.is_placed_in_window() {
            true => context.timesteps.len() - 1,
            false => t,
        };
        let row = std::cmp::min(context.timesteps[now], last) as usize;
        let mut place = 3 * t;
        tokens.map(|mut token| {
            if config.embeddings.tanh {
                token.iter_mut().for_each(|x| *x = tanh(config.math, *x));
            }
            embedding.timestep.add(row, &mut token);
            if config.is_placed_in_window() {
                embedding.position.add(place, &mut token);
                place += 1;
            }
            match &embedding.ln {
                Some(ln) => norm(ln, &token, config),
                None => token,
            }
        })
    });
    tokens.collect()
}

/// Outputs of all heads (N, d_model) for rows of queries, keys, values and, of folded attention, the key's bias; appends the
/// weights to `values`.
fn mixed(config: &Config, qkv: &[Vec<f32>], values: &mut Vec<f32>) -> Vec<Vec<f32>> {
    let (d, d_head) = (config.d_model as usize, config.d_head());
    let mut outputs = vec![vec![0.0; d]; qkv.len()];
    for head in 0..config.n_head as usize {
        let columns = head * d_head..(head + 1) * d_head;
        let part = |token: usize, of: usize| &qkv[token][of * d..][columns.clone()];
        for (query, output) in outputs.iter_mut().enumerate() {
            let first = match config.attention {
                Attention::Window => 0,
                Attention::Streaming => {
                    let timestep = query / TOKENS_PER_STEP;
                    (timestep + 1).saturating_sub(config.context_len as usize) * TOKENS_PER_STEP
                }
            };
            let score = |key: usize| {
                let products = part(query, 0).iter().zip(part(key, 1)).map(|(q, k)| q * k);
                let bias = qkv[key].get(3 * d).unwrap_or(&0.0);
                (products.sum::<f32>() + bias) / (d_head as f32).sqrt()
            };
            let scores: Vec<f32> = (first..=query).map(score).collect();
            let largest = scores
                .iter()
                .copied()
                .reduce(|a, b| if b > a { b } else { a });
            let largest = largest.unwrap_or_default();
            let powers: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f32 = powers.iter().sum();
            values.extend(repeat_n(0.0, first));
            for (key, power) in (first..=query).zip(powers) {
                let weight = power / total;
                values.push(weight);
                for (out, value) in output[columns.clone()].iter_mut().zip(part(key, 2)) {
                    *out += weight * value;
                }
            }
            values.extend(repeat_n(0.0, qkv.len() - query - 1));
        }
    }
    outputs
}

/// A linear layer's weights as real numbers.
struct Matrix<'a> {
    /// Row by row.
    weights: Vec<f32>,
    cols: usize,
    bias: &'a [f32],
}

impl<'a> Matrix<'a> {
    fn new(linear: &Linear<'a>) -> Self {
        let (rows, cols) = (linear.rows(), linear.cols());
        let weight = |i| linear.weight(i / cols, i % cols);
        Self {
            weights: (0..rows * cols).filter_map(weight).collect(),
            cols,
            bias: linear.bias(),
        }
    }

    fn of(&self, x: &[f32]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.cols).zip(self.bias);
        let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
        rows.map(|(row, bias)| dot(row) + bias).collect()
    }

    fn of_all(&self, tokens: &[Vec<f32>]) -> Vec<Vec<f32>> {
        tokens.iter().map(|token| self.of(token)).collect()
    }
}

fn norm(norm: &Norm<'_>, x: &[f32], config: &Config) -> Vec<f32> {
    let n = x.len() as f32;
    let mean = x.iter().sum::<f32>() / n;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
    let inverse = 1.0 / (variance + config.layer_norm_eps).sqrt();
    let each = x.iter().zip(norm.weight.iter().zip(norm.bias));
    each.map(|(x, (weight, bias))| (x - mean) * inverse * weight + bias)
        .collect()
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::Dims;
    use crate::algo::dt::Dt;
    use dt_core::config::Dtype;

    /// What it would get wrong without a word.
    #[test]
    fn only_files_that_are_computed_are_taken() {
        let plain = Dt::default().network(Dims::vectors(3, 1), Dtype::F32);
        assert_eq!(check_file(&plain), Ok(()));
        let encoder = Encoder::Image(crate::nn::encoder::encoder([4, 4, 1], &[]));
        let sees = Config { encoder, ..plain };
        assert!(check_file(&sees).unwrap_err().ends_with("ask its run"));
        let perceptron = Config::mlp([3, 1], [2, 16], 1);
        let refused = check_file(&perceptron).unwrap_err();
        assert_eq!(refused, "a perceptron has no attention");
    }
}
