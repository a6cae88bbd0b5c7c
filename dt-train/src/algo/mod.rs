//! The learning algorithms: one file each, and the registry, which is the only list of them.
//!
//! | | |
//! |---|---|
//! | [`dt`] | Decision Transformers |
//! | [`bc`] | behaviour cloning, the baseline |
//! | [`bc_transformer`] | the same with the transformer: a Decision Transformer that knows no return |
//! | [`td3bc`] | TD3+BC: a critic's best actions near the data's |
//! | [`iql`] | implicit Q-learning: the data's actions, by how much better they are than usual |
//! | [`awr`] | advantage-weighted regression: the same with the returns that were earned |
//! | [`cql`] | conservative Q-learning: soft actor-critic whose critics doubt what the data do not show |
//! | [`sac`] | soft actor-critic, which learns in its environment and makes data for the others |
//! | [`ppo`] | proximal policy optimization, which does so where actions are choices |
//!
//! An [`Algorithm`] that learns from data *is* the section of the recipe that bears its name: [`dt::Dt`] holds the keys
//! of `[dt]`. It makes a [`Learner`], which is in the middle of learning, and a [`Policy`], which acts. Most algorithms
//! predict actions and descend on their error: they are [`Supervised`], say what they predict from, and get the rest.

pub mod actor_critic;
pub mod awr;
pub mod bc;
pub mod bc_transformer;
pub mod cql;
pub mod dt;
pub mod iql;
mod policy;
pub mod ppo;
pub mod sac;
mod supervised;
pub mod td3bc;

use std::fmt::{self, Debug};
use std::sync::{Arc, RwLock};

use dt_core::config::Actions;
use host_sim::{EnvSpec, Space};
use serde::de::DeserializeOwned;
use tch::Device;

use crate::config::Recipe;
use crate::data::Dataset;
use crate::data::sampler::Trajectories;
use crate::deploy::Deployable;
use crate::nn::parameters::Parameter;
use crate::run::Run;
use crate::run::checkpoint::{Checkpoint, CheckpointError, Progress, Weights};

use actor_critic::Judged;
pub use policy::{BoxedController, Engine, History, Memory, Player, Policy};
pub use supervised::{Loss, Mode, Supervised};

/// An algorithm that learns from logged data, with the values of its section of the recipe.
pub trait Algorithm: Debug + Send + Sync {
    /// What `algo` calls it in a recipe; also the name of its section.
    fn name(&self) -> &'static str;

    /// Its name for people.
    fn title(&self) -> &'static str;

    /// Which of its varieties this is, in a word or two, for tables.
    fn variety(&self) -> &'static str {
        self.title()
    }

    /// Its network's size in a few characters, for tables.
    fn size(&self) -> String {
        String::new()
    }

    /// Whether rewards say anything to it; data without any are refused where they do.
    fn learns_from_rewards(&self) -> bool {
        true
    }

    /// Whether its states may be images; else they are refused.
    fn reads_images(&self) -> bool {
        false
    }

    /// Whether other networks learn beside the one that acts; the loss is then the sum of all.
    fn has_critics(&self) -> bool {
        false
    }

    /// Every key of its section.
    fn section(&self) -> toml::Table;

    /// Refuses the first value that is out of range, or does not go with the rest of the recipe.
    ///
    /// # Errors
    /// The key, and what it may be.
    fn check(&self, recipe: &Recipe) -> Result<(), Refusal>;

    /// The algorithm as data of this kind need it; none: as it is.
    fn fitted(&self, _dims: Dims) -> Option<Arc<dyn Algorithm>> {
        None
    }

    /// Refuses data that its network cannot have.
    ///
    /// # Errors
    /// In words.
    fn fits(&self, dims: Dims) -> anyhow::Result<()>;

    /// Refuses data that do not say what it learns from.
    ///
    /// # Errors
    /// In words.
    fn accepts(&self, _data: &Trajectories) -> anyhow::Result<()> {
        Ok(())
    }

    /// Every parameter of the network that acts.
    fn parameters(&self, dims: Dims) -> Vec<Parameter>;

    /// A fresh start.
    fn learner(&self, setup: Setup<'_>) -> Box<dyn Learner>;

    /// What a checkpoint of `run`, which this algorithm made, does in an environment.
    ///
    /// # Errors
    /// If checkpoint and run do not belong together.
    fn policy<'a>(
        &self,
        run: &'a Run,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<Box<dyn Policy + 'a>>;

    /// How it becomes a policy file, if it can.
    fn deployable(&self) -> Option<&dyn Deployable> {
        None
    }
}

/// An algorithm in the middle of learning.
pub trait Learner {
    /// Update number `update`, counted from 0. All randomness comes from the recipe's seed and this number, so that a
    /// resumed run repeats it exactly. Nothing here waits for the device.
    fn update(&mut self, update: u64);

    /// Averages over the updates since the last call; waits for the device.
    fn take_averages(&mut self) -> Averages;

    /// Losses that can be compared with each other, if some episodes are not trained on; waits for the device.
    fn validate(&self) -> Option<Validation>;

    /// A copy of the state on the host.
    fn save(&self, progress: Progress) -> Checkpoint;

    /// Goes back to a state that [`save`](Self::save) returned.
    ///
    /// # Errors
    /// If the checkpoint belongs to another network or holds no optimizer state.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError>;

    /// Starts from these weights instead of random ones, with a fresh optimizer.
    ///
    /// # Errors
    /// If the weights belong to another network.
    fn start_from(&mut self, weights: &Weights) -> Result<(), CheckpointError>;
}

/// What a [`Learner`] starts with.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// What is trained on.
    pub train: Trajectories,
    /// Episodes that are not; empty: none.
    pub validation: Trajectories,
    /// Where to train.
    pub device: Device,
}

/// What the data are made of, as the network reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Length of a state.
    pub state_dim: usize,
    /// Length of an action: of a vector, or the number of choices.
    pub act_dim: usize,
    /// Whether actions are vectors or choices.
    pub actions: Actions,
    /// Height, width and channels where states are images: their product is state_dim.
    pub image: Option<[usize; 3]>,
}

impl Dims {
    /// States and actions that are vectors of these lengths.
    pub fn vectors(state_dim: usize, act_dim: usize) -> Self {
        Self {
            state_dim,
            act_dim,
            actions: Actions::Continuous,
            image: None,
        }
    }

    /// Those of data.
    pub fn of(data: &Dataset) -> Self {
        Self::of_spaces(data.observations.space(), data.actions.space())
    }

    /// Those of an environment.
    pub fn of_env(spec: &EnvSpec<'_>) -> Self {
        Self::of_spaces(spec.observation, spec.action)
    }

    fn of_spaces(states: Space<'_>, actions: Space<'_>) -> Self {
        let image = match states {
            Space::Image {
                height,
                width,
                channels,
            } => Some([height, width, channels]),
            _ => None,
        };
        let (act_dim, actions) = match actions {
            Space::Discrete { n } => (n, Actions::Discrete),
            vectors => (vectors.len(), Actions::Continuous),
        };
        Self {
            state_dim: states.len(),
            act_dim,
            actions,
            image,
        }
    }

    /// Length of an action outside the network: of a vector, or 1 for the index of a choice.
    pub fn action_len(self) -> usize {
        match self.actions {
            Actions::Continuous => self.act_dim,
            Actions::Discrete => 1,
        }
    }
}

/// Averages since they were last read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Averages {
    /// Loss, of the network as it was then, in training mode.
    pub loss: f64,
    /// Fraction of the actions that were the likeliest to it, where actions are choices.
    pub accuracy: Option<f64>,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
}

/// Losses of the network to act with, without dropout, on sequences drawn alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// On episodes that are trained on.
    pub fit: f64,
    /// On episodes that are not.
    pub held_out: f64,
    /// Fraction of the actions there that are the likeliest to it, where actions are choices.
    pub accuracy: Option<f64>,
}

/// A key whose value an algorithm cannot have, and what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The key, dotted.
    pub key: String,
    /// Accepted values.
    pub message: String,
}

impl Refusal {
    /// Refuses `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

impl Refusal {
    /// The same of algorithm `ours`, which has the keys of `theirs`.
    pub(crate) fn of(self, theirs: &str, ours: &str) -> Self {
        match self.key.strip_prefix(theirs) {
            Some(rest) => Self::new(format!("{ours}{rest}"), self.message),
            None => self,
        }
    }
}

/// An entry of the registry.
#[derive(Clone, Copy)]
pub struct Entry {
    /// What recipes and options call the algorithm.
    pub name: &'static str,
    /// What it is, for help and errors.
    pub about: &'static str,
    /// The algorithm whose section of a recipe it reads as well, below its own.
    pub(crate) like: Option<&'static str>,
    learns: Learns,
}

#[derive(Clone, Copy)]
enum Learns {
    FromData {
        defaults: fn() -> toml::Table,
        parse: fn(toml::Table) -> Result<Arc<dyn Algorithm>, toml::de::Error>,
    },
    InItsEnvironment,
}

impl Entry {
    /// An algorithm that `train` runs.
    pub fn from_data<A: Algorithm + Default + DeserializeOwned + 'static>(
        about: &'static str,
    ) -> Self {
        Self {
            name: A::default().name(),
            about,
            like: None,
            learns: Learns::FromData {
                defaults: || A::default().section(),
                parse: |section| Ok(Arc::new(section.try_into::<A>()?)),
            },
        }
    }

    /// The same, reading the section of another algorithm that has the same keys, so that a recipe for that one is one for it.
    pub fn like(self, other: &'static str) -> Self {
        Self {
            like: Some(other),
            ..self
        }
    }

    /// An algorithm that `collect --agent` runs.
    pub fn in_its_environment(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            like: None,
            learns: Learns::InItsEnvironment,
        }
    }

    /// Its section with every key at its default; none if it does not learn from data.
    pub fn defaults(&self) -> Option<toml::Table> {
        match self.learns {
            Learns::FromData { defaults, .. } => Some(defaults()),
            Learns::InItsEnvironment => None,
        }
    }

    /// The algorithm with the values of `section`; what is missing there has its default.
    pub(crate) fn parse(
        &self,
        section: toml::Table,
    ) -> Option<Result<Arc<dyn Algorithm>, toml::de::Error>> {
        match self.learns {
            Learns::FromData { parse, .. } => Some(parse(section)),
            Learns::InItsEnvironment => None,
        }
    }
}

impl Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.about)
    }
}

/// Those of programs that use this crate.
static REGISTERED: RwLock<Vec<Entry>> = RwLock::new(Vec::new());

/// Every algorithm there is.
pub fn registry() -> Vec<Entry> {
    let mut entries = vec![
        Entry::from_data::<dt::Dt>("Decision Transformer"),
        Entry::from_data::<bc::Bc>("behaviour cloning"),
        Entry::from_data::<bc_transformer::BcTransformer>("behaviour cloning with a transformer")
            .like("dt"),
        Entry::from_data::<Judged<td3bc::Td3Bc>>("TD3+BC"),
        Entry::from_data::<Judged<iql::Iql>>("implicit Q-learning"),
        Entry::from_data::<Judged<awr::Awr>>("advantage-weighted regression"),
        Entry::from_data::<Judged<cql::Cql>>("conservative Q-learning"),
        Entry::in_its_environment("sac", "soft actor-critic"),
        Entry::in_its_environment("ppo", "proximal policy optimization"),
    ];
    let registered = REGISTERED.read().unwrap_or_else(|error| error.into_inner());
    entries.extend(registered.iter());
    entries
}

/// Adds an algorithm, which then is one like those that are built in: in recipes, and in every command.
///
/// # Panics
/// If there is one of this name.
pub fn register(entry: Entry) {
    let taken = registry().iter().any(|known| known.name == entry.name);
    assert!(!taken, "there is an algorithm `{}` already", entry.name);
    let mut registered = REGISTERED
        .write()
        .unwrap_or_else(|error| error.into_inner());
    registered.push(entry);
}
