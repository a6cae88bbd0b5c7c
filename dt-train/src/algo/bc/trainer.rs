//! Training of behaviour cloning: which states make a batch, and one update after the other.

use tch::{Device, Tensor};

use super::{Network, mse};
use crate::algo::dt::Averages;
use crate::config::{Config, Train};
use crate::data::sampler::{Trajectories, below, generator, offsets, resident};
use crate::nn::descent::Descent;
use crate::nn::transformer;
use crate::run::checkpoint::{Checkpoint, CheckpointError, Progress};

/// The state of a training run of behaviour cloning; [`crate::algo::dt::Trainer`] is that of a Decision Transformer.
#[derive(Debug)]
pub struct Trainer {
    network: Network,
    descent: Descent,
    sampler: Sampler,
    /// Draws from the episodes that are not trained on; none: there are none.
    validation: Option<Sampler>,
    dropout: f64,
}

/// Transitions that the validation loss is the mean over, always the same.
const VALIDATION_BATCH: u32 = 4096;

impl Trainer {
    /// Fresh parameters and optimizer, drawn from the recipe's seed. `validation` are episodes that are not trained on.
    pub fn new(
        config: &Config,
        data: Trajectories,
        validation: Trajectories,
        device: Device,
    ) -> Self {
        let recipe = config.train.clone();
        let network = Network::new(config, data.state_dim, data.act_dim);
        let parameters = transformer::draw(&network.parameters(), recipe.seed, device);
        let validation = (!validation.episode_lens.is_empty()).then(|| {
            let recipe = Train {
                batch_size: VALIDATION_BATCH,
                seed: 0,
                ..recipe.clone()
            };
            Sampler::new(validation, &network, &recipe, device)
        });
        Self {
            network,
            validation,
            descent: Descent::new(&recipe, parameters, device),
            sampler: Sampler::new(data, &network, &recipe, device),
            dropout: recipe.dropout,
        }
    }

    /// Update number `update`, counted from 0. All randomness comes from (seed, `update`).
    pub fn update(&mut self, update: u64) {
        let (states, actions) = self.sampler.batch(update);
        let (network, dropout) = (&self.network, self.dropout);
        self.descent.update(update, |parameters| {
            mse(&network.forward(&parameters, &states, dropout), &actions)
        });
    }

    /// Averages over the updates since the last call; waits for the device.
    pub fn take_averages(&mut self) -> Averages {
        self.descent.take_averages()
    }

    /// Loss on episodes that are not trained on, if there are any; waits for the device.
    pub fn validation_loss(&self) -> Option<f64> {
        let (states, actions) = self.validation.as_ref()?.batch(0);
        let tensors = self.descent.result().frozen();
        let loss = tch::no_grad(|| mse(&self.network.forward(&tensors, &states, 0.0), &actions));
        Some(loss.double_value(&[]))
    }

    /// A copy of the state on the host.
    pub fn checkpoint(&self, progress: Progress) -> Checkpoint {
        self.descent.checkpoint(progress)
    }

    /// Goes back to a state that [`Trainer::checkpoint`] returned.
    ///
    /// # Errors
    /// If the checkpoint belongs to another network or holds no optimizer state.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.descent.restore(checkpoint)
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
