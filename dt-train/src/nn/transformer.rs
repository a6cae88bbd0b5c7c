//! The Decision Transformer in libtorch: the network that `dt-core/BLOB.md` specifies, for batches.
//!
//! Each timestep contributes three tokens, in this order: return-to-go, state, action. The hidden
//! state of the state token predicts the action (Chen et al. 2021, algorithm 1). Shapes are in
//! terms of B sequences, T timesteps, N = 3·T tokens, D = d_model and H heads.

use dt_core::config::{Activation, Attention, Config, Head, MIXED_TOKENS, Order, TOKENS_PER_STEP};
use tch::{Device, Kind, Tensor};

use serde::{Deserialize, Serialize};

use super::encoder::{self, Encoder};
use super::layers::{Bound, LayerNorm, Linear, attend, dropout, second_tokens};
use super::parameters::{Init, Parameter, ParameterList, framework_init};

/// Every parameter of the network, in the order of `BLOB.md`.
///
/// The transformer body starts as GPT-2 does (Radford et al. 2019): N(0, 0.02) with zero biases, but the two matrices
/// of a block that write to the residual stream, of which there are 2 · n_layer, at 0.02/√(2 · n_layer), so that the
/// stream's variance does not grow with depth; embeddings, head and mixing convolutions as libtorch's layers do, uniform in
/// ±1/√fan_in; the timestep table as N(0, `timestep_std`), that of places in a window as zeros.
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
    let mut features = state_dim;
    if let Some(image) = config.image() {
        encoder::push(&mut list, image);
        features = image.flat().into();
    }
    list.linear("embed_state", [d, features], framework_init(features));
    list.linear("embed_action", [d, act_dim], framework_init(act_dim));
    if config.max_ep_len > 0 {
        let shape = [i64::from(config.max_ep_len), d];
        list.push("embed_timestep", &shape, Init::Normal(timestep_std));
    }
    if config.is_placed_in_window() {
        let shape = [config.position_rows() as i64, d];
        list.push("embed_position", &shape, Init::Zeros);
    }
    if config.has_embedding_norm() {
        list.norm("embed_ln", d);
    }
    let residual = [
        Init::Normal(BODY_STD / f64::from(2 * config.n_layer).sqrt()),
        Init::Zeros,
    ];
    for i in 0..config.n_layer {
        list.norm(&format!("layers.{i}.ln_1"), d);
        if config.is_convolved() {
            let [places, tokens] = [TOKENS_PER_STEP, MIXED_TOKENS].map(|n| n as i64);
            let [weight, bias] = framework_init(tokens);
            list.push(
                format!("layers.{i}.conv.weight"),
                &[places, tokens, d],
                weight,
            );
            list.push(format!("layers.{i}.conv.bias"), &[places, d], bias);
        } else {
            list.linear(&format!("layers.{i}.attn_qkv"), [3 * d, d], BODY_INIT);
            list.linear(&format!("layers.{i}.attn_proj"), [d, d], residual);
        }
        list.norm(&format!("layers.{i}.ln_2"), d);
        list.linear(&format!("layers.{i}.mlp_fc"), [d_ff, d], BODY_INIT);
        list.linear(&format!("layers.{i}.mlp_proj"), [d, d_ff], residual);
    }
    list.norm("ln_f", d);
    if config.glu {
        list.linear("glu", [2 * d, d], framework_init(d));
    }
    list.linear("head", [act_dim, d], framework_init(d));
    if config.predictions.state {
        list.linear("state_head", [state_dim, d], framework_init(d));
    }
    if config.predictions.return_to_go {
        list.linear("return_head", [1, d], framework_init(d));
    }
    list.into()
}

/// Standard deviation of the transformer body's initial weights.
const BODY_STD: f64 = 0.02;

/// Weight and bias of the transformer body's linear layers, but those that write to the residual stream.
const BODY_INIT: [Init; 2] = [Init::Normal(BODY_STD), Init::Zeros];

/// What the network reads: normalized and scaled.
#[derive(Debug)]
pub struct Inputs {
    /// (B, T, 1)
    pub returns_to_go: Tensor,
    /// (B, T, state_dim); of images the pixels, in 0…1
    pub states: Tensor,
    /// (B, T, act_dim); the last timestep's is not read by any prediction.
    pub actions: Tensor,
    /// (B, T), i64, from 0; the network saturates them at its table.
    pub timesteps: Tensor,
}

/// What the blocks, and convolutions in front, multiply in while training. Parameters, their optimizer, the residual stream,
/// norms, embeddings and head are f32 in any case, and so is every evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 24 significant bits.
    #[default]
    F32,
    /// 8 significant bits, sums in f32: faster where the processor multiplies bf16 itself (GPUs since 2020; CPUs with
    /// AVX512-BF16 or AMX), slower elsewhere.
    Bf16,
}

/// Of which timestep of a sequence all of it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// As in training, where every timestep of a sequence is the newest in its turn: what came before it is told alike then.
    First,
    /// As a controller runs it.
    Last,
}

/// The network, bound to parameter tensors.
#[derive(Debug)]
pub struct DecisionTransformer {
    config: Config,
    embed_return: Linear,
    /// In front of `embed_state` where states are images.
    encoder: Option<Encoder>,
    embed_state: Linear,
    embed_action: Linear,
    embed_timestep: Option<Tensor>,
    embed_position: Option<Tensor>,
    embed_ln: Option<LayerNorm>,
    now: Now,
    layers: Vec<Block>,
    ln_f: LayerNorm,
    glu: Option<Linear>,
    head: Linear,
    state_head: Option<Linear>,
    return_head: Option<Linear>,
}

/// What a network predicts, unscaled; B sequences, T timesteps.
#[derive(Debug)]
pub struct Outputs {
    /// Of each state token the action, or the logits of its choices, (B, T, act_dim); of the return's where that comes second.
    pub actions: Tensor,
    /// Of each action token the next state, (B, T, state_dim), where the network predicts it.
    pub states: Option<Tensor>,
    /// Of each action token the next return-to-go, (B, T, 1), where the network predicts it; of each state token its own where that
    /// comes first.
    pub returns_to_go: Option<Tensor>,
}

#[derive(Debug)]
struct Block {
    ln_1: LayerNorm,
    mixing: Mixing,
    ln_2: LayerNorm,
    mlp_fc: Linear,
    mlp_proj: Linear,
    activation: Activation,
}

#[derive(Debug)]
enum Mixing {
    Attention(Heads),
    /// Factors (place in the timestep, token from the newest, D) and biases (place, D).
    Convolution {
        weight: Tensor,
        bias: Tensor,
    },
}

#[derive(Debug)]
struct Heads {
    qkv: Linear,
    proj: Linear,
    n_head: i64,
}

impl DecisionTransformer {
    /// Binds the network to `parameters`, which are shared, not copied.
    ///
    /// # Panics
    /// If they are not those of [`parameters`] for this configuration.
    pub fn bind(config: &Config, parameters: &Bound<'_>) -> Self {
        let eps = f64::from(config.layer_norm_eps);
        let linear = |name: &str| parameters.linear(name);
        let norm = |name: &str| parameters.norm(name, eps);
        Self {
            config: *config,
            embed_return: linear("embed_return"),
            encoder: (config.image()).map(|image| Encoder::bind(image, parameters)),
            embed_state: linear("embed_state"),
            embed_action: linear("embed_action"),
            embed_timestep: (config.max_ep_len > 0).then(|| parameters.tensor("embed_timestep")),
            embed_position: (config.is_placed_in_window())
                .then(|| parameters.tensor("embed_position")),
            embed_ln: (config.has_embedding_norm()).then(|| norm("embed_ln")),
            now: Now::Last,
            layers: (0..config.n_layer)
                .map(|i| Block {
                    ln_1: norm(&format!("layers.{i}.ln_1")),
                    mixing: match config.is_convolved() {
                        false => Mixing::Attention(Heads {
                            qkv: linear(&format!("layers.{i}.attn_qkv")),
                            proj: linear(&format!("layers.{i}.attn_proj")),
                            n_head: i64::from(config.n_head),
                        }),
                        true => Mixing::Convolution {
                            weight: parameters.tensor(&format!("layers.{i}.conv.weight")),
                            bias: parameters.tensor(&format!("layers.{i}.conv.bias")),
                        },
                    },
                    ln_2: norm(&format!("layers.{i}.ln_2")),
                    mlp_fc: linear(&format!("layers.{i}.mlp_fc")),
                    mlp_proj: linear(&format!("layers.{i}.mlp_proj")),
                    activation: config.activation,
                })
                .collect(),
            ln_f: norm("ln_f"),
            glu: config.glu.then(|| linear("glu")),
            head: linear("head"),
            state_head: config.predictions.state.then(|| linear("state_head")),
            return_head: (config.predictions.return_to_go).then(|| linear("return_head")),
        }
    }

    /// The same parameters with those of the blocks' linear layers rounded to `precision`, in which the blocks then
    /// multiply. Gradients go through to the parameters that [`bind`](Self::bind) was given.
    pub fn in_precision(mut self, precision: Precision) -> Self {
        if precision == Precision::Bf16 {
            self.encoder = self.encoder.map(|encoder| encoder.in_precision(precision));
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

    /// Where all of a window is told one timestep ([`Positions::Window`](dt_core::config::Positions::Window)): which of the sequence's
    /// that is. The last one's, unless said otherwise, as a controller runs it.
    pub fn told(mut self, now: Now) -> Self {
        self.now = now;
        self
    }

    /// Predicted actions (B, T, act_dim), unscaled. `mask` is [`attention_mask`] for T timesteps;
    /// `p`, the dropout, is 0 outside training.
    pub fn forward(&self, inputs: &Inputs, mask: &Tensor, p: f64) -> Tensor {
        let (x, last) = self.before_last(inputs, mask, p);
        // Only the second tokens' predictions are wanted, the states' as a rule, so the last block computes keys and
        // values of all tokens, but everything else of those alone.
        let second_mask = mask.slice(0, 1, None, TOKENS_PER_STEP as i64);
        let x = last.forward_seconds(&x, &second_mask, p);
        self.act(&self.ln_f.forward(&x))
    }

    /// As [`forward`](Self::forward), with all that the network predicts besides.
    pub fn outputs(&self, inputs: &Inputs, mask: &Tensor, p: f64) -> Outputs {
        if !self.config.predictions.any() {
            return Outputs {
                actions: self.forward(inputs, mask, p),
                states: None,
                returns_to_go: None,
            };
        }
        let (x, last) = self.before_last(inputs, mask, p);
        let x = self.ln_f.forward(&last.forward(&x, mask, p));
        let foretelling = match self.config.order {
            Order::ReturnFirst => 2,
            Order::StateFirst => 0,
        };
        let tokens = x.slice(1, foretelling, None, TOKENS_PER_STEP as i64);
        Outputs {
            actions: self.act(&second_tokens(&x)),
            states: self.state_head.as_ref().map(|head| head.forward(&tokens)),
            returns_to_go: self.return_head.as_ref().map(|head| head.forward(&tokens)),
        }
    }

    /// What each token looks at, block by block: attention weights (B, H, N, N), queries before keys. Those of tokens that nothing
    /// follows from are there as well. Empty where convolutions mix tokens.
    pub fn attention(&self, inputs: &Inputs, mask: &Tensor) -> Vec<Tensor> {
        let mut x = self.embed(inputs);
        let of_block = |block: &Block| {
            let Mixing::Attention(heads) = &block.mixing else {
                return None;
            };
            let [q, k, _] = heads.queries_keys_values(&block.ln_1.forward(&x));
            let d_head = q.size()[3] as f64;
            let scores = q.matmul(&k.transpose(-2, -1)) / d_head.sqrt() + mask;
            x = block.forward(&x, mask, 0.0);
            Some(scores.softmax(-1, Kind::Float))
        };
        self.layers.iter().filter_map(of_block).collect()
    }

    /// All tokens (B, N, D) behind all blocks but the last, and that one.
    fn before_last(&self, inputs: &Inputs, mask: &Tensor, p: f64) -> (Tensor, &Block) {
        let mut x = dropout(self.embed(inputs), p);
        let (last, earlier) = self.layers.split_last().expect("n_layer is at least 1");
        for block in earlier {
            x = block.forward(&x, mask, p);
        }
        (x, last)
    }

    /// Actions (B, T, act_dim) of the normalized second tokens of timesteps (B, T, D).
    fn act(&self, x: &Tensor) -> Tensor {
        let mut x = x.shallow_clone();
        if let Some(glu) = &self.glu {
            x = glu.forward(&x).glu(-1);
        }
        let action = self.head.forward(&x);
        match self.config.head {
            Head::Tanh => action.tanh(),
            Head::Linear => action,
        }
    }

    /// Token embeddings (B, N, D).
    fn embed(&self, inputs: &Inputs) -> Tensor {
        let (b, t) = inputs.timesteps.size2().expect("timesteps are (B, T)");
        let states = match &self.encoder {
            Some(encoder) => encoder.forward(&inputs.states),
            None => inputs.states.shallow_clone(),
        };
        let mut tokens = [
            self.embed_return.forward(&inputs.returns_to_go),
            self.embed_state.forward(&states),
            self.embed_action.forward(&inputs.actions),
        ];
        if self.config.is_state_first() {
            tokens.swap(0, 1);
        }
        let mut tokens = Tensor::stack(&tokens, 2);
        if self.config.embeddings.tanh {
            tokens = tokens.tanh();
        }
        let tokens = match &self.embed_timestep {
            Some(table) => {
                // Timesteps beyond the table share its last row.
                let told = match (self.config.is_placed_in_window(), self.now) {
                    (false, _) => inputs.timesteps.shallow_clone(),
                    (true, Now::First) => inputs.timesteps.narrow(1, 0, 1),
                    (true, Now::Last) => inputs.timesteps.narrow(1, t - 1, 1),
                };
                let timesteps = told.clamp_max(table.size()[0] - 1);
                let time = Tensor::embedding(table, &timesteps, -1, false, false);
                tokens + time.unsqueeze(2)
            }
            None => tokens,
        };
        let (n, d) = (t * TOKENS_PER_STEP as i64, i64::from(self.config.d_model));
        let mut tokens = tokens.reshape([b, n, d]);
        if let Some(table) = &self.embed_position {
            tokens += table.narrow(0, 0, n);
        }
        match &self.embed_ln {
            Some(norm) => norm.forward(&tokens),
            None => tokens,
        }
    }
}

impl Block {
    fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let mixing = match &mut self.mixing {
            Mixing::Attention(Heads { qkv, proj, .. }) => Some([qkv, proj]),
            Mixing::Convolution { .. } => None,
        };
        let mixing = mixing.into_iter().flatten();
        mixing.chain([&mut self.mlp_fc, &mut self.mlp_proj])
    }

    /// (B, N, D) → (B, N, D)
    fn forward(&self, x: &Tensor, mask: &Tensor, p: f64) -> Tensor {
        let h = self.ln_1.forward(x);
        let mixed = match &self.mixing {
            Mixing::Attention(heads) => heads.forward(&h, mask, p),
            Mixing::Convolution { weight, bias } => convolve(&h, weight, bias),
        };
        self.finish(x, mixed, p)
    }

    /// As [`Block::forward`], for the second tokens of timesteps alone: (B, N, D) → (B, T, D), with `mask` (T, N).
    fn forward_seconds(&self, x: &Tensor, mask: &Tensor, p: f64) -> Tensor {
        let h = self.ln_1.forward(x);
        let mixed = match &self.mixing {
            Mixing::Attention(heads) => heads.forward_seconds(&h, mask, p),
            Mixing::Convolution { weight, bias } => second_tokens(&convolve(&h, weight, bias)),
        };
        self.finish(&second_tokens(x), mixed, p)
    }

    /// Everything after mixing, on `x` and what the same tokens have learned from others.
    fn finish(&self, x: &Tensor, mixed: Tensor, p: f64) -> Tensor {
        let x = x + dropout(mixed, p);
        let h = self.mlp_fc.forward(&self.ln_2.forward(&x));
        let h = match self.activation {
            Activation::Relu => h.relu(),
            Activation::GeluTanh => h.gelu("tanh"),
            Activation::Gelu => h.gelu("none"),
            Activation::Silu => h.silu(),
            Activation::Tanh => h.tanh(),
        };
        &x + dropout(self.mlp_proj.forward(&h), p)
    }
}

impl Heads {
    /// Normalized tokens (B, N, D) → what they have learned, (B, N, D).
    fn forward(&self, h: &Tensor, mask: &Tensor, p: f64) -> Tensor {
        let [q, k, v] = self.queries_keys_values(h);
        self.project(attend(&q, &k, &v, mask, p))
    }

    /// Of all normalized tokens, (B, N, D) → (B, H, N, D/H) each.
    fn queries_keys_values(&self, h: &Tensor) -> [Tensor; 3] {
        let qkv = self.qkv.forward(h).chunk(3, -1);
        [0, 1, 2].map(|i| self.split_heads(&qkv[i]))
    }

    /// As [`forward`](Self::forward), for the second tokens of timesteps alone: (B, N, D) → (B, T, D), with `mask` (T, N).
    fn forward_seconds(&self, h: &Tensor, mask: &Tensor, p: f64) -> Tensor {
        let h = h.to_kind(self.qkv.weight.kind());
        let d = h.size()[2];
        let rows = |start: i64, len: i64, input: &Tensor| {
            let weight = self.qkv.weight.narrow(0, start, len);
            let bias = self.qkv.bias.narrow(0, start, len);
            input.linear(&weight, Some(&bias))
        };
        let q = self.split_heads(&rows(0, d, &second_tokens(&h)));
        let kv = rows(d, 2 * d, &h).chunk(2, -1);
        let [k, v] = [0, 1].map(|i| self.split_heads(&kv[i]));
        self.project(attend(&q, &k, &v, mask, p))
    }

    /// (B, H, tokens, D/H) → (B, tokens, D)
    fn project(&self, heads: Tensor) -> Tensor {
        let (b, _, tokens, _) = heads.size4().expect("(B, H, tokens, D/H)");
        self.proj
            .forward(&heads.transpose(1, 2).reshape([b, tokens, -1]))
    }

    /// (B, tokens, D) → (B, H, tokens, D/H)
    fn split_heads(&self, x: &Tensor) -> Tensor {
        let (b, tokens, d) = x.size3().expect("(B, tokens, D)");
        x.reshape([b, tokens, self.n_head, d / self.n_head])
            .transpose(1, 2)
    }
}

/// The convolution over the last [`MIXED_TOKENS`] normalized tokens, with the factors (place, token, D) of each one's place in its
/// timestep: (B, N, D) → (B, N, D). Before the first token there are zeros.
fn convolve(h: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let (b, n, d) = h.size3().expect("(B, N, D)");
    let (places, before) = (TOKENS_PER_STEP as i64, MIXED_TOKENS as i64 - 1);
    let padded = h.pad([0, 0, before, 0], "constant", 0.0);
    let product = |token| {
        let seen = padded.narrow(1, before - token, n);
        seen.view([b, n / places, places, d]) * weight.select(1, token)
    };
    (0..=before)
        .map(product)
        .fold(bias.shallow_clone(), |sum, product| sum + product)
        .view([b, n, d])
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

#[cfg(test)]
pub(crate) mod tests;
