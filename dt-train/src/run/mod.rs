//! The folder of a training run.
//!
//! | file | |
//! |---|---|
//! | `config.toml` | the recipe in full |
//! | `run.json` | [`RunInfo`]: the data and the control problem |
//! | `metrics.jsonl` | one JSON object per log interval |
//! | `last.safetensors` | newest checkpoint, with optimizer state |
//! | `best.safetensors` | weights of the best evaluation |
//! | `learning-curve.svg`, `.png` | loss and returns against updates |
//! | `evaluations.jsonl` | returns of checkpoints, as `eval` measured them |
//! | `export-int8.json`, … | the newest export in each dtype: sizes and quantization errors |

pub mod checkpoint;
mod folder;
mod metrics;
mod progress;
pub mod records;
pub mod train;

use std::path::{Path, PathBuf};

use dt_core::config::Dtype;
use serde::{Deserialize, Serialize};

use crate::algo::bc;
use crate::atomic::{self, OutputError};
use crate::config::{Config, ConfigError, Kind};
use crate::nn::transformer;
use crate::run::checkpoint::{Checkpoint, CheckpointError};

pub use folder::{Existing, check_folder, recipe};
pub use metrics::{EvalRecord, Record, read as read_metrics, read_checked as check_metrics};

/// The recipe.
pub const CONFIG: &str = "config.toml";
/// The data and the control problem.
pub const INFO: &str = "run.json";
/// Training metrics.
pub const METRICS: &str = "metrics.jsonl";
/// Returns of checkpoints.
pub const EVALUATIONS: &str = "evaluations.jsonl";
/// Newest checkpoint.
pub const LAST: &str = "last.safetensors";
/// Checkpoint of the best evaluation.
pub const BEST: &str = "best.safetensors";

/// A folder with a run in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The folder.
    pub dir: PathBuf,
    /// Its recipe.
    pub config: Config,
    /// Its data and control problem.
    pub info: RunInfo,
}

/// What a run learned about its data, and what a controller needs besides the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// dt-train's version.
    pub version: String,
    /// Environment the data come from; empty: unknown.
    pub env: String,
    /// Data files, as given.
    pub dataset: String,
    /// SHA-256 of the data files, hexadecimal; of several files: of their digests in order.
    pub dataset_sha256: String,
    /// Transitions in the data.
    pub transitions: usize,
    /// Episodes in the data.
    pub episodes: usize,
    /// Mean return of an episode in the data.
    pub return_mean: f64,
    /// Highest return of an episode in the data.
    pub return_max: f64,
    /// Length of a state.
    pub state_dim: usize,
    /// Length of an action.
    pub act_dim: usize,
    /// Subtracted from each state component.
    pub state_mean: Vec<f32>,
    /// Each state component is divided by it.
    pub state_std: Vec<f32>,
    /// Lowest state component that is no fault.
    pub state_low: Vec<f32>,
    /// Highest state component that is no fault.
    pub state_high: Vec<f32>,
    /// Lowest action.
    pub action_low: Vec<f32>,
    /// Highest action.
    pub action_high: Vec<f32>,
    /// Action after a fault.
    pub safe_action: Vec<f32>,
    /// The policy's default target return, raw units.
    pub target_return: f32,
    /// Lowest and highest return-to-go that mean something to the policy, raw units; none where the run is older than they are.
    pub return_range: Option<[f32; 2]>,
    /// Control period in microseconds.
    pub control_period_us: u32,
}

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Last,
    /// The one with the best evaluation.
    Best,
}

/// Why a folder could not be opened as a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No run there.
    #[error(
        "{0} holds no training run (no config.toml); give the folder that `dt-train train --out` wrote"
    )]
    NoRun(PathBuf),
    /// Its recipe cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its description cannot be read.
    #[error("cannot read {path}: {message}")]
    Info {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// No such checkpoint yet.
    #[error("{path} does not exist: {remedy}")]
    NoCheckpoint {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is the baseline's.
    #[error(
        "{0} is behaviour cloning (model.kind = \"bc\"), and this takes a Decision Transformer, the only kind of policy \
         that dt-core runs; `dt-train eval` measures the baseline"
    )]
    NotATransformer(PathBuf),
    /// The folder cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl Run {
    /// Trainable numbers of the network.
    pub fn parameters(&self) -> u64 {
        let parameters = match self.config.model.kind {
            Kind::Transformer => transformer::parameters(&self.network(Dtype::F32), 0.0),
            Kind::Bc => bc::Network::of(self).parameters(),
        };
        let sizes = parameters.iter().map(|p| p.shape.iter().product::<i64>());
        sizes.sum::<i64>().unsigned_abs()
    }

    /// Opens a run that was trained at least in part.
    ///
    /// # Errors
    /// [`RunError`] names the file.
    pub fn open(dir: &Path) -> Result<Self, RunError> {
        let config_path = dir.join(CONFIG);
        if !config_path.is_file() {
            return Err(RunError::NoRun(dir.to_owned()));
        }
        let config = Config::load(Some(&config_path), &[])?;
        let path = dir.join(INFO);
        let info = std::fs::read(&path)
            .map_err(|e| e.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()))
            .map_err(|message| RunError::Info { path, message })?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            info,
        })
    }

    /// [`Run::open`] for what only a Decision Transformer can do.
    ///
    /// # Errors
    /// The same, and [`RunError::NotATransformer`].
    pub fn open_transformer(dir: &Path) -> Result<Self, RunError> {
        let run = Self::open(dir)?;
        match run.config.model.kind {
            Kind::Transformer => Ok(run),
            Kind::Bc => Err(RunError::NotATransformer(dir.to_owned())),
        }
    }

    /// Writes recipe and description into the (existing) folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self) -> Result<(), OutputError> {
        let mut info = serde_json::to_vec_pretty(&self.info).expect("plain values only");
        info.push(b'\n');
        atomic::write(&self.dir.join(INFO), true, &info)?;
        // Last, since a folder with a recipe counts as a run.
        atomic::write(
            &self.dir.join(CONFIG),
            true,
            self.config.to_toml().as_bytes(),
        )
    }

    /// The network, of a Decision Transformer.
    pub fn network(&self, dtype: Dtype) -> dt_core::config::Config {
        self.config
            .network(self.info.state_dim, self.info.act_dim, dtype)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`RunError`] names the file.
    pub fn checkpoint(&self, which: Which) -> Result<Checkpoint, RunError> {
        let (name, remedy) = match which {
            Which::Last => (
                LAST,
                "the run has no checkpoint yet; continue it with --resume",
            ),
            Which::Best => (
                BEST,
                "the run has not been evaluated; use --checkpoint last",
            ),
        };
        let path = self.dir.join(name);
        if !path.is_file() {
            return Err(RunError::NoCheckpoint { path, remedy });
        }
        Ok(Checkpoint::load(&path)?)
    }
}
