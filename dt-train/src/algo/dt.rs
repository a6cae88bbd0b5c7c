//! One optimizer update after the other: parameters, optimizer and data on the training device.

use dt_core::config::{Attention, Config as Network};
use tch::{Device, Tensor};

use crate::config::{Config, Train};
use crate::data::sampler::{Sampler, Shape, Trajectories};
use crate::nn::descent::Descent;
use crate::nn::transformer::{self, DecisionTransformer};
use crate::run::checkpoint::{Checkpoint, CheckpointError, Progress};

/// The state of a training run.
#[derive(Debug)]
pub struct Trainer {
    recipe: Train,
    network: Network,
    descent: Descent,
    sampler: Sampler,
    mask: Tensor,
    /// Draws from the episodes that are not trained on; none: there are none.
    validation: Option<(Sampler, Tensor)>,
}

/// Sequences that the validation loss is the mean over, always the same: of twice the receptive field, so that half of
/// the predictions see all that they will when acting.
const VALIDATION_BATCH: usize = 64;

/// Averages since they were last read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Averages {
    /// Loss.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
}

impl Trainer {
    /// Fresh parameters and optimizer, drawn from the recipe's seed. `validation` are episodes that are not trained on.
    pub fn new(
        config: &Config,
        network: &Network,
        data: Trajectories,
        validation: Trajectories,
        device: Device,
    ) -> Self {
        let recipe = config.train.clone();
        let shape = Shape {
            batch_size: recipe.batch_size as usize,
            sequence_len: config.sequence_len(),
            burn_in: recipe.burn_in as usize,
            start_fraction: recipe.start_fraction,
            best_fraction: recipe.best_fraction,
            best_percent: recipe.best_percent,
            max_ep_len: network.max_ep_len as usize,
        };
        let validation = (!validation.episode_lens.is_empty()).then(|| {
            let shape = Shape {
                batch_size: VALIDATION_BATCH,
                sequence_len: match network.attention {
                    Attention::Window => config.receptive_field(),
                    Attention::Streaming => 2 * config.receptive_field(),
                },
                burn_in: 0,
                start_fraction: 0.0,
                best_fraction: 0.0,
                ..shape
            };
            let mask = transformer::attention_mask(network, shape.sequence_len, device);
            (Sampler::new(validation, shape, 0, device), mask)
        });
        let std = config.model.timestep_init_std;
        let parameters = transformer::initialize(network, std, recipe.seed, device);
        Self {
            network: *network,
            descent: Descent::new(&recipe, parameters, device),
            sampler: Sampler::new(data, shape, recipe.seed, device),
            mask: transformer::attention_mask(network, shape.sequence_len, device),
            recipe,
            validation,
        }
    }

    /// Update number `update`, counted from 0. Nothing here waits for the device.
    ///
    /// All randomness comes from (seed, `update`), so that a resumed run repeats it exactly.
    pub fn update(&mut self, update: u64) {
        let batch = self.sampler.batch(update);
        let (network, mask, recipe) = (&self.network, &self.mask, &self.recipe);
        self.descent.update(update, |parameters| {
            let model =
                DecisionTransformer::bind(network, parameters).in_precision(recipe.precision);
            let predicted = model.forward(&batch.inputs, mask, recipe.dropout);
            transformer::masked_mse(&predicted, &batch.inputs.actions, &batch.loss_mask)
        });
    }

    /// Averages over the updates since the last call; waits for the device.
    pub fn take_averages(&mut self) -> Averages {
        self.descent.take_averages()
    }

    /// Loss on episodes that are not trained on, if there are any; waits for the device.
    pub fn validation_loss(&mut self) -> Option<f64> {
        let network = self.network();
        let (sampler, mask) = self.validation.as_mut()?;
        let batch = sampler.batch(0);
        let loss = tch::no_grad(|| {
            let predicted = network.forward(&batch.inputs, mask, 0.0);
            transformer::masked_mse(&predicted, &batch.inputs.actions, &batch.loss_mask)
        });
        Some(loss.double_value(&[]))
    }

    /// The network to act with at present, as constants.
    pub fn network(&self) -> DecisionTransformer {
        DecisionTransformer::bind(&self.network, self.descent.result().frozen())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::checkpoint::Weights;

    /// Two episodes of a task where the best action is the state's first component.
    fn trajectories() -> Trajectories {
        let wave = |i: usize, k: f32| (i as f32 * k).sin();
        let n = 60;
        Trajectories {
            state_dim: 2,
            act_dim: 1,
            states: (0..n).flat_map(|i| [wave(i, 0.7), wave(i, 1.3)]).collect(),
            actions: (0..n).map(|i| 0.8 * wave(i, 0.7)).collect(),
            returns_to_go: (0..n).map(|i| 1.0 - i as f32 / 60.0).collect(),
            episode_lens: vec![25, 35],
        }
    }

    fn trainer(ema_decay: f64) -> Trainer {
        let mut config = Config::default();
        config.model.d_model = 16;
        config.model.n_layer = 2;
        config.model.n_head = 2;
        config.model.context_len = 4;
        config.model.max_ep_len = 40;
        config.train.batch_size = 8;
        config.train.warmup_updates = 10;
        config.train.learning_rate = 3e-3;
        config.train.dropout = 0.0;
        config.train.ema_decay = ema_decay;
        let network = config.network(2, 1, dt_core::config::Dtype::F32);
        Trainer::new(
            &config,
            &network,
            trajectories(),
            trajectories(),
            Device::Cpu,
        )
    }

    #[test]
    fn the_loss_falls_far_below_the_actions_variance() {
        let mut trainer = trainer(0.0);
        (0..150).for_each(|update| trainer.update(update));
        trainer.take_averages();
        (150..200).for_each(|update| trainer.update(update));
        let Averages { loss, grad_norm } = trainer.take_averages();
        // The actions' variance is 0.32. Validated on the same episodes, without dropout in either case.
        assert!(loss < 0.02, "{loss}");
        let validation = trainer.validation_loss().unwrap();
        assert!(
            (0.4 * loss..1.2 * loss).contains(&validation),
            "{validation}"
        );
        assert!(grad_norm > 0.0 && grad_norm.is_finite());
    }

    #[test]
    fn a_restored_trainer_continues_bit_for_bit() {
        // Dropout draws from libtorch's one generator, which parallel tests share: tests/train/resume.rs
        // resumes with dropout, in processes of their own.
        for ema_decay in [0.0, 0.9] {
            let trainer = || trainer(ema_decay);
            let mut whole = trainer();
            (0..5).for_each(|update| whole.update(update));
            let saved = whole.checkpoint(Progress {
                update: 5,
                best: None,
            });
            (5..12).for_each(|update| whole.update(update));
            let mut resumed = trainer();
            resumed.update(0);
            resumed.restore(&saved).unwrap();
            (5..12).for_each(|update| resumed.update(update));
            let end = |trainer: &Trainer| trainer.checkpoint(Progress::default());
            assert_eq!(end(&resumed), end(&whole));
            assert_ne!(end(&resumed).weights, saved.weights);
        }
    }

    #[test]
    fn the_result_is_the_average_of_the_parameters() {
        // ln_f.bias, whose every step the recurrence must follow; the decay rate rises to 0.5.
        let bias = |values: &Weights| values.get("ln_f.bias", &[16]).unwrap().to_vec();
        let (mut plain, mut averaged) = (trainer(0.0), trainer(0.5));
        let mut expected = bias(&plain.checkpoint(Progress::default()).weights);
        for update in 0..20_u32 {
            plain.update(update.into());
            averaged.update(update.into());
            let decay = f64::min(0.5, f64::from(1 + update) / f64::from(10 + update)) as f32;
            let parameters = bias(&plain.checkpoint(Progress::default()).weights);
            for (average, parameter) in expected.iter_mut().zip(&parameters) {
                *average += (1.0 - decay) * (parameter - *average);
            }
            let result = bias(&averaged.checkpoint(Progress::default()).weights);
            for (result, expected) in result.iter().zip(&expected) {
                assert!((result - expected).abs() < 1e-7, "{result} {expected}");
            }
            assert_ne!(result, parameters);
        }
    }

    #[test]
    fn checkpoints_of_other_networks_are_refused() {
        let mut trainer = trainer(0.9);
        let mut checkpoint = trainer.checkpoint(Progress::default());
        checkpoint.optimizer.as_mut().unwrap().parameters = None;
        let error = trainer.restore(&checkpoint).unwrap_err().to_string();
        assert!(
            error.contains("no tensor `optimizer.parameters`"),
            "{error}"
        );
        let mut trainer = self::trainer(0.0);
        checkpoint.optimizer = None;
        assert!(trainer.restore(&checkpoint).is_err());
        checkpoint
            .weights
            .insert("ln_f.bias".to_owned(), vec![3], vec![0.0; 3]);
        let error = trainer.restore(&checkpoint).unwrap_err().to_string();
        assert!(error.contains("`ln_f.bias` has shape [3]"), "{error}");
    }
}
