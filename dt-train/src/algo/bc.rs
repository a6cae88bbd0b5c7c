//! Behaviour cloning, the baseline: a multilayer perceptron from the last K states to the action.
//!
//! It is the one that the Decision Transformer paper compares with (Chen et al. 2021): K stacked states, `n_layer`
//! hidden layers of `d_model` ReLUs, tanh. It knows no return; on the best X % of the data (`data.top_percent`) it is
//! the paper's %BC. States before an episode's first are zeros, which is the data's mean state, in training as in
//! acting.

use dt_core::blob::{AtMaxEpLen, Golden};
use dt_core::config::{Actions, Config, Dtype, Head, MAX_CONTEXT_LEN, MAX_DIM, MAX_LAYERS, Mixer};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::supervised::Torch;
use super::{Dims, Engine, Memory, Mode, Policy, Refusal, Supervised};
use crate::config::Recipe;
use crate::config::names::HeadName;
use crate::data::sampler::Draw;
use crate::deploy::{Deployable, Trained, emit_bytes};
use crate::nn::layers::Bound;
use crate::nn::mlp;
use crate::nn::parameters::Parameter;
use crate::nn::transformer::Inputs;
use crate::run::Run;
use crate::run::checkpoint::Checkpoint;

/// Behaviour cloning, section `[bc]` of a recipe. Defaults are the paper's for Gym.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bc {
    /// Width of the hidden layers; a multiple of 4.
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

    fn parameters(&self, dims: Dims) -> Vec<Parameter> {
        mlp::parameters(&Deployable::network(self, dims, Dtype::F32))
    }

    /// The newest action from `states` (B, K, state_dim), or the logits of its choices: (B, 1, act_dim).
    fn predict(&self, dims: Dims, network: &Bound<'_>, inputs: &Inputs, mode: Mode) -> Tensor {
        let config = Deployable::network(self, dims, Dtype::F32);
        mlp::forward(&config, network, &inputs.states, mode.dropout()).unsqueeze(1)
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

    fn check(&self, recipe: &Recipe) -> Result<(), Refusal> {
        for (key, value, most) in [
            ("bc.d_model", self.d_model, MAX_DIM),
            ("bc.n_layer", self.n_layer, MAX_LAYERS as u32),
            ("bc.context_len", self.context_len, MAX_CONTEXT_LEN),
        ] {
            if !(1..=most).contains(&value) {
                let message = format!("is {value}; it must lie in 1..={most}");
                return Err(Refusal::new(key, message));
            }
        }
        if !self.d_model.is_multiple_of(4) {
            let message = format!("is {}; it must be a multiple of 4", self.d_model);
            return Err(Refusal::new("bc.d_model", message));
        }
        if recipe.control.at_max_ep_len == AtMaxEpLen::Fault {
            return Err(Refusal::new(
                "control.at_max_ep_len",
                format!(
                    "\"fault\" takes a timestep table that ends, and {} has none; use \"saturate\"",
                    Self::TITLE
                ),
            ));
        }
        Ok(())
    }

    fn fits(&self, dims: Dims) -> anyhow::Result<()> {
        Ok(Deployable::network(self, dims, Dtype::F32).validate()?)
    }

    /// The policy file in the engine of the controller, with libtorch as the independent check on it.
    fn policy<'a>(
        &self,
        run: &'a Run,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<Box<dyn Policy + 'a>> {
        let trained = Trained::new(run, checkpoint)?;
        let file = emit_bytes(&trained, Dtype::F32, Mixer::Attention, Golden::default())?;
        let torch = Torch::new(self, run, checkpoint)?;
        Ok(Box::new(Engine::of(torch, file)))
    }

    fn deployable(&self) -> Option<&dyn Deployable> {
        Some(self)
    }
}

impl Deployable for Bc {
    fn network(&self, dims: Dims, dtype: Dtype) -> Config {
        let [state_dim, act_dim] =
            [dims.state_dim, dims.act_dim].map(|dim| u32::try_from(dim).unwrap_or(u32::MAX));
        Config {
            dtype,
            head: self.head,
            actions: dims.actions,
            ..Config::mlp(
                [state_dim, act_dim],
                [self.n_layer, self.d_model],
                self.context_len,
            )
        }
    }
}

/// Transitions that a validation loss is the mean over.
const VALIDATION_BATCH: usize = 4096;

impl Bc {
    fn histories(&self, batch_size: usize) -> Draw {
        Draw::Histories {
            batch_size,
            context_len: self.context_len as usize,
        }
    }
}

#[cfg(test)]
mod tests;
