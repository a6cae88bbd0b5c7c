//! Decision Transformers (Chen et al. 2021): control as sequence modelling.
//!
//! Sequences (R̂₁, s₁, a₁, R̂₂, s₂, a₂, …) of logged episodes, with R̂ the return still to come, teach a causal transformer
//! to predict each action from what came before it. Asked for a return that the data hold, it acts accordingly.

use anyhow::{Context, ensure};
use dt_core::blob::{AtMaxEpLen, Golden};
use dt_core::config::{
    Actions, Activation, Attention, Config, Convolution, Dtype, Embeddings, Encoder, Head,
    MAX_CONVOLUTIONS, Math, Mixer, Network, Order, Predictions,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::supervised::{Torch, action_loss};
use super::{Dims, Engine, Loss, Memory, Mode, Policy, Refusal, Supervised};
use crate::config::Recipe;
use crate::config::names::{ActivationName, AttentionName, HeadName, math_name};
use crate::data::sampler::{Batch, Draw, SequenceShape};
use crate::deploy::{Deployable, Trained, emit_bytes, in_pixels};
use crate::nn::encoder;
use crate::nn::layers::{Bound, masked_expectile, masked_mse};
use crate::nn::parameters::Parameter;
use crate::nn::transformer::{self, DecisionTransformer, Inputs, Now, Precision, attention_mask};
use crate::run::Run;
use crate::run::checkpoint::Checkpoint;

/// A Decision Transformer, section `[dt]` of a recipe: the network, with names and meaning as in
/// [`dt_core::config::Config`], and the sequences it learns from.
///
/// Defaults are those of the paper for Gym (appendix A), with streaming attention and a timestep table that starts small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dt {
    /// Width of the residual stream; a multiple of `4 * n_head`.
    pub d_model: u32,
    /// Transformer blocks.
    pub n_layer: u32,
    /// Attention heads per block.
    pub n_head: u32,
    /// Width of the MLP's hidden layer; 0: `4 * d_model`.
    pub d_ff: u32,
    /// K: timesteps a token attends to.
    pub context_len: u32,
    /// Rows of the timestep table; 0: none.
    pub max_ep_len: u32,
    /// `"streaming"` or `"window"`.
    #[serde(with = "AttentionName")]
    pub attention: Attention,
    /// `"attention"`, or `"convolution"` over the last six tokens instead (Kim et al. 2024, "Decision ConvFormer"): without heads, and
    /// with streaming attention `context_len` has no part in it.
    pub mixer: TokenMixer,
    /// `"gym"`, or `"atari"`: what the paper's network for Atari makes embeddings of, with `attention = "window"`.
    pub embeddings: EmbeddingsName,
    /// `"relu"`, `"gelu_tanh"`, `"gelu"`, `"silu"` or `"tanh"`.
    #[serde(with = "ActivationName")]
    pub activation: Activation,
    /// `"tanh"` or `"linear"`; `"linear"` where actions are choices, which the run's recipe then says.
    #[serde(with = "HeadName")]
    pub head: Head,
    /// A gated linear unit before the action head.
    pub glu: bool,
    /// Weight, in what is descended on, of the squared error of next states (normalized) that action tokens then predict; 0: they
    /// predict none.
    pub predict_state: f64,
    /// The same of next returns-to-go (scaled): a critic.
    pub predict_return: f64,
    /// Zhuang et al. (2024, "Reinformer"): with this expectile instead of the mean, state tokens predict their own return-to-go, and
    /// the policy asks itself for it instead of being told one. Towards 1 it becomes the largest that the data know; 0: not at all.
    pub return_expectile: f64,
    /// `"polynomial"`, `"libm"` or `"micromath"`: where the exported policy takes exp and tanh from.
    #[serde(with = "math_name")]
    pub math: Math,
    /// ε of every layer norm.
    pub layer_norm_eps: f32,
    /// Standard deviation of the timestep table's initial values.
    pub timestep_init_std: f64,
    /// `"f32"` or `"bf16"`: what the transformer blocks multiply in while training.
    pub precision: Precision,
    /// Up to three convolutions between states that are images and their embedding, each `[filters, kernel, stride]`, without
    /// padding, with a ReLU; none: those that suit the images' size, which the run's recipe then says: the paper's for Atari,
    /// `[[32, 8, 4], [64, 4, 2], [64, 3, 1]]`, or of small ones MinAtar's, `[[16, 3, 1]]`.
    pub encoder: Vec<[u32; 3]>,
    /// Timesteps per sequence; 0: `context_len` for window attention, else the receptive field plus `context_len`.
    pub sequence_len: u32,
    /// Timesteps at the start of a sequence that carry no loss, unless the episode starts there.
    pub burn_in: u32,
    /// A sequence starts at any timestep alike and ends where its episode does, as in the paper's code, instead of being moved
    /// inside the episode.
    pub uniform_starts: bool,
    /// Fraction of the sequences that start where their episode does, besides those that do by chance.
    pub start_fraction: f64,
    /// Fraction of the sequences that come from the best episodes only: where the data mix qualities (Hong et al. 2023,
    /// "Harnessing mixed offline reinforcement learning datasets via trajectory weighting").
    pub best_fraction: f64,
    /// The best episodes by return, as many as fit into this percentage of the transitions.
    pub best_percent: f64,
}

/// What mixes the tokens of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenMixer {
    /// Each token looks where it likes.
    #[default]
    Attention,
    /// Each component is convolved with those of the last tokens.
    Convolution,
}

/// What makes a token's embedding of its input, besides a matrix: either of the paper's two networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingsName {
    /// Each token is told its timestep; then a layer norm.
    #[default]
    Gym,
    /// A tanh; each token is told its place in the window, and all of it one timestep; no norm.
    Atari,
}

impl EmbeddingsName {
    const fn network(self) -> Embeddings {
        match self {
            Self::Gym => Embeddings::GYM,
            Self::Atari => Embeddings::ATARI,
        }
    }
}

impl Default for Dt {
    fn default() -> Self {
        Self {
            d_model: 128,
            n_layer: 3,
            n_head: 1,
            d_ff: 0,
            context_len: 20,
            max_ep_len: 1000,
            attention: Attention::Streaming,
            mixer: TokenMixer::Attention,
            embeddings: EmbeddingsName::Gym,
            activation: Activation::Relu,
            head: Head::Tanh,
            glu: false,
            predict_state: 0.0,
            predict_return: 0.0,
            return_expectile: 0.0,
            math: Math::Polynomial,
            layer_norm_eps: 1e-5,
            timestep_init_std: 0.02,
            precision: Precision::F32,
            encoder: Vec::new(),
            sequence_len: 0,
            burn_in: 0,
            uniform_starts: false,
            start_fraction: 0.0,
            best_fraction: 0.0,
            best_percent: 50.0,
        }
    }
}

impl Supervised for Dt {
    const NAME: &'static str = "dt";
    const TITLE: &'static str = "Decision Transformer";

    fn parameters(&self, dims: Dims) -> Vec<Parameter> {
        transformer::parameters(&self.network(dims, Dtype::F32), self.timestep_init_std)
    }

    /// The action of each timestep, from its state token, or the logits of its choices: (B, T, act_dim).
    fn predict(&self, dims: Dims, network: &Bound<'_>, inputs: &Inputs, mode: Mode) -> Tensor {
        let (network, mask) = self.bound(dims, network, inputs, mode);
        network.forward(inputs, &mask, mode.dropout())
    }

    /// That of the actions, and of what else is predicted: each action token's next state and return-to-go, where the sequence
    /// has a next timestep.
    fn loss(&self, dims: Dims, network: &Bound<'_>, batch: &Batch, mode: Mode) -> Loss {
        self.loss_seeing(&batch.inputs, dims, network, batch, mode)
    }

    fn draw(&self, recipe: &Recipe) -> Draw {
        Draw::Sequences(SequenceShape {
            batch_size: recipe.train.batch_size as usize,
            sequence_len: self.sequence_len(),
            burn_in: self.burn_in as usize,
            uniform_starts: self.uniform_starts,
            start_fraction: self.start_fraction,
            best_fraction: self.best_fraction,
            best_percent: self.best_percent,
        })
    }

    fn validation_draw(&self, _: &Recipe) -> Draw {
        Draw::Sequences(SequenceShape {
            batch_size: match self.encoder.as_slice() {
                [] => VALIDATION_TIMESTEPS,
                _ => VALIDATION_IMAGES,
            }
            .div_ceil(self.sequence_len()),
            sequence_len: self.sequence_len(),
            burn_in: self.burn_in as usize,
            uniform_starts: self.uniform_starts,
            start_fraction: 0.0,
            best_fraction: 0.0,
            best_percent: 100.0,
        })
    }

    /// The whole receptive field: with streaming attention, running it anew for every action is exactly what the engine
    /// computes step by step, since no earlier timestep can reach the newest action.
    fn memory(&self) -> Memory {
        Memory::Timesteps(self.receptive_field())
    }

    fn foresee(&self, dims: Dims, network: &Bound<'_>, inputs: &Inputs) -> Option<Tensor> {
        if !self.is_reinformer() {
            return None;
        }
        let (network, mask) = self.bound(dims, network, inputs, Mode::Acting);
        network.outputs(inputs, &mask, 0.0).returns_to_go
    }

    fn variety(&self) -> &'static str {
        macro_rules! of {
            ($attention:literal) => {
                match (self.mixer, self.glu, self.is_reinformer()) {
                    (TokenMixer::Attention, false, false) => $attention,
                    (TokenMixer::Attention, true, false) => concat!($attention, ", GLU"),
                    (TokenMixer::Attention, false, true) => concat!($attention, ", Reinformer"),
                    (TokenMixer::Attention, true, true) => concat!($attention, ", GLU, Reinformer"),
                    (TokenMixer::Convolution, false, false) => concat!($attention, ", ConvFormer"),
                    (TokenMixer::Convolution, true, false) => {
                        concat!($attention, ", ConvFormer, GLU")
                    }
                    (TokenMixer::Convolution, false, true) => {
                        concat!($attention, ", ConvFormer, Reinformer")
                    }
                    (TokenMixer::Convolution, true, true) => {
                        concat!($attention, ", ConvFormer, GLU, Reinformer")
                    }
                }
            };
        }
        match (self.attention, self.embeddings) {
            (Attention::Streaming, _) => of!("streaming"),
            (Attention::Window, EmbeddingsName::Gym) => of!("window"),
            (Attention::Window, EmbeddingsName::Atari) => of!("window, Atari's embeddings"),
        }
    }

    fn size(&self) -> String {
        let Self {
            n_layer,
            d_model,
            context_len,
            ..
        } = self;
        format!("{n_layer} × {d_model}, K {context_len}")
    }

    fn check(&self, recipe: &Recipe) -> Result<(), Refusal> {
        // Dimensions of the data are checked when there are data.
        let dims = Dims::vectors(1, 1);
        let network = self.network(dims, Dtype::F32);
        if self.return_expectile != 0.0 {
            if !(0.5..1.0).contains(&self.return_expectile) {
                let message = format!(
                    "is {}; it must lie in 0.5..1, as 0.99, or be 0",
                    self.return_expectile
                );
                return Err(Refusal::new("dt.return_expectile", message));
            }
            if network.predictions != REINFORMER {
                let message = "predicts returns from states and nothing else, with dt.predict_return as the weight of its \
                               loss; set dt.predict_return=1 and dt.predict_state=0"
                    .to_owned();
                return Err(Refusal::new("dt.return_expectile", message));
            }
        }
        if self.embeddings == EmbeddingsName::Atari
            && (self.attention != Attention::Window || self.mixer != TokenMixer::Attention)
        {
            let message = "are \"atari\": tokens are told their places in the window, so dt.attention must be \"window\" and dt.mixer \"attention\"";
            return Err(Refusal::new("dt.embeddings", message));
        }
        let valid = network.validate();
        valid.map_err(|error| Refusal::new(Self::NAME, error.to_string()))?;
        for (key, value, high) in [
            ("dt.timestep_init_std", self.timestep_init_std, 10.0),
            ("dt.start_fraction", self.start_fraction, 1.0),
            ("dt.best_fraction", self.best_fraction, 1.0),
            ("dt.best_percent", self.best_percent, 100.0),
            ("dt.predict_state", self.predict_state, 1e6),
            ("dt.predict_return", self.predict_return, 1e6),
        ] {
            if !(0.0..=high).contains(&value) {
                let message = format!("is {value}; it must lie in 0..={high}");
                return Err(Refusal::new(key, message));
            }
        }
        let is_convolution = |c: &[u32; 3]| {
            // What the engine's matrices are made of.
            c[0].is_multiple_of(4) && c.iter().all(|n| (1..=1024).contains(n))
        };
        if self.encoder.len() > MAX_CONVOLUTIONS || !self.encoder.iter().all(is_convolution) {
            let message = format!(
                "is {:?}; it must be up to {} convolutions [filters, kernel, stride], each number in 1..=1024, filters a \
                 multiple of 4",
                self.encoder, MAX_CONVOLUTIONS
            );
            return Err(Refusal::new("dt.encoder", message));
        }
        if self.sequence_len() <= self.burn_in as usize {
            let message = format!(
                "must be smaller than the {} timesteps of a sequence",
                self.sequence_len()
            );
            return Err(Refusal::new("dt.burn_in", message));
        }
        if self.attention == Attention::Window && self.sequence_len() > self.context_len as usize {
            let message = format!(
                "window attention sees context_len = {} timesteps, so longer sequences would train something that is \
                 never run; use 0",
                self.context_len
            );
            return Err(Refusal::new("dt.sequence_len", message));
        }
        let looks_ahead = network.predictions.any() && !self.is_reinformer();
        if looks_ahead && self.sequence_len() - (self.burn_in as usize) < 2 {
            return Err(Refusal::new(
                "dt.predict_state",
                "and dt.predict_return are learned from the next timestep, and sequences have but one with loss; use 0, or a \
                 larger dt.context_len",
            ));
        }
        // Without a table there is no timestep at which the policy would have to fault.
        if self.max_ep_len == 0 && recipe.control.at_max_ep_len == AtMaxEpLen::Fault {
            return Err(Refusal::new(
                "control.at_max_ep_len",
                "\"fault\" takes a timestep table that ends, and dt.max_ep_len is 0; use \"saturate\"",
            ));
        }
        Ok(())
    }

    fn math(&self) -> Math {
        self.math
    }

    /// Of choices there are logits, which tanh would leave next to nothing of.
    fn fitted(&self, dims: Dims) -> Option<Self> {
        let mut fitted = self.clone();
        if dims.actions == Actions::Discrete && self.head == Head::Tanh {
            fitted.head = Head::Linear;
        }
        if let Some(image) = dims.image.filter(|_| self.encoder.is_empty()) {
            let suited = encoder::suited(image).into_iter();
            fitted.encoder = suited.map(|c| [c.filters, c.kernel, c.stride]).collect();
        }
        (fitted != *self).then_some(fitted)
    }

    fn reads_images(&self) -> bool {
        true
    }

    fn fits(&self, dims: Dims) -> anyhow::Result<()> {
        ensure!(
            dims.image.is_some() || self.encoder.is_empty(),
            "dt.encoder is of images, and the data's states are vectors; leave it out"
        );
        ensure!(
            dims.image.is_none() || self.predict_state == 0.0,
            "dt.predict_state predicts vectors, and the data's states are images; leave it at 0"
        );
        if let Some(image) = dims.image {
            let encoder = &self.encoder;
            let context = || {
                format!(
                    "dt.encoder = {encoder:?} of {}×{}×{} pixels",
                    image[0], image[1], image[2]
                )
            };
            return self
                .network(dims, Dtype::F32)
                .validate()
                .with_context(context);
        }
        Ok(self.network(dims, Dtype::F32).validate()?)
    }

    /// The policy file in the engine of the controller, with libtorch as the independent check on it.
    fn policy<'a>(
        &self,
        run: &'a Run,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<Box<dyn Policy + 'a>> {
        let readable = in_pixels(run, checkpoint);
        let trained = Trained::new(run, &readable)?;
        let file = emit_bytes(&trained, Dtype::F32, Mixer::Attention, Golden::default())?;
        let torch = Torch::new(self, run, checkpoint)?;
        Ok(Box::new(Engine::of(torch, file)))
    }

    fn deployable(&self) -> Option<&dyn Deployable> {
        Some(self)
    }
}

/// What is predicted where a policy asks itself.
const REINFORMER: Predictions = Predictions {
    state: false,
    return_to_go: true,
};

/// Timesteps that a validation loss is the mean over, at least.
const VALIDATION_TIMESTEPS: usize = 64 * 116;

/// The same where a timestep is an image, which takes a thousand times the memory and the time.
const VALIDATION_IMAGES: usize = 512;

impl Deployable for Dt {
    fn network(&self, dims: Dims, dtype: Dtype) -> Config {
        self.network(dims, dtype)
    }
}

impl Dt {
    /// The network for data with these dimensions, as a policy file declares it.
    pub fn network(&self, dims: Dims, dtype: Dtype) -> Config {
        Config {
            state_dim: u32::try_from(dims.state_dim).unwrap_or(u32::MAX),
            act_dim: u32::try_from(dims.act_dim).unwrap_or(u32::MAX),
            d_model: self.d_model,
            n_layer: self.n_layer,
            n_head: self.n_head,
            d_ff: match self.d_ff {
                0 => self.d_model.saturating_mul(4),
                width => width,
            },
            context_len: self.context_len,
            max_ep_len: self.max_ep_len,
            dtype,
            attention: self.attention,
            mixer: match self.mixer {
                TokenMixer::Attention => Mixer::Attention,
                TokenMixer::Convolution => Mixer::Convolution,
            },
            activation: self.activation,
            head: self.head,
            math: self.math,
            layer_norm_eps: self.layer_norm_eps,
            glu: self.glu,
            actions: dims.actions,
            predictions: Predictions {
                state: self.predict_state > 0.0,
                return_to_go: self.predict_return > 0.0,
            },
            network: Network::Transformer,
            encoder: match dims.image {
                Some(image) => Encoder::Image(encoder::encoder(image, &self.convolutions())),
                None => Encoder::Linear,
            },
            embeddings: self.embeddings.network(),
            order: match self.is_reinformer() {
                true => Order::StateFirst,
                false => Order::ReturnFirst,
            },
        }
    }

    fn is_reinformer(&self) -> bool {
        self.return_expectile > 0.0
    }

    fn convolutions(&self) -> Vec<Convolution> {
        let convolution = |&[filters, kernel, stride]: &[u32; 3]| Convolution {
            filters,
            kernel,
            stride,
        };
        self.encoder.iter().map(convolution).collect()
    }

    /// [`Supervised::loss`] of the predictions of `batch` that the network makes of other inputs, `seen`.
    pub(super) fn loss_seeing(
        &self,
        seen: &Inputs,
        dims: Dims,
        network: &Bound<'_>,
        batch: &Batch,
        mode: Mode,
    ) -> Loss {
        let Batch { inputs, loss_mask } = batch;
        let (network, mask) = self.bound(dims, network, seen, mode);
        let outputs = network.outputs(seen, &mask, mode.dropout());
        let mut loss = action_loss(dims, &outputs.actions, batch);
        if self.is_reinformer()
            && let Some(possible) = &outputs.returns_to_go
        {
            let tau = self.return_expectile;
            let error = masked_expectile(possible, &inputs.returns_to_go, loss_mask, tau);
            loss.value += error * self.predict_return;
            return loss;
        }
        let steps = inputs.timesteps.size()[1];
        let without = |end: i64, x: &Tensor| x.narrow(1, end, steps - 1);
        let mask = without(0, loss_mask) * without(1, loss_mask);
        for (weight, predicted, target) in [
            (self.predict_state, &outputs.states, &inputs.states),
            (
                self.predict_return,
                &outputs.returns_to_go,
                &inputs.returns_to_go,
            ),
        ] {
            if let Some(predicted) = predicted {
                let error = masked_mse(&without(0, predicted), &without(1, target), &mask);
                loss.value += error * weight;
            }
        }
        loss
    }

    /// The network as `mode` runs it, and what its tokens see.
    fn bound(
        &self,
        dims: Dims,
        network: &Bound<'_>,
        inputs: &Inputs,
        mode: Mode,
    ) -> (DecisionTransformer, Tensor) {
        let config = self.network(dims, Dtype::F32);
        let mut network = DecisionTransformer::bind(&config, network);
        if mode != Mode::Acting {
            network = network.told(Now::First);
        }
        if matches!(mode, Mode::Training { .. }) {
            network = network.in_precision(self.precision);
        }
        let (_, timesteps) = inputs.timesteps.size2().expect("timesteps are (B, T)");
        let mask = attention_mask(&config, timesteps as usize, inputs.timesteps.device());
        (network, mask)
    }

    /// Timesteps a newest action can depend on: `n_layer · (K − 1) + 1` when streaming, or as far as convolutions reach, else K.
    pub fn receptive_field(&self) -> usize {
        if self.mixer == TokenMixer::Convolution {
            let network = self.network(Dims::vectors(1, 1), Dtype::F32);
            return network.receptive_field() as usize;
        }
        let k = self.context_len as usize;
        match self.attention {
            Attention::Streaming => self.n_layer as usize * k.saturating_sub(1) + 1,
            Attention::Window => k,
        }
    }

    /// Timesteps per training sequence.
    pub fn sequence_len(&self) -> usize {
        match (self.sequence_len, self.attention) {
            (0, Attention::Window) => self.context_len as usize,
            (0, Attention::Streaming) => self.receptive_field() + self.context_len as usize,
            (n, _) => n as usize,
        }
    }
}

#[cfg(test)]
mod tests;
