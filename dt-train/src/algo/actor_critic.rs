//! Algorithms that learn from single transitions what actions are worth, and an actor by it: all they share.
//!
//! Such an algorithm has several networks: the actor, what judges (critics, a value), and targets that follow slowly. The
//! actor is the network of [behaviour cloning](super::bc) that sees the present state alone, so that whatever acts for one
//! of them, on the host or on a controller, acts for all, and what is compared is what they learned.

use std::fmt::Debug;

use anyhow::ensure;
use dt_core::config::{Actions, Config, Dtype, Head};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::bc::Bc;
use super::{
    Algorithm, Averages, Dims, Learner, Loss, Mode, Policy, Refusal, Setup, Supervised, Validation,
};
use crate::config::{Recipe, Train};
use crate::data::sampler::{End, Trajectories};
use crate::data::transitions::{Transition, Transitions, return_spread};
use crate::deploy::Deployable;
use crate::nn::flat::Flat;
use crate::nn::layers::{Bound, masked_accuracy, masked_cross_entropy};
use crate::nn::mlp;
use crate::nn::optim::{AdamW, AdamWConfig, clip_norm};
use crate::nn::parameters::{self, Parameter};
use crate::nn::schedule::{learning_rate, mix};
use crate::run::Run;
use crate::run::checkpoint::{Checkpoint, CheckpointError, OptimizerState, Progress, Weights};

/// An algorithm of an actor and what judges it. The type itself is its section of the recipe.
pub trait ActorCritic:
    Clone + Debug + Default + DeserializeOwned + Send + Serialize + Sync + 'static
{
    /// As in [`Algorithm::name`].
    const NAME: &'static str;
    /// As in [`Algorithm::title`].
    const TITLE: &'static str;
    /// Whether it learns choices too; the actor's logits are what they are worth, then.
    const LEARNS_CHOICES: bool = false;

    /// The keys that all of them have.
    fn common(&self) -> Common;

    /// Its networks, the actor first.
    fn networks(&self, dims: Dims) -> Vec<Network>;

    /// One update of the networks, in the order of [`networks`](Self::networks). libtorch's generator is seeded.
    fn update(&self, networks: &mut [Part], batch: &Transition, step: &Step);

    /// Steps that the optimizer of network `i` has made after so many updates.
    fn steps(&self, _i: usize, updates: u64) -> u64 {
        updates
    }

    /// As in [`Algorithm::check`]; the [`common`](Self::common) keys have been checked.
    ///
    /// # Errors
    /// The key, and what it may be.
    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What every section has.
#[derive(Clone, Copy, Debug)]
pub struct Common {
    /// Width of all hidden layers.
    pub d_model: u32,
    /// Hidden layers of all networks.
    pub n_layer: u32,
    /// Discount γ of rewards per step.
    pub discount: f64,
    /// Rewards are multiplied by 1000 / (return of the best episode − that of the worst).
    pub normalize_rewards: bool,
    /// Learning rate of what judges, constant.
    pub critic_learning_rate: f64,
}

/// [`ActorCritic::common`] of a section, whose keys have the same names.
macro_rules! common_of {
    ($section:expr) => {
        $crate::algo::actor_critic::Common {
            d_model: $section.d_model,
            n_layer: $section.n_layer,
            discount: $section.discount,
            normalize_rewards: $section.normalize_rewards,
            critic_learning_rate: $section.critic_learning_rate,
        }
    };
}
pub(super) use common_of;

impl Common {
    /// The network that acts, of choices by their logits.
    pub fn actor(&self, actions: Actions) -> Bc {
        Bc {
            d_model: self.d_model,
            n_layer: self.n_layer,
            context_len: 1,
            head: match actions {
                Actions::Continuous => Head::Tanh,
                Actions::Discrete => Head::Linear,
            },
        }
    }

    /// Unscaled actions (B, act_dim) of the actor for normalized `states` (B, state_dim).
    pub fn act(&self, network: &Bound<'_>, states: &Tensor, mode: Mode) -> Tensor {
        self.logits(network, states, mode).tanh()
    }

    /// The same before tanh: of choices, what they are worth.
    pub fn logits(&self, network: &Bound<'_>, states: &Tensor, mode: Mode) -> Tensor {
        let features = self.features(network, states, mode);
        network.linear(mlp::HEAD).forward(&features)
    }

    /// What the actor's head sees, (B, d_model), of the same.
    pub fn features(&self, network: &Bound<'_>, states: &Tensor, mode: Mode) -> Tensor {
        let act_dim = network.linear(mlp::HEAD).bias.numel();
        let dims = Dims::vectors(states.size()[1].unsigned_abs() as usize, act_dim);
        // Whose head is not asked.
        let config = self.actor(dims.actions).network(dims, Dtype::F32);
        mlp::features(&config, network, &states.unsqueeze(1), mode.dropout())
    }

    /// Inputs, width and hidden layers of a network that judges states and actions.
    pub fn critic(&self, dims: Dims) -> [usize; 3] {
        let [_, width, layers] = self.value(dims);
        [dims.state_dim + dims.act_dim, width, layers]
    }

    /// Inputs, width and hidden layers of a network that judges states.
    pub fn value(&self, dims: Dims) -> [usize; 3] {
        [dims.state_dim, self.d_model as usize, self.n_layer as usize]
    }
}

/// One of an algorithm's networks.
#[derive(Clone, Debug)]
pub enum Network {
    /// It is learned.
    Learned(Vec<Parameter>),
    /// It starts as the network of this place, before it, and follows it. In checkpoints its parameters have the names of
    /// that one's after `TARGETS`.
    Following(usize),
}

/// What the names of targets' parameters begin with in checkpoints.
const TARGETS: &str = "targets.";

/// What an update is told.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Number of the update, counted from 0.
    pub update: u64,
    /// Learning rate of the actor.
    pub actor_rate: f64,
    /// That of everything else.
    pub critic_rate: f64,
    /// Dropout on the actor's hidden layers.
    pub dropout: f64,
}

impl Step {
    /// What the actor's forward pass of an update is for.
    pub fn mode(&self) -> Mode {
        Mode::Training {
            dropout: self.dropout,
        }
    }
}

/// One of an algorithm's networks in the middle of learning.
#[derive(Debug)]
pub struct Part {
    parameters: Flat,
    /// None: it follows another.
    optimizer: Option<AdamW>,
    max_norm: f64,
    loss_sum: Tensor,
    norm_sum: Tensor,
}

impl Part {
    /// `recipe`: how it is learned; none: it follows another.
    fn new(parameters: Flat, recipe: Option<&Train>) -> Self {
        let zero = || Tensor::zeros([], (Kind::Float, parameters.values().device()));
        let optimizer = |recipe: &Train| {
            let config = AdamWConfig {
                beta1: recipe.beta_1,
                beta2: recipe.beta_2,
                weight_decay: recipe.weight_decay,
                decay_matrices_only: recipe.decay_matrices_only,
                ..AdamWConfig::default()
            };
            AdamW::new(&parameters, config)
        };
        Self {
            loss_sum: zero(),
            norm_sum: zero(),
            max_norm: match recipe.map(|recipe| recipe.grad_clip) {
                None | Some(0.0) => f64::INFINITY,
                Some(norm) => norm,
            },
            optimizer: recipe.map(optimizer),
            parameters,
        }
    }

    /// What the names of its parameters begin with in checkpoints.
    fn prefix(&self) -> &'static str {
        match self.optimizer {
            Some(_) => "",
            None => TARGETS,
        }
    }

    /// Copies its parameters out of a checkpoint's.
    fn load(&mut self, weights: &Weights) -> Result<(), CheckpointError> {
        let mut own = Weights::default();
        for (name, array) in weights.iter() {
            if let Some(name) = name.strip_prefix(self.prefix()) {
                own.insert(name.into(), array.shape.clone(), array.values.clone());
            }
        }
        parameters::load(&mut self.parameters, &own)
    }

    /// The parameters, in their order, to be descended on.
    pub fn views(&self) -> Vec<Tensor> {
        self.parameters.views()
    }

    /// The parameters, in their order, as constants.
    pub fn frozen(&self) -> Vec<Tensor> {
        self.parameters.frozen()
    }

    /// The parameters by name, to be descended on.
    pub fn trainable(&self) -> Bound<'_> {
        Bound::trainable(&self.parameters)
    }

    /// The parameters by name, as constants.
    pub fn bound(&self) -> Bound<'_> {
        Bound::frozen(&self.parameters)
    }

    /// A step along the gradient of `loss`, a scalar.
    pub fn descend(&mut self, loss: &Tensor, learning_rate: f64) {
        let mut gradient = self.parameters.gradient(loss);
        let norm = clip_norm(&mut gradient, self.max_norm);
        if let Some(optimizer) = &mut self.optimizer {
            optimizer.step(&mut self.parameters, &gradient, learning_rate);
        }
        self.loss_sum += loss.detach();
        self.norm_sum += norm;
    }

    /// Goes the fraction `tau` of the way towards `other`.
    pub fn follow(&mut self, other: &Self, tau: f64) {
        self.parameters.approach(&other.parameters, tau);
    }
}

/// An [`ActorCritic`] as an [`Algorithm`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Judged<A>(pub A);

impl<A: ActorCritic> Algorithm for Judged<A>
where
    Self: DeserializeOwned,
{
    fn name(&self) -> &'static str {
        A::NAME
    }

    fn title(&self) -> &'static str {
        A::TITLE
    }

    fn size(&self) -> String {
        let Common {
            d_model, n_layer, ..
        } = self.0.common();
        format!("{n_layer} × {d_model}")
    }

    fn has_critics(&self) -> bool {
        true
    }

    fn section(&self) -> toml::Table {
        toml::Table::try_from(&self.0).expect("plain values only")
    }

    fn check(&self, recipe: &Recipe) -> Result<(), Refusal> {
        let common = self.0.common();
        let actor = common.actor(Actions::Continuous);
        Supervised::check(&actor, recipe).map_err(|refusal| refusal.of(Bc::NAME, A::NAME))?;
        within(A::NAME, "discount", common.discount, [0.0, 1.0])?;
        within(
            A::NAME,
            "critic_learning_rate",
            common.critic_learning_rate,
            [0.0, 1.0],
        )?;
        if recipe.train.ema_decay > 0.0 {
            let message = format!(
                "is {}, and `{}` keeps no average of its actor's parameters; use 0",
                recipe.train.ema_decay,
                A::NAME
            );
            return Err(Refusal::new("train.ema_decay", message));
        }
        self.0.check()
    }

    fn fits(&self, dims: Dims) -> anyhow::Result<()> {
        ensure!(
            dims.actions == Actions::Continuous || A::LEARNS_CHOICES,
            "`{}` learns actions that are vectors, and these are choices; train --algo dt, bc or cql",
            A::NAME
        );
        Supervised::fits(&self.0.common().actor(dims.actions), dims)
    }

    fn accepts(&self, data: &Trajectories) -> anyhow::Result<()> {
        let mut episodes = data.episode_lens.iter().zip(&data.ends);
        ensure!(
            episodes.any(|(&len, end)| len > 1 || *end != End::Cut(None)),
            "`{}` learns from what came after an action, which these data never say: every episode is one step without a \
             terminal state or next observation; train --algo dt or bc",
            A::NAME
        );
        Ok(())
    }

    /// The actor's: what becomes a policy.
    fn parameters(&self, dims: Dims) -> Vec<Parameter> {
        Supervised::parameters(&self.0.common().actor(dims.actions), dims)
    }

    fn learner(&self, setup: Setup<'_>) -> Box<dyn Learner> {
        Box::new(Learning::new(self.0.clone(), setup))
    }

    fn policy<'a>(
        &self,
        run: &'a Run,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<Box<dyn Policy + 'a>> {
        let actions = run.dims().actions;
        Supervised::policy(&self.0.common().actor(actions), run, checkpoint)
    }

    fn deployable(&self) -> Option<&dyn Deployable> {
        Some(self)
    }
}

/// The actor alone.
impl<A: ActorCritic> Deployable for Judged<A> {
    fn network(&self, dims: Dims, dtype: Dtype) -> Config {
        self.0.common().actor(dims.actions).network(dims, dtype)
    }
}

/// Refuses a key of `section` outside `low..=high`.
pub(super) fn within(
    section: &str,
    key: &str,
    value: f64,
    [low, high]: [f64; 2],
) -> Result<(), Refusal> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let message = format!("is {value}; it must lie in {low}..={high}");
    Err(Refusal::new(format!("{section}.{key}"), message))
}

/// `data`, with rewards as `common` has them, in the units of `reference`.
fn transitions(
    common: &Common,
    data: &Trajectories,
    reference: &Trajectories,
    device: Device,
) -> Transitions {
    let spread = return_spread(reference).filter(|_| common.normalize_rewards);
    let scale = spread.map_or(1.0, |spread| 1000.0 / spread);
    Transitions::new(data, [scale, common.discount], device)
}

/// An algorithm in the middle of learning.
#[derive(Debug)]
struct Learning<A> {
    algorithm: A,
    recipe: Train,
    parts: Vec<Part>,
    actions: Actions,
    data: Transitions,
    /// Of episodes that are trained on, and of those that are not; none: there are none of these.
    probes: Option<[Transition; 2]>,
    summed: u64,
}

/// Transitions that a validation loss is the mean over.
const VALIDATION_BATCH: usize = 4096;

impl<A: ActorCritic> Learning<A> {
    fn new(algorithm: A, setup: Setup<'_>) -> Self {
        let Setup {
            recipe,
            train,
            validation,
            device,
        } = setup;
        let recipe = recipe.train.clone();
        let dims = Dims {
            actions: train.kind,
            ..Dims::vectors(train.state_dim, train.act_dim)
        };
        let common = algorithm.common();
        let [data, held_out] =
            [&train, &validation].map(|of| transitions(&common, of, &train, device));
        // Probes are always the same, whatever the run's seed.
        let probe = |data: &Transitions| data.batch(VALIDATION_BATCH, 0, 0);
        let probes = (!held_out.is_empty()).then(|| [&data, &held_out].map(probe));
        let mut parts: Vec<Part> = Vec::new();
        for (i, network) in algorithm.networks(dims).into_iter().enumerate() {
            parts.push(match network {
                Network::Learned(list) => {
                    let values = parameters::draw(&list, mix(recipe.seed, i as u64), device);
                    Part::new(values, Some(&recipe))
                }
                Network::Following(i) => Part::new(parts[i].parameters.duplicate(), None),
            });
        }
        Self {
            actions: dims.actions,
            data,
            algorithm,
            recipe,
            parts,
            probes,
            summed: 0,
        }
    }

    /// The actor's distance from the data, which is not what it descends on.
    fn distance(&self, probe: &Transition) -> Loss {
        let network = self.parts[0].bound();
        let common = self.algorithm.common();
        let _no_grad = tch::no_grad_guard();
        match self.actions {
            Actions::Continuous => {
                let error = common.act(&network, &probe.states, Mode::Acting) - &probe.actions;
                error.square().mean(Kind::Float).into()
            }
            Actions::Discrete => {
                let logits = common.logits(&network, &probe.states, Mode::Acting);
                let all = probe.rewards.ones_like();
                Loss {
                    value: masked_cross_entropy(&logits, &probe.actions, &all),
                    accuracy: Some(masked_accuracy(&logits, &probe.actions, &all)),
                }
            }
        }
    }
}

impl<A: ActorCritic> Learner for Learning<A> {
    fn update(&mut self, update: u64) {
        let batch = self
            .data
            .batch(self.recipe.batch_size as usize, self.recipe.seed, update);
        let step = Step {
            update,
            actor_rate: learning_rate(&self.recipe, update),
            critic_rate: self.algorithm.common().critic_learning_rate,
            dropout: self.recipe.dropout,
        };
        let _generator = parameters::seeded(mix(self.recipe.seed, update));
        self.algorithm.update(&mut self.parts, &batch, &step);
        self.summed += 1;
    }

    /// Sums over the networks.
    fn take_averages(&mut self) -> Averages {
        let n = std::mem::take(&mut self.summed) as f64;
        let mut take = |of: fn(&mut Part) -> &mut Tensor| -> f64 {
            let sums = self.parts.iter_mut().map(|part| {
                let sum = of(part);
                let value = sum.double_value(&[]);
                let _ = sum.zero_();
                value
            });
            sums.sum::<f64>() / n
        };
        Averages {
            loss: take(|part| &mut part.loss_sum),
            accuracy: None,
            grad_norm: take(|part| &mut part.norm_sum),
        }
    }

    fn validate(&self) -> Option<Validation> {
        let [fit, held_out] = self.probes.as_ref()?.each_ref();
        let [fit, held_out] = [fit, held_out].map(|probe| self.distance(probe));
        let number = |tensor: Tensor| tensor.double_value(&[]);
        Some(Validation {
            fit: number(fit.value),
            held_out: number(held_out.value),
            accuracy: held_out.accuracy.map(number),
        })
    }

    fn save(&self, progress: Progress) -> Checkpoint {
        let mut weights = Weights::default();
        let [mut m, mut v] = [(); 2].map(|()| Vec::new());
        for part in &self.parts {
            for (name, array) in parameters::weights(&part.parameters).iter() {
                let name = format!("{}{name}", part.prefix());
                weights.insert(name, array.shape.clone(), array.values.clone());
            }
            if let Some(optimizer) = &part.optimizer {
                let (first, second, _) = optimizer.state();
                m.extend(parameters::host_values(first));
                v.extend(parameters::host_values(second));
            }
        }
        Checkpoint {
            progress,
            weights,
            optimizer: Some(OptimizerState {
                m,
                v,
                parameters: None,
            }),
        }
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.start_from(&checkpoint.weights)?;
        let missing = |name: &str| CheckpointError::Missing(name.to_owned());
        let state = checkpoint.optimizer.as_ref();
        let OptimizerState { m, v, .. } = state.ok_or_else(|| missing("optimizer.m"))?;
        let learned = self.parts.iter().filter(|part| part.optimizer.is_some());
        let numel: usize = learned.map(|part| part.parameters.values().numel()).sum();
        for (name, values) in [("optimizer.m", m), ("optimizer.v", v)] {
            if values.len() != numel {
                return Err(missing(name));
            }
        }
        let mut first = 0;
        for (i, part) in self.parts.iter_mut().enumerate() {
            let values = part.parameters.values();
            let (len, device) = (values.numel(), values.device());
            if let Some(optimizer) = &mut part.optimizer {
                let [m, v] =
                    [m, v].map(|all| Tensor::from_slice(&all[first..first + len]).to(device));
                let steps = self.algorithm.steps(i, checkpoint.progress.update);
                optimizer.restore(&m, &v, steps);
                first += len;
            }
        }
        Ok(())
    }

    fn start_from(&mut self, weights: &Weights) -> Result<(), CheckpointError> {
        let mut parts = self.parts.iter_mut();
        parts.try_for_each(|part| part.load(weights))
    }
}

#[cfg(test)]
pub(super) mod tests;
