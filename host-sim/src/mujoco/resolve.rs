//! From names to addresses: the parts of a description looked up in a model.

use mujoco_rs::prelude::{MjModel, MjtObjBase};

use super::description::{Distance, Healthy, Noise, Observation, Reset, Reward, Squares, View};
use super::model::LoadError;
use super::task::{Channel, Draw, Kind, Source, Term};

/// Looks names up and remembers where it stands, for errors.
pub struct Resolver<'a> {
    /// Names the description in errors.
    pub file: &'a str,
    /// Where names are looked up.
    pub model: &'a MjModel,
}

impl Resolver<'_> {
    pub fn value(&self, field: impl Into<String>, problem: impl Into<String>) -> LoadError {
        LoadError::Value {
            file: self.file.into(),
            field: field.into(),
            problem: problem.into(),
        }
    }

    pub fn observation(&self, parts: &[Observation]) -> Result<Vec<Channel>, LoadError> {
        let mut channels = Vec::new();
        for part in parts {
            match part {
                Observation::Qpos(view) => self.view("qpos", view, Source::Qpos, &mut channels)?,
                Observation::Qvel(view) => self.view("qvel", view, Source::Qvel, &mut channels)?,
                Observation::Cos(view) => self.view("qpos", view, Source::Cos, &mut channels)?,
                Observation::Sin(view) => self.view("qpos", view, Source::Sin, &mut channels)?,
                Observation::Offset(offset) => {
                    let (to, from) = (self.body(&offset.to)?, self.body(&offset.from)?);
                    if !(1..=3).contains(&offset.axes) {
                        return Err(self.value("observation.offset.axes", "must be 1, 2 or 3"));
                    }
                    let axes = (0..offset.axes).map(|axis| Source::Offset { to, from, axis });
                    channels.extend(axes.map(Channel::plain));
                }
                Observation::Sensor(sensor) => {
                    let id = self.id(MjtObjBase::mjOBJ_SENSOR, "sensor", &sensor.name)?;
                    let start = self.model.sensor_adr()[id] as usize;
                    let readings = start..start + self.model.sensor_dim()[id] as usize;
                    channels.extend(readings.map(Source::Sensor).map(Channel::plain));
                }
            }
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
        source: fn(usize) -> Source,
        channels: &mut Vec<Channel>,
    ) -> Result<(), LoadError> {
        let (scale, clip) = (
            view.scale.unwrap_or(1.0),
            view.clip.unwrap_or(f64::INFINITY),
        );
        if !scale.is_finite() {
            return Err(self.value("observation.scale", "must be finite"));
        }
        if clip.is_nan() || clip <= 0.0 {
            return Err(self.value("observation.clip", "must be positive"));
        }
        let indices = self.select("observation", of, &view.only, &view.except)?;
        let channel = |index| Channel {
            source: source(index),
            scale,
            clip,
        };
        channels.extend(indices.into_iter().map(channel));
        Ok(())
    }

    pub fn rewards(&self, terms: &[Reward]) -> Result<Vec<Term>, LoadError> {
        let squares = |of, s: &Squares, source: fn(usize) -> Source| {
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
                Reward::Reach(r) => {
                    Term::Reach(self.bodies(&r.bodies)?, r.norm, r.within, r.weight)
                }
                Reward::Cos(j) => Term::Linear(Source::Cos(self.scalar(&j.joint)?), j.weight),
                Reward::QposSquared(s) => squares("qpos", s, Source::Qpos)?,
                Reward::QvelSquared(s) => squares("qvel", s, Source::Qvel)?,
            })
        };
        terms.iter().map(resolve).collect()
    }

    pub fn healthy(&self, conditions: &[Healthy]) -> Result<Vec<(Source, f64, f64)>, LoadError> {
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

    pub fn reset(&self, draws: &[Reset]) -> Result<Vec<Draw>, LoadError> {
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
        let kind = match (noise.uniform, noise.normal, noise.ring) {
            (Some(bound), None, None) => Kind::Uniform(bound),
            (None, Some(deviation), None) => Kind::Normal(deviation),
            (None, None, Some((inner, outer))) if values == 2 => Kind::Ring(inner, outer),
            (None, None, Some(_)) => {
                let problem = format!("needs 2 values, selected are {values}");
                return Err(self.value("reset.ring", problem));
            }
            _ => return Err(self.value("reset", "needs exactly one of uniform, normal and ring")),
        };
        let sizes_make_sense = match kind {
            Kind::Uniform(size) | Kind::Normal(size) => size.is_finite() && size >= 0.0,
            Kind::Ring(inner, outer) => outer.is_finite() && (0.0..outer).contains(&inner),
        };
        if sizes_make_sense {
            return Ok(kind);
        }
        let rule = "sizes are finite and not negative, and a ring's second is the larger one";
        Err(self.value("reset", format!("{kind:?} is no distribution: {rule}")))
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

    pub fn action(&self) -> Result<[Vec<f32>; 2], LoadError> {
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
