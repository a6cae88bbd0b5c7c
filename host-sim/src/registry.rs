//! Environments by name.

use std::path::Path;
use std::sync::Arc;

use crate::cartpole::CartPole;
use crate::env::Env;
use crate::graph::{self, Graph};
use crate::key_to_door::KeyToDoor;
#[cfg(feature = "mujoco")]
use crate::mujoco::{self, LoadError, MujocoEnv, Task};
use crate::pendulum::Pendulum;
use crate::plant::{self, PlantEnv, PlantError, Pool};
#[cfg(feature = "draw")]
use crate::stage::{
    CartPoleDrawing, DrawError, Drawing, GraphDrawing, KeyToDoorDrawing, PendulumDrawing,
    PlantDrawing,
};
use crate::trig::{LibmTrig, StdTrig};

/// Built-in environments. Besides these, a name that ends in `.toml` is the path of a description (`host_sim::mujoco`), and one
/// that begins with `gym:` or `plant:` is another program ([`plant`]).
pub const NAMES: &[&str] = &[
    "pendulum",
    "cartpole",
    "graph",
    "key-to-door",
    "hopper",
    "hopper-v4",
    "hopper-v5",
    "halfcheetah",
    "halfcheetah-v4",
    "halfcheetah-v5",
    "walker2d",
    "walker2d-v4",
    "walker2d-v5",
    "reacher",
    "reacher-v4",
    "reacher-v5",
    "reacher-dt",
];

/// Why there is no environment of that name.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Nobody has heard of it.
    #[error(
        "unknown environment `{name}`{}; known: {}, paths of .toml files, and gym:ID",
        nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default(),
        NAMES.join(", ")
    )]
    Unknown {
        /// The name asked for.
        name: String,
        /// The most similar known name, if one is similar.
        nearest: Option<&'static str>,
    },
    /// It needs MuJoCo, which this program was built without.
    #[error(
        "environment `{name}` needs MuJoCo, which this program was built without; build it with \
         `cargo build --release -p host-sim --features mujoco`, or together with dt-train"
    )]
    NoMujoco {
        /// The name asked for.
        name: String,
    },
    /// What is typed is no name.
    #[error("{0}")]
    Usage(String),
    /// It is another program, which does not start or is no plant.
    #[error(transparent)]
    Plant(#[from] PlantError),
    /// It exists, but cannot be loaded.
    #[cfg(feature = "mujoco")]
    #[error("environment `{name}` cannot be loaded: {cause}")]
    Load {
        /// The name asked for.
        name: String,
        /// Why not.
        cause: Box<LoadError>,
    },
}

impl MakeError {
    /// Whether the name is at fault, rather than files behind it.
    #[must_use]
    pub fn is_wrong_usage(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. } | Self::NoMujoco { .. } | Self::Usage(_)
        )
    }
}

/// An environment that is loaded and makes any number of instances, which share its model.
#[derive(Clone, Debug)]
pub struct Blueprint(Plant);

#[derive(Clone, Debug)]
enum Plant {
    Pendulum,
    CartPole,
    Graph,
    KeyToDoor,
    Remote(Arc<Pool>),
    #[cfg(feature = "mujoco")]
    Mujoco(Arc<Task>),
}

impl Blueprint {
    /// Loads an environment by name. `assets` is the folder of Gymnasium's model files, by default where set-up
    /// installed them.
    ///
    /// # Errors
    /// [`MakeError`] lists the known names and suggests the nearest, or says what is wrong with a file.
    pub fn new(name: &str, assets: Option<&Path>) -> Result<Self, MakeError> {
        match name {
            "pendulum" => Ok(Self(Plant::Pendulum)),
            "cartpole" => Ok(Self(Plant::CartPole)),
            "graph" => Ok(Self(Plant::Graph)),
            "key-to-door" => Ok(Self(Plant::KeyToDoor)),
            _ if plant::is_plant(name) => Ok(Self(Plant::Remote(plant::open(name)?))),
            _ if NAMES.contains(&name) || name.ends_with(".toml") => Self::mujoco(name, assets),
            _ => Err(unknown(name)),
        }
    }

    #[cfg(feature = "mujoco")]
    fn mujoco(name: &str, assets: Option<&Path>) -> Result<Self, MakeError> {
        match mujoco::load(name, assets) {
            Ok(task) => Ok(Self(Plant::Mujoco(Arc::new(task)))),
            Err(cause) => Err(MakeError::Load {
                name: name.into(),
                cause: cause.into(),
            }),
        }
    }

    #[cfg(not(feature = "mujoco"))]
    fn mujoco(name: &str, _: Option<&Path>) -> Result<Self, MakeError> {
        Err(MakeError::NoMujoco { name: name.into() })
    }

    /// An instance for rollouts: where the plant also runs on the controller, its bits are the same there.
    #[must_use]
    pub fn make(&self) -> Box<dyn Env> {
        match &self.0 {
            Plant::Pendulum => Box::new(Pendulum::<LibmTrig>::new()),
            Plant::CartPole => Box::new(CartPole::<LibmTrig>::new()),
            Plant::Graph => Box::new(Graph::new()),
            Plant::KeyToDoor => Box::new(KeyToDoor::new()),
            Plant::Remote(pool) => Box::new(PlantEnv::new(pool.clone())),
            #[cfg(feature = "mujoco")]
            Plant::Mujoco(task) => Box::new(MujocoEnv::new(task.clone())),
        }
    }

    /// An instance to be drawn, in pictures of `size` (width, height).
    #[cfg(feature = "draw")]
    pub(crate) fn drawing(&self, size: (u32, u32)) -> Result<Box<dyn Drawing>, DrawError> {
        Ok(match &self.0 {
            Plant::Pendulum => Box::new(PendulumDrawing::new(size)),
            Plant::CartPole => Box::new(CartPoleDrawing::new(size)),
            Plant::Graph => Box::new(GraphDrawing::new(size)),
            Plant::KeyToDoor => Box::new(KeyToDoorDrawing::new(size)),
            Plant::Remote(pool) => Box::new(PlantDrawing::new(PlantEnv::new(pool.clone()), size)),
            #[cfg(feature = "mujoco")]
            Plant::Mujoco(task) => Box::new(mujoco::Drawing::new(task, size)?),
        })
    }

    /// An instance for comparison with Gymnasium: it uses the platform's mathematics, as NumPy does, where that differs
    /// in the last bit from the portable one of [`Blueprint::make`].
    #[must_use]
    pub fn make_reference(&self) -> Box<dyn Env> {
        match &self.0 {
            Plant::Pendulum => Box::new(Pendulum::<StdTrig>::new()),
            Plant::CartPole => Box::new(CartPole::<StdTrig>::new()),
            Plant::Graph | Plant::KeyToDoor => self.make(),
            Plant::Remote(_) => self.make(),
            #[cfg(feature = "mujoco")]
            Plant::Mujoco(_) => self.make(),
        }
    }

    /// Of `wanted` threads (0: one per core) those that can have an instance each at the same time.
    #[must_use]
    pub fn threads(&self, wanted: usize) -> usize {
        match &self.0 {
            Plant::Remote(pool) => pool.threads(wanted),
            _ => wanted,
        }
    }
}

/// Opens an environment for rollouts.
///
/// # Errors
/// As [`Blueprint::new`].
pub fn make(name: &str) -> Result<Box<dyn Env>, MakeError> {
    Ok(Blueprint::new(name, None)?.make())
}

/// A maker of environments of that name, for the workers of a [`rollout`](fn@crate::rollout::rollout).
///
/// # Errors
/// As [`Blueprint::new`].
pub fn maker(name: &str) -> Result<impl Fn() -> Box<dyn Env> + Sync + use<>, MakeError> {
    let blueprint = Blueprint::new(name, None)?;
    Ok(move || blueprint.make())
}

/// Opens an environment for comparison with Gymnasium.
///
/// # Errors
/// As [`Blueprint::new`].
pub fn make_reference(name: &str) -> Result<Box<dyn Env>, MakeError> {
    Ok(Blueprint::new(name, None)?.make_reference())
}

/// Whether a choice leads anywhere where that is observed, in the environment of that id: Gymnasium's action mask, from which
/// random agents draw. Most environments know no choice that does not.
#[must_use]
pub fn is_open(env: &str, observation: &[f32], choice: usize) -> bool {
    env != graph::SPEC.id || graph::is_open(observation, choice)
}

fn unknown(name: &str) -> MakeError {
    let lower = name.to_lowercase();
    let similarity = |known: &&str| strsim::jaro_winkler(known, &lower);
    let nearest = NAMES
        .iter()
        .copied()
        .map(|known| (similarity(&known), known))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known);
    let name = name.to_owned();
    MakeError::Unknown { name, nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_opens_under_its_own_id() {
        for name in NAMES {
            match make(name) {
                Ok(env) => {
                    assert_eq!(env.spec().id, *name);
                    assert_eq!(make_reference(name).unwrap().spec().id, *name);
                }
                Err(error) => {
                    assert!(matches!(error, MakeError::NoMujoco { .. }), "{error}");
                    assert!(!["pendulum", "cartpole", "graph", "key-to-door"].contains(name));
                }
            }
        }
    }

    #[test]
    fn errors_say_what_to_type() {
        let message = |name| make(name).err().unwrap().to_string();
        let message_begins = |name, expected: &str| {
            let message = message(name);
            assert!(message.starts_with(expected), "{message}");
        };
        message_begins(
            "Pendulum-v1",
            "unknown environment `Pendulum-v1`, did you mean `pendulum`?; known: pendulum, cartpole, graph",
        );
        message_begins(
            "hoper-v4",
            "unknown environment `hoper-v4`, did you mean `hopper-v4`?",
        );
        message_begins("quux", "unknown environment `quux`; known: pendulum");
        #[cfg(not(feature = "mujoco"))]
        assert!(message("hopper").contains("--features mujoco"));
    }
}
