//! Training of behaviour cloning: which states make a batch, and one update after the other.

use tch::{Device, Kind, Tensor};

use super::{Network, mse};
use crate::batch::{Trajectories, below, generator, offsets, resident};
use crate::checkpoint::{Checkpoint, CheckpointError, Moments, Progress};
use crate::config::{Config, Train};
use crate::flat::Flat;
use crate::model;
use crate::optim::{AdamW, AdamWConfig, clip_norm};
use crate::train::{Averages, learning_rate, mix};

/// The state of a training run of behaviour cloning; [`crate::train::Trainer`] is that of a Decision Transformer.
#[derive(Debug)]
pub struct Trainer {
    recipe: Train,
    network: Network,
    parameters: Flat,
    optimizer: AdamW,
    sampler: Sampler,
    loss_sum: Tensor,
    norm_sum: Tensor,
    summed: u64,
}

impl Trainer {
    /// Fresh parameters and optimizer, drawn from the recipe's seed.
    pub fn new(config: &Config, data: Trajectories, device: Device) -> Self {
        let recipe = config.train.clone();
        let network = Network::new(config, data.state_dim, data.act_dim);
        let parameters = model::draw(&network.parameters(), recipe.seed, device);
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
            network,
            parameters,
            optimizer,
            sampler: Sampler::new(data, &network, &recipe, device),
            loss_sum: zero(),
            norm_sum: zero(),
            summed: 0,
            recipe,
        }
    }

    /// Update number `update`, counted from 0. All randomness comes from (seed, `update`).
    pub fn update(&mut self, update: u64) {
        tch::manual_seed(mix(self.recipe.seed, update).cast_signed());
        let (states, actions) = self.sampler.batch(update);
        let dropout = self.recipe.dropout;
        let predicted = self
            .network
            .forward(&self.parameters.views(), &states, dropout);
        let loss = mse(&predicted, &actions);
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
        let n = std::mem::take(&mut self.summed) as f64;
        let [loss, grad_norm] = [&mut self.loss_sum, &mut self.norm_sum].map(|sum| {
            let value = sum.double_value(&[]) / n;
            let _ = sum.zero_();
            value
        });
        Averages { loss, grad_norm }
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

    /// Goes back to a state that [`Trainer::checkpoint`] returned.
    ///
    /// # Errors
    /// If the checkpoint belongs to another network or holds no optimizer state.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        model::load(&mut self.parameters, &checkpoint.weights)?;
        let (values, len) = (self.parameters.values(), self.parameters.values().numel());
        let moments = checkpoint
            .moments
            .as_ref()
            .filter(|moments| [&moments.m, &moments.v].map(Vec::len) == [len; 2])
            .ok_or_else(|| CheckpointError::Missing("optimizer.m".to_owned()))?;
        let [m, v] =
            [&moments.m, &moments.v].map(|slice| Tensor::from_slice(slice).to(values.device()));
        self.optimizer.restore(&m, &v, checkpoint.progress.update);
        Ok(())
    }
}

/// Draws transitions uniformly, each with the K states up to it.
#[derive(Debug)]
pub(super) struct Sampler {
    /// One row per transition, then one of zeros.
    states: Tensor,
    actions: Tensor,
    /// First row of each episode, then the number of rows.
    offsets: Vec<usize>,
    context_len: usize,
    batch_size: usize,
    seed: u64,
    device: Device,
}

impl Sampler {
    pub(super) fn new(
        mut data: Trajectories,
        network: &Network,
        recipe: &Train,
        device: Device,
    ) -> Self {
        data.states.extend(vec![0.0; data.state_dim]);
        Self {
            states: resident(data.states, data.state_dim, device),
            actions: resident(data.actions, data.act_dim, device),
            offsets: offsets(&data.episode_lens),
            context_len: network.context_len,
            batch_size: recipe.batch_size as usize,
            seed: recipe.seed,
            device,
        }
    }

    /// States (B, K · state_dim), the oldest first, zeros before the episode's first, and actions (B, act_dim).
    pub(super) fn batch(&self, update: u64) -> (Tensor, Tensor) {
        let transitions = self.offsets[self.offsets.len() - 1];
        let mut rng = generator(self.seed, update);
        let mut targets = Vec::with_capacity(self.batch_size);
        let mut stacked = Vec::with_capacity(self.batch_size * self.context_len);
        for _ in 0..self.batch_size {
            let target = below(&mut rng, transitions);
            let episode = self.offsets.partition_point(|&offset| offset <= target) - 1;
            let first = self.offsets[episode];
            targets.push(target as i64);
            stacked.extend((0..self.context_len).rev().map(|back| {
                let row = target.checked_sub(back).filter(|&row| row >= first);
                row.unwrap_or(transitions) as i64
            }));
        }
        let gather = |table: &Tensor, rows: &[i64]| {
            let rows = Tensor::from_slice(rows).to(self.device);
            table
                .index_select(0, &rows)
                .view([self.batch_size as i64, -1])
        };
        (
            gather(&self.states, &stacked),
            gather(&self.actions, &targets),
        )
    }
}
