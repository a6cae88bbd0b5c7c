//! The recipe of a training run: one TOML file, every key optional and documented in
//! `configs/default.toml`, unknown keys refused with the nearest name.
//!
//! `algo` names the algorithm, whose own section has its name; the other sections are common to all.

mod keys;
pub(crate) mod names;
mod source;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use dt_core::blob::{AtMaxEpLen, BeyondLimits, Choice, RewardMode, Sampling};
use serde::{Deserialize, Serialize, Serializer};

use crate::algo::dt::Dt;
use crate::algo::{Algorithm, registry};
use crate::data::Reading;
pub use source::Source;

use names::{AtMaxEpLenName, BeyondLimitsName, RewardModeName};

/// Everything that determines a training run besides its data.
///
/// Defaults are network and optimization of the Decision Transformer paper for Gym (Chen et al. 2021, appendix A), with
/// streaming attention, a timestep table that starts small and the data's own scale of returns; the paper's recipe itself is
/// shipped as `paper`.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What is trained: the algorithm that `algo` names, with the values of its own section.
    pub algorithm: Arc<dyn Algorithm>,
    /// How logged data becomes network inputs.
    pub data: Data,
    /// Optimization.
    pub train: Train,
    /// Evaluation during training.
    pub eval: Eval,
    /// What the exported policy does on the controller.
    pub control: Control,
}

/// The sections that every algorithm has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sections {
    data: Data,
    train: Train,
    eval: Eval,
    control: Control,
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
    /// Steps after which an episode is over where the files mark no end of it; 0: files without such marks are refused.
    pub max_episode_steps: u32,
    /// Leave episodes out that cannot be used, instead of refusing their file.
    pub skip_bad_episodes: bool,
    /// Entries of observations that are dictionaries, joined to one vector in this order.
    pub observation_keys: Vec<String>,
    /// Frames that make one observation where observations are images: the newest and those before it, zeros before an episode's
    /// first. 1 where the files have them stacked already.
    pub frame_stack: u32,
    /// How many choices there are where actions are choices and no environment says it; 0: as many as the files say. Numbers
    /// that files have as floats are choices where this is set.
    pub actions_n: u32,
    /// Take data of several environments, or of another than `--env` names; without, they are refused.
    pub any_env: bool,
}

impl Data {
    /// What the readers of files are told.
    pub fn reading(&self) -> Reading {
        Reading {
            max_episode_steps: (self.max_episode_steps > 0)
                .then_some(self.max_episode_steps as usize),
            skip_bad_episodes: self.skip_bad_episodes,
            observation_keys: self.observation_keys.clone(),
            frame_stack: self.frame_stack as usize,
        }
    }
}

/// Optimization: AdamW with linear warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Seed of initialization, sampling and dropout.
    pub seed: u64,
    /// Optimizer updates. A run may be resumed with more; from there on, its learning rate is that of a run of so many.
    pub updates: u64,
    /// Sequences per update; what one is, the algorithm says.
    pub batch_size: u32,
    /// Learning rate after warm-up.
    pub learning_rate: f64,
    /// The learning rate falls along a half cosine to this fraction of itself at the last update;
    /// 1: it stays constant.
    pub learning_rate_final: f64,
    /// Updates over which the learning rate rises linearly from 0.
    pub warmup_updates: u64,
    /// Decay of AdamW, of every parameter, or of matrices alone.
    pub weight_decay: f64,
    /// Biases, norms and tables do not decay, as in the paper's code for Atari; there a table of choices counts as one, here it is a
    /// matrix.
    pub decay_matrices_only: bool,
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
    /// CPU threads of libtorch; 0: one per core. Sums are split among them, so the last bits of a
    /// run on the CPU depend on their number.
    pub threads: u32,
    /// Updates between lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Updates between checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints that are kept besides the newest and that of the best evaluation: the newest before it.
    pub checkpoint_keep: u32,
    /// Write the records as an event file for TensorBoard as well.
    pub tensorboard: bool,
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
    /// Action after a fault; empty: the centre of the action range, of choices the first.
    pub safe_action: Vec<f32>,
    /// `"greedy"` or `"sampled"`: where actions are choices, the one with the largest logit, or one drawn by softmax. Greedy
    /// choices may hardly follow the target return where the data's actions are random.
    pub choice: ChoiceName,
    /// Divisor of the logits of sampled choices: below 1 the likely ones are likelier.
    pub temperature: f32,
    /// Sampled choices are among this many largest logits; 0: among all.
    pub top_k: u32,
}

/// How a choice is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChoiceName {
    /// The largest logit.
    #[default]
    Greedy,
    /// Drawn.
    Sampled,
}

impl Control {
    /// How a discrete action follows from the logits; `seed` is the key of its random numbers where an episode has no
    /// seed of its own.
    pub fn choice(&self, seed: u64) -> Choice {
        match self.choice {
            ChoiceName::Greedy => Choice::Greedy,
            ChoiceName::Sampled => Choice::Sampled(Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                seed,
            }),
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Self {
            return_scale: 0.0,
            normalize_states: true,
            top_percent: 100.0,
            delayed_reward: false,
            validation_percent: 0.0,
            max_episode_steps: 0,
            skip_bad_episodes: false,
            observation_keys: Vec::new(),
            frame_stack: 1,
            actions_n: 0,
            any_env: false,
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            seed: 0,
            updates: 100_000,
            batch_size: 64,
            learning_rate: 1e-4,
            learning_rate_final: 1.0,
            warmup_updates: 10_000,
            weight_decay: 1e-4,
            decay_matrices_only: false,
            beta_1: 0.9,
            beta_2: 0.999,
            grad_clip: 0.25,
            dropout: 0.1,
            ema_decay: 0.0,
            threads: 0,
            log_every: 100,
            checkpoint_every: 1000,
            checkpoint_keep: 0,
            tensorboard: false,
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
            choice: ChoiceName::Greedy,
            temperature: 1.0,
            top_k: 0,
        }
    }
}

/// Why a recipe was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read config {path}: {source}; give a file, or a recipe by name: {shipped}")]
    Read {
        /// Config file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
        /// The names.
        shipped: String,
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

impl Default for Recipe {
    fn default() -> Self {
        Self::new(Dt::default())
    }
}

impl PartialEq for Recipe {
    fn eq(&self, other: &Self) -> bool {
        self.to_table() == other.to_table()
    }
}

impl Serialize for Recipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_table().serialize(serializer)
    }
}

impl Recipe {
    /// The defaults for an algorithm: but for its own section, those of the shipped recipe of its name.
    pub fn new(algorithm: impl Algorithm + 'static) -> Self {
        let mut sections = published(algorithm.name());
        sections.remove(algorithm.name());
        sections.remove(keys::ALGO);
        let sections = sections.try_into().expect("shipped recipes are valid");
        Self::with(Arc::new(algorithm), sections)
    }

    /// Reads `source` (none: the defaults) over the recipe that it [extends](Source), if any, then applies `KEY=VALUE` settings in order, then checks every value.
    ///
    /// # Errors
    /// [`ConfigError`] names file, key and remedy.
    pub fn load(source: Option<&Source>, settings: &[String]) -> Result<Self, ConfigError> {
        let mut origin = "defaults".to_owned();
        let mut layers = Vec::new();
        if let Some(source) = source {
            origin = source.to_string();
            layers = source.layers()?;
        }
        let files = layers.len();
        for setting in settings {
            let origin = format!("--set {setting}");
            let table = keys::parse_setting(&origin, setting)?;
            layers.push((origin, table));
        }
        if !settings.is_empty() {
            origin = format!("{origin} with --set {}", settings.join(" --set "));
        }
        Self::of(origin, layers, files)
    }

    /// What [`Recipe::to_toml`] wrote, as a table; `origin` is where it was found.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub(crate) fn from_table(origin: &str, table: toml::Table) -> Result<Self, ConfigError> {
        Self::of(origin.to_owned(), vec![(origin.to_owned(), table)], 1)
    }

    /// Lays the tables over each other, the first `files` of them from files, the rest from the command line.
    fn of(
        origin: String,
        layers: Vec<(String, toml::Table)>,
        files: usize,
    ) -> Result<Self, ConfigError> {
        let registry = registry();
        let name = keys::algorithm(&layers)?;
        let mut merged = published(&name);
        let entry = keys::find(&registry, &name).map_err(|message| ConfigError::Value {
            origin: origin.clone(),
            key: keys::ALGO.to_owned(),
            message,
        })?;
        for (i, (origin, mut table)) in layers.into_iter().enumerate() {
            keys::modernize(&mut table, &entry);
            keys::refuse_unknown(&origin, &table, &entry, &registry)?;
            if i >= files {
                keys::refuse_others(&origin, &table, &entry, &registry)?;
            }
            keys::merge(&mut merged, table);
        }
        merged.remove(keys::ALGO);
        let mut own = toml::Table::new();
        for section in entry.like.into_iter().chain([entry.name]) {
            match merged.remove(section) {
                Some(toml::Value::Table(table)) => keys::merge(&mut own, table),
                Some(_) => return Err(syntax(&origin, &format!("`{section}` is a section"))),
                None => {}
            }
        }
        // A file may hold sections for several algorithms.
        merged.retain(|section, _| registry.iter().all(|entry| entry.name != section));
        let sections = merged.try_into().map_err(|e| syntax(&origin, &e))?;
        let algorithm = entry
            .parse(own)
            .expect("`find` returns what learns from data");
        let algorithm = algorithm.map_err(|e| syntax(&format!("{origin}, [{name}]"), &e))?;
        let recipe = Self::with(algorithm, sections);
        recipe.validate(&origin)?;
        Ok(recipe)
    }

    /// As TOML that [`Recipe::load`] reads back to the same values.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.to_table()).expect("plain values only")
    }

    /// Every key, dotted, with its value.
    pub(crate) fn dotted(&self) -> BTreeMap<String, toml::Value> {
        let mut keys = BTreeMap::new();
        for (section, value) in self.to_table() {
            match value {
                toml::Value::Table(inner) => {
                    keys.extend(
                        inner
                            .into_iter()
                            .map(|(key, value)| (format!("{section}.{key}"), value)),
                    );
                }
                value => {
                    keys.insert(section, value);
                }
            }
        }
        keys
    }

    fn with(algorithm: Arc<dyn Algorithm>, sections: Sections) -> Self {
        let Sections {
            data,
            train,
            eval,
            control,
        } = sections;
        Self {
            algorithm,
            data,
            train,
            eval,
            control,
        }
    }

    fn to_table(&self) -> toml::Table {
        let sections = Sections {
            data: self.data.clone(),
            train: self.train.clone(),
            eval: self.eval.clone(),
            control: self.control.clone(),
        };
        let name = self.algorithm.name();
        let mut table = toml::Table::try_from(sections).expect("plain values only");
        table.insert(keys::ALGO.to_owned(), name.into());
        table.insert(name.to_owned(), self.algorithm.section().into());
        table
    }
}

/// What recipes of an algorithm begin with, since what suits one in `[train]` need not suit another: the shipped recipe of its
/// name; empty where there is none.
fn published(algorithm: &str) -> toml::Table {
    let mut merged = toml::Table::new();
    if let Some(source) = Source::of_algorithm(algorithm) {
        for (_, table) in source.layers().expect("shipped recipes are valid") {
            keys::merge(&mut merged, table);
        }
    }
    merged
}

fn syntax(origin: &str, error: &dyn fmt::Display) -> ConfigError {
    ConfigError::Syntax {
        origin: origin.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests;
