//! What [`Learner`](super::learn::Learner) asks of an algorithm that learns as it acts.

use host_sim::{EnvSpec, Space};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::actor::{Actor, AgentSpec};
use super::noise::{Noise, Position};
use super::replay_buffer::Replay;
use crate::algo::{ppo, sac};
use crate::nn::flat::{Flat, Layout};
use crate::nn::optim::AdamW;

/// An algorithm in the middle of learning in its environments.
pub trait Online {
    /// Whether this step (counted from 0) is still to be a uniformly random one.
    fn explores(&self, _step: u64) -> bool {
        false
    }

    /// Makes the updates that are due; returns whether there were any.
    fn learn(&mut self, experience: Experience<'_>) -> bool;

    /// The actor's parameters, in the order of [`AgentSpec::layout`].
    fn actor(&self) -> &Tensor;

    /// Every tensor that updates change, by name, as views: what is written to them is written to the learner.
    fn tensors(&self) -> Vec<(&'static str, Tensor)>;

    /// How far it is, besides its tensors.
    fn counters(&self) -> Counters;

    /// Goes on from these counters, once the tensors are those of then.
    fn resume(&mut self, counters: Counters);

    /// Copies the present policy to `actor`, which has this learner's shape.
    fn copy_actor(&self, actor: &mut Actor) {
        let values = self.actor();
        values.copy_data(&mut actor.weights, values.numel());
    }
}

/// Everything so far.
#[derive(Debug)]
pub struct Experience<'a> {
    /// All steps, a round of all environments after the other.
    pub replay: &'a Replay,
    /// Of each step, whether it was the last of its episode.
    pub ends: &'a [bool],
    /// Environments, whose steps make a round.
    pub envs: usize,
    /// Steps to be taken in all.
    pub steps: usize,
    /// Random numbers of the collection, for what is drawn from it.
    pub noise: &'a mut Noise,
}

/// How far a learner is, besides its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Updates made.
    pub updates: u64,
    /// Of the learner's own noise.
    pub noise: Position,
}

/// An algorithm and its hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Settings {
    /// Soft actor-critic, for actions that are vectors.
    Sac(sac::Settings),
    /// Proximal policy optimization, for actions that are choices.
    Ppo(ppo::Settings),
}

impl Settings {
    /// Whether what is learned from a step depends on how many are still to come.
    pub fn depends_on_steps(&self) -> bool {
        matches!(self, Self::Ppo(_))
    }

    /// Steps of `envs` environments before anything is learned.
    pub fn first_lesson(&self, envs: usize) -> u64 {
        match self {
            Self::Sac(sac) => sac.learning_starts,
            Self::Ppo(ppo) => (ppo.horizon as u64).saturating_mul(envs as u64),
        }
    }

    /// The algorithm that learns in an environment, with the settings published for it.
    pub fn for_env(spec: &EnvSpec<'_>) -> Self {
        match spec.action {
            Space::Discrete { .. } if matches!(spec.observation, Space::Image { .. }) => {
                Self::Ppo(ppo::Settings::of_images())
            }
            Space::Discrete { .. } => Self::Ppo(ppo::Settings::default()),
            _ => Self::Sac(sac::Settings::for_env(spec.id)),
        }
    }

    /// What recipes and options call the algorithm.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sac(_) => "sac",
            Self::Ppo(_) => "ppo",
        }
    }

    /// Width of the hidden layers.
    pub fn hidden(&self) -> usize {
        match self {
            Self::Sac(sac) => sac.hidden,
            Self::Ppo(ppo) => ppo.hidden,
        }
    }

    /// Environments that are stepped in parallel where nobody says how many.
    pub fn envs(&self) -> usize {
        match self {
            Self::Sac(_) => 1,
            Self::Ppo(_) => 8,
        }
    }

    /// A fresh learner.
    pub(super) fn learner(&self, shape: &AgentSpec, seed: u64) -> Box<dyn Online> {
        match self.clone() {
            Self::Sac(config) => Box::new(sac::Sac::new(config, shape.clone(), seed)),
            Self::Ppo(config) => Box::new(ppo::Ppo::new(config, shape, seed)),
        }
    }
}

/// A network that starts as PyTorch's linear layers do: uniform within ±1/√inputs, of which there are `inputs` for a
/// parameter's name.
pub(crate) fn fresh(layout: Layout, noise: &mut Noise, inputs: impl Fn(&str) -> usize) -> Flat {
    Flat::new(layout, Device::Cpu, |name, view| {
        let bound = 1.0 / (inputs(name) as f32).sqrt();
        let values: Vec<f32> = (0..view.numel())
            .map(|_| noise.uniform(-bound, bound))
            .collect();
        view.copy_(&Tensor::from_slice(&values).view_as(view));
    })
}

/// Sets the number of steps of an optimizer whose moments are right already.
pub(crate) fn count(optimizer: &mut AdamW, updates: u64) {
    let (first, second, _) = optimizer.state();
    let (first, second) = (first.shallow_clone(), second.shallow_clone());
    optimizer.restore(&first, &second, updates);
}
