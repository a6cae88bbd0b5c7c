//! Gradient descent on one network's parameters: what every trainer shares.

use tch::{Device, Kind, Tensor};

use super::trainer::{Averages, learning_rate, mix};
use crate::checkpoint::{Checkpoint, CheckpointError, Moments, Progress};
use crate::config::Train;
use crate::flat::Flat;
use crate::model;
use crate::optim::{AdamW, AdamWConfig, clip_norm};

/// Parameters, their optimizer, and sums for the log.
#[derive(Debug)]
pub(crate) struct Descent {
    recipe: Train,
    parameters: Flat,
    optimizer: AdamW,
    loss_sum: Tensor,
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
                ..AdamWConfig::default()
            },
        );
        let zero = || Tensor::zeros([], (Kind::Float, device));
        Self {
            recipe: recipe.clone(),
            parameters,
            optimizer,
            loss_sum: zero(),
            norm_sum: zero(),
            summed: 0,
        }
    }

    /// The parameters.
    pub fn parameters(&self) -> &Flat {
        &self.parameters
    }

    /// Update number `update`, counted from 0, along the gradient of `loss` of the parameters. Nothing here waits for
    /// the device.
    ///
    /// libtorch's randomness comes from (seed, `update`), so that a resumed run repeats it exactly.
    pub fn update(&mut self, update: u64, loss: impl FnOnce(Vec<Tensor>) -> Tensor) {
        tch::manual_seed(mix(self.recipe.seed, update).cast_signed());
        let loss = loss(self.parameters.views());
        let mut gradient = self.parameters.gradient(&loss);
        let max_norm = match self.recipe.grad_clip {
            0.0 => f64::INFINITY,
            norm => norm,
        };
        let norm = clip_norm(&mut gradient, max_norm);
        let learning_rate = learning_rate(&self.recipe, update);
        self.optimizer
            .step(&mut self.parameters, &gradient, learning_rate);
        self.loss_sum += loss.detach();
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
            grad_norm: mean(&mut self.norm_sum, n),
        }
    }

    /// A copy of the state on the host.
    pub fn checkpoint(&self, progress: Progress) -> Checkpoint {
        let (m, v, _) = self.optimizer.state();
        Checkpoint {
            progress,
            weights: model::weights(&self.parameters),
            moments: Some(Moments {
                m: model::host_values(m),
                v: model::host_values(v),
            }),
        }
    }

    /// Goes back to a state that [`Descent::checkpoint`] returned.
    ///
    /// # Errors
    /// If the checkpoint belongs to another network or holds no optimizer state.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        model::load(&mut self.parameters, &checkpoint.weights)?;
        let moments = checkpoint
            .moments
            .as_ref()
            .filter(|moments| {
                [&moments.m, &moments.v].map(Vec::len) == [self.parameters.values().numel(); 2]
            })
            .ok_or_else(|| CheckpointError::Missing("optimizer.m".to_owned()))?;
        let [m, v] = [&moments.m, &moments.v]
            .map(|values| Tensor::from_slice(values).to(self.parameters.values().device()));
        self.optimizer.restore(&m, &v, checkpoint.progress.update);
        Ok(())
    }
}
