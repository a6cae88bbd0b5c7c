//! Proximal policy optimization in libtorch, for actions that are choices.
//!
//! Schulman et al., *Proximal Policy Optimization Algorithms* (2017): a policy takes `horizon` steps in each of its
//! environments, then several epochs of gradient steps on these alone, whose ratio to the policy that took them is
//! clipped; advantages as in Schulman et al., *High-Dimensional Continuous Control Using Generalized Advantage
//! Estimation* (2016). Actor and critic share nothing but the batch.
//!
//! Nothing is kept from acting: since the policy stands still for a horizon, its values and log-probabilities are
//! computed again where they are needed, and a collection that was stopped goes on from its steps alone.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::collect::actor::AgentSpec;
use crate::collect::noise::Noise;
use crate::collect::online::{Counters, Experience, Online, count, fresh};
use crate::collect::replay_buffer::Batch;
use crate::nn::flat::{Flat, Layout};
use crate::nn::optim::{AdamW, AdamWConfig, clip_norm};

/// Hyper-parameters. Learning rate and clipping range fall linearly to 0 over a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Of both Adams, at the beginning.
    pub learning_rate: f64,
    /// Steps per update.
    pub batch_size: usize,
    /// Discount γ.
    pub discount: f64,
    /// λ of the advantages: 0 trusts the critic, 1 the returns.
    pub lambda: f64,
    /// How far a probability may move from that of the policy that acted, at the beginning.
    pub clip: f64,
    /// Steps of each environment between two rounds of updates.
    pub horizon: usize,
    /// Passes over these steps.
    pub epochs: usize,
    /// Width of the hidden layers of actor and critic.
    pub hidden: usize,
    /// Weight of the policy's mean entropy in its objective: keeps it from settling early.
    #[serde(default)]
    pub entropy: f64,
}

impl Default for Settings {
    /// RL Baselines3 Zoo's for CartPole.
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            batch_size: 256,
            discount: 0.98,
            lambda: 0.8,
            clip: 0.2,
            horizon: 32,
            epochs: 20,
            hidden: 64,
            entropy: 0.0,
        }
    }
}

impl Settings {
    /// RL Baselines3 Zoo's for Atari, where actions pay off later than CartPole's; clipping range, learning rate and layers are
    /// those of perceptrons.
    pub fn of_images() -> Self {
        Self {
            discount: 0.99,
            lambda: 0.95,
            horizon: 128,
            epochs: 4,
            hidden: 128,
            entropy: 0.01,
            ..Self::default()
        }
    }
}

/// Largest norm of a gradient.
const GRADIENT_NORM: f64 = 0.5;

/// A learner.
#[derive(Debug)]
pub struct Ppo {
    config: Settings,
    actor: Flat,
    critic: Flat,
    actor_optimizer: AdamW,
    critic_optimizer: AdamW,
    /// Order of the steps within an epoch.
    noise: Noise,
}

/// Steps of a horizon with what is learned from them, N of them.
struct Lesson {
    /// (N, state_dim)
    states: Tensor,
    /// (N, 1), i64
    choices: Tensor,
    /// Of the choice, by the policy that made it, (N).
    log_prob: Tensor,
    /// (N)
    advantages: Tensor,
    /// What the critic should have said, (N).
    returns: Tensor,
}

impl Ppo {
    /// A fresh learner.
    ///
    /// # Panics
    /// If the agent's actions are no choices.
    pub fn new(config: Settings, shape: &AgentSpec, seed: u64) -> Self {
        assert!(shape.choices.is_some(), "choices");
        let mut noise = Noise::new(seed, *b"ppo     ");
        let inputs = |name: &str| {
            if name.contains("hidden_1") {
                shape.state_dim
            } else {
                config.hidden
            }
        };
        let actor = fresh(shape.layout(), &mut noise, inputs);
        let critic = fresh(
            critic_layout(shape.state_dim, config.hidden),
            &mut noise,
            inputs,
        );
        let adam = |parameters: &Flat| AdamW::new(parameters, AdamWConfig::default());
        Self {
            actor_optimizer: adam(&actor),
            critic_optimizer: adam(&critic),
            config,
            actor,
            critic,
            noise,
        }
    }

    /// What the last steps teach. `ends` says which of them were the last of their episode; the steps are those of
    /// `envs` environments in turn.
    fn lesson(&self, batch: Batch, ends: &[bool], envs: usize) -> Lesson {
        tch::no_grad(|| {
            let critic = self.critic.frozen();
            let [values, next_values, rewards, continues] = [
                &forward(&critic, &batch.states).squeeze_dim(1),
                &forward(&critic, &batch.next_states).squeeze_dim(1),
                &batch.rewards,
                &batch.continues,
            ]
            .map(|tensor| Vec::<f32>::try_from(tensor.contiguous()).expect("one number per step"));
            let Settings {
                discount, lambda, ..
            } = self.config;
            let mut advantages = vec![0.0f32; ends.len()];
            for row in (0..ends.len()).rev() {
                // A time limit ends the episode, not the task: what would have come is worth what the critic says.
                let surprise = f64::from(rewards[row])
                    + discount * f64::from(continues[row] * next_values[row])
                    - f64::from(values[row]);
                let later = match advantages.get(row + envs) {
                    Some(&later) if !ends[row] => f64::from(later),
                    _ => 0.0,
                };
                advantages[row] = (surprise + discount * lambda * later) as f32;
            }
            let advantages = Tensor::from_slice(&advantages);
            let choices = batch.actions.to_kind(Kind::Int64);
            Lesson {
                log_prob: of_choices(&log_probs(&self.actor.frozen(), &batch.states), &choices),
                returns: &advantages + Tensor::from_slice(&values),
                states: batch.states,
                choices,
                advantages,
            }
        })
    }

    /// One gradient step of actor and critic; `left` is the fraction of the collection that is still to come.
    fn update(&mut self, lesson: &Lesson, left: f64) {
        let learning_rate = self.config.learning_rate * left;
        let clip = self.config.clip * left;

        // Deviations over n − 1 would be NaN for a single step.
        let advantages = &lesson.advantages - lesson.advantages.mean(Kind::Float);
        let advantages = &advantages / (advantages.square().mean(Kind::Float).sqrt() + 1e-8);
        let log_probs = log_probs(&self.actor.views(), &lesson.states);
        let log_prob = of_choices(&log_probs, &lesson.choices);
        let ratio = (log_prob - &lesson.log_prob).exp();
        let clipped = ratio.clamp(1.0 - clip, 1.0 + clip);
        let gain = (&ratio * &advantages).minimum(&(clipped * &advantages));
        let mut loss = -gain.mean(Kind::Float);
        if self.config.entropy > 0.0 {
            let negative = (log_probs.exp() * &log_probs).sum_dim_intlist(-1, false, Kind::Float);
            loss += negative.mean(Kind::Float) * self.config.entropy;
        }
        let mut gradient = self.actor.gradient(&loss);
        let _ = clip_norm(&mut gradient, GRADIENT_NORM);
        self.actor_optimizer
            .step(&mut self.actor, &gradient, learning_rate);

        let values = forward(&self.critic.views(), &lesson.states).squeeze_dim(1);
        let loss = (values - &lesson.returns).square().mean(Kind::Float);
        let mut gradient = self.critic.gradient(&loss);
        let _ = clip_norm(&mut gradient, GRADIENT_NORM);
        self.critic_optimizer
            .step(&mut self.critic, &gradient, learning_rate);
    }
}

impl Online for Ppo {
    fn learn(&mut self, experience: Experience<'_>) -> bool {
        let Experience {
            replay,
            ends,
            envs,
            steps,
            ..
        } = experience;
        let len = self.config.horizon * envs;
        let done = replay.len();
        if done == 0 || !done.is_multiple_of(len) {
            return false;
        }
        let left = 1.0 - (done - len) as f64 / steps as f64;
        let lesson = self.lesson(replay.last(len), &ends[done - len..], envs);
        for _ in 0..self.config.epochs {
            let order = Tensor::from_slice(&self.noise.order(len));
            for rows in order.split(self.config.batch_size as i64, 0) {
                self.update(&lesson.rows(&rows), left);
            }
        }
        true
    }

    fn actor(&self) -> &Tensor {
        self.actor.values()
    }

    fn tensors(&self) -> Vec<(&'static str, Tensor)> {
        let mut tensors = vec![
            ("actor", self.actor.values().detach()),
            ("critic", self.critic.values().detach()),
        ];
        for (m, v, optimizer) in [
            ("actor.m", "actor.v", &self.actor_optimizer),
            ("critic.m", "critic.v", &self.critic_optimizer),
        ] {
            let (first, second, _) = optimizer.state();
            tensors.extend([(m, first.shallow_clone()), (v, second.shallow_clone())]);
        }
        tensors
    }

    fn counters(&self) -> Counters {
        Counters {
            updates: self.actor_optimizer.state().2,
            noise: self.noise.position(),
        }
    }

    fn resume(&mut self, counters: Counters) {
        count(&mut self.actor_optimizer, counters.updates);
        count(&mut self.critic_optimizer, counters.updates);
        self.noise.resume(counters.noise);
    }
}

impl Lesson {
    /// Some of the steps.
    fn rows(&self, rows: &Tensor) -> Self {
        let of = |tensor: &Tensor| tensor.index_select(0, rows);
        Self {
            states: of(&self.states),
            choices: of(&self.choices),
            log_prob: of(&self.log_prob),
            advantages: of(&self.advantages),
            returns: of(&self.returns),
        }
    }
}

/// The critic: as the actor, with one output.
fn critic_layout(state_dim: usize, hidden: usize) -> Layout {
    let [inputs, hidden] = [state_dim, hidden].map(|dim| dim as i64);
    let mut layout = Layout::new();
    for (name, rows, columns) in [
        ("hidden_1", hidden, inputs),
        ("hidden_2", hidden, hidden),
        ("head", 1, hidden),
    ] {
        layout.push(format!("critic.{name}.weight"), &[rows, columns]);
        layout.push(format!("critic.{name}.bias"), &[rows]);
    }
    layout
}

/// The network's output for `states` (B, state_dim): logits (B, n) of the actor, values (B, 1) of the critic.
fn forward(parameters: &[Tensor], states: &Tensor) -> Tensor {
    let [w1, b1, w2, b2, w3, b3] = parameters else {
        unreachable!("two hidden layers and a head")
    };
    let h1 = states.linear(w1, Some(b1)).relu();
    let h2 = h1.linear(w2, Some(b2)).relu();
    h2.linear(w3, Some(b3))
}

/// Logarithms of the probabilities of all choices in `states` (B, state_dim): (B, n).
fn log_probs(actor: &[Tensor], states: &Tensor) -> Tensor {
    forward(actor, states).log_softmax(-1, Kind::Float)
}

/// Those of `choices` (B, 1): (B).
fn of_choices(log_probs: &Tensor, choices: &Tensor) -> Tensor {
    log_probs.gather(1, choices, false).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::actor::Scratch;
    use crate::collect::replay_buffer::Replay;

    fn shape(n: usize, hidden: usize) -> AgentSpec {
        AgentSpec {
            env: "toy".into(),
            state_dim: 2,
            act_dim: 1,
            hidden,
            action_low: vec![0.0],
            action_high: vec![n as f32 - 1.0],
            choices: Some(n),
            image: None,
        }
    }

    fn read(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.detach().reshape([-1])).unwrap()
    }

    fn batch(replay: &Replay, ends: &[bool]) -> Batch {
        replay.last(ends.len())
    }

    /// Two environments in turn; one falls, the other one's time is up: by the definition, Â_t = Σ (γλ)^k δ_{t+k}.
    #[test]
    fn advantages_are_sums_of_surprises_within_an_episode() {
        let ppo = Ppo::new(Settings::default(), &shape(3, 64), 1);
        let mut replay = Replay::new(8, 2, 1);
        let mut ends = Vec::new();
        // Of each step: state, next state, reward, whether it fell, whether it ended.
        for t in 0..4 {
            for env in 0..2 {
                let (x, fell) = (t as f32 + 0.3 * env as f32, env == 0 && t == 1);
                let ended = fell || (env == 1 && t == 2);
                replay.push(&[x, -x], &[1.0], &[x + 1.0, 0.1], 0.5 * x, fell);
                ends.push(ended);
            }
        }
        let lesson = ppo.lesson(batch(&replay, &ends), &ends, 2);
        let value = |state: [f32; 2]| {
            let states = Tensor::from_slice(&state).view([1, 2]);
            read(&forward(&ppo.critic.frozen(), &states))[0]
        };
        let surprise = |t: usize, env: usize| {
            let x = t as f32 + 0.3 * env as f32;
            let fell = env == 0 && t == 1;
            let next = if fell { 0.0 } else { value([x + 1.0, 0.1]) };
            0.5 * x + 0.98 * next - value([x, -x])
        };
        let rate = 0.98 * 0.8;
        let (advantages, returns) = (read(&lesson.advantages), read(&lesson.returns));
        for (t, env, expected) in [
            (0, 0, surprise(0, 0) + rate * surprise(1, 0)),
            (1, 0, surprise(1, 0)),
            (2, 0, surprise(2, 0) + rate * surprise(3, 0)),
            (1, 1, surprise(1, 1) + rate * surprise(2, 1)),
            (2, 1, surprise(2, 1)),
            (3, 1, surprise(3, 1)),
        ] {
            let got = advantages[2 * t + env];
            assert!((got - expected).abs() < 1e-5, "{t} {env}: {got} {expected}");
            let x = t as f32 + 0.3 * env as f32;
            assert!((returns[2 * t + env] - got - value([x, -x])).abs() < 1e-5);
        }
    }

    #[test]
    fn acting_and_learning_compute_the_same_policy() {
        let shape = shape(3, 16);
        let ppo = Ppo::new(
            Settings {
                hidden: 16,
                ..Settings::default()
            },
            &shape,
            5,
        );
        let mut actor = shape.actor();
        ppo.copy_actor(&mut actor);
        let states = [0.3f32, -1.2];
        let tensor = Tensor::from_slice(&states).view([1, 2]);
        let probabilities = read(&forward(&ppo.actor.frozen(), &tensor).softmax(-1, Kind::Float));
        let (mut noise, mut scratch) = (Noise::new(2, *b"sampling"), Scratch::default());
        let mut counts = [0.0; 3];
        for _ in 0..20_000 {
            let mut choice = [0.0];
            actor.act(&states, Some(&mut noise), &mut scratch, &mut choice);
            counts[choice[0] as usize] += 1.0 / 20_000.0;
        }
        for (count, probability) in counts.iter().zip(&probabilities) {
            // Five standard errors.
            assert!((count - probability).abs() < 0.018, "{counts:?}");
        }
        let mut mode = [9.0];
        actor.act(&states, None, &mut scratch, &mut mode);
        let best = probabilities
            .iter()
            .copied()
            .max_by(f32::total_cmp)
            .unwrap();
        assert_eq!(probabilities[mode[0] as usize], best);
        for choice in 0..3 {
            let log = of_choices(
                &log_probs(&ppo.actor.frozen(), &tensor),
                &Tensor::from_slice(&[choice]).view([1, 1]),
            );
            assert!((read(&log)[0].exp() - probabilities[choice as usize]).abs() < 1e-6);
        }
    }

    /// Of a single step there is nothing to prefer, so that entropy is all there is to gain.
    #[test]
    fn entropy_opens_a_policy_as_far_as_it_is_asked_to() {
        let states = Tensor::from_slice(&[30.0f32, -20.0]).view([1, 2]);
        let entropy_after = |entropy, updates| {
            let config = Settings {
                entropy,
                ..Settings::default()
            };
            let mut ppo = Ppo::new(config, &shape(3, 64), 1);
            let mut replay = Replay::new(1, 2, 1);
            replay.push(&[30.0, -20.0], &[1.0], &[0.0, 0.0], 1.0, true);
            let lesson = ppo.lesson(replay.last(1), &[true], 1);
            (0..updates).for_each(|_| ppo.update(&lesson, 1.0));
            let logs = read(&log_probs(&ppo.actor.frozen(), &states));
            -logs.iter().map(|log| log.exp() * log).sum::<f32>()
        };
        let uniform = 3_f32.ln();
        let before = entropy_after(0.0, 0);
        assert!(before < uniform - 1e-3, "{before}");
        assert_eq!(entropy_after(0.0, 20), before);
        let after = entropy_after(0.1, 200);
        assert!(
            uniform - after < 0.1 * (uniform - before),
            "{before} {after}"
        );
    }

    /// A bandit whose best choice depends on the state; each step is an episode.
    #[test]
    fn it_learns_the_best_choice_of_each_state() {
        tch::set_num_threads(1);
        let shape = shape(3, 32);
        let config = Settings {
            hidden: 32,
            horizon: 64,
            batch_size: 64,
            epochs: 4,
            learning_rate: 3e-3,
            ..Settings::default()
        };
        let mut ppo = Ppo::new(config, &shape, 1);
        let (mut noise, mut scratch) = (Noise::new(4, *b"a bandit"), Scratch::default());
        let (mut actor, mut ends) = (shape.actor(), Vec::new());
        let best = |x: f32| match x {
            ..-0.3 => 2.0,
            ..0.3 => 0.0,
            _ => 1.0,
        };
        let (steps, mut replay) = (64 * 100, Replay::new(64 * 100, 2, 1));
        for _ in 0..steps {
            ppo.copy_actor(&mut actor);
            let state = [noise.uniform(-1.0, 1.0), 1.0];
            let mut choice = [0.0];
            actor.act(&state, Some(&mut noise), &mut scratch, &mut choice);
            let reward = f32::from(u8::from(choice[0] == best(state[0])));
            replay.push(&state, &choice, &state, reward, true);
            ends.push(true);
            ppo.learn(Experience {
                replay: &replay,
                ends: &ends,
                envs: 1,
                steps,
                noise: &mut noise,
            });
        }
        ppo.copy_actor(&mut actor);
        for x in [-0.9, -0.5, -0.1, 0.1, 0.5, 0.9] {
            let mut choice = [0.0];
            actor.act(&[x, 1.0], None, &mut scratch, &mut choice);
            assert_eq!(choice[0], best(x), "{x}");
        }
    }
}
