//! Conservative Q-learning (Kumar et al. 2020): soft actor-critic on logged data, whose critics are held down where the data show
//! no action and up where they do. Where actions are choices, the network that says what each is worth is critic and actor in one.

use std::f64::consts::LN_2;

use dt_core::config::Actions;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::actor_critic::{ActorCritic, Common, Network, Part, Step, common_of, within};
use super::td3bc::critic_loss;
use super::{Dims, Mode, Refusal, Supervised};
use crate::collect::actor::LOG_STD;
use crate::data::transitions::Transition;
use crate::nn::critics::{self, smaller};
use crate::nn::gaussian::squashed;
use crate::nn::layers::Bound;
use crate::nn::mlp;
use crate::nn::parameters::{Init, Parameter, ParameterList, framework_init};

/// Conservative Q-learning, section `[cql]` of a recipe: the variant CQL(H) with importance sampling and a fixed weight.
///
/// Defaults are those of CORL (`algorithms/offline/cql.py`), from `young-geng/CQL`. Other than there, weights start as libtorch's
/// `Linear` does (there: orthogonal), the standard deviation has an offset but no learned factor, and 1e-6 (there 1e-3) is
/// added to the standard deviations that states are divided by.
///
/// Choices are learned by double Q-learning with the same conservative term, as the authors do in Atari (section 6 of the paper;
/// there on quantiles of returns), at `critic_learning_rate`; no actor is descended on, and `n_actions` says nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cql {
    /// Width of all hidden layers.
    pub d_model: u32,
    /// Hidden layers of actor and critics.
    pub n_layer: u32,
    /// Discount γ of rewards per step.
    pub discount: f64,
    /// Multiply rewards by 1000 / (return of the best episode − that of the worst).
    pub normalize_rewards: bool,
    /// Learning rate of the critics, constant; that of actor and temperature is `train.learning_rate`.
    pub critic_learning_rate: f64,
    /// Fraction τ of the way that the target critics follow the critics per update.
    pub tau: f64,
    /// α: weight of the conservative term.
    pub alpha: f64,
    /// Actions per state that it is estimated from, of each kind: uniform, of the actor, and of the actor in the next state.
    pub n_actions: u32,
}

impl Default for Cql {
    fn default() -> Self {
        Self {
            d_model: 256,
            n_layer: 3,
            discount: 0.99,
            normalize_rewards: false,
            critic_learning_rate: 3e-4,
            tau: 0.005,
            alpha: 10.0,
            n_actions: 10,
        }
    }
}

/// The layer of the actor's standard deviations, which no policy needs.
const LOG_STD_HEAD: &str = "log_std";

/// Of the logarithm of standard deviations.
const LOG_STD_OFFSET: f64 = -1.0;

impl ActorCritic for Cql {
    const NAME: &'static str = "cql";
    const TITLE: &'static str = "conservative Q-learning";
    const LEARNS_CHOICES: bool = true;

    fn common(&self) -> Common {
        common_of!(self)
    }

    /// Actor, critics, the logarithm of the temperature, target critics; of choices what they are worth, and its target.
    fn networks(&self, dims: Dims) -> Vec<Network> {
        let common = self.common();
        let mut actor = Supervised::parameters(&common.actor(dims.actions), dims);
        if dims.actions == Actions::Discrete {
            return vec![Network::Learned(actor), Network::Following(0)];
        }
        let mut spread = ParameterList::default();
        let shape = [dims.act_dim, self.d_model as usize].map(|n| n as i64);
        spread.linear(LOG_STD_HEAD, shape, framework_init(shape[1]));
        actor.append(&mut spread.into());
        let temperature = Parameter {
            name: "log_temperature".into(),
            shape: vec![1],
            init: Init::Zeros,
        };
        vec![
            Network::Learned(actor),
            Network::Learned(critics::parameters("critics", 2, common.critic(dims))),
            Network::Learned(vec![temperature]),
            Network::Following(1),
        ]
    }

    /// In the reference's order: what is judged is judged by the networks before the update.
    fn update(&self, networks: &mut [Part], batch: &Transition, step: &Step) {
        if let [worth, target] = networks {
            let loss = self.choice_loss(worth, target, batch, step.mode());
            worth.descend(&loss, step.critic_rate);
            return target.follow(worth, self.tau);
        }
        let noise = Noise::draw(&batch.actions, self.n_actions.into());
        let losses = self.losses(networks, batch, &noise, step.mode());
        let [actor, critics, temperature, targets] = networks else {
            unreachable!("as `networks` lists them")
        };
        temperature.descend(&losses.temperature, step.actor_rate);
        actor.descend(&losses.actor, step.actor_rate);
        critics.descend(&losses.critics, step.critic_rate);
        targets.follow(critics, self.tau);
    }

    fn check(&self) -> Result<(), Refusal> {
        within(Self::NAME, "tau", self.tau, [0.0, 1.0])?;
        within(Self::NAME, "alpha", self.alpha, [0.0, 1e6])?;
        within(Self::NAME, "n_actions", self.n_actions.into(), [1.0, 1e4])
    }
}

/// Random numbers of an update; standard normal but for those that say otherwise.
#[derive(Debug)]
struct Noise {
    /// Of the actor's action, (B, act_dim).
    actor: Tensor,
    /// Of its action in the next state, (B, act_dim).
    target: Tensor,
    /// Actions, uniform in −1…1, (n, B, act_dim).
    uniform: Tensor,
    /// Of its actions in the next state, (n, B, act_dim).
    next: Tensor,
    /// Of its actions in the present state, (n, B, act_dim).
    present: Tensor,
}

impl Noise {
    fn draw(like: &Tensor, n: i64) -> Self {
        let many = || like.unsqueeze(0).expand([n, -1, -1], false).randn_like();
        Self {
            actor: like.randn_like(),
            target: like.randn_like(),
            uniform: many().uniform_(-1.0, 1.0),
            next: many(),
            present: many(),
        }
    }
}

/// What is descended on.
struct Losses {
    actor: Tensor,
    critics: Tensor,
    temperature: Tensor,
}

/// Squashed Gaussians, (B, act_dim).
struct Distribution {
    mean: Tensor,
    log_std: Tensor,
}

impl Distribution {
    /// Actions and the logarithms of their densities.
    fn sample(&self, noise: &Tensor) -> (Tensor, Tensor) {
        squashed(&self.mean, &self.log_std, noise)
    }
}

impl Cql {
    fn losses(&self, networks: &[Part], batch: &Transition, noise: &Noise, mode: Mode) -> Losses {
        let [actor, critics, temperature, targets] = networks else {
            unreachable!("as `networks` lists them")
        };
        let act_dim = batch.actions.size()[1];
        let beside = |states: &Tensor, actions: &Tensor| Tensor::cat(&[states, actions], 1);

        // The actor: α·ln π(a|s) − min Q(s, a), through the action only.
        let distribution = self.distribution(&actor.trainable(), &batch.states, mode);
        let (actions, log_prob) = distribution.sample(&noise.actor);
        let state_actions = beside(&batch.states, &actions);
        let worth = smaller(&critics::values(&critics.frozen(), &state_actions));
        let alpha = temperature.frozen().remove(0).exp();
        let actor_loss = (alpha * &log_prob - worth).mean(Kind::Float);

        // Temperature: −ln α · mean(ln π + target entropy).
        let entropy = log_prob.detach().mean(Kind::Float) - act_dim as f64;
        let temperature_loss = -(temperature.views().remove(0).sum(Kind::Float) * entropy);

        // Critics: squared error to r + γ·min Q'(s', a'), and the gap.
        let (target, others, log_density) = tch::no_grad(|| {
            let network = actor.bound();
            let of = |states: &Tensor| self.distribution(&network, states, Mode::Acting);
            let [present, next] = [&batch.states, &batch.next_states].map(of);
            let (action, _) = next.sample(&noise.target);
            let state_actions = beside(&batch.next_states, &action);
            let worth = smaller(&critics::values(&targets.frozen(), &state_actions));
            let target = &batch.rewards + &batch.continues * self.discount * worth;
            let (next, next_density) = next.sample(&noise.next);
            let (present, present_density) = present.sample(&noise.present);
            let uniform_density = next_density.full_like(-LN_2 * act_dim as f64);
            (
                target,
                Tensor::cat(&[&noise.uniform, &next, &present], 0),
                Tensor::cat(&[uniform_density, next_density, present_density], 0),
            )
        });
        let views = critics.views();
        let gap = conservative_gap(&views, batch, &others, &log_density);
        Losses {
            actor: actor_loss,
            critics: critic_loss(&views, batch, &target) + gap * self.alpha,
            temperature: temperature_loss,
        }
    }

    /// Squared error to r + γ·Q'(s', argmax Q(s')), and the gap of equation 4 with nothing to sample: ln Σ e^Q(s, ·) − Q(s, a).
    fn choice_loss(&self, worth: &Part, target: &Part, batch: &Transition, mode: Mode) -> Tensor {
        let common = self.common();
        let expected = tch::no_grad(|| {
            let of = |part: &Part| common.logits(&part.bound(), &batch.next_states, Mode::Acting);
            let best = of(worth).argmax(1, true);
            let next = of(target).gather(1, &best, false).squeeze_dim(1);
            &batch.rewards + &batch.continues * self.discount * next
        });
        let values = common.logits(&worth.trainable(), &batch.states, mode);
        let soft_maximum = values.logsumexp([1i64].as_slice(), false);
        let known =
            (values * &batch.actions).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let error = (&known - expected).square();
        (error + (soft_maximum - known) * self.alpha).mean(Kind::Float)
    }

    fn distribution(&self, network: &Bound<'_>, states: &Tensor, mode: Mode) -> Distribution {
        let features = self.common().features(network, states, mode);
        let log_std = network.linear(LOG_STD_HEAD).forward(&features) + LOG_STD_OFFSET;
        Distribution {
            mean: network.linear(mlp::HEAD).forward(&features),
            log_std: log_std.clamp(f64::from(LOG_STD.0), f64::from(LOG_STD.1)),
        }
    }
}

/// ln Σ e^Q over the actions `others` (n, B, act_dim), whose densities have the logarithms `log_density` (n, B), less Q of the
/// data's action: its mean over the batch, summed over the critics (equation 4 of the paper, importance-sampled as in its
/// appendix F).
fn conservative_gap(
    critics: &[Tensor],
    batch: &Transition,
    others: &Tensor,
    log_density: &Tensor,
) -> Tensor {
    let (n, rows, _) = others.size3().expect("(n, B, act_dim)");
    let states = batch.states.unsqueeze(0).expand([n, -1, -1], false);
    let state_actions = Tensor::cat(&[&states, others], 2).view([n * rows, -1]);
    let values = critics::values(critics, &state_actions).view([-1, n, rows]) - log_density;
    let soft_maximum = values.logsumexp([1i64].as_slice(), false);
    let known = critics::values(critics, &batch.state_actions);
    (soft_maximum - known).sum(Kind::Float) / rows as f64
}

#[cfg(test)]
mod tests;
