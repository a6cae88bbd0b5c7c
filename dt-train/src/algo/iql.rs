//! Implicit Q-learning (Kostrikov et al. 2021, "Offline reinforcement learning with implicit Q-learning"): a value that is an
//! upper expectile of what the data's actions are worth, and an actor that imitates those that are better than it says. No
//! action that the data do not hold is ever judged.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::actor_critic::{ActorCritic, Common, Network, Part, Step, common_of, within};
use super::td3bc::critic_loss;
use super::{Dims, Refusal, Supervised};
use crate::collect::actor::LOG_STD;
use crate::data::transitions::Transition;
use crate::nn::critics::{self, smaller};
use crate::nn::gaussian::log_density;
use crate::nn::parameters::{Init, Parameter};

/// Implicit Q-learning, section `[iql]` of a recipe. Defaults are those of the paper and of CORL (`algorithms/offline/iql.py`)
/// for locomotion; both add 1e-3 to the standard deviations that states are divided by, this project 1e-6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Iql {
    /// Width of all hidden layers.
    pub d_model: u32,
    /// Hidden layers of actor, critics and value.
    pub n_layer: u32,
    /// Discount γ of rewards per step.
    pub discount: f64,
    /// Multiply rewards by 1000 / (return of the best episode − that of the worst), as the paper does for locomotion.
    pub normalize_rewards: bool,
    /// Learning rate of critics and value, constant; the actor's is `train.learning_rate`.
    pub critic_learning_rate: f64,
    /// Fraction of the way that the target critics follow the critics per update.
    pub tau: f64,
    /// The expectile τ of the value: 0.5 is the mean, 1 would be the best.
    pub expectile: f64,
    /// β: how much better actions count for more.
    pub beta: f64,
}

impl Default for Iql {
    fn default() -> Self {
        Self {
            d_model: 256,
            n_layer: 2,
            discount: 0.99,
            normalize_rewards: true,
            critic_learning_rate: 3e-4,
            tau: 0.005,
            expectile: 0.7,
            beta: 3.0,
        }
    }
}

/// The largest weight of an action.
const MOST: f64 = 100.0;

/// Name of the logarithm of the actor's standard deviations, which no policy needs.
const LOG_STD_NAME: &str = "log_std";

impl ActorCritic for Iql {
    const NAME: &'static str = "iql";
    const TITLE: &'static str = "implicit Q-learning";

    fn common(&self) -> Common {
        common_of!(self)
    }

    /// Actor, critics, value, target critics.
    fn networks(&self, dims: Dims) -> Vec<Network> {
        let common = self.common();
        let mut actor = Supervised::parameters(&common.actor(dims.actions), dims);
        actor.push(Parameter {
            name: LOG_STD_NAME.into(),
            shape: vec![dims.act_dim as i64],
            init: Init::Zeros,
        });
        vec![
            Network::Learned(actor),
            Network::Learned(critics::parameters("critics", 2, common.critic(dims))),
            Network::Learned(critics::parameters("value", 1, common.value(dims))),
            Network::Following(1),
        ]
    }

    fn update(&self, networks: &mut [Part], batch: &Transition, step: &Step) {
        let [actor, critics, value, targets] = networks else {
            unreachable!("as `networks` lists them")
        };
        let (worth, target) = tch::no_grad(|| {
            let next = critics::values(&value.frozen(), &batch.next_states).get(0);
            (
                smaller(&critics::values(&targets.frozen(), &batch.state_actions)),
                &batch.rewards + &batch.continues * self.discount * next,
            )
        });
        let usual = critics::values(&value.views(), &batch.states).get(0);
        let advantage = worth - usual;
        value.descend(
            &expectile_loss(&advantage, self.expectile),
            step.critic_rate,
        );
        // The mean over the critics, as the reference has it.
        let loss = critic_loss(&critics.views(), batch, &target) * 0.5;
        critics.descend(&loss, step.critic_rate);
        targets.follow(critics, self.tau);
        let network = actor.trainable();
        let mean = (self.common()).act(&network, &batch.states, step.mode());
        let log_std = network.tensor(LOG_STD_NAME);
        drop(network);
        let loss = self.actor_loss(&mean, &log_std, &advantage.detach(), batch);
        actor.descend(&loss, step.actor_rate);
    }

    fn check(&self) -> Result<(), Refusal> {
        within(Self::NAME, "tau", self.tau, [0.0, 1.0])?;
        within(Self::NAME, "expectile", self.expectile, [0.0, 1.0])?;
        within(Self::NAME, "beta", self.beta, [0.0, 1e6])
    }
}

/// |τ − 1(u < 0)|·u² of `error` u, its mean (equation 5 of the paper): asymmetric least squares, whose minimum is the
/// expectile τ.
pub fn expectile_loss(error: &Tensor, expectile: f64) -> Tensor {
    let below = error.lt(0.0).to_kind(Kind::Float);
    let weight = (below - expectile).abs();
    (weight * error.square()).mean(Kind::Float)
}

impl Iql {
    /// −e^(β·advantage)·ln π(a|s), its mean, with advantages (B) as constants and at most [`MOST`] for a weight (equation 7).
    fn actor_loss(
        &self,
        mean: &Tensor,
        log_std: &Tensor,
        advantage: &Tensor,
        batch: &Transition,
    ) -> Tensor {
        let weight = (advantage * self.beta).exp().clamp_max(MOST);
        let log_std = log_std.clamp(f64::from(LOG_STD.0), f64::from(LOG_STD.1));
        -(weight * log_density(mean, &log_std, &batch.actions)).mean(Kind::Float)
    }
}

#[cfg(test)]
mod tests;
