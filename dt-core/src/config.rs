//! What a policy file declares about its network, and how much memory that takes.

use serde::{Deserialize, Serialize};

use crate::quant::q_max;
use crate::slices::times;

mod error;
mod image;

pub use error::ConfigError;
pub use image::{Convolution, ImageEncoder, MAX_CONVOLUTIONS, MAX_IMAGE_SIDE, MAX_MAP, Placed};

/// Layers a parsed model can hold; each costs a fixed slot in [`crate::unstable::model::Model`].
pub const MAX_LAYERS: usize = 12;

/// Upper bound of every dimension, so that no size computation can overflow 32 bits.
pub const MAX_DIM: u32 = 1 << 13;

/// Upper bound of `context_len`, so that softmax denominators fit 31 bits.
pub const MAX_CONTEXT_LEN: u32 = 512;

/// Upper bound of `max_ep_len`.
pub const MAX_EP_LEN: u32 = 1 << 16;

/// Tokens a timestep contributes: return-to-go, state, action.
pub const TOKENS_PER_STEP: usize = 3;

/// Tokens that a mixing convolution sees, its own included ([`Mixer::Convolution`]).
pub const MIXED_TOKENS: usize = 6;

/// Whether this build knows the variants that few policies are.
pub(crate) const VARIANTS: bool = cfg!(any(test, feature = "variants"));

/// Number representation of weights, activations and cache (numerics contract, `BLOB.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Dtype {
    /// 32-bit floats throughout: the reference, and for import parity.
    F32,
    /// Weights and cache i8, activations i16, accumulators i32.
    Int8,
    /// As int8, but the matrices of the blocks and the timestep table have four bits per weight
    /// ([`crate::unstable::int4`]).
    Int4,
}

impl Dtype {
    /// Of the matrices outside the transformer blocks, which are few and small.
    pub const fn outside_blocks(self) -> Self {
        match self {
            Self::F32 => Self::F32,
            Self::Int8 | Self::Int4 => Self::Int8,
        }
    }
}

/// What the state token of the newest timestep may attend to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Attention {
    /// Every token attends to the last `context_len` timesteps in every layer; keys and values
    /// are kept in a ring, so a control step computes only its new tokens.
    Streaming,
    /// Each control step recomputes the last `context_len` timesteps from nothing, as the public
    /// checkpoints were trained.
    Window,
}

/// How a token's hidden state becomes queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Mixer {
    /// By one matrix each, and the heads' outputs go through another one (Vaswani et al. 2017).
    Attention,
    /// With one head, the products WqᵀWk and WoWv are one matrix each: scores are hᵀ(WqᵀWk)h and a
    /// number per token, outputs Σp·(WoWv)h. The same function in exact arithmetic, without a product
    /// for queries and one for the projection.
    Folded,
    /// No attention: each component is convolved with those of the last [`MIXED_TOKENS`] tokens, by filters for each of the three
    /// tokens of a timestep (Kim et al. 2024, "Decision ConvFormer"). Neither matrices nor a cache that grows with K.
    Convolution,
}

/// Nonlinearity between the two linear layers of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), the "gelu_new" of GPT-2.
    GeluTanh,
    /// x·Φ(x) = 0.5·x·(1 + erf(x/√2)), what `GeluTanh` approximates (Hendrycks & Gimpel 2016).
    Gelu,
    /// x/(1 + e⁻ˣ), also called swish.
    Silu,
    /// tanh(x).
    Tanh,
}

/// What kind of network it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Network {
    /// A Decision Transformer, told which return is wanted (Chen et al. 2021).
    #[default]
    Transformer,
    /// A multilayer perceptron from the last `context_len` states to the action: what behaviour cloning and actor-critics
    /// train. Before an episode's first state come zeros, the mean state. It knows no returns and no actions.
    Mlp,
}

/// What is applied to the output of the action head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Head {
    /// tanh: actions lie in (−1, 1) before scaling.
    Tanh,
    /// Nothing.
    Linear,
}

/// What an action is to the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Actions {
    /// A vector of act_dim numbers.
    #[default]
    Continuous,
    /// One of act_dim choices: the network reads it as a one-hot vector and gives a logit for each. Outside the
    /// network it is one number, its index.
    Discrete,
}

/// What a network predicts besides actions, from each action token: what is seen next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Predictions {
    /// The next state: a linear head of length state_dim.
    pub state: bool,
    /// The next return-to-go, a critic's opinion: a linear head of length 1.
    pub return_to_go: bool,
}

impl Predictions {
    /// Actions alone.
    pub const NONE: Self = Self {
        state: false,
        return_to_go: false,
    };

    /// Whether there are any.
    pub const fn any(self) -> bool {
        self.state || self.return_to_go
    }
}

/// In which order a control step's tokens come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Order {
    /// Return-to-go, state, action: what is asked for, what is seen, what is done (Chen et al. 2021).
    #[default]
    ReturnFirst,
    /// State, return-to-go, action (Zhuang et al. 2024, "Reinformer"): state tokens predict the return-to-go behind them instead
    /// of action tokens the next one, so that the network can ask itself for what it thinks possible from there
    /// ([`RewardMode::Predicted`](crate::blob::RewardMode::Predicted)). The action follows from the return's token.
    StateFirst,
}

/// What makes a token's embedding of its input, besides a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Embeddings {
    /// tanh of what the matrix gives, before positions are added.
    pub tanh: bool,
    /// A layer norm of the sum.
    pub norm: bool,
    /// What tells when a token was.
    pub positions: Positions,
}

impl Embeddings {
    /// As in the paper's network for Gym (Chen et al. 2021).
    pub const GYM: Self = Self {
        tanh: false,
        norm: true,
        positions: Positions::Timestep,
    };

    /// As in its network for Atari. With feature `variants` only.
    pub const ATARI: Self = Self {
        tanh: true,
        norm: false,
        positions: Positions::Window,
    };
}

impl Default for Embeddings {
    fn default() -> Self {
        Self::GYM
    }
}

/// What tells a network when a token was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Positions {
    /// The row of its timestep in the timestep table.
    #[default]
    Timestep,
    /// The row of its place in the window, in a table of 3·K rows, and for all tokens alike the row of the newest timestep in the
    /// timestep table. Attention is over a window then, since with every step a token's place is another.
    Window,
}

/// How an observation becomes the input of its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Encoder {
    /// A vector of state_dim numbers, normalized, through one matrix.
    #[default]
    Linear,
    /// An image of bytes, through convolutions and one matrix. With feature `images` only.
    #[cfg(feature = "images")]
    Image(ImageEncoder),
}

fn within(field: &'static str, value: u32, max: u32) -> Result<(), ConfigError> {
    if value == 0 || value > max {
        return Err(ConfigError::OutOfRange { field, value, max });
    }
    Ok(())
}

/// Where exp and tanh come from. Part of the policy file, since it changes output bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Math {
    /// `libm` (0.2, f32): accurate to about 1 ulp. What files of version 1 use.
    Libm,
    /// `micromath::F32`: a few instructions, errors as documented in [`crate::unstable::ops`].
    Micromath,
    /// The polynomials of [`crate::unstable::ops`], specified in `BLOB.md`: about as accurate as `libm`, at a third
    /// of the instructions.
    Polynomial,
}

/// Everything that determines the network's computation, apart from its weights.
///
/// Names and meaning follow the Decision Transformer paper (Chen et al. 2021) and GPT-2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Length of an observation; of an image height · width · channels.
    pub state_dim: u32,
    /// Length of an action in the network: of a vector, or the number of choices.
    pub act_dim: u32,
    /// Width of the residual stream; a multiple of `4 · n_head`.
    pub d_model: u32,
    /// Transformer blocks, or a perceptron's hidden layers.
    pub n_layer: u32,
    /// Attention heads per block.
    pub n_head: u32,
    /// Width of the MLP's hidden layer (GPT-2: `4 · d_model`), or of each hidden layer of a perceptron; a multiple of 4.
    pub d_ff: u32,
    /// K: timesteps a token attends to, or states a perceptron sees.
    pub context_len: u32,
    /// Rows of the timestep table; 0: the model has none.
    pub max_ep_len: u32,
    /// Number representation.
    pub dtype: Dtype,
    /// Streaming or window.
    pub attention: Attention,
    /// Attention as trained, or folded for inference.
    pub mixer: Mixer,
    /// MLP nonlinearity.
    pub activation: Activation,
    /// Action head.
    pub head: Head,
    /// Source of exp and tanh.
    pub math: Math,
    /// ε of every layer norm.
    pub layer_norm_eps: f32,
    /// A gated linear unit (Dauphin et al. 2017) before the action head: a linear layer d_model → 2·d_model, then the
    /// first half times the logistic function of the second.
    #[serde(skip)]
    pub glu: bool,
    /// What an action is.
    #[serde(skip)]
    pub actions: Actions,
    /// What else is predicted. Costs the last block of one more token.
    #[serde(skip)]
    pub predictions: Predictions,
    /// What kind of network it is. What only a transformer has is 0, or the first of its kind, in a perceptron, whose
    /// [`Config::mlp`] is the plain one; `attention` is [`Attention::Window`].
    #[serde(skip)]
    pub network: Network,
    /// What an observation goes through.
    #[serde(skip)]
    pub encoder: Encoder,
    /// What makes embeddings of inputs.
    #[serde(skip)]
    pub embeddings: Embeddings,
    /// Which token of a control step comes first. Where it is the state's, returns-to-go are predicted, and nothing else is.
    #[serde(skip)]
    pub order: Order,
}

impl Config {
    /// Checks that every dimension is in range and that integer sums cannot overflow.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is off.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.image() {
            None => within("state_dim", self.state_dim, MAX_DIM)?,
            Some(image) => image.validate(self.state_dim)?,
        }
        for (field, value, max) in [
            ("act_dim", self.act_dim, MAX_DIM),
            ("n_layer", self.n_layer, MAX_LAYERS as u32),
            ("d_ff", self.d_ff, MAX_DIM),
            ("context_len", self.context_len, MAX_CONTEXT_LEN),
        ] {
            within(field, value, max)?;
        }
        match self.is_mlp() {
            false => self.validate_transformer()?,
            true => self.validate_mlp()?,
        }
        if !self.d_ff.is_multiple_of(4) {
            return Err(ConfigError::MlpSize { d_ff: self.d_ff });
        }
        if self.actions == Actions::Discrete && self.head == Head::Tanh {
            return Err(ConfigError::TanhLogits);
        }
        Ok(())
    }

    fn validate_transformer(&self) -> Result<(), ConfigError> {
        within("d_model", self.d_model, MAX_DIM)?;
        within("n_head", self.n_head, MAX_DIM)?;
        if self.max_ep_len > MAX_EP_LEN {
            return Err(ConfigError::OutOfRange {
                field: "max_ep_len",
                value: self.max_ep_len,
                max: MAX_EP_LEN,
            });
        }
        // MAX_DIM keeps 4 * n_head far from overflow.
        if !self.d_model.is_multiple_of(4 * self.n_head) {
            return Err(ConfigError::HeadSize {
                d_model: self.d_model,
                n_head: self.n_head,
            });
        }
        if self.is_folded() && self.n_head != 1 {
            return Err(ConfigError::Folded {
                n_head: self.n_head,
            });
        }
        if self.is_convolved() && self.n_head != 1 {
            return Err(ConfigError::Convolved {
                n_head: self.n_head,
            });
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(ConfigError::Epsilon);
        }
        if self.image().is_some() && self.predictions.state {
            return Err(ConfigError::PredictsImages);
        }
        let Predictions {
            state,
            return_to_go,
        } = self.predictions;
        if self.is_state_first() && (state || !return_to_go) {
            return Err(ConfigError::StateFirst);
        }
        let is_window = self.attention == Attention::Window && !self.is_convolved();
        if self.is_placed_in_window() && !is_window {
            return Err(ConfigError::WindowPositions);
        }
        let is_variant = self.mixer == Mixer::Convolution
            || self.order == Order::StateFirst
            || self.embeddings != Embeddings::GYM;
        if is_variant && !VARIANTS {
            return Err(ConfigError::Variant);
        }
        Ok(())
    }

    fn validate_mlp(&self) -> Result<(), ConfigError> {
        within("context_len * state_dim", self.seen_len(), MAX_DIM)?;
        // One network, one description: a value that means nothing would make two files of it.
        for (field, is_there) in [
            ("d_model", self.d_model != 0),
            ("n_head", self.n_head != 0),
            ("max_ep_len", self.max_ep_len != 0),
            ("attention", self.attention != Attention::Window),
            ("mixer", self.mixer != Mixer::Attention),
            ("layer_norm_eps", self.layer_norm_eps.to_bits() != 0),
            ("glu", self.glu),
            ("predictions", self.predictions.any()),
            ("encoder", self.encoder != Encoder::Linear),
            ("embeddings", self.embeddings != Embeddings::GYM),
            ("order", self.is_state_first()),
        ] {
            if is_there {
                return Err(ConfigError::NotInMlp { field });
            }
        }
        Ok(())
    }

    /// A multilayer perceptron in f32 with ReLUs and tanh at its end, to be filled in with struct update syntax: `n_layer`
    /// hidden layers of `d_ff` between the last `context_len` states and the action.
    pub const fn mlp(
        [state_dim, act_dim]: [u32; 2],
        [n_layer, d_ff]: [u32; 2],
        context_len: u32,
    ) -> Self {
        Self {
            state_dim,
            act_dim,
            d_model: 0,
            n_layer,
            n_head: 0,
            d_ff,
            context_len,
            max_ep_len: 0,
            dtype: Dtype::F32,
            attention: Attention::Window,
            mixer: Mixer::Attention,
            activation: Activation::Relu,
            head: Head::Tanh,
            math: Math::Polynomial,
            layer_norm_eps: 0.0,
            glu: false,
            actions: Actions::Continuous,
            predictions: Predictions::NONE,
            network: Network::Mlp,
            encoder: Encoder::Linear,
            embeddings: Embeddings::GYM,
            order: Order::ReturnFirst,
        }
    }

    /// Whether it is a multilayer perceptron ([`Network::Mlp`]). Never without feature `mlp`, so that a build without it has no code
    /// for one.
    #[inline]
    pub const fn is_mlp(&self) -> bool {
        cfg!(any(test, feature = "mlp")) && matches!(self.network, Network::Mlp)
    }

    /// Values that a perceptron sees at once: context_len · state_dim.
    pub const fn seen_len(&self) -> u32 {
        self.context_len.saturating_mul(self.state_dim)
    }

    /// Outputs and inputs of a perceptron's hidden layer number `index`, and what its weights are: the first reads the states,
    /// as an embedding does.
    pub(crate) const fn hidden(&self, index: usize) -> (Dtype, [usize; 2]) {
        let width = self.d_ff as usize;
        match index {
            0 => (
                self.dtype.outside_blocks(),
                [width, self.seen_len() as usize],
            ),
            _ => (self.dtype, [width, width]),
        }
    }

    /// Width of what the head reads.
    pub(crate) const fn head_inputs(&self) -> u32 {
        match self.is_mlp() {
            false => self.d_model,
            true => self.d_ff,
        }
    }

    /// What an image goes through; `None` where observations are vectors.
    #[inline]
    pub const fn image(&self) -> Option<&ImageEncoder> {
        match &self.encoder {
            Encoder::Linear => None,
            #[cfg(feature = "images")]
            Encoder::Image(image) => Some(image),
        }
    }

    /// Length of the vectors that say of an observation's components what they are: state_dim, or 0 of images, whose pixels are all
    /// alike.
    pub const fn state_vector_len(&self) -> u32 {
        match self.image() {
            Some(_) => 0,
            None => self.state_dim,
        }
    }

    /// Length of what is kept of an observation: state_dim, or d_model, since an image is kept as its embedding.
    pub(crate) const fn kept_state_len(&self) -> u32 {
        match self.image() {
            Some(_) => self.d_model,
            None => self.state_dim,
        }
    }

    /// Columns of `embed_state`: state_dim, or what the convolutions leave of an image.
    pub const fn embedded_len(&self) -> u32 {
        match self.image() {
            Some(image) => image.flat(),
            None => self.state_dim,
        }
    }

    /// Timesteps that an action depends on, its own included: K where attention is over a window; where it streams, every
    /// layer reaches K − 1 further back, and of one that convolves as many tokens as it sees.
    pub const fn receptive_field(&self) -> u32 {
        if self.is_convolved() && matches!(self.attention, Attention::Streaming) {
            // From a timestep's second token.
            let tokens = self
                .n_layer
                .saturating_mul(MIXED_TOKENS as u32 - 1)
                .saturating_sub(1);
            return tokens.div_ceil(TOKENS_PER_STEP as u32).saturating_add(1);
        }
        let layers = match self.attention {
            Attention::Window => 1,
            Attention::Streaming => self.n_layer,
        };
        layers
            .saturating_mul(self.context_len.saturating_sub(1))
            .saturating_add(1)
    }

    /// Whether queries and projections are folded away ([`Mixer::Folded`]).
    pub const fn is_folded(&self) -> bool {
        matches!(self.mixer, Mixer::Folded)
    }

    /// Whether tokens are mixed by convolutions ([`Mixer::Convolution`]). Never without feature `variants`, as with what else it brings,
    /// so that a build without it has no code for one.
    #[inline]
    pub const fn is_convolved(&self) -> bool {
        VARIANTS && matches!(self.mixer, Mixer::Convolution)
    }

    /// Whether tokens are told their places in the window ([`Positions::Window`]).
    #[inline]
    pub const fn is_placed_in_window(&self) -> bool {
        VARIANTS && matches!(self.embeddings.positions, Positions::Window)
    }

    /// Whether embeddings go through a layer norm.
    #[inline]
    pub const fn has_embedding_norm(&self) -> bool {
        !VARIANTS || self.embeddings.norm
    }

    /// Whether embeddings go through tanh.
    #[inline]
    pub const fn has_embedding_tanh(&self) -> bool {
        VARIANTS && self.embeddings.tanh
    }

    /// Rows of the table of places in the window: 3·K, or none.
    pub const fn position_rows(&self) -> usize {
        match self.is_placed_in_window() {
            true => times(TOKENS_PER_STEP, self.context_len as usize),
            false => 0,
        }
    }

    /// Timesteps that the tokens of one see in a layer, its own included: K, or those of [`MIXED_TOKENS`] tokens.
    pub(crate) const fn seen_steps(&self) -> usize {
        match self.is_convolved() {
            false => self.context_len as usize,
            true => MIXED_TOKENS.div_ceil(TOKENS_PER_STEP).saturating_add(1),
        }
    }

    /// Rows of a layer's folded matrix: keys and values (d_model each), the key's bias, and one that pads the pair.
    pub const fn folded_rows(&self) -> u32 {
        self.d_model.saturating_add(1).saturating_mul(2)
    }

    /// Length of an action outside the network: act_dim, or 1 for the index of a choice.
    pub const fn action_len(&self) -> u32 {
        match self.actions {
            Actions::Continuous => self.act_dim,
            Actions::Discrete => 1,
        }
    }

    /// Logits that an action is chosen by: act_dim, or 0 where actions are continuous.
    pub const fn logits_len(&self) -> u32 {
        match self.actions {
            Actions::Continuous => 0,
            Actions::Discrete => self.act_dim,
        }
    }

    /// Length of the predicted state: state_dim, or 0 where none is predicted.
    pub const fn predicted_state_len(&self) -> u32 {
        if self.predictions.state {
            self.state_dim
        } else {
            0
        }
    }

    /// Values predicted besides actions: the state's, then the return-to-go.
    pub const fn predictions_len(&self) -> u32 {
        self.predicted_state_len()
            .saturating_add(self.predictions.return_to_go as u32)
    }

    /// Whether tokens come to predict anything: of an action's, a window of one timestep ends before it.
    pub const fn predicts(&self) -> bool {
        let sees_actions = matches!(self.attention, Attention::Streaming) || self.context_len > 1;
        self.predictions.any() && (sees_actions || self.is_state_first())
    }

    /// Whether the state's token is a control step's first ([`Order::StateFirst`]).
    #[inline]
    pub const fn is_state_first(&self) -> bool {
        VARIANTS && matches!(self.order, Order::StateFirst)
    }

    /// Width of one attention head.
    pub const fn d_head(&self) -> usize {
        match self.d_model.checked_div(self.n_head) {
            Some(d) => d as usize,
            None => 0,
        }
    }

    /// 32-bit words of memory that a policy with this configuration needs, all of it: cache,
    /// scratch and the control loop's own state.
    ///
    /// A `const fn`, so that firmware can size a `static` with it.
    pub const fn arena_words(&self) -> usize {
        crate::arena::Layout::new(self).words()
    }
}

/// The accumulator bound every dimension relies on: with at most [`MAX_DIM`] terms an activation
/// still has 11 bits.
const _: () = assert!(q_max(MAX_DIM as usize) >= 1024);
