//! The folder of a training run.
//!
//! | file | |
//! |---|---|
//! | `config.toml` | the recipe in full |
//! | `run.json` | [`RunInfo`]: the data and the control problem, with the number of its schema |
//! | `metrics.jsonl` | one JSON object per log interval |
//! | `last.safetensors` | newest checkpoint, with optimizer state |
//! | `best.safetensors` | weights of the best evaluation |
//! | `update-N.safetensors` | what was `last.safetensors` after N updates, of the newest `train.checkpoint_keep` |
//! | `events.out.tfevents.…` | the same for TensorBoard, where `train.tensorboard` asks for it |
//! | `learning-curve.svg`, `.png` | loss and returns against updates |
//! | `evaluations.jsonl` | returns of checkpoints, as `eval` measured them |
//! | `export-int8.json`, … | the newest export in each dtype: sizes and quantization errors |

pub mod checkpoint;
mod folder;
mod metrics;
mod progress;
pub mod records;
pub mod seeds;
pub mod start;
mod tensorboard;
pub mod train;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use dt_core::config::{Actions, Dtype};
use serde::{Deserialize, Serialize};

use crate::algo::Dims;
use crate::atomic::{self, OutputError};
use crate::config::{ConfigError, Recipe, Source};
use crate::data::prepare::normalize;
use crate::run::checkpoint::{Checkpoint, CheckpointError};

pub(crate) use folder::open;
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

/// What an earlier `last.safetensors` is kept as.
pub fn kept(update: u64) -> String {
    format!("update-{update}.safetensors")
}

/// The updates after which `dir` keeps checkpoints, ascending; [`LAST`] and [`BEST`] are not among them.
pub fn kept_updates(dir: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let update = |name: &str| -> Option<u64> {
        let number = name.strip_prefix("update-")?;
        number.strip_suffix(".safetensors")?.parse().ok()
    };
    let mut updates: Vec<u64> = entries
        .filter_map(|entry| update(entry.file_name().to_str()?))
        .collect();
    updates.sort_unstable();
    updates
}

/// Number of the schema of `run.json` that this version writes: 1 had no number, and a recipe with `[model]`.
pub const SCHEMA: u32 = 2;

fn first_schema() -> u32 {
    1
}

/// A folder with a run in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The folder.
    pub dir: PathBuf,
    /// Its recipe.
    pub recipe: Recipe,
    /// Its data and control problem.
    pub info: RunInfo,
}

/// Where the records of a run go while it is trained: a file, the terminal, a picture.
pub trait Sink {
    /// An update is done.
    fn advance(&mut self, _update: u64) {}

    /// A record, the newest of `run`.
    ///
    /// # Errors
    /// Those that training must not go on after.
    fn record(&mut self, run: &Run, record: &Record) -> anyhow::Result<()>;

    /// The run is complete.
    fn finish(&mut self) {}
}

/// What a run learned about its data, and what a controller needs besides the weights.
///
/// As `run.json` it carries the number of its schema. What later versions add has a default, so that older runs stay
/// readable; what they change gets another number, and a number that this version does not know is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// [`SCHEMA`] when it was written; runs without it are of schema 1.
    #[serde(default = "first_schema")]
    pub schema: u32,
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
    /// Length of an action as the network reads it: of a vector, or the number of choices.
    pub act_dim: usize,
    /// Actions are choices: outside the network, an action is one number, its index.
    #[serde(default)]
    pub choices: bool,
    /// What states are, if they are images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Subtracted from each state component; as all four, empty where states are images.
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
    #[serde(default)]
    pub return_range: Option<[f32; 2]>,
    /// Control period in microseconds.
    pub control_period_us: u32,
    /// What opens the environment, where it is a file: what it calls itself, `env`, does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<String>,
    /// Target returns worth asking for, raw units, as `inspect` suggests them of the data; empty where the run is older than
    /// that.
    #[serde(default)]
    pub suggested_target_returns: Vec<f64>,
    /// The run whose weights it started with; states and actions are in that run's units, not in those of its own data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<InitFrom>,
}

/// States that are images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Height, width and channels, those of all frames that are stacked.
    pub shape: [usize; 3],
    /// Each pixel is divided by it, less `ground`.
    pub scale: f32,
    /// What most of a picture is, as pixels have it: a network that sees it as 0 sees what stands out from it. Runs of before have 0.
    #[serde(default)]
    pub ground: f32,
}

impl Image {
    /// A pixel as the network in training reads it.
    pub fn normalized(&self, pixel: f32) -> f32 {
        (pixel - self.ground) / self.scale
    }
}

/// Whose weights a run started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitFrom {
    /// Its folder, as given.
    pub run: String,
    /// Updates that the weights had had.
    pub update: u64,
}

impl RunInfo {
    /// What opens the environment that the policy is for; none: it is not known.
    pub fn env_to_make(&self) -> Option<&str> {
        let named = (!self.env.is_empty()).then_some(self.env.as_str());
        // A folder may come from anywhere, and commands are run only if they are typed.
        let env = self.env_file.as_deref().or(named);
        env.filter(|env| !host_sim::plant::is_command(env))
    }

    /// A state as the network reads it.
    pub fn normalized(&self, state: &[f32]) -> Vec<f32> {
        if let Some(image) = self.image {
            let pixels = state.iter();
            return pixels.map(|&pixel| image.normalized(pixel)).collect();
        }
        let mut state = state.to_vec();
        normalize(&mut state, &self.state_mean, &self.state_std);
        state
    }

    fn parse(json: &[u8]) -> Result<Self, String> {
        // Alone first: of a later schema, nothing else need be as it is here.
        #[derive(Deserialize)]
        struct Numbered {
            #[serde(default = "first_schema")]
            schema: u32,
        }
        let Numbered { schema } = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        if schema > SCHEMA {
            return Err(format!(
                "it has schema {schema}, this version of dt-train reads up to {SCHEMA}; use the version that wrote it"
            ));
        }
        serde_json::from_slice(json).map_err(|e| e.to_string())
    }
}

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Last,
    /// The one with the best evaluation.
    Best,
    /// The one after this many updates, where it was kept.
    Update(u64),
}

impl FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "last" => Ok(Self::Last),
            "best" => Ok(Self::Best),
            update => update
                .parse()
                .map(Self::Update)
                .map_err(|_| "give `last`, `best` or a number of updates"),
        }
    }
}

/// Why a folder could not be opened as a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No run there.
    #[error(
        "{0} holds no training run (no config.toml); give the folder that `dt-train train --out` wrote"
    )]
    NoRun(PathBuf),
    /// Several runs there.
    #[error("{path} holds several runs, {names}; give one of them")]
    SeveralRuns {
        /// The folder.
        path: PathBuf,
        /// Their folders.
        names: String,
    },
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
    /// No checkpoint of that update.
    #[error(
        "{path} keeps no checkpoint after {update} updates; it has last, {held}. train.checkpoint_keep says how many are kept"
    )]
    NotKept {
        /// The folder.
        path: PathBuf,
        /// What was asked for.
        update: u64,
        /// What else there is.
        held: String,
    },
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its algorithm makes no policy files.
    #[error(
        "{path} is {title}, and this takes what becomes a policy file, such as a Decision Transformer; `dt-train eval` \
         measures any run"
    )]
    NotDeployable {
        /// The folder.
        path: PathBuf,
        /// The algorithm.
        title: &'static str,
    },
    /// The folder cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl Run {
    /// What to evaluate it at: the target returns of its recipe, or else those that its data suggest, or else the one that
    /// its policy aims at by default. At least one.
    pub fn target_returns(&self) -> Vec<f32> {
        let asked = &self.recipe.eval.target_returns;
        let suggested = &self.info.suggested_target_returns;
        match (asked.as_slice(), suggested.as_slice()) {
            ([], []) => vec![self.info.target_return],
            ([], suggested) => suggested.iter().map(|&target| target as f32).collect(),
            (asked, _) => asked.to_vec(),
        }
    }

    /// Trainable numbers of the network.
    pub fn parameters(&self) -> u64 {
        let parameters = self.recipe.algorithm.parameters(self.dims());
        let sizes = parameters.iter().map(|p| p.shape.iter().product::<i64>());
        sizes.sum::<i64>().unsigned_abs()
    }

    /// Lengths of its states and actions.
    pub fn dims(&self) -> Dims {
        Dims {
            state_dim: self.info.state_dim,
            act_dim: self.info.act_dim,
            actions: match self.info.choices {
                true => Actions::Discrete,
                false => Actions::Continuous,
            },
            image: self.info.image.map(|image| image.shape),
        }
    }

    /// Opens a run that was trained at least in part.
    ///
    /// # Errors
    /// [`RunError`] names the file.
    pub fn open(dir: &Path) -> Result<Self, RunError> {
        let recipe = dir.join(CONFIG);
        if !recipe.is_file() {
            let runs = seeds::runs_of(dir);
            if runs[0] == dir {
                return Err(RunError::NoRun(dir.to_owned()));
            }
            let names = runs.iter().map(|run| run.display().to_string());
            return Err(RunError::SeveralRuns {
                path: dir.to_owned(),
                names: names.collect::<Vec<_>>().join(", "),
            });
        }
        let recipe = Recipe::load(Some(&Source::File(recipe)), &[])?;
        let path = dir.join(INFO);
        let info = std::fs::read(&path)
            .map_err(|e| e.to_string())
            .and_then(|bytes| RunInfo::parse(&bytes))
            .map_err(|message| RunError::Info { path, message })?;
        Ok(Self {
            dir: dir.to_owned(),
            recipe,
            info,
        })
    }

    /// The network as a policy file declares it, if the algorithm makes such files.
    pub fn network(&self, dtype: Dtype) -> Option<dt_core::config::Config> {
        let deployable = self.recipe.algorithm.deployable()?;
        Some(deployable.network(self.dims(), dtype))
    }

    /// [`network`](Self::network), for what can do nothing without.
    ///
    /// # Errors
    /// [`RunError::NotDeployable`].
    pub fn deployed(&self, dtype: Dtype) -> Result<dt_core::config::Config, RunError> {
        self.network(dtype).ok_or_else(|| RunError::NotDeployable {
            path: self.dir.clone(),
            title: self.recipe.algorithm.title(),
        })
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
            self.recipe.to_toml().as_bytes(),
        )
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
            Which::Update(update) => return self.checkpoint_after(update),
        };
        let path = self.dir.join(name);
        if !path.is_file() {
            return Err(RunError::NoCheckpoint { path, remedy });
        }
        Ok(Checkpoint::load(&path)?)
    }

    /// Whichever file it is in.
    fn checkpoint_after(&self, update: u64) -> Result<Checkpoint, RunError> {
        let kept_one = kept(update);
        for name in [kept_one.as_str(), LAST, BEST] {
            let path = self.dir.join(name);
            if path.is_file() {
                let checkpoint = Checkpoint::load(&path)?;
                if checkpoint.progress.update == update {
                    return Ok(checkpoint);
                }
            }
        }
        let mut held = Vec::new();
        if self.dir.join(BEST).is_file() {
            held.push("best".to_owned());
        }
        held.extend(kept_updates(&self.dir).iter().map(u64::to_string));
        Err(RunError::NotKept {
            path: self.dir.clone(),
            update,
            held: held.join(", "),
        })
    }
}

#[cfg(test)]
impl Run {
    /// A run of `recipe` for other modules' tests, on data of these statistics and actions.
    pub(crate) fn for_tests(
        mut recipe: Recipe,
        [state_mean, state_std]: [&[f32]; 2],
        [action_low, action_high]: [&[f32]; 2],
    ) -> Self {
        let (state_dim, act_dim) = (state_mean.len(), action_low.len());
        if recipe.data.return_scale == 0.0 {
            // Training takes it from the data.
            recipe.data.return_scale = 1000.0;
        }
        let info = RunInfo {
            schema: SCHEMA,
            version: String::new(),
            env: String::new(),
            dataset: String::new(),
            dataset_sha256: "0".repeat(64),
            transitions: 0,
            episodes: 0,
            return_mean: 0.0,
            return_max: 0.0,
            state_dim,
            act_dim,
            choices: false,
            image: None,
            state_mean: state_mean.into(),
            state_std: state_std.into(),
            state_low: vec![-9.0; state_dim],
            state_high: vec![9.0; state_dim],
            action_low: action_low.into(),
            action_high: action_high.into(),
            safe_action: vec![0.0; act_dim],
            target_return: 0.0,
            return_range: Some([-1e6, 1e6]),
            control_period_us: 10_000,
            env_file: None,
            suggested_target_returns: Vec::new(),
            init_from: None,
        };
        Self {
            dir: "test".into(),
            recipe,
            info,
        }
    }
}
