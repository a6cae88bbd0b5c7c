//! The recipe of a training run: one TOML file, every key optional and documented in
//! `configs/gym.toml`, unknown keys refused with the nearest name.

mod names;
mod validate;

use std::path::{Path, PathBuf};

use dt_core::blob::{AtMaxEpLen, BeyondLimits, RewardMode};
use dt_core::config::{Activation, Attention, Dtype, Head, Math, Mixer};
use serde::{Deserialize, Serialize};

use names::{
    ActivationName, AtMaxEpLenName, AttentionName, BeyondLimitsName, HeadName, RewardModeName,
};

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A Decision Transformer.
    #[default]
    Transformer,
    /// The baseline, behaviour cloning: see [`crate::algo::bc`].
    Bc,
}

/// Everything that determines a training run besides its data.
///
/// Defaults are the reference recipe of the Decision Transformer paper for Gym (Chen et al. 2021,
/// appendix A), with streaming attention and a timestep table that starts small.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The network.
    pub model: Model,
    /// How logged data becomes network inputs.
    pub data: Data,
    /// Optimization.
    pub train: Train,
    /// Evaluation during training.
    pub eval: Eval,
    /// What the exported policy does on the controller.
    pub control: Control,
}

/// The network; names and meaning as in [`dt_core::config::Config`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// `"transformer"` or `"bc"`: behaviour cloning, which has context_len, n_layer, d_model and head, all else not.
    pub kind: Kind,
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
    /// `"relu"` or `"gelu_tanh"`.
    #[serde(with = "ActivationName")]
    pub activation: Activation,
    /// `"tanh"` or `"linear"`.
    #[serde(with = "HeadName")]
    pub head: Head,
    /// `"libm"` or `"micromath"`: where the exported policy takes exp and tanh from.
    #[serde(with = "names::math_name")]
    pub math: Math,
    /// ε of every layer norm.
    pub layer_norm_eps: f32,
    /// Standard deviation of the timestep table's initial values.
    pub timestep_init_std: f64,
}

/// How logged data becomes network inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Returns-to-go are divided by this before the network sees them; 0: by
    /// [`Dataset::return_scale`](crate::data::Dataset::return_scale), which the run folder then records.
    pub return_scale: f32,
    /// Subtract the mean and divide by the standard deviation of each state feature.
    pub normalize_states: bool,
    /// Train on the best episodes by return only, as many as fit into this percentage of the transitions.
    pub top_percent: f64,
    /// All reward of an episode comes with its last step.
    pub delayed_reward: bool,
    /// Percentage of the episodes, evenly spread over the data, that are not trained on: `validation_loss` in
    /// `metrics.jsonl` is that on them.
    pub validation_percent: f64,
}

/// Optimization: AdamW with linear warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Seed of initialization, sampling and dropout.
    pub seed: u64,
    /// Optimizer updates.
    pub updates: u64,
    /// Sequences per update.
    pub batch_size: u32,
    /// Timesteps per sequence; 0: `context_len` for window attention, else the receptive field
    /// plus `context_len`.
    pub sequence_len: u32,
    /// Timesteps at the start of a sequence that carry no loss, unless the episode starts there.
    pub burn_in: u32,
    /// Fraction of the sequences that start where their episode does, besides those that do by chance.
    pub start_fraction: f64,
    /// Fraction of the sequences that come from the best episodes only: where the data mix qualities (Hong et al. 2023,
    /// "Harnessing mixed offline reinforcement learning datasets via trajectory weighting").
    pub best_fraction: f64,
    /// The best episodes by return, as many as fit into this percentage of the transitions.
    pub best_percent: f64,
    /// Learning rate after warm-up.
    pub learning_rate: f64,
    /// The learning rate falls along a half cosine to this fraction of itself at the last update;
    /// 1: it stays constant.
    pub learning_rate_final: f64,
    /// Updates over which the learning rate rises linearly from 0.
    pub warmup_updates: u64,
    /// Decay of AdamW, on every parameter.
    pub weight_decay: f64,
    /// Decay rate of AdamW's first moment.
    pub beta_1: f64,
    /// Decay rate of AdamW's second moment.
    pub beta_2: f64,
    /// Largest global gradient norm; 0: no clipping.
    pub grad_clip: f64,
    /// Dropout on embeddings, attention weights and residual branches.
    pub dropout: f64,
    /// Decay rate per update of the parameters' exponential moving average, which then is the result; 0: none.
    ///
    /// What descent leaves of noise in the parameters decides over success or failure where errors grow along an
    /// episode, and averages out (Block et al. 2023, "Butterfly effects of SGD noise").
    pub ema_decay: f64,
    /// `"f32"` or `"bf16"`: what the transformer blocks multiply in.
    pub precision: Precision,
    /// CPU threads of libtorch; 0: one per core. Sums are split among them, so the last bits of a
    /// run on the CPU depend on their number.
    pub threads: u32,
    /// Updates between lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Updates between checkpoints.
    pub checkpoint_every: u64,
}

/// What the transformer blocks multiply in while training. Parameters, their optimizer, the residual
/// stream, norms, embeddings and head are f32 in any case, and so is every evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 24 significant bits.
    #[default]
    F32,
    /// 8 significant bits, sums in f32: faster where the processor multiplies bf16 itself (GPUs since
    /// 2020; CPUs with AVX512-BF16 or AMX), slower elsewhere.
    Bf16,
}

/// Evaluation during training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Eval {
    /// Updates between evaluations; 0: only after the last update.
    pub every: u64,
    /// Episodes per target return.
    pub episodes: u32,
    /// Returns to ask for, in raw units. The first is the exported policy's default and decides
    /// which checkpoint is best. Empty: the highest episode return in the data.
    pub target_returns: Vec<f32>,
}

/// What the exported policy does on the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// `"observed"`, `"constant"` or `"external"`: how the return-to-go moves on.
    #[serde(with = "RewardModeName")]
    pub reward: RewardMode,
    /// `"saturate"` or `"fault"`: what happens after `max_ep_len` steps.
    #[serde(with = "AtMaxEpLenName")]
    pub at_max_ep_len: AtMaxEpLen,
    /// `"clamp"` or `"fault"`: what happens when the return-to-go leaves the data's range, which is widened as that of
    /// observations is and includes `eval.target_returns`.
    #[serde(with = "BeyondLimitsName")]
    pub return_limit: BeyondLimits,
    /// Control period in microseconds; 0: the environment's.
    pub period_us: u32,
    /// Observations further than this many data ranges outside the data's range are faults; a feature that never varied
    /// has its standard deviation (1e-6; 1 without `data.normalize_states`) for a range.
    pub state_margin: f32,
    /// Action range, one number per component; empty: the environment's.
    pub action_low: Vec<f32>,
    /// See `action_low`.
    pub action_high: Vec<f32>,
    /// Action after a fault; empty: the centre of the action range.
    pub safe_action: Vec<f32>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            kind: Kind::Transformer,
            d_model: 128,
            n_layer: 3,
            n_head: 1,
            d_ff: 0,
            context_len: 20,
            max_ep_len: 1000,
            attention: Attention::Streaming,
            activation: Activation::Relu,
            head: Head::Tanh,
            math: Math::Polynomial,
            layer_norm_eps: 1e-5,
            timestep_init_std: 0.02,
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Self {
            return_scale: 1000.0,
            normalize_states: true,
            top_percent: 100.0,
            delayed_reward: false,
            validation_percent: 0.0,
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            seed: 0,
            updates: 100_000,
            batch_size: 64,
            sequence_len: 0,
            burn_in: 0,
            start_fraction: 0.0,
            best_fraction: 0.0,
            best_percent: 20.0,
            learning_rate: 1e-4,
            learning_rate_final: 1.0,
            warmup_updates: 10_000,
            weight_decay: 1e-4,
            beta_1: 0.9,
            beta_2: 0.999,
            grad_clip: 0.25,
            dropout: 0.1,
            ema_decay: 0.0,
            precision: Precision::F32,
            threads: 0,
            log_every: 100,
            checkpoint_every: 1000,
        }
    }
}

impl Default for Eval {
    fn default() -> Self {
        Self {
            every: 10_000,
            episodes: 10,
            target_returns: Vec::new(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            reward: RewardMode::Observed,
            at_max_ep_len: AtMaxEpLen::Saturate,
            return_limit: BeyondLimits::Clamp,
            period_us: 0,
            state_margin: 0.5,
            action_low: Vec::new(),
            action_high: Vec::new(),
            safe_action: Vec::new(),
        }
    }
}

/// Why a recipe was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read config {path}: {source}")]
    Read {
        /// Config file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Not TOML, or a value of the wrong type.
    #[error("{origin}: {message}")]
    Syntax {
        /// File, or `--set KEY=VALUE`.
        origin: String,
        /// What is wrong and where.
        message: String,
    },
    /// A key that no recipe has.
    #[error("{origin}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// File, or `--set KEY=VALUE`.
        origin: String,
        /// The key, dotted.
        key: String,
        /// The known key nearest to it.
        nearest: String,
    },
    /// A value out of range.
    #[error("{origin}: `{key}`: {message}")]
    Value {
        /// File, or the command line.
        origin: String,
        /// The key, dotted.
        key: String,
        /// Accepted values.
        message: String,
    },
}

impl Config {
    /// Reads `file` (none: the defaults), then applies `KEY=VALUE` settings in order, then checks
    /// every value.
    ///
    /// # Errors
    /// [`ConfigError`] names file, key and remedy.
    pub fn load(file: Option<&Path>, settings: &[String]) -> Result<Self, ConfigError> {
        let mut table = toml::Table::new();
        let mut origin = "defaults".to_owned();
        if let Some(path) = file {
            origin = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?;
            table = text
                .parse()
                .map_err(|e: toml::de::Error| syntax(&origin, &e))?;
            names::refuse_unknown(&origin, &table)?;
        }
        for setting in settings {
            let setting_origin = format!("--set {setting}");
            let one = names::parse_setting(&setting_origin, setting)?;
            names::refuse_unknown(&setting_origin, &one)?;
            names::merge(&mut table, one);
        }
        if !settings.is_empty() {
            origin = format!("{origin} with --set {}", settings.join(" --set "));
        }
        let config: Self = table.try_into().map_err(|e| syntax(&origin, &e))?;
        config.validate(&origin)?;
        Ok(config)
    }

    /// As TOML that [`Config::load`] reads back to the same values.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain values only")
    }

    /// The network for data with these dimensions, as a policy file declares it.
    pub fn network(
        &self,
        state_dim: usize,
        act_dim: usize,
        dtype: Dtype,
    ) -> dt_core::config::Config {
        let model = &self.model;
        dt_core::config::Config {
            state_dim: u32::try_from(state_dim).unwrap_or(u32::MAX),
            act_dim: u32::try_from(act_dim).unwrap_or(u32::MAX),
            d_model: model.d_model,
            n_layer: model.n_layer,
            n_head: model.n_head,
            d_ff: self.d_ff(),
            context_len: model.context_len,
            max_ep_len: model.max_ep_len,
            dtype,
            attention: model.attention,
            mixer: Mixer::Attention,
            activation: model.activation,
            head: model.head,
            math: model.math,
            layer_norm_eps: model.layer_norm_eps,
        }
    }

    /// Timesteps a newest action can depend on: `n_layer · (K − 1) + 1` when streaming, else K.
    pub fn receptive_field(&self) -> usize {
        let k = self.model.context_len as usize;
        match self.model.attention {
            Attention::Streaming => self.model.n_layer as usize * (k - 1) + 1,
            Attention::Window => k,
        }
    }

    /// Timesteps per training sequence.
    pub fn sequence_len(&self) -> usize {
        match (self.train.sequence_len, self.model.attention) {
            (0, Attention::Window) => self.model.context_len as usize,
            (0, Attention::Streaming) => self.receptive_field() + self.model.context_len as usize,
            (n, _) => n as usize,
        }
    }

    fn d_ff(&self) -> u32 {
        match self.model.d_ff {
            0 => self.model.d_model.saturating_mul(4),
            width => width,
        }
    }
}

fn syntax(origin: &str, error: &toml::de::Error) -> ConfigError {
    ConfigError::Syntax {
        origin: origin.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests;
