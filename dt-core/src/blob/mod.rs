//! The policy file: format version 2, specified byte by byte in `BLOB.md`. Version 1 is read as well.

mod check;
mod error;
mod extent;
mod read;
mod requires;
mod version_1;
#[cfg(any(test, feature = "emit"))]
mod write;

#[cfg(any(test, feature = "emit"))]
pub use error::EmitError;
pub use error::{BlobError, Feature, TensorName};
#[cfg(any(test, feature = "emit"))]
pub use write::{Affine, Golden, LayerParameters, MixerParameters, Parameters, emit, emitted_len};

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::config::{
    Actions, Config, MAX_CONVOLUTIONS, MIXED_TOKENS, Mixer, Network, Predictions, TOKENS_PER_STEP,
};
use crate::model::Model;
use crate::slices::plus;

/// The convolutions' modules ([`TensorName::module`]), input side first.
pub(crate) const CONVOLUTION_MODULES: [&str; MAX_CONVOLUTIONS] = ["conv_1", "conv_2", "conv_3"];

/// First bytes of every policy file.
pub const MAGIC: [u8; 8] = *b"DTPOLICY";

/// The format version that this crate writes, and the newest it reads.
pub const VERSION: u32 = 2;

/// Every tensor, and the file itself, starts at a multiple of this many bytes.
pub const ALIGNMENT: usize = 16;

const VERSION_FIELD: Range<usize> = 8..12;
const CRC_FIELD: Range<usize> = 12..16;
const LENGTH_FIELD: Range<usize> = 16..20;
const MANIFEST_LEN_FIELD: Range<usize> = 20..24;
const HEADER_LEN: usize = 24;

/// CRC-32/ISO-HDLC over `file`, all but the CRC field itself.
fn checksum(file: &[u8]) -> u32 {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let mut digest = CRC.digest();
    digest.update(file.get(..CRC_FIELD.start).unwrap_or_default());
    digest.update(file.get(CRC_FIELD.end..).unwrap_or_default());
    digest.finalize()
}

/// Where the return-to-go comes from after each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RewardMode {
    /// The controller measures rewards: R̂ ← R̂ − r after every step.
    Observed,
    /// R̂ stays at the target for the whole episode.
    Constant,
    /// A host sends R̂ with [`crate::Policy::set_return_to_go`].
    External,
    /// The network says what it thinks possible from each state, and is asked for that, within the policy's
    /// [`ReturnLimits`] if it has some: nobody has to want anything. Only where the order is
    /// [`StateFirst`](crate::config::Order::StateFirst).
    Predicted,
}

/// What happens when an episode outlasts `max_ep_len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum AtMaxEpLen {
    /// The timestep embedding stays at its last row.
    Saturate,
    /// The [`crate::Guard`] latches [`crate::Fault::EpisodeOver`].
    Fault,
}

/// Returns-to-go that the policy knows from its training, in the environment's units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ReturnLimits {
    /// Lowest.
    pub low: f32,
    /// Highest.
    pub high: f32,
    /// What happens outside.
    pub beyond: BeyondLimits,
}

/// What happens when the return-to-go leaves its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BeyondLimits {
    /// The network is told the nearest limit; the books go on with the true value.
    Clamp,
    /// The [`crate::Guard`] latches a fault.
    Fault,
}

/// Names and units of the components of an observation or action: a line for each, the name and, after a tab, the
/// unit where there is one. Empty: the components have no names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Components<'a>(#[serde(borrow)] pub &'a str);

impl<'a> Components<'a> {
    /// Name and unit of each component, in order; the unit is empty where there is none.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        // Sets of one: where a single character is searched for, the compiler sees a panic it cannot rule out.
        let lines = self.0.split(['\n']).filter(|line| !line.is_empty());
        lines.map(|line| line.split_once(['\t']).unwrap_or((line, "")))
    }

    /// Whether there is a name for each of `dim` components, or none at all.
    fn fits(&self, dim: u32) -> bool {
        let named = |line: &[u8]| line.first().is_some_and(|&first| first != b'\t');
        let mut lines = 0;
        self.0.is_empty()
            || (self.0.as_bytes().split(|&byte| byte == b'\n').all(|line| {
                lines = plus(lines, 1);
                named(line)
            }) && lines == dim as usize)
    }
}

/// How a discrete action follows from the logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Choice {
    /// The largest, the first of equal ones.
    #[default]
    Greedy,
    /// Drawn at random.
    Sampled(Sampling),
}

/// How discrete actions are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sampling {
    /// Divisor of the logits before softmax, > 0: the smaller, the nearer to the largest.
    pub temperature: f32,
    /// Choose among this many largest logits only; 0: among all.
    pub top_k: u32,
    /// Key of the random numbers of an episode, unless whoever runs the policy gives another.
    pub seed: u64,
}

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance<'a> {
    /// File name(s) of the trajectories it was trained on.
    pub dataset: &'a str,
    /// SHA-256 of those files.
    pub dataset_sha256: [u8; 32],
    /// Where the normalization comes from, if not from those files.
    pub statistics: &'a str,
    /// The checkpoint that training began with or that was imported; empty: none.
    pub checkpoint: &'a str,
    /// Name of the training run.
    pub run: &'a str,
    /// Version of the trainer.
    pub version: &'a str,
    /// Seed of the training run.
    pub seed: u64,
    /// Gradient updates done.
    pub updates: u64,
}

/// The head of a policy file: everything but vectors and weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest<'a> {
    /// The network.
    pub config: Config,
    /// Divisor of returns-to-go before they enter the network.
    pub return_scale: f32,
    /// Target return to use when nobody asks for another, in the environment's units.
    pub target_return: f32,
    /// Returns-to-go that the network is used with; `None`: any.
    pub return_limits: Option<ReturnLimits>,
    /// Where the return-to-go comes from.
    pub reward: RewardMode,
    /// Time between two actions, in microseconds.
    pub control_period_us: u32,
    /// What happens after `max_ep_len` steps.
    pub at_max_ep_len: AtMaxEpLen,
    /// Number of golden records.
    pub golden_steps: u32,
    /// The environment it was trained in.
    pub env: &'a str,
    /// What the components of an observation are (state_dim).
    #[serde(borrow)]
    pub observation: Components<'a>,
    /// What the components of an action are (act_dim).
    #[serde(borrow)]
    pub action: Components<'a>,
    /// Where it comes from.
    pub provenance: Provenance<'a>,
    /// How a discrete action follows from the logits; greedy where actions are continuous.
    #[serde(skip)]
    pub choice: Choice,
    /// Images that golden records show, one after the other and then from the first again; 0 where observations are vectors.
    #[serde(skip)]
    pub golden_images: u32,
}

impl Manifest<'_> {
    /// A policy with this network of which nothing else is known: unscaled observed rewards, a control period of 50 ms, no
    /// golden vectors, no provenance. To be filled in with struct update syntax.
    pub const fn new(config: Config) -> Manifest<'static> {
        Manifest {
            config,
            return_scale: 1.0,
            target_return: 0.0,
            return_limits: None,
            reward: RewardMode::Observed,
            control_period_us: 50_000,
            at_max_ep_len: AtMaxEpLen::Saturate,
            golden_steps: 0,
            env: "",
            observation: Components(""),
            action: Components(""),
            provenance: Provenance {
                dataset: "",
                dataset_sha256: [0; 32],
                statistics: "",
                checkpoint: "",
                run: "",
                version: "",
                seed: 0,
                updates: 0,
            },
            choice: Choice::Greedy,
            golden_images: 0,
        }
    }

    /// f32 values in one golden record: return-to-go, observation (none if it is an image), applied action, expected action and,
    /// where the policy chooses, the logits expected (act_dim).
    pub const fn golden_record_len(&self) -> usize {
        let actions = (self.config.action_len() as usize).saturating_mul(2);
        (self.config.state_vector_len() as usize)
            .saturating_add(actions)
            .saturating_add(self.config.logits_len() as usize)
            .saturating_add(self.config.predictions_len() as usize)
            .saturating_add(1)
    }
}

/// The vectors of the control problem, in the environment's units.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vectors<'a> {
    /// Mean of the states trained on (state_dim; as the three that follow none where observations are images).
    pub state_mean: &'a [f32],
    /// Their standard deviation, > 0 (state_dim).
    pub state_std: &'a [f32],
    /// Lowest state the guard accepts (state_dim).
    pub state_low: &'a [f32],
    /// Highest state the guard accepts (state_dim).
    pub state_high: &'a [f32],
    /// Lower bound of actions (action_len); of an index 0.
    pub action_low: &'a [f32],
    /// Upper bound of actions (action_len); of an index act_dim − 1.
    pub action_high: &'a [f32],
    /// What to do when something is wrong (action_len).
    pub safe_action: &'a [f32],
}

/// A policy file that has been checked from end to end. Borrows the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct Blob<'a> {
    manifest: Manifest<'a>,
    vectors: Vectors<'a>,
    model: Model<'a>,
    golden: &'a [f32],
    golden_images: &'a [u8],
    len: usize,
}

impl<'a> Blob<'a> {
    /// Its head.
    #[inline]
    pub const fn manifest(&self) -> &Manifest<'a> {
        &self.manifest
    }

    /// Normalization, bounds and safe action.
    #[inline]
    pub const fn vectors(&self) -> &Vectors<'a> {
        &self.vectors
    }

    /// The network.
    #[inline]
    pub const fn model(&self) -> &Model<'a> {
        &self.model
    }

    /// Golden records, [`Manifest::golden_record_len`] values each.
    #[inline]
    pub const fn golden(&self) -> &'a [f32] {
        self.golden
    }

    /// The images that golden records show, [`Config::state_dim`] bytes each; empty where observations are vectors.
    #[inline]
    pub const fn golden_images(&self) -> &'a [u8] {
        self.golden_images
    }

    /// Bytes of the file; the buffer may be longer.
    #[inline]
    pub const fn file_len(&self) -> usize {
        self.len
    }

    /// Lets the return-to-go come from elsewhere than the file says. Any mode suits any policy; of one that predicts none,
    /// [`RewardMode::Predicted`] is [`RewardMode::Constant`].
    pub const fn set_reward_mode(&mut self, reward: RewardMode) {
        self.manifest.reward = reward;
    }

    /// The same with other golden records, as no file that [`Self::parse`] has checked could have them.
    #[cfg(test)]
    pub(crate) fn with_golden(&self, golden: &'a [f32]) -> Self {
        Self {
            golden,
            ..self.clone()
        }
    }
}

impl Blob<'_> {
    /// Number of weights and biases of the network, padding and scales not counted.
    pub fn parameters(&self) -> u64 {
        let config = &self.manifest.config;
        let linear = |rows: u32, cols: u32| u64::from(rows) * (u64::from(cols) + 1);
        let (d, f) = (config.d_model, config.d_ff);
        if config.is_mlp() {
            let hidden = u64::from(config.n_layer.saturating_sub(1)) * linear(f, f);
            return linear(f, config.seen_len()) + hidden + linear(config.act_dim, f);
        }
        let norm = 2 * u64::from(d);
        let mixer = match config.mixer {
            Mixer::Folded => linear(config.folded_rows(), d) + u64::from(d),
            Mixer::Attention => linear(3 * d, d) + linear(d, d),
            Mixer::Convolution => {
                let factors = TOKENS_PER_STEP * (MIXED_TOKENS + 1);
                factors as u64 * u64::from(d)
            }
        };
        let layer = 2 * norm + mixer + linear(f, d) + linear(d, f);
        let image = config.image().map(crate::config::ImageEncoder::placed);
        let convolutions = image.iter().flatten().flatten();
        let convolutions: u64 = convolutions
            .map(|placed| linear(placed.convolution.filters, placed.cols()))
            .sum();
        linear(d, 1)
            + convolutions
            + linear(d, config.embedded_len())
            + linear(d, config.act_dim)
            + u64::from(config.max_ep_len) * u64::from(d)
            + config.position_rows() as u64 * u64::from(d)
            + if config.has_embedding_norm() { norm } else { 0 }
            + u64::from(config.n_layer) * layer
            + norm
            + if config.glu { linear(2 * d, d) } else { 0 }
            + linear(config.act_dim, d)
            + linear(config.predictions_len(), d)
    }
}

#[cfg(test)]
pub(crate) mod tests;
