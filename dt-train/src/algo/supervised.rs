//! Algorithms that predict actions and descend on their error: all they share.

use std::fmt::Debug;
use std::sync::Arc;

use dt_core::config::{Actions, Math};
use host_sim::EnvSpec;
use host_sim::policy_file::EnvMismatch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, Tensor};

use super::policy::check_run;
use super::{
    Algorithm, Averages, BoxedController, Dims, Learner, Memory, Player, Policy, Refusal, Setup,
    Validation,
};
use crate::config::Recipe;
use crate::data::sampler::{Batch, Draw, Sampler};
use crate::deploy::Deployable;
use crate::nn::descent::Descent;
use crate::nn::layers::{Bound, masked_accuracy, masked_cross_entropy, masked_mse};
use crate::nn::parameters::{self, Parameter};
use crate::nn::transformer::Inputs;
use crate::run::Run;
use crate::run::checkpoint::{Checkpoint, CheckpointError, Progress, Weights};

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// An update, with this much dropout.
    Training {
        /// Probability.
        dropout: f64,
    },
    /// What an update sees, to be judged by its loss: as in training but for dropout and precision, which is f32.
    Validating,
    /// Anything else.
    Acting,
}

impl Mode {
    /// Probability of dropout; 0 but in training.
    pub fn dropout(self) -> f64 {
        match self {
            Self::Training { dropout } => dropout,
            Self::Validating | Self::Acting => 0.0,
        }
    }
}

/// What is descended on.
#[derive(Debug)]
pub struct Loss {
    /// A scalar.
    pub value: Tensor,
    /// Fraction of the actions that are the likeliest, a scalar; none where actions are vectors.
    pub accuracy: Option<Tensor>,
}

impl From<Tensor> for Loss {
    fn from(value: Tensor) -> Self {
        Self {
            value,
            accuracy: None,
        }
    }
}

/// The squared error of predicted vectors, or the cross-entropy of the logits of choices, (B, T, act_dim).
pub fn action_loss(dims: Dims, predicted: &Tensor, batch: &Batch) -> Loss {
    let (actions, mask) = (&batch.inputs.actions, &batch.loss_mask);
    match dims.actions {
        Actions::Continuous => masked_mse(predicted, actions, mask).into(),
        Actions::Discrete => Loss {
            value: masked_cross_entropy(predicted, actions, mask),
            accuracy: Some(masked_accuracy(predicted, actions, mask)),
        },
    }
}

/// An algorithm whose network predicts actions from what came before, and learns to predict the logged ones.
///
/// The type itself is its section of the recipe. What has a default here suits a network that sees the present state.
pub trait Supervised:
    Clone + Debug + Default + DeserializeOwned + Send + Serialize + Sync + 'static
{
    /// As in [`Algorithm::name`].
    const NAME: &'static str;
    /// As in [`Algorithm::title`].
    const TITLE: &'static str;

    /// As in [`Algorithm::parameters`].
    fn parameters(&self, dims: Dims) -> Vec<Parameter>;

    /// Unscaled actions (B, T, act_dim), or logits of as many choices, for what a [`draw`](Self::draw) or a [`memory`](Self::memory) holds.
    fn predict(&self, dims: Dims, network: &Bound<'_>, inputs: &Inputs, mode: Mode) -> Tensor;

    /// The return-to-go (B, T, 1), scaled, that the newest state of `inputs` makes possible, where the policy asks itself for it; nothing
    /// that is told it yet matters.
    fn foresee(&self, _dims: Dims, _network: &Bound<'_>, _inputs: &Inputs) -> Option<Tensor> {
        None
    }

    /// What is descended on: the squared error of vectors, the cross-entropy of choices.
    fn loss(&self, dims: Dims, network: &Bound<'_>, batch: &Batch, mode: Mode) -> Loss {
        action_loss(
            dims,
            &self.predict(dims, network, &batch.inputs, mode),
            batch,
        )
    }

    /// Whose exp choices are drawn by.
    fn math(&self) -> Math {
        Math::Polynomial
    }

    /// As in [`Algorithm::fitted`].
    fn fitted(&self, _dims: Dims) -> Option<Self> {
        None
    }

    /// What makes a batch.
    fn draw(&self, recipe: &Recipe) -> Draw {
        Draw::Histories {
            batch_size: recipe.train.batch_size as usize,
            context_len: 1,
        }
    }

    /// What makes the batches of [`Learner::validate`]: uniform, and large enough to tell small differences.
    fn validation_draw(&self, recipe: &Recipe) -> Draw {
        self.draw(recipe)
    }

    /// What of an episode so far is predicted from.
    fn memory(&self) -> Memory {
        Memory::Padded(1)
    }

    /// As in [`Algorithm::variety`].
    fn variety(&self) -> &'static str {
        Self::TITLE
    }

    /// As in [`Algorithm::learns_from_rewards`].
    fn learns_from_rewards(&self) -> bool {
        true
    }

    /// As in [`Algorithm::reads_images`].
    fn reads_images(&self) -> bool {
        false
    }

    /// As in [`Algorithm::size`].
    fn size(&self) -> String {
        String::new()
    }

    /// As in [`Algorithm::check`].
    ///
    /// # Errors
    /// The key, and what it may be.
    fn check(&self, _recipe: &Recipe) -> Result<(), Refusal> {
        Ok(())
    }

    /// As in [`Algorithm::fits`].
    ///
    /// # Errors
    /// In words.
    fn fits(&self, _dims: Dims) -> anyhow::Result<()> {
        Ok(())
    }

    /// As in [`Algorithm::policy`]: libtorch, one thread per episode, unless the algorithm knows better.
    ///
    /// # Errors
    /// If checkpoint and run do not belong together.
    fn policy<'a>(
        &self,
        run: &'a Run,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<Box<dyn Policy + 'a>> {
        Ok(Box::new(Torch::new(self, run, checkpoint)?))
    }

    /// As in [`Algorithm::deployable`].
    fn deployable(&self) -> Option<&dyn Deployable> {
        None
    }
}

impl<S: Supervised> Algorithm for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn title(&self) -> &'static str {
        S::TITLE
    }

    fn variety(&self) -> &'static str {
        Supervised::variety(self)
    }

    fn size(&self) -> String {
        Supervised::size(self)
    }

    fn learns_from_rewards(&self) -> bool {
        Supervised::learns_from_rewards(self)
    }

    fn reads_images(&self) -> bool {
        Supervised::reads_images(self)
    }

    fn section(&self) -> toml::Table {
        toml::Table::try_from(self).expect("plain values only")
    }

    fn check(&self, recipe: &Recipe) -> Result<(), Refusal> {
        Supervised::check(self, recipe)
    }

    fn fitted(&self, dims: Dims) -> Option<Arc<dyn Algorithm>> {
        let fitted = Supervised::fitted(self, dims)?;
        Some(Arc::new(fitted))
    }

    fn fits(&self, dims: Dims) -> anyhow::Result<()> {
        Supervised::fits(self, dims)
    }

    fn parameters(&self, dims: Dims) -> Vec<Parameter> {
        Supervised::parameters(self, dims)
    }

    fn learner(&self, setup: Setup<'_>) -> Box<dyn Learner> {
        Box::new(Descending::new(self.clone(), setup))
    }

    fn policy<'a>(
        &self,
        run: &'a Run,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<Box<dyn Policy + 'a>> {
        Supervised::policy(self, run, checkpoint)
    }

    fn deployable(&self) -> Option<&dyn Deployable> {
        Supervised::deployable(self)
    }
}

/// A supervised algorithm in the middle of learning.
#[derive(Debug)]
struct Descending<S> {
    algorithm: S,
    dims: Dims,
    dropout: f64,
    descent: Descent,
    sampler: Sampler,
    /// Of episodes that are trained on, and of those that are not; none: there are none of these.
    probes: Option<[Batch; 2]>,
}

impl<S: Supervised> Descending<S> {
    fn new(algorithm: S, setup: Setup<'_>) -> Self {
        let Setup {
            recipe,
            train,
            validation,
            device,
        } = setup;
        let dims = train.dims();
        let seed = recipe.train.seed;
        let is_validated = !validation.episode_lens.is_empty();
        let sampler = Sampler::new(train, algorithm.draw(recipe), seed, device);
        let probes = is_validated.then(|| {
            // Always the same, whatever the run's seed.
            let draw = algorithm.validation_draw(recipe);
            [
                sampler.redrawn(draw, 0).batch(0),
                Sampler::new(validation, draw, 0, device).batch(0),
            ]
        });
        let parameters = parameters::draw(&algorithm.parameters(dims), seed, device);
        Self {
            dims,
            dropout: recipe.train.dropout,
            descent: Descent::new(&recipe.train, parameters, device),
            sampler,
            probes,
            algorithm,
        }
    }
}

impl<S: Supervised> Learner for Descending<S> {
    fn update(&mut self, update: u64) {
        let batch = self.sampler.batch(update);
        let dropout = self.dropout;
        let (algorithm, dims) = (&self.algorithm, self.dims);
        self.descent.update(update, |network| {
            algorithm.loss(dims, network, &batch, Mode::Training { dropout })
        });
    }

    fn take_averages(&mut self) -> Averages {
        self.descent.take_averages()
    }

    fn validate(&self) -> Option<Validation> {
        let [fit, held_out] = self.probes.as_ref()?;
        let network = Bound::frozen(self.descent.result());
        let loss = |batch| {
            let loss = || {
                self.algorithm
                    .loss(self.dims, &network, batch, Mode::Validating)
            };
            tch::no_grad(loss)
        };
        let Loss { value, accuracy } = loss(held_out);
        Some(Validation {
            fit: loss(fit).value.double_value(&[]),
            held_out: value.double_value(&[]),
            accuracy: accuracy.map(|accuracy| accuracy.double_value(&[])),
        })
    }

    fn save(&self, progress: Progress) -> Checkpoint {
        self.descent.checkpoint(progress)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.descent.restore(checkpoint)
    }

    fn start_from(&mut self, weights: &Weights) -> Result<(), CheckpointError> {
        self.descent.start_from(weights)
    }
}

/// A trained network that acts by libtorch.
#[derive(Debug)]
pub struct Torch<'a, S> {
    algorithm: S,
    run: &'a Run,
    checkpoint: Checkpoint,
}

impl<'a, S: Supervised> Torch<'a, S> {
    /// The policy of a checkpoint.
    ///
    /// # Errors
    /// If checkpoint and run do not belong together.
    pub fn new(
        algorithm: &S,
        run: &'a Run,
        checkpoint: &Checkpoint,
    ) -> Result<Self, CheckpointError> {
        let parameters = algorithm.parameters(run.dims());
        parameters::loaded(&parameters, &checkpoint.weights, Device::Cpu)?;
        Ok(Self {
            algorithm: algorithm.clone(),
            run,
            checkpoint: checkpoint.clone(),
        })
    }

    /// A controller whose parameters are on `device`.
    pub fn player(&self, device: Device) -> Player<'a> {
        let (algorithm, dims) = (self.algorithm.clone(), self.run.dims());
        let parameters = algorithm.parameters(dims);
        let parameters = parameters::loaded(&parameters, &self.checkpoint.weights, device)
            .expect("as when this policy was made");
        let math = algorithm.math();
        Player::new(
            self.run,
            algorithm.memory(),
            math,
            move |history, action| {
                let network = Bound::frozen(&parameters);
                let inputs = history.inputs(device);
                let possible = tch::no_grad(|| algorithm.foresee(dims, &network, &inputs));
                let inputs = match possible {
                    None => inputs,
                    Some(possible) => {
                        history.ask(possible.select(1, -1).double_value(&[0, 0]) as f32);
                        history.inputs(device)
                    }
                };
                let predicted = tch::no_grad(|| {
                    algorithm
                        .predict(dims, &network, &inputs, Mode::Acting)
                        .select(1, -1)
                });
                let len = action.len();
                predicted
                    .to(Device::Cpu)
                    .flatten(0, -1)
                    .copy_data(action, len);
            },
        )
    }
}

impl<S: Supervised> Policy for Torch<'_, S> {
    fn runner(&self) -> &'static str {
        "libtorch"
    }

    fn is_conditioned(&self) -> bool {
        true
    }

    fn check_env(&self, spec: &EnvSpec<'_>) -> Result<(), EnvMismatch> {
        check_run(self.run, spec)
    }

    fn controller(&self) -> BoxedController<'_> {
        BoxedController::new(self.player(Device::Cpu))
    }

    fn reference(&self, device: Device) -> Option<BoxedController<'_>> {
        Some(BoxedController::new(self.player(device)))
    }
}
