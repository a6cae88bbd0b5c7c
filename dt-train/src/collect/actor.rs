//! A trained agent: a small network whose output is a normal distribution squashed into the action range.
//!
//! Acting is plain Rust on one observation at a time; for a network this small, libtorch's per-call cost is larger
//! than the arithmetic. [`sac`](super::sac) trains the same parameters in libtorch.

use host_sim::EnvSpec;
use host_sim::rollout::Controller;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

use super::noise::Noise;
use crate::flat::Layout;

/// Bounds of the logarithm of the standard deviation, as in the authors' SAC code.
pub const LOG_STD: (f32, f32) = (-20.0, 2.0);

/// What an agent is for, and its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Environment, as `--env` takes it.
    pub env: String,
    /// Length of an observation.
    pub state_dim: usize,
    /// Length of an action.
    pub act_dim: usize,
    /// Width of both hidden layers.
    pub hidden: usize,
    /// Lowest action (act_dim).
    pub action_low: Vec<f32>,
    /// Highest action (act_dim).
    pub action_high: Vec<f32>,
}

impl Shape {
    /// The shape of an agent for an environment.
    pub fn new(spec: &EnvSpec, hidden: usize) -> Self {
        Self {
            env: spec.id.into(),
            state_dim: spec.state_dim,
            act_dim: spec.act_dim,
            hidden,
            action_low: spec.action_low.into(),
            action_high: spec.action_high.into(),
        }
    }

    /// Parameters, weights as [out, in]. The head gives act_dim means, then act_dim logarithms of standard
    /// deviations, both before squashing.
    pub fn layout(&self) -> Layout {
        let [state, hidden, act] =
            [self.state_dim, self.hidden, self.act_dim].map(|dim| dim as i64);
        let mut layout = Layout::new();
        for (name, rows, columns) in [
            ("hidden_1", hidden, state),
            ("hidden_2", hidden, hidden),
            ("head", 2 * act, hidden),
        ] {
            layout.push(format!("actor.{name}.weight"), &[rows, columns]);
            layout.push(format!("actor.{name}.bias"), &[rows]);
        }
        layout
    }

    /// A squashed action in [−1, 1] in the environment's units.
    pub fn scale(&self, squashed: f32, i: usize) -> f32 {
        let (low, high) = (self.action_low[i], self.action_high[i]);
        low + (high - low) * 0.5 * (squashed + 1.0)
    }
}

/// An agent that can act.
#[derive(Clone, Debug, PartialEq)]
pub struct Actor {
    /// What it is for.
    pub shape: Shape,
    /// Parameters, in the order of [`Shape::layout`].
    pub weights: Vec<f32>,
}

impl Actor {
    /// Writes a squashed action in (−1, 1) for `observation` (state_dim) to `out` (act_dim): a sample with `noise`,
    /// the mode without.
    pub fn squashed(
        &self,
        observation: &[f32],
        noise: Option<&mut Noise>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let Shape {
            state_dim,
            act_dim,
            hidden,
            ..
        } = self.shape;
        let mut weights = self.weights.as_slice();
        linear(&mut weights, observation, &mut scratch.hidden_1);
        scratch.hidden_1.iter_mut().for_each(relu);
        linear(&mut weights, &scratch.hidden_1, &mut scratch.hidden_2);
        scratch.hidden_2.iter_mut().for_each(relu);
        linear(&mut weights, &scratch.hidden_2, &mut scratch.head);
        debug_assert!(
            weights.is_empty()
                && observation.len() == state_dim
                && scratch.hidden_1.len() == hidden
        );

        let (mean, log_std) = scratch.head.split_at(act_dim);
        match noise {
            None => out
                .iter_mut()
                .zip(mean)
                .for_each(|(out, mean)| *out = mean.tanh()),
            Some(noise) => {
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

/// Working memory of [`Actor::squashed`].
#[derive(Clone, Debug)]
pub struct Scratch {
    hidden_1: Vec<f32>,
    hidden_2: Vec<f32>,
    head: Vec<f32>,
}

impl Scratch {
    /// Memory for agents of `shape`.
    pub fn new(shape: &Shape) -> Self {
        Self {
            hidden_1: vec![0.0; shape.hidden],
            hidden_2: vec![0.0; shape.hidden],
            head: vec![0.0; 2 * shape.act_dim],
        }
    }
}

/// An [`Actor`] in the rollout loop; each episode draws its noise from its own seed.
#[derive(Debug)]
pub struct Player<'a> {
    actor: &'a Actor,
    /// Samples if there is noise.
    noise: Option<Noise>,
    scratch: Scratch,
    action: Vec<f32>,
}

impl<'a> Player<'a> {
    /// A player that samples, or (`deterministic`) always takes the mode.
    pub fn new(actor: &'a Actor, deterministic: bool) -> Self {
        Self {
            actor,
            noise: (!deterministic).then(|| Noise::new(0, PURPOSE)),
            scratch: Scratch::new(&actor.shape),
            action: vec![0.0; actor.shape.act_dim],
        }
    }
}

const PURPOSE: [u8; 8] = *b"play    ";

impl Controller for Player<'_> {
    type Error = Infallible;

    fn reset(&mut self, seed: u64, _: f32) -> Result<(), Infallible> {
        self.noise = self.noise.take().map(|_| Noise::new(seed, PURPOSE));
        Ok(())
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], Infallible> {
        self.actor.squashed(
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

fn relu(x: &mut f32) {
    if *x < 0.0 {
        *x = 0.0;
    }
}

/// y = W·x + b, taking W [y.len(), x.len()] and b off the front of `weights`.
fn linear(weights: &mut &[f32], x: &[f32], y: &mut [f32]) {
    let (matrix, rest) = weights.split_at(x.len() * y.len());
    let (bias, rest) = rest.split_at(y.len());
    for ((y, row), bias) in y.iter_mut().zip(matrix.chunks_exact(x.len())).zip(bias) {
        *y = dot(row, x) + bias;
    }
    *weights = rest;
}

/// Eight independent sums, which the compiler keeps in vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
