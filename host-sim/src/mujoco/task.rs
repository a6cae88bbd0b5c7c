//! A description resolved against its model: names have become addresses, and everything is checked.

use std::sync::Arc;

use mujoco_rs::prelude::{MjData, MjModel};

use super::description::{Description, Norm, When};
use super::model::LoadError;
use super::resolve::Resolver;

/// State of a simulation; the model is shared between instances.
pub type Data = MjData<Arc<MjModel>>;

/// A task that is ready to make environments.
#[derive(Debug)]
pub struct Task {
    /// Name, as `--env` takes it.
    pub id: String,
    /// The physics.
    pub model: Arc<MjModel>,
    /// `mj_step`s per control step.
    pub frame_skip: u32,
    /// Control period, s.
    pub period: f64,
    /// Control steps until truncation.
    pub max_episode_steps: u32,
    /// Returns of a random and an expert agent.
    pub score_range: Option<(f64, f64)>,
    /// One per value of the observation.
    pub channels: Vec<Channel>,
    /// In the order in which they are added.
    pub rewards: Vec<Term>,
    /// Conditions of health.
    pub healthy: Vec<(Source, f64, f64)>,
    /// In the order in which random numbers are drawn.
    pub reset: Vec<Draw>,
    /// Bounds of the action: the actuators' control ranges.
    pub action: [Vec<f32>; 2],
    /// Bounds of the observation.
    pub state: [Vec<f32>; 2],
}

/// One value of the observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channel {
    /// Where it comes from.
    pub source: Source,
    /// Factor.
    pub scale: f64,
    /// Clipped to ± this.
    pub clip: f64,
}

impl Channel {
    /// The source as it is.
    pub const fn plain(source: Source) -> Self {
        Self {
            source,
            scale: 1.0,
            clip: f64::INFINITY,
        }
    }

    /// The value.
    pub fn read(self, data: &Data) -> f64 {
        (self.scale * self.source.read(data)).clamp(-self.clip, self.clip)
    }
}

/// Address of a number in the simulation's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `qpos[i]`.
    Qpos(usize),
    /// `qvel[i]`.
    Qvel(usize),
    /// cos `qpos[i]`.
    Cos(usize),
    /// sin `qpos[i]`.
    Sin(usize),
    /// `xpos[to][axis] − xpos[from][axis]`.
    Offset {
        /// Body.
        to: usize,
        /// Body.
        from: usize,
        /// 0 to 2.
        axis: usize,
    },
    /// `sensordata[i]`.
    Sensor(usize),
}

impl Source {
    /// The number. Sines are the platform's, as in NumPy and in MuJoCo itself.
    pub fn read(self, data: &Data) -> f64 {
        match self {
            Self::Qpos(i) => data.qpos()[i],
            Self::Qvel(i) => data.qvel()[i],
            Self::Cos(i) => data.qpos()[i].cos(),
            Self::Sin(i) => data.qpos()[i].sin(),
            Self::Offset { to, from, axis } => data.xpos()[to][axis] - data.xpos()[from][axis],
            Self::Sensor(i) => data.sensordata()[i],
        }
    }
}

/// A term of the reward.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// weight · Δ`qpos[i]` / period.
    Velocity(usize, f64),
    /// weight if healthy.
    Healthy(f64),
    /// weight.
    Constant(f64),
    /// weight · Σ action², all in f32.
    Control(f32),
    /// weight · distance between two bodies.
    Distance([usize; 2], f64, When),
    /// weight if two bodies are closer than that: bodies, norm, distance, weight.
    Reach([usize; 2], Norm, f64, f64),
    /// weight · Σ source².
    Squares(Vec<Source>, f64),
    /// weight · source.
    Linear(Source, f64),
}

/// A draw of the initial state.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// Into `qpos` rather than `qvel`.
    pub position: bool,
    /// Into which elements.
    pub indices: Vec<usize>,
    /// What is drawn.
    pub kind: Kind,
}

/// A distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Adds a uniform number of ± this.
    Uniform(f64),
    /// Adds a normal number of this standard deviation.
    Normal(f64),
    /// Replaces two values by a point between circles of these radii.
    Ring(f64, f64),
}

impl Task {
    /// Resolves a description (TOML text). `file` names it in errors; `open` loads the model it names.
    ///
    /// # Errors
    /// [`LoadError`] names the file and the field.
    pub fn new(
        id: &str,
        file: &str,
        text: &str,
        open: impl FnOnce(&str) -> Result<MjModel, LoadError>,
    ) -> Result<Self, LoadError> {
        let description: Description = toml::from_str(text).map_err(|cause| LoadError::Toml {
            file: file.into(),
            cause,
        })?;
        let model = open(&description.model)?;
        let resolver = Resolver {
            file,
            model: &model,
        };
        let channels = resolver.observation(&description.observation)?;
        let bound = |sign: f64| channels.iter().map(|c| (sign * c.clip) as f32).collect();
        let period = model.opt().timestep * f64::from(description.frame_skip);
        let positive = |field, value: u32| {
            let problem = || resolver.value(field, "must be at least 1");
            if value == 0 {
                Err(problem())
            } else {
                Ok(value)
            }
        };
        Ok(Self {
            id: id.into(),
            frame_skip: positive("frame_skip", description.frame_skip)?,
            period,
            max_episode_steps: positive("max_episode_steps", description.max_episode_steps)?,
            score_range: description.score_range,
            rewards: resolver.rewards(&description.reward)?,
            healthy: resolver.healthy(&description.healthy)?,
            reset: resolver.reset(&description.reset)?,
            action: resolver.action()?,
            state: [bound(-1.0), bound(1.0)],
            channels,
            model: Arc::new(model),
        })
    }
}
