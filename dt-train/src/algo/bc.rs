//! Behaviour cloning, the baseline: a multilayer perceptron from the last K states to the action.
//!
//! It is the one that the Decision Transformer paper compares with (Chen et al. 2021): K stacked states, `n_layer`
//! hidden layers of `d_model` ReLUs, tanh. It knows no return; on the best X % of the data (`data.top_percent`) it is
//! the paper's %BC. States before an episode's first are zeros, which is the data's mean state, in training as in
//! acting.

use dt_core::config::{Actions, Head};
use host_sim::EnvSpec;
use host_sim::policy_file::EnvMismatch;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::policy::check_run;
use super::supervised::Torch;
use super::{BoxedController, Dims, Memory, Mode, Player, Policy, Refusal, Supervised};
use crate::config::Recipe;
use crate::config::names::HeadName;
use crate::data::sampler::Draw;
use crate::nn::host::{linear, relu};
use crate::nn::layers::Bound;
use crate::nn::parameters::{Parameter, ParameterList, framework_init};
use crate::nn::transformer::Inputs;
use crate::run::Run;
use crate::run::checkpoint::{Checkpoint, CheckpointError, Weights};

/// Behaviour cloning, section `[bc]` of a recipe. Defaults are the paper's for Gym.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bc {
    /// Width of the hidden layers.
    pub d_model: u32,
    /// Hidden layers.
    pub n_layer: u32,
    /// K: states it sees.
    pub context_len: u32,
    /// `"tanh"` or `"linear"`: what the last layer's values become.
    #[serde(with = "HeadName")]
    pub head: Head,
}

impl Default for Bc {
    fn default() -> Self {
        Self {
            d_model: 128,
            n_layer: 3,
            context_len: 20,
            head: Head::Tanh,
        }
    }
}

impl Supervised for Bc {
    const NAME: &'static str = "bc";
    const TITLE: &'static str = "behaviour cloning";

    /// Weights as [out, in], with the initial distribution of libtorch's `Linear`.
    fn parameters(&self, dims: Dims) -> Vec<Parameter> {
        let mut list = ParameterList::default();
        for (name, [rows, columns]) in self.layers(dims) {
            let shape = [rows as i64, columns as i64];
            list.linear(&name, shape, framework_init(columns as i64));
        }
        list.into()
    }

    /// The newest action from `states` (B, K, state_dim), or the logits of its choices: (B, 1, act_dim).
    fn predict(&self, _: Dims, network: &Bound<'_>, inputs: &Inputs, mode: Mode) -> Tensor {
        let mut x = inputs.states.flatten(1, 2);
        for i in 0..self.n_layer {
            x = network.linear(&hidden(i)).forward(&x).relu();
            x = match mode {
                Mode::Training { dropout } if dropout > 0.0 => x.dropout(dropout, true),
                _ => x,
            };
        }
        let action = network.linear(HEAD).forward(&x).unsqueeze(1);
        match self.head {
            Head::Tanh => action.tanh(),
            Head::Linear => action,
        }
    }

    /// Of choices there are logits, which tanh would leave next to nothing of.
    fn fitted(&self, dims: Dims) -> Option<Self> {
        let is_other = dims.actions == Actions::Discrete && self.head == Head::Tanh;
        is_other.then(|| Self {
            head: Head::Linear,
            ..self.clone()
        })
    }

    fn draw(&self, recipe: &Recipe) -> Draw {
        self.histories(recipe.train.batch_size as usize)
    }

    fn validation_draw(&self, _: &Recipe) -> Draw {
        self.histories(VALIDATION_BATCH)
    }

    fn memory(&self) -> Memory {
        Memory::Padded(self.context_len as usize)
    }

    /// It copies what it is shown.
    fn learns_from_rewards(&self) -> bool {
        false
    }

    fn size(&self) -> String {
        let Self {
            n_layer,
            d_model,
            context_len,
            ..
        } = self;
        format!("{n_layer} × {d_model}, K {context_len}")
    }

    fn check(&self, _: &Recipe) -> Result<(), Refusal> {
        for (key, value, most) in [
            ("bc.d_model", self.d_model, 1 << 14),
            ("bc.n_layer", self.n_layer, 1 << 10),
            ("bc.context_len", self.context_len, 1 << 14),
        ] {
            if !(1..=most).contains(&value) {
                let message = format!("is {value}; it must lie in 1..={most}");
                return Err(Refusal::new(key, message));
            }
        }
        Ok(())
    }

    fn policy<'a>(
        &self,
        run: &'a Run,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<Box<dyn Policy + 'a>> {
        Ok(Box::new(Mlp::new(self, run, checkpoint)?))
    }
}

/// Transitions that a validation loss is the mean over.
const VALIDATION_BATCH: usize = 4096;

const HEAD: &str = "head";

fn hidden(i: u32) -> String {
    format!("hidden.{i}")
}

impl Bc {
    /// Name, outputs and inputs of each layer.
    fn layers(&self, dims: Dims) -> Vec<(String, [usize; 2])> {
        let d_model = self.d_model as usize;
        let mut inputs = self.context_len as usize * dims.state_dim;
        let mut layers = Vec::new();
        for i in 0..self.n_layer {
            layers.push((hidden(i), [d_model, inputs]));
            inputs = d_model;
        }
        layers.push((HEAD.to_owned(), [dims.act_dim, inputs]));
        layers
    }

    fn histories(&self, batch_size: usize) -> Draw {
        Draw::Histories {
            batch_size,
            context_len: self.context_len as usize,
        }
    }
}

/// A trained network that acts in plain Rust, since libtorch's cost per call is larger than its arithmetic.
#[derive(Debug)]
struct Mlp<'a> {
    torch: Torch<'a, Bc>,
    run: &'a Run,
    settings: Bc,
    weights: Weights,
}

impl<'a> Mlp<'a> {
    fn new(settings: &Bc, run: &'a Run, checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        Ok(Self {
            // Checks that the weights are this network's.
            torch: Torch::new(settings, run, checkpoint)?,
            run,
            settings: settings.clone(),
            weights: checkpoint.weights.clone(),
        })
    }

    fn forward(&self) -> impl FnMut(&[f32], &mut [f32]) {
        let layers = self.settings.layers(self.run.dims());
        let layers: Vec<_> = layers
            .iter()
            .map(|(name, [rows, columns])| {
                let get = |name: String, shape: &[usize]| {
                    let values = self.weights.get(&name, shape);
                    values.expect("as when this policy was made")
                };
                let weight = get(format!("{name}.weight"), &[*rows, *columns]);
                (weight, get(format!("{name}.bias"), &[*rows]))
            })
            .collect();
        let head = self.settings.head;
        let [mut x, mut y] = [(); 2].map(|()| Vec::new());
        move |states, action| {
            x.clear();
            x.extend_from_slice(states);
            let (&(weight, bias), hidden) = layers.split_last().expect("the head");
            for &(weight, bias) in hidden {
                y.resize(bias.len(), 0.0);
                linear(weight, bias, &x, &mut y);
                y.iter_mut().for_each(relu);
                std::mem::swap(&mut x, &mut y);
            }
            linear(weight, bias, &x, action);
            if head == Head::Tanh {
                action.iter_mut().for_each(|a| *a = a.tanh());
            }
        }
    }
}

impl Policy for Mlp<'_> {
    fn runner(&self) -> &'static str {
        "dt-train"
    }

    fn is_conditioned(&self) -> bool {
        false
    }

    fn check_env(&self, spec: &EnvSpec<'_>) -> Result<(), EnvMismatch> {
        check_run(self.run, spec)
    }

    fn controller(&self) -> BoxedController<'_> {
        let mut forward = self.forward();
        let memory = Supervised::memory(&self.settings);
        let math = Supervised::math(&self.settings);
        BoxedController::new(Player::new(
            self.run,
            memory,
            math,
            move |history, action| {
                forward(&history.states(), action);
            },
        ))
    }

    fn reference(&self, device: Device) -> Option<BoxedController<'_>> {
        self.torch.reference(device)
    }
}

#[cfg(test)]
mod tests;
