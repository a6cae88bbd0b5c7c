//! Behaviour cloning, the baseline: a multilayer perceptron from the last K states to the action.
//!
//! It is the one that the Decision Transformer paper compares with (Chen et al. 2021): K stacked states, `n_layer`
//! hidden layers of `d_model` ReLUs, tanh. It knows no return; on the best X % of the data (`data.top_percent`) it is
//! the paper's %BC. States before an episode's first are zeros, which is the data's mean state, in training as in
//! acting.

use std::convert::Infallible;

use anyhow::Context;
use dt_core::config::Head;
use host_sim::Controller;
use host_sim::policy_file::check_env;
use host_sim::rollout::{Episode, Plan, buffer_len, episode, rollout};
use tch::{Kind, Tensor};

use crate::config::Config;
use crate::nn::host::{linear, relu};
use crate::nn::transformer::{Parameter, ParameterList, framework_init};
use crate::run::Run;
use crate::run::checkpoint::{CheckpointError, Weights};

mod trainer;

pub use trainer::Trainer;

/// Sizes of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Length of a state.
    pub state_dim: usize,
    /// Length of an action.
    pub act_dim: usize,
    /// K: states it sees.
    pub context_len: usize,
    /// Hidden layers.
    pub n_layer: usize,
    /// Their width.
    pub d_model: usize,
    /// What the last layer's values become.
    pub head: Head,
}

impl Network {
    /// The network of a recipe, for data with these dimensions.
    pub fn new(config: &Config, state_dim: usize, act_dim: usize) -> Self {
        let model = &config.model;
        Self {
            state_dim,
            act_dim,
            context_len: model.context_len as usize,
            n_layer: model.n_layer as usize,
            d_model: model.d_model as usize,
            head: model.head,
        }
    }

    /// The network of a run.
    pub fn of(run: &Run) -> Self {
        Self::new(&run.config, run.info.state_dim, run.info.act_dim)
    }

    /// Every parameter, weights as [out, in], with the initial distribution of libtorch's `Linear`.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut list = ParameterList::default();
        for (name, [rows, columns]) in self.layers() {
            let shape = [rows as i64, columns as i64];
            list.linear(&name, shape, framework_init(columns as i64));
        }
        list.into()
    }

    /// Name, outputs and inputs of each layer.
    fn layers(&self) -> Vec<(String, [usize; 2])> {
        let mut inputs = self.inputs();
        let mut layers = Vec::new();
        for i in 0..self.n_layer {
            layers.push((format!("hidden.{i}"), [self.d_model, inputs]));
            inputs = self.d_model;
        }
        layers.push(("head".to_owned(), [self.act_dim, inputs]));
        layers
    }

    /// Values it reads: K states, the oldest first.
    fn inputs(&self) -> usize {
        self.context_len * self.state_dim
    }

    /// Unscaled actions (B, act_dim) for `states` (B, K · state_dim), by libtorch. `tensors` are in the order of
    /// [`parameters`](Self::parameters); `dropout` is 0 outside training.
    pub fn forward(&self, tensors: &[Tensor], states: &Tensor, dropout: f64) -> Tensor {
        let (layers, _) = tensors.as_chunks::<2>();
        let (head, hidden) = layers.split_last().expect("the layers of `parameters`");
        let mut x = states.shallow_clone();
        for [weight, bias] in hidden {
            x = x.linear(weight, Some(bias)).relu();
            if dropout > 0.0 {
                x = x.dropout(dropout, true);
            }
        }
        let action = x.linear(&head[0], Some(&head[1]));
        match self.head {
            Head::Tanh => action.tanh(),
            Head::Linear => action,
        }
    }
}

/// A trained network that can act, in plain Rust.
#[derive(Clone, Debug)]
pub struct Policy<'a> {
    run: &'a Run,
    network: Network,
    /// In the order of [`Network::parameters`].
    weights: Vec<f32>,
}

impl<'a> Policy<'a> {
    /// The policy of a checkpoint of `run`.
    ///
    /// # Errors
    /// If checkpoint and run do not belong together.
    pub fn new(run: &'a Run, weights: &Weights) -> Result<Self, CheckpointError> {
        let network = Network::of(run);
        let mut values = Vec::new();
        for Parameter { name, shape, .. } in network.parameters() {
            let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
            values.extend_from_slice(weights.get(&name, &shape)?);
        }
        Ok(Self {
            run,
            network,
            weights: values,
        })
    }

    /// Episodes in `env`, in order, on all cores; `finished` is called after each, from any thread. The plan's target
    /// return changes nothing.
    ///
    /// # Errors
    /// If there is no such environment, or the policy is of another.
    pub fn episodes(
        &self,
        env: &str,
        plan: &Plan,
        finished: impl Fn(&Episode) + Sync,
    ) -> anyhow::Result<Vec<Episode>> {
        let info = &self.run.info;
        let spec_of = host_sim::make(env)?;
        check_env(&info.env, info.state_dim, info.act_dim, &spec_of.spec())
            .with_context(|| format!("{}", self.run.dir.display()))?;
        let player = || Player::new(self.run, self.forward());
        let outcomes = rollout::<_, ()>(plan, host_sim::maker(env)?, player, finished)
            .unwrap_or_else(|error| match error.source {});
        Ok(outcomes.into_iter().map(|(episode, ())| episode).collect())
    }

    /// The same episodes with libtorch's arithmetic, one after the other: a check on this module's.
    ///
    /// # Errors
    /// As [`episodes`](Self::episodes).
    pub fn torch_episodes(&self, env: &str, plan: &Plan) -> anyhow::Result<Vec<Episode>> {
        let mut player = Player::new(self.run, self.torch_forward());
        let Network {
            state_dim, act_dim, ..
        } = self.network;
        let mut buffer = vec![0.0; buffer_len(state_dim, act_dim)];
        let mut env = host_sim::make(env)?;
        let (env, target) = (env.as_mut(), plan.target_return);
        let seeds = (0..plan.episodes).map(|i| plan.seed.wrapping_add(i.into()));
        let run_one = |seed| {
            episode(env, &mut player, &mut (), seed, target, &mut buffer)
                .unwrap_or_else(|error| match error.source {})
        };
        Ok(seeds.map(run_one).collect())
    }

    /// Unscaled action (act_dim) for K states, the oldest first.
    fn forward(&self) -> impl FnMut(&[f32], &mut [f32]) {
        let Network {
            n_layer,
            d_model,
            act_dim,
            head,
            ..
        } = self.network;
        let [mut x, mut y] = [(); 2].map(|()| Vec::new());
        move |states, action| {
            let mut weights = self.weights.as_slice();
            x.clear();
            x.extend_from_slice(states);
            for _ in 0..n_layer {
                y.resize(d_model, 0.0);
                linear(&mut weights, &x, x.len(), &mut y, d_model);
                y.iter_mut().for_each(relu);
                std::mem::swap(&mut x, &mut y);
            }
            linear(&mut weights, &x, d_model, action, act_dim);
            if head == Head::Tanh {
                action.iter_mut().for_each(|a| *a = a.tanh());
            }
        }
    }

    /// The same by libtorch.
    fn torch_forward(&self) -> impl FnMut(&[f32], &mut [f32]) {
        let mut rest = self.weights.as_slice();
        let mut tensors = Vec::new();
        for Parameter { shape, .. } in self.network.parameters() {
            let (values, after) = rest.split_at(shape.iter().product::<i64>() as usize);
            tensors.push(Tensor::from_slice(values).reshape(shape));
            rest = after;
        }
        move |states, action| {
            let states = Tensor::from_slice(states).view([1, -1]);
            let predicted = tch::no_grad(|| self.network.forward(&tensors, &states, 0.0));
            let len = action.len();
            predicted.flatten(0, -1).copy_data(action, len);
        }
    }
}

/// A forward pass in the rollout loop.
struct Player<'a, F> {
    run: &'a Run,
    forward: F,
    /// The last K states, normalized, the oldest first.
    states: Vec<f32>,
    action: Vec<f32>,
}

impl<'a, F: FnMut(&[f32], &mut [f32])> Player<'a, F> {
    fn new(run: &'a Run, forward: F) -> Self {
        Self {
            run,
            forward,
            states: vec![0.0; Network::of(run).inputs()],
            action: vec![0.0; run.info.act_dim],
        }
    }
}

impl<F: FnMut(&[f32], &mut [f32])> Controller for Player<'_, F> {
    type Error = Infallible;

    fn reset(&mut self, _: u64, _: f32) -> Result<(), Infallible> {
        self.states.fill(0.0);
        Ok(())
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], Infallible> {
        let info = &self.run.info;
        self.states.rotate_left(observation.len());
        let newest = self.states.rchunks_exact_mut(observation.len()).next();
        let newest = newest.into_iter().flatten().zip(observation);
        for ((state, o), (mean, std)) in newest.zip(info.state_mean.iter().zip(&info.state_std)) {
            *state = (o - mean) / std;
        }
        (self.forward)(&self.states, &mut self.action);
        let range = info.action_low.iter().zip(&info.action_high);
        for (a, (&low, &high)) in self.action.iter_mut().zip(range) {
            *a = match *a * (0.5 * (high - low)) + 0.5 * (high + low) {
                a if a < low => low,
                a if a > high => high,
                a => a,
            };
        }
        Ok(&self.action)
    }

    fn feedback(&mut self, _: &[f32], _: f32) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Mean squared error over all components, (B, act_dim) both.
fn mse(predicted: &Tensor, actions: &Tensor) -> Tensor {
    (predicted - actions).square().mean(Kind::Float)
}

#[cfg(test)]
mod tests;
