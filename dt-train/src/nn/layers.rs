//! Layers, bound to their parameters by name, and the operations between them.

use dt_core::config::TOKENS_PER_STEP;
use tch::{Device, Kind, Tensor};

use super::flat::{Flat, Layout};

/// Tensors of a network by name: parameters as its layers find them.
#[derive(Debug)]
pub struct Bound<'a> {
    layout: &'a Layout,
    tensors: Vec<Tensor>,
}

impl<'a> Bound<'a> {
    /// Parameters to descend on: bind them anew for every forward pass, since they are nodes of its graph.
    pub fn trainable(parameters: &'a Flat) -> Self {
        Self {
            layout: parameters.layout(),
            tensors: parameters.views(),
        }
    }

    /// Parameters as constants. They are shared, not copied.
    pub fn frozen(parameters: &'a Flat) -> Self {
        Self {
            layout: parameters.layout(),
            tensors: parameters.frozen(),
        }
    }

    /// The tensor of this name.
    ///
    /// # Panics
    /// If the network's list of parameters lacks it: a mistake in the network, whatever its data.
    pub fn tensor(&self, name: &str) -> Tensor {
        let place = self.layout.iter().position(|(known, _)| known == name);
        let place = place.unwrap_or_else(|| panic!("no parameter is called `{name}`"));
        self.tensors[place].shallow_clone()
    }

    /// The layer of `name.weight` and `name.bias`.
    ///
    /// # Panics
    /// As [`tensor`](Self::tensor).
    pub fn linear(&self, name: &str) -> Linear {
        Linear {
            weight: self.tensor(&format!("{name}.weight")),
            bias: self.tensor(&format!("{name}.bias")),
        }
    }

    /// The layer norm of `name.weight` and `name.bias`.
    ///
    /// # Panics
    /// As [`tensor`](Self::tensor).
    pub fn norm(&self, name: &str, eps: f64) -> LayerNorm {
        LayerNorm {
            weight: self.tensor(&format!("{name}.weight")),
            bias: self.tensor(&format!("{name}.bias")),
            eps,
        }
    }
}

/// y = W·x + b
#[derive(Debug)]
pub struct Linear {
    /// (outputs, inputs)
    pub weight: Tensor,
    /// (outputs)
    pub bias: Tensor,
}

impl Linear {
    /// (…, inputs) → (…, outputs), in the precision of the weights.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.to_kind(self.weight.kind())
            .linear(&self.weight, Some(&self.bias))
    }
}

/// Layer normalization over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// (…, width) → (…, width)
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let shape = self.weight.size();
        x.layer_norm(shape, Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Mean squared error over the components of the predictions (B, T, act_dim) where `mask` (B, T) is 1.
pub fn masked_mse(predicted: &Tensor, actions: &Tensor, mask: &Tensor) -> Tensor {
    let error = (predicted - actions).square() * mask.unsqueeze(-1);
    let act_dim = actions.size()[2] as f64;
    error.sum(Kind::Float) / (mask.sum(Kind::Float) * act_dim)
}

/// As [`masked_mse`] with an expectile in place of the mean: errors count `tau` where the prediction is too small, and 1 − `tau` where it
/// is too large (Newey & Powell 1987).
pub fn masked_expectile(predicted: &Tensor, targets: &Tensor, mask: &Tensor, tau: f64) -> Tensor {
    let error = targets - predicted;
    let too_small = error.gt(0.0).to_kind(Kind::Float);
    let weight = too_small * (2.0 * tau - 1.0) + (1.0 - tau);
    let error = weight * error.square() * mask.unsqueeze(-1);
    let width = targets.size()[2] as f64;
    error.sum(Kind::Float) / (mask.sum(Kind::Float) * width)
}

/// Cross-entropy −ln p of the choices (B, T, n), one-hot, under the predicted logits (B, T, n) where `mask` (B, T) is 1.
pub fn masked_cross_entropy(logits: &Tensor, choices: &Tensor, mask: &Tensor) -> Tensor {
    let error = (logits.log_softmax(-1, Kind::Float) * choices).sum_dim_intlist(
        [-1i64].as_slice(),
        false,
        Kind::Float,
    );
    -(error * mask).sum(Kind::Float) / mask.sum(Kind::Float)
}

/// Fraction of the choices (B, T, n), one-hot, that have the largest of the logits (B, T, n) where `mask` (B, T) is 1.
pub fn masked_accuracy(logits: &Tensor, choices: &Tensor, mask: &Tensor) -> Tensor {
    let hit = logits
        .argmax(-1, false)
        .eq_tensor(&choices.argmax(-1, false));
    (hit.to_kind(Kind::Float) * mask).sum(Kind::Float) / mask.sum(Kind::Float)
}

/// softmax(q·kᵀ/√d + mask)·v for q (B, H, M, d), k and v (B, H, N, d), mask (M, N); dropout `p` on the weights.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, p: f64) -> Tensor {
    if q.device() != Device::Cpu {
        let mask = mask.to_kind(q.kind());
        return Tensor::scaled_dot_product_attention(q, k, v, Some(mask), p, false, None, false);
    }
    // The fused kernel of CPUs makes no use of bf16 units and knows no dropout.
    let (b, h, m, d) = q.size4().expect("(B, H, M, d)");
    let [q, k, v] = [q, k, v].map(|x| x.flatten(0, 1));
    let mask = mask.to_kind(q.kind());
    let scores = mask.baddbmm(&q, &k.transpose(1, 2), 1.0, (d as f64).powf(-0.5));
    let weights = dropout(scores.softmax(-1, q.kind()), p);
    weights.bmm(&v).view([b, h, m, d])
}

/// (B, N, D) → (B, T, D): the tokens that predict actions, the second of each timestep.
pub fn second_tokens(x: &Tensor) -> Tensor {
    x.slice(1, 1, None, TOKENS_PER_STEP as i64)
}

/// 0 with probability `p`, else x/(1 − p); nothing is drawn where `p` is 0.
pub fn dropout(x: Tensor, p: f64) -> Tensor {
    if p == 0.0 {
        x
    } else if x.device() == Device::Cpu {
        let dropped = (p * 65536.0).round();
        // Not into the mask, since 1/(1 − p) has more digits than bf16: a product with a number is rounded once.
        x.g_mul_scalar(65536.0 / (65536.0 - dropped)) * keep_mask(&x.size(), dropped, x.kind())
    } else {
        x.dropout(p, true)
    }
}

/// 0 with probability `dropped` / 2¹⁶, else 1.
///
/// libtorch draws 64 random bits per value in its own dropout; 16 are enough, and a training step spends a tenth of its
/// time less.
fn keep_mask(shape: &[i64], dropped: f64, kind: Kind) -> Tensor {
    let n: i64 = shape.iter().product();
    let words = Tensor::empty([(n + 3) / 4], (Kind::Int64, Device::Cpu));
    words
        .random_from(i64::MIN, None)
        .view_dtype(Kind::Int16)
        .narrow(0, 0, n)
        .view(shape)
        .ge(dropped - 32768.0)
        .to_kind(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sequences of two timesteps with three choices; the last timestep carries no loss.
    /// By hand: errors 1 and −2, counted 0.9 and 0.1, and one that is masked.
    #[test]
    fn an_expectile_counts_what_is_too_small_more() {
        let tensor = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1]);
        let (predicted, targets) = (tensor([0.0, 3.0, 7.0]), tensor([1.0, 1.0, 1.0]));
        let mask = Tensor::from_slice(&[1.0f32, 1.0, 0.0]).view([1, 3]);
        let loss = |tau| masked_expectile(&predicted, &targets, &mask, tau).double_value(&[]);
        assert!((loss(0.9) - (0.9 + 0.1 * 4.0) / 2.0).abs() < 1e-6);
        let mean = masked_mse(&predicted, &targets, &mask).double_value(&[]);
        assert!((loss(0.5) - mean / 2.0).abs() < 1e-6);
    }

    #[test]
    fn cross_entropy_and_accuracy_are_means_over_what_carries_loss() {
        let logits = [
            [2.0f32, 0.0, -1.0],
            [0.5, 0.5, 3.0],
            [1.0, 4.0, 0.0],
            [9.0, 0.0, 0.0],
        ];
        let chosen = [0usize, 1, 1, 2];
        let mask = [1.0f32, 1.0, 1.0, 0.0];
        let mut one_hot = [[0.0f32; 3]; 4];
        for (row, &choice) in one_hot.iter_mut().zip(&chosen) {
            row[choice] = 1.0;
        }
        let surprise = |t: usize| {
            let sum: f64 = logits[t].iter().map(|&x| f64::from(x).exp()).sum();
            sum.ln() - f64::from(logits[t][chosen[t]])
        };
        let expected = (0..3).map(surprise).sum::<f64>() / 3.0;
        let tensor = |rows: &[[f32; 3]]| Tensor::from_slice(&rows.concat()).view([2, 2, 3]);
        let (logits, choices) = (tensor(&logits), tensor(&one_hot));
        let mask = Tensor::from_slice(&mask).view([2, 2]);
        let loss = masked_cross_entropy(&logits, &choices, &mask).double_value(&[]);
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
        let accuracy = masked_accuracy(&logits, &choices, &mask).double_value(&[]);
        assert!((accuracy - 2.0 / 3.0).abs() < 1e-6, "{accuracy}");
    }
}
