//! A trained agent: a small network whose output is a distribution of actions: a normal one squashed into the action
//! range, or the logits of choices.
//!
//! Acting is plain Rust, on one observation or on those of several environments in one pass.
//! [`sac`](crate::algo::sac) and [`ppo`](crate::algo::ppo) train the same parameters in libtorch.

use host_sim::rollout::Controller;
use host_sim::{EnvSpec, Space};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

use super::noise::Noise;
use crate::nn::flat::Layout;
use crate::nn::host::{linear, relu};

/// Bounds of the logarithm of the standard deviation, as in the authors' SAC code.
pub const LOG_STD: (f32, f32) = (-20.0, 2.0);

/// What an agent is for, and its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Environment, as `--env` takes it.
    pub env: String,
    /// Length of an observation.
    pub state_dim: usize,
    /// Length of an action: of a vector, or 1 for the index of a choice.
    pub act_dim: usize,
    /// Width of both hidden layers.
    pub hidden: usize,
    /// Lowest action (act_dim).
    pub action_low: Vec<f32>,
    /// Highest action (act_dim).
    pub action_high: Vec<f32>,
    /// How many choices there are, if actions are choices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<usize>,
    /// Height, width and channels, if observations are images, whose pixels the network reads as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 3]>,
}

impl AgentSpec {
    /// The shape of an agent for an environment.
    ///
    /// # Panics
    /// If its actions are neither vectors nor choices.
    pub fn new(spec: &EnvSpec, hidden: usize) -> Self {
        let (low, high, choices) = match spec.action {
            Space::Box { low, high } => (low.to_vec(), high.to_vec(), None),
            Space::Discrete { n } => (vec![0.0], vec![n as f32 - 1.0], Some(n)),
            Space::Image { .. } => panic!("vectors or choices"),
        };
        Self {
            env: spec.id.into(),
            state_dim: spec.state_dim(),
            act_dim: spec.act_dim(),
            hidden,
            action_low: low,
            action_high: high,
            choices,
            image: match spec.observation {
                Space::Image {
                    height,
                    width,
                    channels,
                } => Some([height, width, channels]),
                _ => None,
            },
        }
    }

    /// An agent of this shape whose parameters are all 0.
    pub fn actor(&self) -> Actor {
        Actor {
            shape: self.clone(),
            weights: vec![0.0; self.layout().numel() as usize],
        }
    }

    /// Outputs of the network.
    fn outputs(&self) -> usize {
        self.choices.unwrap_or(2 * self.act_dim)
    }

    /// Parameters, weights as [out, in]. The head gives act_dim means, then act_dim logarithms of standard
    /// deviations, both before squashing; where actions are choices, a logit for each.
    pub fn layout(&self) -> Layout {
        let [state, hidden, outputs] =
            [self.state_dim, self.hidden, self.outputs()].map(|dim| dim as i64);
        let mut layout = Layout::new();
        for (name, rows, columns) in [
            ("hidden_1", hidden, state),
            ("hidden_2", hidden, hidden),
            ("head", outputs, hidden),
        ] {
            layout.push(format!("actor.{name}.weight"), &[rows, columns]);
            layout.push(format!("actor.{name}.bias"), &[rows]);
        }
        layout
    }

    /// What [`Actor::act`] gives, in the environment's units: component `i` of an action, from −1…1 to its range; a
    /// choice as it is.
    pub fn scale(&self, squashed: f32, i: usize) -> f32 {
        if self.choices.is_some() {
            return squashed;
        }
        let (low, high) = (self.action_low[i], self.action_high[i]);
        low + (high - low) * 0.5 * (squashed + 1.0)
    }
}

/// An agent that can act.
#[derive(Clone, Debug, PartialEq)]
pub struct Actor {
    /// What it is for.
    pub shape: AgentSpec,
    /// Parameters, in the order of [`AgentSpec::layout`].
    pub weights: Vec<f32>,
}

impl Actor {
    /// Writes actions for `observations` (B, state_dim) to `out` (B, act_dim), squashed in (−1, 1) or indices of choices:
    /// samples with `noise`, drawn row after row, the modes without. A row is the same whatever the others are, up to the
    /// noise before it.
    pub fn act(
        &self,
        observations: &[f32],
        noise: Option<&mut Noise>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let AgentSpec {
            state_dim,
            act_dim,
            hidden,
            ..
        } = self.shape;
        let outputs = self.shape.outputs();
        let batch = out.len() / act_dim;
        debug_assert!(observations.len() == batch * state_dim && out.len() == batch * act_dim);
        let Scratch {
            hidden_1,
            hidden_2,
            head,
        } = scratch;
        hidden_1.resize(batch * hidden, 0.0);
        hidden_2.resize(batch * hidden, 0.0);
        head.resize(batch * outputs, 0.0);
        let mut rest = self.weights.as_slice();
        let mut layer = |x: &[f32], inputs: usize, y: &mut [f32], outputs: usize| {
            let (weight, after) = rest.split_at(inputs * outputs);
            let (bias, after) = after.split_at(outputs);
            rest = after;
            linear(weight, bias, x, y);
        };
        layer(observations, state_dim, hidden_1, hidden);
        hidden_1.iter_mut().for_each(relu);
        layer(hidden_1, hidden, hidden_2, hidden);
        hidden_2.iter_mut().for_each(relu);
        layer(hidden_2, hidden, head, outputs);
        debug_assert!(rest.is_empty());

        if self.shape.choices.is_some() {
            choose(head.chunks_exact_mut(outputs), noise, out);
            return;
        }
        let rows = out.chunks_exact_mut(act_dim);
        let rows = rows.zip(head.chunks_exact(outputs).map(|row| row.split_at(act_dim)));
        match noise {
            None => {
                for (out, (mean, _)) in rows {
                    let pairs = out.iter_mut().zip(mean);
                    pairs.for_each(|(out, mean)| *out = mean.tanh());
                }
            }
            Some(noise) => {
                for (out, (mean, log_std)) in rows {
                    for ((out, &mean), &log_std) in out.iter_mut().zip(mean).zip(log_std) {
                        let log_std = if log_std < LOG_STD.0 {
                            LOG_STD.0
                        } else if log_std > LOG_STD.1 {
                            LOG_STD.1
                        } else {
                            log_std
                        };
                        *out = (mean + log_std.exp() * noise.normal()).tanh();
                    }
                }
            }
        }
    }
}

/// Writes the index that a row of logits leads to: with `noise` drawn by their softmax, which takes their place; without
/// the first of the largest.
fn choose<'a>(
    rows: impl Iterator<Item = &'a mut [f32]>,
    mut noise: Option<&mut Noise>,
    out: &mut [f32],
) {
    for (out, row) in out.iter_mut().zip(rows) {
        let largest = (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        let Some(noise) = &mut noise else {
            *out = largest as f32;
            continue;
        };
        let top = row[largest];
        row.iter_mut()
            .for_each(|logit| *logit = (*logit - top).exp());
        let mut rest = noise.uniform(0.0, row.iter().sum());
        // Rounding may leave a little after the last.
        let drawn = row.iter().position(|weight| {
            rest -= weight;
            rest < 0.0
        });
        *out = drawn.unwrap_or(largest) as f32;
    }
}

/// Working memory of [`Actor::act`]; it grows to what the largest batch needs.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    hidden_1: Vec<f32>,
    hidden_2: Vec<f32>,
    head: Vec<f32>,
}

/// An [`Actor`] in the rollout loop; each episode draws its noise from its own seed.
#[derive(Debug)]
pub struct ActorController<'a> {
    actor: &'a Actor,
    /// Samples if there is noise.
    noise: Option<Noise>,
    scratch: Scratch,
    action: Vec<f32>,
}

impl<'a> ActorController<'a> {
    /// A player that samples, or (`deterministic`) always takes the mode.
    pub fn new(actor: &'a Actor, deterministic: bool) -> Self {
        Self {
            actor,
            noise: (!deterministic).then(|| Noise::new(0, PURPOSE)),
            scratch: Scratch::default(),
            action: vec![0.0; actor.shape.act_dim],
        }
    }
}

const PURPOSE: [u8; 8] = *b"play    ";

impl Controller for ActorController<'_> {
    type Error = Infallible;

    fn reset(&mut self, seed: u64, _: f32) -> Result<(), Infallible> {
        self.noise = self.noise.take().map(|_| Noise::new(seed, PURPOSE));
        Ok(())
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], Infallible> {
        self.actor.act(
            observation,
            self.noise.as_mut(),
            &mut self.scratch,
            &mut self.action,
        );
        for (i, action) in self.action.iter_mut().enumerate() {
            *action = self.actor.shape.scale(*action, i);
        }
        Ok(&self.action)
    }

    fn feedback(&mut self, _: &[f32], _: f32) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_its_rows() {
        let shape = AgentSpec {
            env: "toy".into(),
            state_dim: 3,
            act_dim: 2,
            hidden: 11,
            action_low: vec![-1.0; 2],
            action_high: vec![1.0; 2],
            choices: None,
            image: None,
        };
        let mut noise = Noise::new(1, *b"weights ");
        let weights = (0..shape.layout().numel()).map(|_| 0.5 * noise.normal());
        let actor = Actor {
            weights: weights.collect(),
            shape,
        };
        let observations: Vec<f32> = (0..4 * 3).map(|_| noise.normal()).collect();
        let act = |observations: &[f32], noise: Option<&mut Noise>| {
            let mut out = vec![0.0; observations.len() / 3 * 2];
            actor.act(observations, noise, &mut Scratch::default(), &mut out);
            out
        };
        let rows = || observations.chunks_exact(3);
        let modes: Vec<f32> = rows().flat_map(|row| act(row, None)).collect();
        assert_eq!(act(&observations, None), modes);
        assert_ne!(modes[..2], modes[2..4]);
        let (mut one, mut all) = (Noise::new(2, *b"sampling"), Noise::new(2, *b"sampling"));
        let samples: Vec<f32> = rows().flat_map(|row| act(row, Some(&mut one))).collect();
        assert_eq!(act(&observations, Some(&mut all)), samples);
        assert_ne!(samples, modes);
    }
}
