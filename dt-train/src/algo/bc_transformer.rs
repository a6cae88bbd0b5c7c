//! Behaviour cloning with a transformer: a [Decision Transformer](super::dt) that knows no return.
//!
//! What conditioning on returns is worth shows beside the same network without it. The tokens of returns are there, so that
//! it becomes the same kind of policy file, but they are a learned constant: their embedding has zeros for its weights, which
//! stay zero, since it learns from returns that are all 0. So whatever a controller asks for changes no bit.

use dt_core::config::{Attention, Config, Dtype, Math};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::dt::Dt;
use super::policy::Unconditioned;
use super::{Dims, Loss, Memory, Mode, Policy, Refusal, Supervised};
use crate::config::Recipe;
use crate::data::sampler::{Batch, Draw};
use crate::deploy::Deployable;
use crate::nn::layers::Bound;
use crate::nn::parameters::{Init, Parameter};
use crate::nn::transformer::Inputs;
use crate::run::Run;
use crate::run::checkpoint::Checkpoint;

/// Behaviour cloning with a transformer, section `[bc-transformer]` of a recipe: the keys and defaults of `[dt]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BcTransformer(pub Dt);

/// What tells the network of a return.
const EMBED_RETURN: &str = "embed_return.weight";

impl Supervised for BcTransformer {
    const NAME: &'static str = "bc-transformer";
    const TITLE: &'static str = "behaviour cloning with a transformer";

    fn parameters(&self, dims: Dims) -> Vec<Parameter> {
        let mut parameters = Supervised::parameters(&self.0, dims);
        for parameter in &mut parameters {
            if parameter.name == EMBED_RETURN {
                parameter.init = Init::Zeros;
            }
        }
        parameters
    }

    fn predict(&self, dims: Dims, network: &Bound<'_>, inputs: &Inputs, mode: Mode) -> Tensor {
        self.0
            .predict(dims, network, &without_returns(inputs), mode)
    }

    /// Returns that it is to predict (`predict_return`) are the data's all the same: a critic that does not see what it judges.
    fn loss(&self, dims: Dims, network: &Bound<'_>, batch: &Batch, mode: Mode) -> Loss {
        let seen = without_returns(&batch.inputs);
        self.0.loss_seeing(&seen, dims, network, batch, mode)
    }

    fn math(&self) -> Math {
        Supervised::math(&self.0)
    }

    fn fitted(&self, dims: Dims) -> Option<Self> {
        Supervised::fitted(&self.0, dims).map(Self)
    }

    fn draw(&self, recipe: &Recipe) -> Draw {
        self.0.draw(recipe)
    }

    fn validation_draw(&self, recipe: &Recipe) -> Draw {
        self.0.validation_draw(recipe)
    }

    fn memory(&self) -> Memory {
        self.0.memory()
    }

    fn variety(&self) -> &'static str {
        match (self.0.attention, self.0.glu) {
            (Attention::Streaming, false) => "streaming, no returns",
            (Attention::Streaming, true) => "streaming, GLU, no returns",
            (Attention::Window, false) => "window, no returns",
            (Attention::Window, true) => "window, GLU, no returns",
        }
    }

    /// It copies what it is shown, unless it is shown the best more often, or predicts returns.
    fn learns_from_rewards(&self) -> bool {
        self.0.best_fraction > 0.0 || self.0.predict_return > 0.0
    }

    fn reads_images(&self) -> bool {
        Supervised::reads_images(&self.0)
    }

    fn size(&self) -> String {
        Supervised::size(&self.0)
    }

    fn check(&self, recipe: &Recipe) -> Result<(), Refusal> {
        // The transformer's keys are the same in another section.
        Supervised::check(&self.0, recipe).map_err(|refusal| refusal.of(Dt::NAME, Self::NAME))?;
        if self.0.return_expectile > 0.0 {
            return Err(Refusal::new(
                "bc-transformer.return_expectile",
                "predicts returns to ask for, and behaviour cloning knows none; use 0, or --algo dt".to_owned(),
            ));
        }
        Ok(())
    }

    fn fits(&self, dims: Dims) -> anyhow::Result<()> {
        Supervised::fits(&self.0, dims)
    }

    fn policy<'a>(
        &self,
        run: &'a Run,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<Box<dyn Policy + 'a>> {
        let policy = Supervised::policy(&self.0, run, checkpoint)?;
        Ok(Box::new(Unconditioned(policy)))
    }

    fn deployable(&self) -> Option<&dyn Deployable> {
        Some(self)
    }
}

impl Deployable for BcTransformer {
    fn network(&self, dims: Dims, dtype: Dtype) -> Config {
        self.0.network(dims, dtype)
    }
}

fn without_returns(inputs: &Inputs) -> Inputs {
    Inputs {
        returns_to_go: inputs.returns_to_go.zeros_like(),
        states: inputs.states.shallow_clone(),
        actions: inputs.actions.shallow_clone(),
        timesteps: inputs.timesteps.shallow_clone(),
    }
}

#[cfg(test)]
mod tests;
