//! The [`Env`] trait: Gymnasium's `reset` and `step`, seeded, without allocation.
//!
//! A plant that runs on the controller implements it in `core` only; `host_sim::make` opens any
//! environment by name on the host.

use serde::{Deserialize, Serialize};

/// What an environment looks like from outside.
///
/// Borrowed from the environment, so that it costs nothing on the controller and that an
/// environment described by a user's file can own the storage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnvSpec<'a> {
    /// Name, as `--env` takes it.
    pub id: &'a str,
    /// Length of an observation.
    pub state_dim: usize,
    /// Length of an action.
    pub act_dim: usize,
    /// Lowest action (act_dim). Actions outside are clipped by the plant, not refused.
    pub action_low: &'a [f32],
    /// Highest action (act_dim).
    pub action_high: &'a [f32],
    /// Lowest observation (state_dim) the plant can produce; −∞ where it has no bound.
    pub state_low: &'a [f32],
    /// Highest observation (state_dim); ∞ where it has no bound.
    pub state_high: &'a [f32],
    /// Steps after which an episode is truncated.
    pub max_episode_steps: u32,
    /// Simulated time of one step, in microseconds.
    pub control_period_us: u32,
    /// Returns of D4RL's random and expert agents, which normalize a score to 0…100.
    pub score_range: Option<(f64, f64)>,
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

    /// Why the simulation broke down in this episode, if it did. The step that broke it down ends the
    /// episode (`terminated`) with reward 0; what follows until the next reset means nothing.
    fn fault(&self) -> Option<Fault> {
        None
    }
}

/// A quantity of the simulation became NaN, infinite or absurdly large: the model is unstable under
/// these actions, or its time step is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Qpos => "NaN, infinite or huge value in qpos",
            Self::Qvel => "NaN, infinite or huge value in qvel",
            Self::Qacc => "NaN, infinite or huge value in qacc",
            Self::Ctrl => "NaN, infinite or huge value in ctrl",
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
