//! MuJoCo environments: one [`MujocoEnv`], described by data.
//!
//! - [`description`]: what a TOML file may say about a task.
//! - [`task`]: the description resolved against its model.
//! - [`model`]: loading models and what can go wrong.
//!
//! The built-in tasks are those of Gymnasium 1.4, whose model files they use, with the same states, observations, rewards
//! and terminations to the bit from the same state on. Initial states come from other random numbers (ChaCha8 rather than
//! PCG64) with the same distributions. Gymnasium computes `mj_rnePostConstraint` after each step, which changes nothing
//! that these tasks look at, so it is left out.

use std::path::Path;
use std::sync::Arc;

use mujoco_rs::prelude::{MjData, MjtWarning};

use crate::env::{Env, EnvSpec, Fault, StateError, Step, check_state};
use crate::random::Random;
use crate::space::Space;

pub mod description;
mod drawing;
pub mod model;
mod resolve;
pub mod task;

use description::{Norm, When};
pub(crate) use drawing::Drawing;
pub use model::LoadError;
pub use task::Task;
use task::{Data, Draw, Kind, Term};

/// The descriptions of the built-in tasks; a bare name means the newest version.
fn builtin(name: &str) -> Option<&'static str> {
    Some(match name {
        "hopper" | "hopper-v5" => include_str!("tasks/hopper-v5.toml"),
        "hopper-v4" => include_str!("tasks/hopper-v4.toml"),
        "halfcheetah" | "halfcheetah-v4" | "halfcheetah-v5" => {
            include_str!("tasks/halfcheetah.toml")
        }
        "walker2d" | "walker2d-v5" => include_str!("tasks/walker2d-v5.toml"),
        "walker2d-v4" => include_str!("tasks/walker2d-v4.toml"),
        "reacher" | "reacher-v5" => include_str!("tasks/reacher-v5.toml"),
        "reacher-v4" => include_str!("tasks/reacher-v4.toml"),
        "reacher-dt" => include_str!("tasks/reacher-dt.toml"),
        _ => return None,
    })
}

/// Loads a task: a built-in name, or else the path of a TOML file, whose name without `.toml` becomes the task's.
///
/// `assets` is the folder of Gymnasium's model files, by default where set-up installed them.
///
/// # Errors
/// [`LoadError`] names the file and what is wrong with it.
pub fn load(name: &str, assets: Option<&Path>) -> Result<Task, LoadError> {
    if let Some(text) = builtin(name) {
        return Task::new(name, name, text, |file| match file {
            "reacher-dt.xml" => model::from_text(file, include_str!("tasks/reacher-dt.xml")),
            _ => model::load(&model::assets(assets)?.join(file), model::REMEDY),
        });
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).map_err(|cause| LoadError::Read {
        path: path.to_owned(),
        cause,
    })?;
    let id = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new(""));
    Task::new(&id, name, &text, |file| {
        let remedy = "`model` is relative to the description's folder";
        model::load(&folder.join(file), remedy)
    })
}

/// A simulated robot with its task.
#[derive(Debug)]
pub struct MujocoEnv {
    task: Arc<Task>,
    data: Data,
    steps: u32,
    /// Values of the reward's terms that look at the state before the step.
    before: Vec<f64>,
    fault: Option<Fault>,
}

impl MujocoEnv {
    /// A new instance, at the model's initial state.
    #[must_use]
    pub fn new(task: Arc<Task>) -> Self {
        let before = vec![0.0; task.rewards.len()];
        let mut data = MjData::new(task.model.clone());
        data.forward();
        Self {
            task,
            data,
            steps: 0,
            before,
            fault: None,
        }
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The simulation's state.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// As Gymnasium: reset, set positions and velocities, compute everything that depends on them.
    fn start(&mut self, set: impl FnOnce(&mut Data)) {
        self.data.reset();
        set(&mut self.data);
        self.data.forward();
        self.steps = 0;
        self.fault = None;
    }

    fn is_healthy(&self) -> bool {
        self.task.healthy.iter().all(|&(source, low, high)| {
            let value = source.read(&self.data);
            low < value && value < high
        })
    }

    fn look_before(&mut self) {
        for (value, term) in self.before.iter_mut().zip(&self.task.rewards) {
            *value = match *term {
                Term::Velocity(i, _) => self.data.qpos()[i],
                Term::Distance(bodies, _, When::Before) => distance(&self.data, bodies, Norm::L2),
                _ => 0.0,
            };
        }
    }

    /// Terms in Gymnasium's order and precision: an f64 sum of terms, of which the control cost is f32 throughout.
    fn reward(&self, action: &[f32], healthy: bool) -> f64 {
        let data = &self.data;
        let terms = self.task.rewards.iter().zip(&self.before);
        let values = terms.map(|(term, &before)| match *term {
            Term::Velocity(i, weight) => weight * ((data.qpos()[i] - before) / self.task.period),
            Term::Healthy(weight) => weight * f64::from(u8::from(healthy)),
            Term::Constant(weight) => weight,
            Term::Control(weight) => f64::from(weight * action.iter().map(|a| a * a).sum::<f32>()),
            Term::Distance(_, weight, When::Before) => weight * before,
            Term::Distance(bodies, weight, When::After) => {
                weight * distance(data, bodies, Norm::L2)
            }
            Term::Reach(bodies, norm, within, weight) => {
                weight * f64::from(u8::from(distance(data, bodies, norm) < within))
            }
            Term::Squares(ref sources, weight) => {
                let squares = sources.iter().map(|source| source.read(data).powi(2));
                weight * squares.sum::<f64>()
            }
            Term::Linear(source, weight) => weight * source.read(data),
        });
        values.reduce(|sum, value| sum + value).unwrap_or(0.0)
    }
}

impl Env for MujocoEnv {
    fn spec(&self) -> EnvSpec<'_> {
        let task = &*self.task;
        EnvSpec {
            id: &task.id,
            observation: Space::Box {
                low: &task.state[0],
                high: &task.state[1],
            },
            action: Space::Box {
                low: &task.action[0],
                high: &task.action[1],
            },
            max_episode_steps: task.max_episode_steps,
            control_period_us: (task.period * 1e6).round() as u32,
            score_range: task.score_range,
        }
    }

    fn reset(&mut self, seed: u64) {
        let task = self.task.clone();
        let mut random = Random::new(seed);
        self.start(|data| {
            for draw in &task.reset {
                perturb(data, draw, &mut random);
            }
        });
    }

    fn step(&mut self, action: &[f32]) -> Step {
        self.look_before();
        let ctrl = self.data.ctrl_mut();
        for (ctrl, &action) in ctrl.iter_mut().zip(&action[..self.task.action[0].len()]) {
            *ctrl = action.into();
        }
        for _ in 0..self.task.frame_skip {
            self.data.step();
        }
        self.steps = self.steps.saturating_add(1);
        if self.fault.is_none() {
            self.fault = fault(&self.data);
        }
        let healthy = self.fault.is_none() && self.is_healthy();
        Step {
            reward: if self.fault.is_none() {
                self.reward(action, healthy)
            } else {
                0.0
            },
            terminated: !healthy,
            truncated: self.steps >= self.task.max_episode_steps,
        }
    }

    fn observation(&self, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            self.task.channels.len(),
            "length of the observation"
        );
        for (out, channel) in out.iter_mut().zip(&self.task.channels) {
            *out = channel.read(&self.data) as f32;
        }
    }

    fn observation_f64(&self, out: &mut [f64]) {
        assert_eq!(
            out.len(),
            self.task.channels.len(),
            "length of the observation"
        );
        for (out, channel) in out.iter_mut().zip(&self.task.channels) {
            *out = channel.read(&self.data);
        }
    }

    fn set_state(&mut self, qpos: &[f64], qvel: &[f64]) -> Result<(), StateError> {
        check_state("qpos", qpos, self.data.qpos().len())?;
        check_state("qvel", qvel, self.data.qvel().len())?;
        self.start(|data| {
            data.qpos_mut().copy_from_slice(qpos);
            data.qvel_mut().copy_from_slice(qvel);
        });
        Ok(())
    }

    fn fault(&self) -> Option<Fault> {
        self.fault.clone()
    }
}

/// Distance between two bodies' frames, summed in the order x, y, z, as NumPy's `norm` does.
fn distance(data: &Data, [a, b]: [usize; 2], norm: Norm) -> f64 {
    let (a, b) = (data.xpos()[a], data.xpos()[b]);
    let [x, y, z] = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    match norm {
        Norm::L1 => x.abs() + y.abs() + z.abs(),
        Norm::L2 => (x * x + y * y + z * z).sqrt(),
    }
}

/// What MuJoCo's counters say: it notices bad numbers itself, resets the state and goes on.
fn fault(data: &Data) -> Option<Fault> {
    let count = |warning: MjtWarning| data.warning()[warning as usize].number;
    [
        (MjtWarning::mjWARN_BADQPOS, Fault::Qpos),
        (MjtWarning::mjWARN_BADQVEL, Fault::Qvel),
        (MjtWarning::mjWARN_BADQACC, Fault::Qacc),
        (MjtWarning::mjWARN_BADCTRL, Fault::Ctrl),
    ]
    .into_iter()
    .find_map(|(warning, fault)| (count(warning) > 0).then_some(fault))
}

fn perturb(data: &mut Data, draw: &Draw, random: &mut Random) {
    let values = if draw.position {
        data.qpos_mut()
    } else {
        data.qvel_mut()
    };
    match draw.kind {
        Kind::Uniform(bound) => {
            for &i in &draw.indices {
                values[i] += random.uniform(bound);
            }
        }
        Kind::Normal(deviation) => {
            for &i in &draw.indices {
                values[i] += deviation * random.normal();
            }
        }
        // Points of the square around it until one lies inside.
        Kind::Ring(inner, outer) => {
            let (x, y) = loop {
                let (x, y) = (random.uniform(outer), random.uniform(outer));
                if (inner..=outer).contains(&libm::hypot(x, y)) {
                    break (x, y);
                }
            };
            for (&i, value) in draw.indices.iter().zip([x, y]) {
                values[i] = value;
            }
        }
    }
}
