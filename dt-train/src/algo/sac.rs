//! Soft actor-critic in libtorch.
//!
//! Haarnoja et al., *Soft Actor-Critic Algorithms and Applications* (2018): twin critics with slowly following
//! targets, and a temperature α tuned so that the policy keeps a given entropy.
//!
//! It is laid out for speed on a CPU, where the matrices are so small that overhead dominates: both critics are one
//! batched network, each network's parameters are one [`Flat`] buffer, the actor's loss asks for no gradient of the
//! critics' weights, and nothing in an update waits for a value.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::collect::actor::{AgentSpec, LOG_STD};
use crate::collect::noise::Noise;
use crate::collect::online::{Counters, Experience, Online, count, fresh};
use crate::collect::replay_buffer::Batch;
use crate::nn::critics;
use crate::nn::flat::{Flat, Layout};
use crate::nn::gaussian::squashed;
use crate::nn::optim::{AdamW, AdamWConfig};
use crate::nn::parameters::layout;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Of all three Adams.
    pub learning_rate: f64,
    /// Transitions per update.
    pub batch_size: usize,
    /// Discount γ.
    pub discount: f64,
    /// Fraction τ of the way that the target critics follow the critics per update.
    pub tau: f64,
    /// Width of the hidden layers of actor and critics.
    pub hidden: usize,
    /// Steps of uniformly random actions before the first update.
    pub learning_starts: u64,
    /// Gradient steps per environment step after that, on average.
    #[serde(default = "one")]
    pub updates_per_step: f64,
}

/// What agents were trained with before it could be chosen.
fn one() -> f64 {
    1.0
}

impl Settings {
    /// The published settings (learning rate and start are the environment's, the rest is common).
    pub fn for_env(env: &str) -> Self {
        let (learning_rate, learning_starts) = if env == "pendulum" {
            (1e-3, 100)
        } else {
            (3e-4, 10_000)
        };
        Self {
            learning_rate,
            batch_size: 256,
            discount: 0.99,
            tau: 0.005,
            hidden: 256,
            learning_starts,
            updates_per_step: 1.0,
        }
    }
}

/// A learner, by one [`update`](Self::update) at a time.
#[derive(Debug)]
pub struct Sac {
    config: Settings,
    shape: AgentSpec,
    actor: Flat,
    critics: Flat,
    targets: Flat,
    /// ln α, a single value.
    log_alpha: Flat,
    actor_optimizer: AdamW,
    critic_optimizer: AdamW,
    alpha_optimizer: AdamW,
    noise: Noise,
}

impl Sac {
    /// A fresh learner, initialized as PyTorch's linear layers are: uniform within ±1/√inputs.
    pub fn new(config: Settings, shape: AgentSpec, seed: u64) -> Self {
        let mut noise = Noise::new(seed, *b"sac     ");
        let (state_dim, act_dim, hidden) = (shape.state_dim, shape.act_dim, config.hidden);
        let inputs = |first: usize| {
            move |name: &str| {
                if name.contains("hidden_1") {
                    first
                } else {
                    hidden
                }
            }
        };
        let actor = fresh(shape.layout(), &mut noise, inputs(state_dim));
        let critics = fresh(
            layout(&critics::parameters(
                "critics",
                2,
                [state_dim + act_dim, hidden, 2],
            )),
            &mut noise,
            inputs(state_dim + act_dim),
        );
        let mut scalar = Layout::new();
        scalar.push("log_alpha", &[1]);
        let log_alpha = Flat::new(scalar, Device::Cpu, |_, _| {});
        let adam = |parameters: &Flat| AdamW::new(parameters, AdamWConfig::default());
        Self {
            actor_optimizer: adam(&actor),
            critic_optimizer: adam(&critics),
            alpha_optimizer: adam(&log_alpha),
            targets: critics.duplicate(),
            config,
            shape,
            actor,
            critics,
            log_alpha,
            noise,
        }
    }

    /// One gradient step of critics, temperature and actor, then of the target critics.
    pub fn update(&mut self, batch: &Batch) {
        let Settings {
            learning_rate,
            discount,
            tau,
            ..
        } = self.config;
        let size = batch.rewards.size()[0];
        let alpha = self.log_alpha.values().detach().exp();

        // Critics: squared error to r + γ·(min Q'(s', a') − α·ln π(a'|s')), a' fresh from the present policy.
        let target = tch::no_grad(|| {
            let noise = self.normal(size);
            let (next_actions, next_log_prob) =
                sample(&self.actor.frozen(), &batch.next_states, &noise);
            let next = Tensor::cat(&[&batch.next_states, &next_actions], 1);
            let next_value = critics::smaller(&critics::values(&self.targets.frozen(), &next))
                - &alpha * next_log_prob;
            &batch.rewards + &batch.continues * discount * next_value
        });
        let values = critics::values(&self.critics.views(), &batch.state_actions);
        let critic_loss = (values - target).square().sum(Kind::Float) * (0.5 / size as f64);
        let critic_gradient = self.critics.gradient(&critic_loss);
        self.critic_optimizer
            .step(&mut self.critics, &critic_gradient, learning_rate);

        // Actor: α·ln π(a|s) − min Q(s, a), through the action only.
        let noise = self.normal(size);
        let (actions, log_prob) = sample(&self.actor.views(), &batch.states, &noise);
        let value = critics::smaller(&critics::values(
            &self.critics.frozen(),
            &Tensor::cat(&[&batch.states, &actions], 1),
        ));
        let actor_loss = (&alpha * &log_prob - value).mean(Kind::Float);
        let actor_gradient = self.actor.gradient(&actor_loss);
        self.actor_optimizer
            .step(&mut self.actor, &actor_gradient, learning_rate);

        // Temperature: −ln α · mean(ln π + target entropy), whose derivative needs no graph.
        let target_entropy = -(self.shape.act_dim as f64);
        let alpha_gradient = -(log_prob.detach().mean(Kind::Float) + target_entropy);
        self.alpha_optimizer
            .step(&mut self.log_alpha, &alpha_gradient, learning_rate);

        self.targets.approach(&self.critics, tau);
    }

    /// Gradient steps made.
    pub fn updates(&self) -> u64 {
        self.actor_optimizer.state().2
    }

    fn normal(&mut self, rows: i64) -> Tensor {
        let columns = self.shape.act_dim as i64;
        let values: Vec<f32> = (0..rows * columns).map(|_| self.noise.normal()).collect();
        Tensor::from_slice(&values).view([rows, columns])
    }
}

impl Online for Sac {
    fn explores(&self, step: u64) -> bool {
        step < self.config.learning_starts
    }

    fn learn(&mut self, experience: Experience<'_>) -> bool {
        let learned_from =
            (experience.replay.len() as u64).saturating_sub(self.config.learning_starts);
        let due = (learned_from as f64 * self.config.updates_per_step) as u64;
        let is_due = self.updates() < due;
        while self.updates() < due {
            let batch = experience
                .replay
                .sample(self.config.batch_size, experience.noise);
            self.update(&batch);
        }
        is_due
    }

    fn actor(&self) -> &Tensor {
        self.actor.values()
    }

    fn tensors(&self) -> Vec<(&'static str, Tensor)> {
        let optimizers = [
            ("actor.m", "actor.v", &self.actor_optimizer),
            ("critics.m", "critics.v", &self.critic_optimizer),
            ("log_alpha.m", "log_alpha.v", &self.alpha_optimizer),
        ];
        let mut tensors = vec![
            ("actor", self.actor.values().detach()),
            ("critics", self.critics.values().detach()),
            ("targets", self.targets.values().detach()),
            ("log_alpha", self.log_alpha.values().detach()),
        ];
        for (m, v, optimizer) in optimizers {
            let (first, second, _) = optimizer.state();
            tensors.extend([(m, first.shallow_clone()), (v, second.shallow_clone())]);
        }
        tensors
    }

    fn counters(&self) -> Counters {
        Counters {
            updates: self.updates(),
            noise: self.noise.position(),
        }
    }

    fn resume(&mut self, counters: Counters) {
        for optimizer in [
            &mut self.actor_optimizer,
            &mut self.critic_optimizer,
            &mut self.alpha_optimizer,
        ] {
            count(optimizer, counters.updates);
        }
        self.noise.resume(counters.noise);
    }
}

/// Squashed actions (B, act_dim) for `states` (B, state_dim) and standard normal `noise` (B, act_dim), with the
/// logarithm of their probability density, (B).
fn sample(parameters: &[Tensor], states: &Tensor, noise: &Tensor) -> (Tensor, Tensor) {
    let [w1, b1, w2, b2, w3, b3] = parameters else {
        unreachable!("the layout of `AgentSpec::layout`")
    };
    let h1 = states.linear(w1, Some(b1)).relu_();
    let h2 = h1.linear(w2, Some(b2)).relu_();
    let head = h2.linear(w3, Some(b3));
    let act_dim = noise.size()[1];
    let mean = head.narrow(1, 0, act_dim);
    let log_std = head
        .narrow(1, act_dim, act_dim)
        .clamp(f64::from(LOG_STD.0), f64::from(LOG_STD.1));
    squashed(&mean, &log_std, noise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::actor::{Actor, Scratch};
    use crate::collect::replay_buffer::Replay;

    fn actor(sac: &Sac) -> Actor {
        let mut actor = sac.shape.actor();
        sac.copy_actor(&mut actor);
        actor
    }

    fn small() -> (Settings, AgentSpec) {
        let shape = AgentSpec {
            env: "toy".into(),
            state_dim: 3,
            act_dim: 2,
            hidden: 32,
            action_low: vec![-1.0; 2],
            action_high: vec![1.0; 2],
            choices: None,
            image: None,
        };
        let config = Settings {
            hidden: 32,
            batch_size: 64,
            learning_rate: 3e-3,
            ..Settings::for_env("toy")
        };
        (config, shape)
    }

    fn read(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.detach().reshape([-1])).unwrap()
    }

    #[test]
    fn acting_and_learning_compute_the_same_policy() {
        let (config, shape) = small();
        let sac = Sac::new(config, shape.clone(), 5);
        let (actor, mut scratch) = (actor(&sac), Scratch::default());
        let state = [0.3, -1.2, 2.0];
        let mut noise = Noise::new(9, *b"the test");
        let drawn = [noise.normal(), noise.normal()];
        let tensor = |values: &[f32]| Tensor::from_slice(values).view([1, -1]);
        let (expected, _) = sample(&sac.actor.frozen(), &tensor(&state), &tensor(&drawn));
        let mut got = [0.0; 2];
        actor.act(
            &state,
            Some(&mut Noise::new(9, *b"the test")),
            &mut scratch,
            &mut got,
        );
        for (got, expected) in got.iter().zip(read(&expected)) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        let (expected, _) = sample(&sac.actor.frozen(), &tensor(&state), &tensor(&[0.0, 0.0]));
        actor.act(&state, None, &mut scratch, &mut got);
        assert!((got[1] - read(&expected)[1]).abs() < 1e-6);
    }

    /// The density of a squashed action integrates to 1.
    #[test]
    fn log_probabilities_are_those_of_a_density() {
        let shape = AgentSpec {
            act_dim: 1,
            ..small().1
        };
        let sac = Sac::new(small().0, shape, 2);
        let n = 4001;
        let noise = Tensor::linspace(-8.0, 8.0, n, (Kind::Float, Device::Cpu)).view([n, 1]);
        let states = Tensor::from_slice(&[0.3f32, -1.2, 2.0]).expand([n, 3], false);
        let (actions, log_prob) = sample(&sac.actor.frozen(), &states, &noise);
        let (actions, log_prob) = (read(&actions), read(&log_prob));
        let mass: f64 = (1..n as usize)
            .map(|i| {
                let density = |i: usize| f64::from(log_prob[i]).exp();
                f64::from(actions[i] - actions[i - 1]) * 0.5 * (density(i) + density(i - 1))
            })
            .sum();
        assert!((mass - 1.0).abs() < 2e-3, "{mass}");
    }

    /// A bandit whose best action depends on the state: a = (s₀, −0.5).
    #[test]
    fn it_learns_the_best_action_of_each_state() {
        // Matrices this small are not worth a second thread.
        tch::set_num_threads(1);
        let (config, shape) = small();
        let mut sac = Sac::new(config, shape.clone(), 1);
        let mut noise = Noise::new(4, *b"a bandit");
        let mut replay = Replay::new(2000, 3, 2);
        for _ in 0..2000 {
            let state = [noise.uniform(-0.6, 0.6), 0.0, 1.0];
            let action = [noise.uniform(-1.0, 1.0), noise.uniform(-1.0, 1.0)];
            let reward = -10.0 * ((action[0] - state[0]).powi(2) + (action[1] + 0.5).powi(2));
            replay.push(&state, &action, &state, reward, true);
        }
        for _ in 0..800 {
            sac.update(&replay.sample(64, &mut noise));
        }
        let (actor, mut scratch) = (actor(&sac), Scratch::default());
        for s in [-0.5, 0.0, 0.5] {
            let mut action = [0.0; 2];
            actor.act(&[s, 0.0, 1.0], None, &mut scratch, &mut action);
            assert!(
                (action[0] - s).abs() < 0.2 && (action[1] + 0.5).abs() < 0.2,
                "{s}: {action:?}"
            );
        }
    }
}
