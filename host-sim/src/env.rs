//! The [`Env`] trait: Gymnasium's `reset` and `step`, seeded, without allocation.
//!
//! A plant that runs on the controller implements it in `core` only; `host_sim::make` opens any
//! environment by name on the host.

use serde::{Deserialize, Serialize};

use crate::space::{NotABox, Space};

/// What an environment looks like from outside.
///
/// Borrowed from the environment, so that it costs nothing on the controller and that an
/// environment described by a user's file can own the storage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnvSpec<'a> {
    /// Name, as `--env` takes it.
    pub id: &'a str,
    /// What the plant can show.
    pub observation: Space<'a>,
    /// What it can be told. Vectors outside their bounds are clipped by the plant, not refused.
    pub action: Space<'a>,
    /// Steps after which an episode is truncated.
    pub max_episode_steps: u32,
    /// Simulated time of one step, in microseconds.
    pub control_period_us: u32,
    /// Returns of a random and an expert agent, which D4RL's normalized score takes for 0 and 100.
    pub score_range: Option<(f64, f64)>,
}

impl<'a> EnvSpec<'a> {
    /// Length of an observation, in whatever space.
    #[must_use]
    pub const fn state_dim(&self) -> usize {
        self.observation.len()
    }

    /// Length of an action, in whatever space.
    #[must_use]
    pub const fn act_dim(&self) -> usize {
        self.action.len()
    }

    /// Lowest and highest observation (state_dim each), for who reads nothing but vectors.
    ///
    /// # Errors
    /// [`NotABox`] names the environment and what its observations are.
    pub fn observation_bounds(&self) -> Result<[&'a [f32]; 2], NotABox<'a>> {
        self.bounds("observations", self.observation)
    }

    /// Lowest and highest action (act_dim each), for who gives nothing but vectors.
    ///
    /// # Errors
    /// [`NotABox`] names the environment and what its actions are.
    pub fn action_bounds(&self) -> Result<[&'a [f32]; 2], NotABox<'a>> {
        self.bounds("actions", self.action)
    }

    fn bounds(&self, of: &'static str, space: Space<'a>) -> Result<[&'a [f32]; 2], NotABox<'a>> {
        let env = self.id;
        space.bounds().ok_or(NotABox { env, of, space })
    }
}

/// Outcome of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Reward of the transition.
    pub reward: f64,
    /// The task ended (a fall, a goal): no reward follows.
    pub terminated: bool,
    /// The time limit is reached; stays true if stepping goes on.
    pub truncated: bool,
}

/// A simulated plant with an episodic task, as Gymnasium defines it.
///
/// Stepping on after `terminated` or `truncated` is allowed and continues the physics.
pub trait Env: Send {
    /// Dimensions, limits and name.
    fn spec(&self) -> EnvSpec<'_>;

    /// Starts an episode. The same seed always gives the same initial state, on every target.
    fn reset(&mut self, seed: u64);

    /// Applies `action` (act_dim, f32 as policies give it) for one control period.
    ///
    /// # Panics
    /// If `action` is shorter than act_dim.
    fn step(&mut self, action: &[f32]) -> Step;

    /// What the policy sees of the present state: state_dim values, as f32.
    ///
    /// # Panics
    /// If `out` is not state_dim long.
    fn observation(&self, out: &mut [f32]);

    /// The observation with the precision Gymnasium gives it: f64 for MuJoCo plants, where
    /// [`Env::observation`] rounds it to f32 for the policy.
    ///
    /// # Panics
    /// If `out` is not state_dim long.
    fn observation_f64(&self, out: &mut [f64]);

    /// Starts an episode at the given generalized positions and velocities.
    ///
    /// # Errors
    /// [`StateError`] if a length is wrong or a value is not finite; the state is then unchanged.
    fn set_state(&mut self, qpos: &[f64], qvel: &[f64]) -> Result<(), StateError>;

    /// Why the simulation broke down in this episode, if it did, which may be when it began. The step that broke it down ends
    /// the episode with reward 0, `terminated`, or where the plant itself is gone `truncated`; what follows until the next reset
    /// means nothing.
    fn fault(&self) -> Option<Fault> {
        None
    }
}

/// A quantity of the simulation became NaN, infinite or absurdly large: the model is unstable under
/// these actions, or its time step is too long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "std"), derive(Copy))]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// In the generalized positions.
    Qpos,
    /// In the generalized velocities.
    Qvel,
    /// In the generalized accelerations.
    Qacc,
    /// In the controls.
    Ctrl,
    /// The plant, which is another process, died, was silent or talked nonsense; with its last words.
    #[cfg(feature = "std")]
    Plant(String),
}

impl Fault {
    /// Whether the episode was cut short by something that has nothing to do with what was done in it: then it says nothing of
    /// who acted.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        match self {
            #[cfg(feature = "std")]
            Self::Plant(_) => true,
            Self::Qpos | Self::Qvel | Self::Qacc | Self::Ctrl => false,
        }
    }
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Qpos => "NaN, infinite or huge value in qpos",
            Self::Qvel => "NaN, infinite or huge value in qvel",
            Self::Qacc => "NaN, infinite or huge value in qacc",
            Self::Ctrl => "NaN, infinite or huge value in ctrl",
            #[cfg(feature = "std")]
            Self::Plant(words) => words,
        })
    }
}

/// Why [`Env::set_state`] refused a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// Wrong number of values.
    WrongLength {
        /// `qpos` or `qvel`.
        field: &'static str,
        /// Values the plant has.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// A value is NaN or infinite.
    NonFinite {
        /// `qpos` or `qvel`.
        field: &'static str,
        /// Which value.
        index: usize,
    },
    /// The plant does not take it; [`Env::fault`] has its words.
    Refused,
    /// A value names no place that the plant has, where places can be counted.
    NoSuchPlace {
        /// `qpos` or `qvel`.
        field: &'static str,
        /// Which value.
        index: usize,
    },
}

impl core::fmt::Display for StateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::WrongLength {
                field,
                expected,
                got,
            } => write!(
                f,
                "{field} has {got} values, the environment has {expected}"
            ),
            Self::NonFinite { field, index } => write!(f, "{field}[{index}] is not finite"),
            Self::Refused => f.write_str("the plant does not take this state"),
            Self::NoSuchPlace { field, index } => {
                write!(f, "{field}[{index}] is no place of this environment")
            }
        }
    }
}

impl core::error::Error for StateError {}

/// Checks one half of a state given to [`Env::set_state`].
///
/// # Errors
/// See [`StateError`].
pub fn check_state(field: &'static str, values: &[f64], expected: usize) -> Result<(), StateError> {
    if values.len() != expected {
        let got = values.len();
        return Err(StateError::WrongLength {
            field,
            expected,
            got,
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(StateError::NonFinite { field, index }),
        None => Ok(()),
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn who_needs_vectors_refuses_other_spaces_by_name() {
        let graph = EnvSpec {
            id: "graph",
            observation: Space::Image {
                height: 5,
                width: 4,
                channels: 3,
            },
            action: Space::Discrete { n: 20 },
            ..crate::pendulum::SPEC
        };
        assert_eq!((graph.state_dim(), graph.act_dim()), (60, 1));
        assert_eq!(
            graph.action_bounds().unwrap_err().to_string(),
            "the actions of environment `graph` are Discrete(20); only vectors of numbers, Box, can be used here"
        );
        let refusal = graph.observation_bounds().unwrap_err().to_string();
        assert!(
            refusal.starts_with("the observations of environment `graph` are Image 5×4×3;"),
            "{refusal}"
        );
        let pendulum = crate::pendulum::SPEC;
        assert_eq!(pendulum.action_bounds(), Ok([&[-2.0][..], &[2.0]]));
        assert_eq!(pendulum.observation_bounds().unwrap()[1], [1.0, 1.0, 8.0]);
    }
}
