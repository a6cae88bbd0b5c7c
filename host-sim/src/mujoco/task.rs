//! A description resolved against its model: names have become addresses, and everything is checked.

use std::path::Path;
use std::sync::Arc;

use mujoco_rs::prelude::{MjData, MjModel, MjtObjBase};

use super::description::{
    Description, Distance, Healthy, Noise, Observation, Reset, Reward, View, When,
};
use super::model::{self, LoadError};

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
    /// Clipped to ± this.
    pub clip: f64,
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
    /// weight if two bodies are closer than that.
    Reach([usize; 2], f64, f64),
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
    /// Replaces two values by a point in the disc of this radius.
    Disc(f64),
}

impl Task {
    /// Resolves a description (TOML text). `file` names it in errors; its model lies in `folder`.
    ///
    /// # Errors
    /// [`LoadError`] names the file and the field.
    pub fn new(
        id: &str,
        file: &str,
        text: &str,
        folder: &Path,
        remedy: &'static str,
    ) -> Result<Self, LoadError> {
        let description: Description = toml::from_str(text).map_err(|source| LoadError::Toml {
            file: file.into(),
            source,
        })?;
        let model = model::load(&folder.join(&description.model), remedy)?;
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

/// Looks names up and remembers where it stands, for errors.
struct Resolver<'a> {
    file: &'a str,
    model: &'a MjModel,
}

impl Resolver<'_> {
    fn value(&self, field: impl Into<String>, problem: impl Into<String>) -> LoadError {
        LoadError::Value {
            file: self.file.into(),
            field: field.into(),
            problem: problem.into(),
        }
    }

    fn observation(&self, parts: &[Observation]) -> Result<Vec<Channel>, LoadError> {
        let mut channels = Vec::new();
        for part in parts {
            let (sources, clip) = match part {
                Observation::Qpos(view) => (self.view("qpos", view, Source::Qpos)?, view.clip),
                Observation::Qvel(view) => (self.view("qvel", view, Source::Qvel)?, view.clip),
                Observation::Cos(view) => (self.view("qpos", view, Source::Cos)?, view.clip),
                Observation::Sin(view) => (self.view("qpos", view, Source::Sin)?, view.clip),
                Observation::Offset(offset) => {
                    let (to, from) = (self.body(&offset.to)?, self.body(&offset.from)?);
                    if !(1..=3).contains(&offset.axes) {
                        return Err(self.value("observation.offset.axes", "must be 1, 2 or 3"));
                    }
                    let axes = (0..offset.axes).map(|axis| Source::Offset { to, from, axis });
                    (axes.collect(), None)
                }
                Observation::Sensor(sensor) => {
                    let id = self.id(MjtObjBase::mjOBJ_SENSOR, "sensor", &sensor.name)?;
                    let start = self.model.sensor_adr()[id] as usize;
                    let readings = start..start + self.model.sensor_dim()[id] as usize;
                    (readings.map(Source::Sensor).collect(), None)
                }
            };
            let clip = clip.unwrap_or(f64::INFINITY);
            if clip.is_nan() || clip <= 0.0 {
                return Err(self.value("observation.clip", "must be positive"));
            }
            channels.extend(sources.into_iter().map(|source| Channel { source, clip }));
        }
        if channels.is_empty() {
            return Err(self.value("observation", "is empty; the policy needs something to see"));
        }
        Ok(channels)
    }

    fn view(
        &self,
        of: &str,
        view: &View,
        source: impl Fn(usize) -> Source,
    ) -> Result<Vec<Source>, LoadError> {
        let indices = self.select("observation", of, &view.only, &view.except)?;
        Ok(indices.into_iter().map(source).collect())
    }

    fn rewards(&self, terms: &[Reward]) -> Result<Vec<Term>, LoadError> {
        let squares = |of, s: &super::description::Squares, source: fn(usize) -> Source| {
            let indices = self.select("reward", of, &s.only, &s.except)?;
            Ok(Term::Squares(
                indices.into_iter().map(source).collect(),
                s.weight,
            ))
        };
        let resolve = |term: &Reward| {
            Ok(match term {
                Reward::Velocity(j) => Term::Velocity(self.scalar(&j.joint)?, j.weight),
                Reward::Healthy(w) => Term::Healthy(w.weight),
                Reward::Constant(w) => Term::Constant(w.weight),
                Reward::Control(w) => Term::Control(w.weight as f32),
                Reward::Distance(Distance {
                    bodies,
                    weight,
                    when,
                }) => Term::Distance(self.bodies(bodies)?, *weight, *when),
                Reward::Reach(r) => Term::Reach(self.bodies(&r.bodies)?, r.within, r.weight),
                Reward::Cos(j) => Term::Linear(Source::Cos(self.scalar(&j.joint)?), j.weight),
                Reward::QposSquared(s) => squares("qpos", s, Source::Qpos)?,
                Reward::QvelSquared(s) => squares("qvel", s, Source::Qvel)?,
            })
        };
        terms.iter().map(resolve).collect()
    }

    fn healthy(&self, conditions: &[Healthy]) -> Result<Vec<(Source, f64, f64)>, LoadError> {
        let mut all = Vec::new();
        for condition in conditions {
            let (of, within, source): (_, _, fn(usize) -> Source) = match condition {
                Healthy::Qpos(within) => ("qpos", within, Source::Qpos),
                Healthy::Qvel(within) => ("qvel", within, Source::Qvel),
            };
            let (low, high) = within.within;
            if low.is_nan() || high.is_nan() || low >= high {
                return Err(self.value("healthy.within", "must be [low, high] with low < high"));
            }
            let indices = self.select("healthy", of, &within.only, &within.except)?;
            all.extend(indices.into_iter().map(|i| (source(i), low, high)));
        }
        Ok(all)
    }

    fn reset(&self, draws: &[Reset]) -> Result<Vec<Draw>, LoadError> {
        let resolve = |draw: &Reset| {
            let (of, noise) = match draw {
                Reset::Qpos(noise) => ("qpos", noise),
                Reset::Qvel(noise) => ("qvel", noise),
            };
            let indices = self.select("reset", of, &noise.only, &noise.except)?;
            let kind = self.kind(noise, indices.len())?;
            Ok(Draw {
                position: of == "qpos",
                indices,
                kind,
            })
        };
        draws.iter().map(resolve).collect()
    }

    fn kind(&self, noise: &Noise, values: usize) -> Result<Kind, LoadError> {
        let (kind, size) = match (noise.uniform, noise.normal, noise.disc) {
            (Some(bound), None, None) => (Kind::Uniform(bound), bound),
            (None, Some(deviation), None) => (Kind::Normal(deviation), deviation),
            (None, None, Some(radius)) if values == 2 => (Kind::Disc(radius), radius),
            (None, None, Some(_)) => {
                return Err(self.value(
                    "reset.disc",
                    format!("needs 2 values, selected are {values}"),
                ));
            }
            _ => return Err(self.value("reset", "needs exactly one of uniform, normal and disc")),
        };
        if size.is_finite() && size >= 0.0 {
            Ok(kind)
        } else {
            Err(self.value("reset", format!("{size} is not a finite size")))
        }
    }

    /// Indices into `qpos` or `qvel` of the selected joints.
    fn select(
        &self,
        field: &str,
        of: &str,
        only: &Option<Vec<String>>,
        except: &Option<Vec<String>>,
    ) -> Result<Vec<usize>, LoadError> {
        if only.is_some() && except.is_some() {
            return Err(self.value(field, "takes either only or except, not both"));
        }
        let ids = |names: &[String]| -> Result<Vec<usize>, LoadError> {
            names.iter().map(|name| self.joint(name)).collect()
        };
        let joints = match (only, except) {
            (Some(names), _) => ids(names)?,
            (_, Some(names)) => {
                let left_out = ids(names)?;
                let all = 0..self.model.jnt_qposadr().len();
                all.filter(|joint| !left_out.contains(joint)).collect()
            }
            _ => (0..self.model.jnt_qposadr().len()).collect(),
        };
        let (starts, end) = match of {
            "qpos" => (self.model.jnt_qposadr(), self.model.qpos0().len()),
            _ => (self.model.jnt_dofadr(), self.model.dof_damping().len()),
        };
        // Joints lie one behind the other: a joint's values end where the next one's start.
        let end_of = |joint: usize| starts.get(joint + 1).map_or(end, |&next| next as usize);
        Ok(joints
            .into_iter()
            .flat_map(|joint| starts[joint] as usize..end_of(joint))
            .collect())
    }

    /// Index into `qpos` of a joint with one degree of freedom.
    fn scalar(&self, name: &str) -> Result<usize, LoadError> {
        let names = Some(vec![name.to_owned()]);
        match self.select("reward", "qpos", &names, &None)?.as_slice() {
            [index] => Ok(*index),
            _ => Err(self.value(
                "reward",
                format!("joint `{name}` is neither a slide nor a hinge"),
            )),
        }
    }

    fn joint(&self, name: &str) -> Result<usize, LoadError> {
        self.id(MjtObjBase::mjOBJ_JOINT, "joint", name)
    }

    fn body(&self, name: &str) -> Result<usize, LoadError> {
        self.id(MjtObjBase::mjOBJ_BODY, "body", name)
    }

    fn bodies(&self, [a, b]: &[String; 2]) -> Result<[usize; 2], LoadError> {
        Ok([self.body(a)?, self.body(b)?])
    }

    fn id(&self, kind: MjtObjBase, what: &str, name: &str) -> Result<usize, LoadError> {
        let known = || {
            let names = (0..).map_while(|id| self.model.id_to_name(kind, id));
            names.collect::<Vec<_>>().join(", ")
        };
        // MuJoCo stops the process over a NUL in a name.
        let found = (!name.contains('\0'))
            .then(|| self.model.name_to_id(kind, name))
            .flatten();
        found.ok_or_else(|| {
            self.value(
                what,
                format!("the model has no {what} `{name}`; it has: {}", known()),
            )
        })
    }

    fn action(&self) -> Result<[Vec<f32>; 2], LoadError> {
        let limited = self.model.actuator_ctrllimited();
        if limited.is_empty() {
            return Err(self.value("model", "has no actuators, so there is nothing to control"));
        }
        if let Some(id) = limited.iter().position(|limited| !*limited) {
            let name = self.model.id_to_name(MjtObjBase::mjOBJ_ACTUATOR, id);
            let name = name.map_or_else(|| id.to_string(), |name| format!("`{name}`"));
            return Err(self.value(
                "model",
                format!("actuator {name} has no ctrlrange; policies need bounds"),
            ));
        }
        let range = self.model.actuator_ctrlrange();
        Ok([0, 1].map(|end| range.iter().map(|range| range[end] as f32).collect()))
    }
}
