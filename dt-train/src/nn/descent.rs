//! Gradient descent on one network's parameters: what every learner shares.

use tch::{Device, Kind, Tensor};

use super::layers::Bound;
use super::parameters;
use crate::algo::{Averages, Loss};
use crate::config::Train;
use crate::nn::flat::Flat;
use crate::nn::optim::{AdamW, AdamWConfig, clip_norm};
use crate::nn::schedule::{learning_rate, mix};
use crate::run::checkpoint::{Checkpoint, CheckpointError, OptimizerState, Progress, Weights};

/// Parameters, their optimizer, and sums for the log.
#[derive(Debug)]
pub struct Descent {
    recipe: Train,
    parameters: Flat,
    /// Their exponential moving average, where the recipe asks for it.
    average: Option<Flat>,
    optimizer: AdamW,
    loss_sum: Tensor,
    /// None until a loss has an accuracy.
    accuracy_sum: Option<Tensor>,
    norm_sum: Tensor,
    summed: u64,
}

impl Descent {
    /// A fresh optimizer for `parameters`.
    pub fn new(recipe: &Train, parameters: Flat, device: Device) -> Self {
        let optimizer = AdamW::new(
            &parameters,
            AdamWConfig {
                beta1: recipe.beta_1,
                beta2: recipe.beta_2,
                weight_decay: recipe.weight_decay,
                decay_matrices_only: recipe.decay_matrices_only,
                ..AdamWConfig::default()
            },
        );
        let zero = || Tensor::zeros([], (Kind::Float, device));
        Self {
            recipe: recipe.clone(),
            average: (recipe.ema_decay > 0.0).then(|| parameters.duplicate()),
            parameters,
            optimizer,
            loss_sum: zero(),
            accuracy_sum: None,
            norm_sum: zero(),
            summed: 0,
        }
    }

    /// The parameters to act with: the average of those that are being optimized, or these themselves.
    pub fn result(&self) -> &Flat {
        self.average.as_ref().unwrap_or(&self.parameters)
    }

    /// Update number `update`, counted from 0, along the gradient of `loss` of the parameters. Nothing here waits for
    /// the device.
    ///
    /// libtorch's randomness comes from (seed, `update`), so that a resumed run repeats it exactly.
    pub fn update(&mut self, update: u64, loss: impl FnOnce(&Bound<'_>) -> Loss) {
        let Loss {
            value: loss,
            accuracy,
        } = {
            let _generator = parameters::seeded(mix(self.recipe.seed, update));
            loss(&Bound::trainable(&self.parameters))
        };
        let mut gradient = self.parameters.gradient(&loss);
        let max_norm = match self.recipe.grad_clip {
            0.0 => f64::INFINITY,
            norm => norm,
        };
        let norm = clip_norm(&mut gradient, max_norm);
        let learning_rate = learning_rate(&self.recipe, update);
        self.optimizer
            .step(&mut self.parameters, &gradient, learning_rate);
        if let Some(average) = &mut self.average {
            // A young average would else remember the random start for long.
            let young = (1.0 + update as f64) / (10.0 + update as f64);
            average.approach(&self.parameters, 1.0 - self.recipe.ema_decay.min(young));
        }
        self.loss_sum += loss.detach();
        if let Some(accuracy) = accuracy {
            *self
                .accuracy_sum
                .get_or_insert_with(|| accuracy.zeros_like()) += accuracy;
        }
        self.norm_sum += norm;
        self.summed += 1;
    }

    /// Averages over the updates since the last call; waits for the device.
    pub fn take_averages(&mut self) -> Averages {
        let mean = |sum: &mut Tensor, n: u64| {
            let value = sum.double_value(&[]) / n as f64;
            let _ = sum.zero_();
            value
        };
        let n = std::mem::take(&mut self.summed);
        Averages {
            loss: mean(&mut self.loss_sum, n),
            accuracy: self.accuracy_sum.as_mut().map(|sum| mean(sum, n)),
            grad_norm: mean(&mut self.norm_sum, n),
        }
    }

    /// A copy of the state on the host.
    pub fn checkpoint(&self, progress: Progress) -> Checkpoint {
        let (m, v, _) = self.optimizer.state();
        Checkpoint {
            progress,
            weights: parameters::weights(self.result()),
            optimizer: Some(OptimizerState {
                m: parameters::host_values(m),
                v: parameters::host_values(v),
                parameters: self
                    .average
                    .as_ref()
                    .map(|_| parameters::host_values(self.parameters.values())),
            }),
        }
    }

    /// Starts from these weights, the average of the parameters included, before the first update.
    ///
    /// # Errors
    /// If the weights belong to another network.
    pub fn start_from(&mut self, weights: &Weights) -> Result<(), CheckpointError> {
        parameters::load(&mut self.parameters, weights)?;
        match &mut self.average {
            Some(average) => parameters::load(average, weights),
            None => Ok(()),
        }
    }

    /// Goes back to a state that [`Descent::checkpoint`] returned.
    ///
    /// # Errors
    /// If the checkpoint belongs to another network or holds no optimizer state.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let result = self.average.as_mut().unwrap_or(&mut self.parameters);
        parameters::load(result, &checkpoint.weights)?;
        let numel = self.parameters.values().numel();
        let fits = |values: &&Vec<f32>| values.len() == numel;
        let missing = |name: &str| CheckpointError::Missing(name.to_owned());
        let state = checkpoint.optimizer.as_ref();
        let state = state.ok_or_else(|| missing("optimizer.m"))?;
        for (name, values) in [("optimizer.m", &state.m), ("optimizer.v", &state.v)] {
            if !fits(&values) {
                return Err(missing(name));
            }
        }
        if self.average.is_some() {
            let values = state.parameters.as_ref().filter(fits);
            let values = values.ok_or_else(|| missing("optimizer.parameters"))?;
            let values = Tensor::from_slice(values);
            tch::no_grad(|| self.parameters.values_mut().copy_(&values));
        }
        let device = self.parameters.values().device();
        let [m, v] = [&state.m, &state.v].map(|values| Tensor::from_slice(values).to(device));
        self.optimizer.restore(&m, &v, checkpoint.progress.update);
        Ok(())
    }
}
