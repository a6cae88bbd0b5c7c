//! Advantage-weighted regression (Peng et al. 2019): behaviour cloning in which an action counts for more the more was earned
//! after it than usual.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::actor_critic::{ActorCritic, Common, Network, Part, Step, common_of, within};
use super::{Dims, Refusal, Supervised};
use crate::data::transitions::Transition;
use crate::nn::critics;

/// Advantage-weighted regression, section `[awr]` of a recipe, on data that do not grow: algorithm 1 of the paper.
///
/// Discount, temperature and largest weight are those of the authors' code (`xbpeng/awr`), and advantages are normalized as there,
/// though over a batch, not all data. Other than there, returns are what was earned (λ = 1 instead of TD(0.95)), with the
/// value of the state that an episode was cut off in; optimizers are Adam, and the networks those of the other rivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Awr {
    /// Width of all hidden layers.
    pub d_model: u32,
    /// Hidden layers of actor and value.
    pub n_layer: u32,
    /// Discount γ of rewards per step.
    pub discount: f64,
    /// Multiply rewards by 1000 / (return of the best episode − that of the worst).
    pub normalize_rewards: bool,
    /// Learning rate of the value, constant; the actor's is `train.learning_rate`.
    pub critic_learning_rate: f64,
    /// Divisor of advantages, in standard deviations of them: below 1 the best actions count for more.
    pub temperature: f64,
    /// The largest weight of an action.
    pub weight_clip: f64,
}

impl Default for Awr {
    fn default() -> Self {
        Self {
            d_model: 256,
            n_layer: 2,
            discount: 0.99,
            normalize_rewards: true,
            critic_learning_rate: 3e-4,
            temperature: 1.0,
            weight_clip: 20.0,
        }
    }
}

impl ActorCritic for Awr {
    const NAME: &'static str = "awr";
    const TITLE: &'static str = "advantage-weighted regression";

    fn common(&self) -> Common {
        common_of!(self)
    }

    /// Actor and value.
    fn networks(&self, dims: Dims) -> Vec<Network> {
        let common = self.common();
        vec![
            Network::Learned(Supervised::parameters(&common.actor(dims.actions), dims)),
            Network::Learned(critics::parameters("value", 1, common.value(dims))),
        ]
    }

    fn update(&self, networks: &mut [Part], batch: &Transition, step: &Step) {
        let [actor, value] = networks else {
            unreachable!("as `networks` lists them")
        };
        let earned = tch::no_grad(|| {
            let rest = critics::values(&value.frozen(), &batch.ends).get(0);
            &batch.returns + &batch.end_weights * rest
        });
        let usual = critics::values(&value.views(), &batch.states).get(0);
        let advantage = earned - usual;
        value.descend(&advantage.square().mean(Kind::Float), step.critic_rate);
        let actions = (self.common()).act(&actor.trainable(), &batch.states, step.mode());
        let loss = self.actor_loss(&actions, &advantage.detach(), batch);
        actor.descend(&loss, step.actor_rate);
    }

    fn check(&self) -> Result<(), Refusal> {
        within(Self::NAME, "temperature", self.temperature, [1e-6, 1e6])?;
        within(Self::NAME, "weight_clip", self.weight_clip, [1e-6, 1e6])
    }
}

impl Awr {
    /// Squared distance of the actor's `actions` (B, act_dim) from the data's, which is the likelihood's logarithm for the fixed
    /// standard deviation that the authors use but for a factor, weighted by e^(normalized advantage / temperature).
    fn actor_loss(&self, actions: &Tensor, advantage: &Tensor, batch: &Transition) -> Tensor {
        let centred = advantage - advantage.mean(Kind::Float);
        let deviation = centred.square().mean(Kind::Float).sqrt() + 1e-5;
        let weight = (centred / deviation / self.temperature)
            .exp()
            .clamp_max(self.weight_clip);
        let distance = (actions - &batch.actions).square();
        (distance * weight.unsqueeze(1)).mean(Kind::Float)
    }
}

#[cfg(test)]
mod tests;
