//! The Decision Transformer in libtorch: the network that `dt-core/BLOB.md` specifies, for batches.
//!
//! Each timestep contributes three tokens, in this order: return-to-go, state, action. The hidden
//! state of the state token predicts the action (Chen et al. 2021, algorithm 1). Shapes are in
//! terms of B sequences, T timesteps, N = 3·T tokens, D = d_model and H heads.

use dt_core::config::{Activation, Attention, Config, Head, TOKENS_PER_STEP};
use tch::{Device, Kind, Tensor};

use crate::config::Precision;
use crate::nn::flat::{Flat, Layout};
use crate::run::checkpoint::{CheckpointError, Weights};

/// One parameter tensor: its name in checkpoints, its shape and its initial distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// As in `BLOB.md`, such as `layers.0.attn_qkv.weight`.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<i64>,
    /// Initial distribution.
    pub init: Init,
}

/// Initial distribution of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform in ± this bound.
    Uniform(f64),
}

/// Every parameter of the network, in the order of `BLOB.md`.
///
/// The transformer body starts as GPT-2 does (Radford et al. 2019): N(0, 0.02) with zero biases, but the two matrices
/// of a block that write to the residual stream, of which there are 2 · n_layer, at 0.02/√(2 · n_layer), so that the
/// stream's variance does not grow with depth; embeddings and head as libtorch's `Linear` does, uniform in
/// ±1/√fan_in; the timestep table as N(0, `timestep_std`).
pub fn parameters(config: &Config, timestep_std: f64) -> Vec<Parameter> {
    let [state_dim, act_dim, d, d_ff] = [
        config.state_dim,
        config.act_dim,
        config.d_model,
        config.d_ff,
    ]
    .map(i64::from);
    let mut list = ParameterList::default();
    list.linear("embed_return", [d, 1], framework_init(1));
    list.linear("embed_state", [d, state_dim], framework_init(state_dim));
    list.linear("embed_action", [d, act_dim], framework_init(act_dim));
    if config.max_ep_len > 0 {
        let shape = [i64::from(config.max_ep_len), d];
        list.push(
            "embed_timestep".to_owned(),
            &shape,
            Init::Normal(timestep_std),
        );
    }
    list.norm("embed_ln", d);
    let residual = [
        Init::Normal(BODY_STD / f64::from(2 * config.n_layer).sqrt()),
        Init::Zeros,
    ];
    for i in 0..config.n_layer {
        list.norm(&format!("layers.{i}.ln_1"), d);
        list.linear(&format!("layers.{i}.attn_qkv"), [3 * d, d], BODY_INIT);
        list.linear(&format!("layers.{i}.attn_proj"), [d, d], residual);
        list.norm(&format!("layers.{i}.ln_2"), d);
        list.linear(&format!("layers.{i}.mlp_fc"), [d_ff, d], BODY_INIT);
        list.linear(&format!("layers.{i}.mlp_proj"), [d, d_ff], residual);
    }
    list.norm("ln_f", d);
    list.linear("head", [act_dim, d], framework_init(d));
    list.into()
}

/// Standard deviation of the transformer body's initial weights.
const BODY_STD: f64 = 0.02;

/// Weight and bias of the transformer body's linear layers, but those that write to the residual stream.
const BODY_INIT: [Init; 2] = [Init::Normal(BODY_STD), Init::Zeros];

/// Weight and bias of a linear layer as libtorch's `Linear` draws them.
pub(crate) fn framework_init(fan_in: i64) -> [Init; 2] {
    [Init::Uniform(1.0 / (fan_in as f64).sqrt()); 2]
}

/// A list to which layers are appended.
#[derive(Default)]
pub(crate) struct ParameterList(Vec<Parameter>);

impl From<ParameterList> for Vec<Parameter> {
    fn from(list: ParameterList) -> Self {
        list.0
    }
}

impl ParameterList {
    fn push(&mut self, name: String, shape: &[i64], init: Init) {
        self.0.push(Parameter {
            name,
            shape: shape.to_vec(),
            init,
        });
    }

    pub(crate) fn linear(&mut self, name: &str, [rows, cols]: [i64; 2], [weight, bias]: [Init; 2]) {
        self.push(format!("{name}.weight"), &[rows, cols], weight);
        self.push(format!("{name}.bias"), &[rows], bias);
    }

    fn norm(&mut self, name: &str, width: i64) {
        self.push(format!("{name}.weight"), &[width], Init::Ones);
        self.push(format!("{name}.bias"), &[width], Init::Zeros);
    }
}

/// A network with fresh parameters on `device`. They are drawn on the CPU, so that they do not
/// depend on the device.
pub fn initialize(config: &Config, timestep_std: f64, seed: u64, device: Device) -> Flat {
    draw(&parameters(config, timestep_std), seed, device)
}

/// The same for any network's parameters.
pub(crate) fn draw(parameters: &[Parameter], seed: u64, device: Device) -> Flat {
    tch::manual_seed(seed.cast_signed());
    let mut inits = parameters.iter().map(|parameter| parameter.init);
    let mut layout = Layout::new();
    for Parameter { name, shape, .. } in parameters {
        layout.push(name, shape);
    }
    Flat::new(layout, device, |_, view| {
        let mut drawn = Tensor::zeros(view.size(), (Kind::Float, Device::Cpu));
        let _ = match inits.next().expect("one per parameter") {
            Init::Zeros => drawn.zero_(),
            Init::Ones => drawn.fill_(1.0),
            Init::Normal(std) => drawn.normal_(0.0, std),
            Init::Uniform(bound) => drawn.uniform_(-bound, bound),
        };
        view.copy_(&drawn);
    })
}

/// The parameters' values on the host, by name.
pub fn weights(parameters: &Flat) -> Weights {
    let mut weights = Weights::default();
    for (tensor, (name, shape)) in parameters.frozen().iter().zip(parameters.layout().iter()) {
        let shape = shape.iter().map(|&n| n as usize).collect();
        weights.insert(name.to_owned(), shape, host_values(tensor));
    }
    weights
}

/// Copies `weights` into parameters of the same network.
///
/// # Errors
/// If an array is missing or has another shape; the parameters are then unchanged.
pub fn load(parameters: &mut Flat, weights: &Weights) -> Result<(), CheckpointError> {
    let mut values = Vec::with_capacity(parameters.values().numel());
    for (name, shape) in parameters.layout().iter() {
        let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        values.extend_from_slice(weights.get(name, &shape)?);
    }
    let values = Tensor::from_slice(&values);
    tch::no_grad(|| parameters.values_mut().copy_(&values));
    Ok(())
}

/// All values of an f32 tensor, row-major, on the host.
pub fn host_values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.detach().to(Device::Cpu).contiguous();
    let mut values = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    values
}

/// What the network reads: normalized and scaled.
#[derive(Debug)]
pub struct Inputs {
    /// (B, T, 1)
    pub returns_to_go: Tensor,
    /// (B, T, state_dim)
    pub states: Tensor,
    /// (B, T, act_dim); the last timestep's is not read by any prediction.
    pub actions: Tensor,
    /// (B, T), i64, below max_ep_len where the network has a timestep table.
    pub timesteps: Tensor,
}

/// The network, bound to parameter tensors.
#[derive(Debug)]
pub struct DecisionTransformer {
    config: Config,
    embed_return: Linear,
    embed_state: Linear,
    embed_action: Linear,
    embed_timestep: Option<Tensor>,
    embed_ln: LayerNorm,
    layers: Vec<Block>,
    ln_f: LayerNorm,
    head: Linear,
}

#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

#[derive(Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

#[derive(Debug)]
struct Block {
    ln_1: LayerNorm,
    attn_qkv: Linear,
    attn_proj: Linear,
    ln_2: LayerNorm,
    mlp_fc: Linear,
    mlp_proj: Linear,
    n_head: i64,
    activation: Activation,
}

impl DecisionTransformer {
    /// Binds the network to `tensors`, given in the order of [`parameters`]. The tensors are
    /// shared, not copied.
    ///
    /// # Panics
    /// If there are fewer tensors than parameters.
    pub fn bind(config: &Config, tensors: impl IntoIterator<Item = Tensor>) -> Self {
        let mut tensors = tensors.into_iter();
        let mut next = || tensors.next().expect("one tensor per parameter");
        let eps = f64::from(config.layer_norm_eps);
        fn linear(next: &mut impl FnMut() -> Tensor) -> Linear {
            Linear {
                weight: next(),
                bias: next(),
            }
        }
        fn norm(next: &mut impl FnMut() -> Tensor, eps: f64) -> LayerNorm {
            LayerNorm {
                weight: next(),
                bias: next(),
                eps,
            }
        }
        Self {
            config: *config,
            embed_return: linear(&mut next),
            embed_state: linear(&mut next),
            embed_action: linear(&mut next),
            embed_timestep: (config.max_ep_len > 0).then(&mut next),
            embed_ln: norm(&mut next, eps),
            layers: (0..config.n_layer)
                .map(|_| Block {
                    ln_1: norm(&mut next, eps),
                    attn_qkv: linear(&mut next),
                    attn_proj: linear(&mut next),
                    ln_2: norm(&mut next, eps),
                    mlp_fc: linear(&mut next),
                    mlp_proj: linear(&mut next),
                    n_head: i64::from(config.n_head),
                    activation: config.activation,
                })
                .collect(),
            ln_f: norm(&mut next, eps),
            head: linear(&mut next),
        }
    }

    /// The same parameters with those of the blocks' linear layers rounded to `precision`, in which the blocks then
    /// multiply. Gradients go through to the parameters that [`bind`](Self::bind) was given.
    pub fn in_precision(mut self, precision: Precision) -> Self {
        if precision == Precision::Bf16 {
            for block in &mut self.layers {
                for linear in block.linears() {
                    for tensor in [&mut linear.weight, &mut linear.bias] {
                        *tensor = tensor.to_kind(Kind::BFloat16);
                    }
                }
            }
        }
        self
    }

    /// Predicted actions (B, T, act_dim), unscaled. `mask` is [`attention_mask`] for T timesteps;
    /// `dropout` is 0 outside training.
    pub fn forward(&self, inputs: &Inputs, mask: &Tensor, dropout: f64) -> Tensor {
        let mut x = drop(self.embed(inputs), dropout);
        // Only the state tokens' predictions are wanted, so the last block computes keys and
        // values of all tokens, but everything else of state tokens alone.
        let (last, earlier) = self.layers.split_last().expect("n_layer is at least 1");
        for block in earlier {
            x = block.forward(&x, mask, dropout);
        }
        let state_mask = mask.slice(0, 1, None, TOKENS_PER_STEP as i64);
        let x = last.forward_states(&x, &state_mask, dropout);
        let action = self.head.forward(&self.ln_f.forward(&x));
        match self.config.head {
            Head::Tanh => action.tanh(),
            Head::Linear => action,
        }
    }

    /// Token embeddings (B, N, D).
    fn embed(&self, inputs: &Inputs) -> Tensor {
        let (b, t) = inputs.timesteps.size2().expect("timesteps are (B, T)");
        let tokens = Tensor::stack(
            &[
                self.embed_return.forward(&inputs.returns_to_go),
                self.embed_state.forward(&inputs.states),
                self.embed_action.forward(&inputs.actions),
            ],
            2,
        );
        let tokens = match &self.embed_timestep {
            Some(table) => {
                let time = Tensor::embedding(table, &inputs.timesteps, -1, false, false);
                tokens + time.unsqueeze(2)
            }
            None => tokens,
        };
        let d = i64::from(self.config.d_model);
        self.embed_ln
            .forward(&tokens)
            .reshape([b, t * TOKENS_PER_STEP as i64, d])
    }
}

impl Block {
    fn linears(&mut self) -> [&mut Linear; 4] {
        [
            &mut self.attn_qkv,
            &mut self.attn_proj,
            &mut self.mlp_fc,
            &mut self.mlp_proj,
        ]
    }

    /// (B, N, D) → (B, N, D)
    fn forward(&self, x: &Tensor, mask: &Tensor, dropout: f64) -> Tensor {
        let qkv = self.attn_qkv.forward(&self.ln_1.forward(x)).chunk(3, -1);
        let [q, k, v] = [0, 1, 2].map(|i| self.split_heads(&qkv[i]));
        self.finish(x, attend(&q, &k, &v, mask, dropout), dropout)
    }

    /// As [`Block::forward`], for the state tokens alone: (B, N, D) → (B, T, D), with `mask` (T, N).
    fn forward_states(&self, x: &Tensor, mask: &Tensor, dropout: f64) -> Tensor {
        let h = self.ln_1.forward(x).to_kind(self.attn_qkv.weight.kind());
        let d = x.size()[2];
        let rows = |start: i64, len: i64, input: &Tensor| {
            let weight = self.attn_qkv.weight.narrow(0, start, len);
            let bias = self.attn_qkv.bias.narrow(0, start, len);
            input.linear(&weight, Some(&bias))
        };
        let q = self.split_heads(&rows(0, d, &state_tokens(&h)));
        let kv = rows(d, 2 * d, &h).chunk(2, -1);
        let [k, v] = [0, 1].map(|i| self.split_heads(&kv[i]));
        self.finish(&state_tokens(x), attend(&q, &k, &v, mask, dropout), dropout)
    }

    /// Everything after attention, on `x` and heads of the same tokens.
    fn finish(&self, x: &Tensor, heads: Tensor, dropout: f64) -> Tensor {
        let heads = heads.transpose(1, 2).reshape(x.size());
        let x = x + drop(self.attn_proj.forward(&heads), dropout);
        let h = self.mlp_fc.forward(&self.ln_2.forward(&x));
        let h = match self.activation {
            Activation::Relu => h.relu(),
            Activation::GeluTanh => h.gelu("tanh"),
        };
        &x + drop(self.mlp_proj.forward(&h), dropout)
    }

    /// (B, tokens, D) → (B, H, tokens, D/H)
    fn split_heads(&self, x: &Tensor) -> Tensor {
        let (b, tokens, d) = x.size3().expect("(B, tokens, D)");
        x.reshape([b, tokens, self.n_head, d / self.n_head])
            .transpose(1, 2)
    }
}

impl Linear {
    /// In the precision of the weights.
    fn forward(&self, x: &Tensor) -> Tensor {
        x.to_kind(self.weight.kind())
            .linear(&self.weight, Some(&self.bias))
    }
}

impl LayerNorm {
    fn forward(&self, x: &Tensor) -> Tensor {
        let shape = self.weight.size();
        x.layer_norm(shape, Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Additive attention mask (N, N): 0 where the row's token sees the column's, −∞ elsewhere.
///
/// *Streaming* is a band of timesteps: a token of timestep τ sees, causally, the tokens of
/// timesteps τ−K+1 … τ, in every layer. *Window* is causal; the sequence is the window.
pub fn attention_mask(config: &Config, timesteps: usize, device: Device) -> Tensor {
    let n = (timesteps * TOKENS_PER_STEP) as i64;
    let token = Tensor::arange(n, (Kind::Int64, device));
    let timestep = token.divide_scalar_mode(TOKENS_PER_STEP as i64, "floor");
    let causal = token.unsqueeze(0).le_tensor(&token.unsqueeze(1));
    let visible = match config.attention {
        Attention::Window => causal,
        Attention::Streaming => {
            let oldest = &timestep - (i64::from(config.context_len) - 1);
            causal.logical_and(&timestep.unsqueeze(0).ge_tensor(&oldest.unsqueeze(1)))
        }
    };
    Tensor::zeros([n, n], (Kind::Float, device))
        .masked_fill(&visible.logical_not(), f64::NEG_INFINITY)
}

/// Mean squared error over the components of the predictions where `mask` (B, T) is 1.
pub fn masked_mse(predicted: &Tensor, actions: &Tensor, mask: &Tensor) -> Tensor {
    let error = (predicted - actions).square() * mask.unsqueeze(-1);
    let act_dim = actions.size()[2] as f64;
    error.sum(Kind::Float) / (mask.sum(Kind::Float) * act_dim)
}

/// softmax(q·kᵀ/√d + mask)·v for q (B, H, M, d), k and v (B, H, N, d), mask (M, N).
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, p: f64) -> Tensor {
    if q.device() != Device::Cpu {
        let mask = mask.to_kind(q.kind());
        return Tensor::scaled_dot_product_attention(q, k, v, Some(mask), p, false, None, false);
    }
    // The fused kernel of CPUs makes no use of bf16 units and knows no dropout.
    let (b, h, m, d) = q.size4().expect("(B, H, M, d)");
    let [q, k, v] = [q, k, v].map(|x| x.flatten(0, 1));
    let mask = mask.to_kind(q.kind());
    let scores = mask.baddbmm(&q, &k.transpose(1, 2), 1.0, (d as f64).powf(-0.5));
    let weights = drop(scores.softmax(-1, q.kind()), p);
    weights.bmm(&v).view([b, h, m, d])
}

/// (B, N, D) → (B, T, D)
fn state_tokens(x: &Tensor) -> Tensor {
    x.slice(1, 1, None, TOKENS_PER_STEP as i64)
}

fn drop(x: Tensor, p: f64) -> Tensor {
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

/// Dropout on a CPU: 0 with probability `dropped` / 2¹⁶, else 1.
///
/// libtorch draws 64 random bits per value in its own; 16 are enough, and a training step spends a tenth of its
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
pub(crate) mod tests;
