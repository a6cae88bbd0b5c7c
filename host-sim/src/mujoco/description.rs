//! A MuJoCo task as data: what the TOML file of an environment may say.
//!
//! Names in it are those of the MJCF file. Wherever joints are selected, `only` lists them, `except` lists those left out,
//! and neither means all, in the model's order.

use serde::Deserialize;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// MJCF file, relative to this one (built-in tasks: to Gymnasium's model files).
    pub model: String,
    /// `mj_step`s per control step; with the model's timestep this makes the control period.
    pub frame_skip: u32,
    /// Control steps after which an episode is truncated.
    pub max_episode_steps: u32,
    /// Returns of a random and an expert agent, which normalize a score to 0…100.
    pub score_range: Option<(f64, f64)>,
    /// What the policy sees, in order.
    pub observation: Vec<Observation>,
    /// Terms of the reward, added in order.
    pub reward: Vec<Reward>,
    /// The episode terminates unless all of these hold.
    #[serde(default)]
    pub healthy: Vec<Healthy>,
    /// How the initial state differs from the model's `qpos0` at rest.
    #[serde(default)]
    pub reset: Vec<Reset>,
}

/// Part of the observation.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// Generalized positions (m, rad).
    Qpos(View),
    /// Generalized velocities (m/s, rad/s).
    Qvel(View),
    /// Cosines of generalized positions.
    Cos(View),
    /// Sines of generalized positions.
    Sin(View),
    /// Position of one body's frame relative to another's, in world axes (m).
    Offset(Offset),
    /// Readings of a sensor.
    Sensor(Sensor),
}

/// Selected joints.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct View {
    /// These joints.
    pub only: Option<Vec<String>>,
    /// All joints but these.
    pub except: Option<Vec<String>>,
    /// Values are multiplied by this, 1 by default.
    pub scale: Option<f64>,
    /// Values are clipped to ± this, after `scale`.
    pub clip: Option<f64>,
}

/// One body relative to another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offset {
    /// This body's position …
    pub to: String,
    /// … minus this one's.
    pub from: String,
    /// How many of x, y, z.
    #[serde(default = "three")]
    pub axes: usize,
}

/// A sensor of the model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    /// Its name.
    pub name: String,
}

/// A term of the reward.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reward {
    /// weight · (change of a joint's position in this step) / (control period).
    Velocity(Joint),
    /// weight, if the state after the step is healthy.
    Healthy(Weight),
    /// weight, always.
    Constant(Weight),
    /// weight · Σ action², of the action before clipping, in f32 as NumPy computes it.
    Control(Weight),
    /// weight · distance between two bodies.
    Distance(Distance),
    /// weight, if two bodies are closer than `within` after the step.
    Reach(Reach),
    /// weight · cos(a joint's position after the step).
    Cos(Joint),
    /// weight · Σ qpos² after the step.
    QposSquared(Squares),
    /// weight · Σ qvel² after the step.
    QvelSquared(Squares),
}

/// One joint's share in the reward.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joint {
    /// A slide or hinge.
    pub joint: String,
    /// Factor.
    pub weight: f64,
}

/// A factor alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// Factor.
    pub weight: f64,
}

/// Distance in the reward.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distance {
    /// The two bodies.
    pub bodies: [String; 2],
    /// Factor.
    pub weight: f64,
    /// Before or after the step.
    #[serde(default)]
    pub when: When,
}

/// Which state a term of the reward looks at.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The one the step started from.
    Before,
    /// The one it led to.
    #[default]
    After,
}

/// Closeness in the reward.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// The two bodies.
    pub bodies: [String; 2],
    /// m.
    pub within: f64,
    /// How distance is measured.
    #[serde(default)]
    pub norm: Norm,
    /// What it earns.
    pub weight: f64,
}

/// A measure of distance.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// |Δx| + |Δy| + |Δz|.
    L1,
    /// Euclidean.
    #[default]
    L2,
}

/// Squares in the reward.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Squares {
    /// These joints.
    pub only: Option<Vec<String>>,
    /// All joints but these.
    pub except: Option<Vec<String>>,
    /// Factor.
    pub weight: f64,
}

/// A condition of health.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Healthy {
    /// Generalized positions.
    Qpos(Within),
    /// Generalized velocities.
    Qvel(Within),
}

/// All selected values lie in an open interval.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// These joints.
    pub only: Option<Vec<String>>,
    /// All joints but these.
    pub except: Option<Vec<String>>,
    /// Bounds, which are themselves outside; `inf` is allowed.
    pub within: (f64, f64),
}

/// Randomness of the initial state.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// Generalized positions.
    Qpos(Noise),
    /// Generalized velocities.
    Qvel(Noise),
}

/// Random numbers for selected values; exactly one kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// These joints.
    pub only: Option<Vec<String>>,
    /// All joints but these.
    pub except: Option<Vec<String>>,
    /// Adds uniform noise of ± this.
    pub uniform: Option<f64>,
    /// Adds normal noise of this standard deviation.
    pub normal: Option<f64>,
    /// Replaces two values by a point uniform between circles of these radii around 0.
    pub ring: Option<(f64, f64)>,
}

const fn three() -> usize {
    3
}
