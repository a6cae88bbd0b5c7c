//! TD3+BC (Fujimoto & Gu 2021, "A minimalist approach to offline reinforcement learning"): an actor that looks for what its
//! critic likes, held near the data's actions by their squared distance.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::actor_critic::{ActorCritic, Common, Network, Part, Step, common_of, within};
use super::{Dims, Mode, Refusal, Supervised};
use crate::data::transitions::Transition;
use crate::nn::critics::{self, smaller};

/// TD3+BC, section `[td3bc]` of a recipe. Defaults are those of the paper and of CORL (`algorithms/offline/td3_bc.py`); both add
/// 1e-3 to the standard deviations that states are divided by, this project 1e-6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Td3Bc {
    /// Width of all hidden layers.
    pub d_model: u32,
    /// Hidden layers of actor and critics.
    pub n_layer: u32,
    /// Discount γ of rewards per step.
    pub discount: f64,
    /// Multiply rewards by 1000 / (return of the best episode − that of the worst).
    pub normalize_rewards: bool,
    /// Learning rate of the critics, constant; the actor's is `train.learning_rate`.
    pub critic_learning_rate: f64,
    /// Fraction τ of the way that targets follow, every `policy_delay` updates.
    pub tau: f64,
    /// α: weight of the critic against the distance from the data.
    pub alpha: f64,
    /// Standard deviation of the noise on the target's actions.
    pub policy_noise: f64,
    /// Largest such noise.
    pub noise_clip: f64,
    /// The actor is updated every so many updates of the critics.
    pub policy_delay: u32,
}

impl Default for Td3Bc {
    fn default() -> Self {
        Self {
            d_model: 256,
            n_layer: 2,
            discount: 0.99,
            normalize_rewards: false,
            critic_learning_rate: 3e-4,
            tau: 0.005,
            alpha: 2.5,
            policy_noise: 0.2,
            noise_clip: 0.5,
            policy_delay: 2,
        }
    }
}

impl ActorCritic for Td3Bc {
    const NAME: &'static str = "td3bc";
    const TITLE: &'static str = "TD3+BC";

    fn common(&self) -> Common {
        common_of!(self)
    }

    /// Actor, critics, and the targets of both.
    fn networks(&self, dims: Dims) -> Vec<Network> {
        let common = self.common();
        let critics = critics::parameters("critics", 2, common.critic(dims));
        vec![
            Network::Learned(Supervised::parameters(&common.actor(dims.actions), dims)),
            Network::Learned(critics),
            Network::Following(0),
            Network::Following(1),
        ]
    }

    fn update(&self, networks: &mut [Part], batch: &Transition, step: &Step) {
        let [actor, critics, target_actor, targets] = networks else {
            unreachable!("as `networks` lists them")
        };
        let common = self.common();
        let target = tch::no_grad(|| {
            let noise = batch.actions.randn_like() * self.policy_noise;
            let noise = noise.clamp(-self.noise_clip, self.noise_clip);
            let next = common.act(&target_actor.bound(), &batch.next_states, Mode::Acting);
            let next = (next + noise).clamp(-1.0, 1.0);
            let next = Tensor::cat(&[&batch.next_states, &next], 1);
            let worth = smaller(&critics::values(&targets.frozen(), &next));
            &batch.rewards + &batch.continues * self.discount * worth
        });
        let loss = critic_loss(&critics.views(), batch, &target);
        critics.descend(&loss, step.critic_rate);
        if !(step.update + 1).is_multiple_of(self.policy_delay.into()) {
            return;
        }
        let actions = common.act(&actor.trainable(), &batch.states, step.mode());
        let loss = self.actor_loss(&critics.frozen(), &actions, batch);
        actor.descend(&loss, step.actor_rate);
        target_actor.follow(actor, self.tau);
        targets.follow(critics, self.tau);
    }

    fn steps(&self, i: usize, updates: u64) -> u64 {
        match i {
            0 => updates / u64::from(self.policy_delay),
            _ => updates,
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        within(Self::NAME, "tau", self.tau, [0.0, 1.0])?;
        within(Self::NAME, "alpha", self.alpha, [0.0, 1e6])?;
        within(Self::NAME, "policy_noise", self.policy_noise, [0.0, 2.0])?;
        within(Self::NAME, "noise_clip", self.noise_clip, [0.0, 2.0])?;
        let delay = self.policy_delay.into();
        within(Self::NAME, "policy_delay", delay, [1.0, 1e6])
    }
}

/// Squared error of both critics to what the actions turned out to be worth (B), summed over the critics.
pub(super) fn critic_loss(critics: &[Tensor], batch: &Transition, target: &Tensor) -> Tensor {
    let error = critics::values(critics, &batch.state_actions) - target;
    error.square().sum(Kind::Float) / target.numel() as f64
}

impl Td3Bc {
    /// −λ·Q(s, π(s)) + (π(s) − a)², with λ = α / mean |Q| (equations 5 and 8 of the paper), of the first critic.
    fn actor_loss(&self, critics: &[Tensor], actions: &Tensor, batch: &Transition) -> Tensor {
        let state_actions = Tensor::cat(&[&batch.states, actions], 1);
        let worth = critics::values(critics, &state_actions).get(0);
        let scale = worth.detach().abs().mean(Kind::Float).reciprocal() * self.alpha;
        let distance = (actions - &batch.actions).square().mean(Kind::Float);
        distance - scale * worth.mean(Kind::Float)
    }
}

#[cfg(test)]
mod tests;
