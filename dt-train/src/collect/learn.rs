//! SAC in its environment: act, record, learn.

use host_sim::Env;
use indicatif::ProgressBar;

use super::actor::{Actor, Scratch, Shape};
use super::noise::Noise;
use super::progress_bar;
use super::replay::Replay;
use super::sac::{Config, Sac};
use crate::dataset::d4rl::Recording;

/// An agent that learns as it acts: one update per step after the first `learning_starts`.
pub struct Learner<'a> {
    pub(super) env: &'a mut dyn Env,
    pub(super) config: Config,
    pub(super) shape: Shape,
    pub(super) seed: u64,
    pub(super) sac: Sac,
    pub(super) actor: Actor,
    scratch: Scratch,
    pub(super) noise: Noise,
    pub(super) replay: Replay,
    /// Of each step in the buffer, whether it was the last one before a time limit.
    pub(super) timeouts: Vec<bool>,
    /// Seed of the next episode.
    pub(super) next_episode: u64,
    /// The agent at a moment that [`learn`]'s caller wanted to keep.
    pub(super) kept: Option<Actor>,
    steps: usize,
}

/// What to do after an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Learn,
    /// Go on, and keep the agent as it is now for [`Learner::into_parts`].
    Keep,
    /// End here.
    Stop,
}

/// Trains an agent for `steps` environment steps; returns the final agent and every step taken. The same seed gives
/// the same result on the same machine.
pub fn learn(env: &mut dyn Env, config: &Config, steps: usize, seed: u64) -> (Actor, Recording) {
    let mut learner = Learner::new(env, config, steps, seed);
    let Ok(()) = learner.learn(|_| Ok::<_, std::convert::Infallible>(Next::Learn));
    let (actor, _, recording) = learner.into_parts();
    (actor, recording)
}

impl<'a> Learner<'a> {
    /// A fresh agent that is to take `steps` steps.
    pub fn new(env: &'a mut dyn Env, config: &Config, steps: usize, seed: u64) -> Self {
        let shape = Shape::new(&env.spec(), config.hidden);
        let sac = Sac::new(config.clone(), shape.clone(), seed);
        let mut noise = Noise::new(seed, *b"learn   ");
        Self {
            actor: sac.actor(),
            scratch: Scratch::new(&shape),
            replay: Replay::new(steps, shape.state_dim, shape.act_dim),
            timeouts: Vec::new(),
            next_episode: noise.seed(),
            kept: None,
            config: config.clone(),
            env,
            shape,
            seed,
            sac,
            noise,
            steps,
        }
    }

    /// Steps taken.
    pub fn done(&self) -> usize {
        self.replay.len()
    }

    /// Steps to be taken.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The agent as it is now.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The agent that was kept.
    pub fn kept(&self) -> Option<&Actor> {
        self.kept.as_ref()
    }

    /// Episode after episode, until all steps are taken or `after_episode` says stop. The last one may be cut off.
    ///
    /// # Errors
    /// Those of `after_episode`.
    pub fn learn<E>(
        &mut self,
        mut after_episode: impl FnMut(&Self) -> Result<Next, E>,
    ) -> Result<(), E> {
        let bar = progress_bar(self.steps as u64, "{per_sec}");
        bar.inc(self.done() as u64);
        bar.reset_eta();
        let mut returns: Vec<f64> = Vec::new();
        while let Some(total) = self.episode(&bar) {
            returns.push(total);
            let recent = &returns[returns.len().saturating_sub(10)..];
            let mean = recent.iter().sum::<f64>() / recent.len() as f64;
            bar.set_message(format!("return {mean:.1} (last {} episodes)", recent.len()));
            match after_episode(self)? {
                Next::Learn => {}
                Next::Keep => self.kept = Some(self.actor.clone()),
                Next::Stop => break,
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// One episode and its return; none if the steps run out before its end.
    fn episode(&mut self, bar: &ProgressBar) -> Option<f64> {
        let mut observation = vec![0.0; self.shape.state_dim];
        let mut next_observation = observation.clone();
        let mut squashed = vec![0.0; self.shape.act_dim];
        let mut action = squashed.clone();
        let mut total = 0.0;
        self.env.reset(self.next_episode);
        self.env.observation(&mut observation);
        while self.done() < self.steps {
            let random = (self.done() as u64) < self.config.learning_starts;
            if random {
                squashed.fill_with(|| self.noise.uniform(-1.0, 1.0));
            } else {
                let noise = Some(&mut self.noise);
                self.actor
                    .squashed(&observation, noise, &mut self.scratch, &mut squashed);
            }
            for (i, action) in action.iter_mut().enumerate() {
                *action = self.shape.scale(squashed[i], i);
            }
            let outcome = self.env.step(&action);
            if self.env.fault().is_some() {
                // What follows means nothing; it must not reach the critics as NaN.
                next_observation.clone_from(&observation);
            } else {
                self.env.observation(&mut next_observation);
            }
            self.replay.push(
                &observation,
                &squashed,
                &next_observation,
                outcome.reward as f32,
                outcome.terminated,
            );
            // D4RL: an episode that falls on its very last step has fallen.
            self.timeouts.push(outcome.truncated && !outcome.terminated);
            total += outcome.reward;
            std::mem::swap(&mut observation, &mut next_observation);
            let ended = outcome.terminated || outcome.truncated;
            if ended {
                self.next_episode = self.noise.seed();
            }
            if self.done() as u64 > self.config.learning_starts {
                let batch = self.replay.sample(self.config.batch_size, &mut self.noise);
                self.sac.update(&batch);
                self.sac.copy_actor(&mut self.actor);
            }
            bar.inc(1);
            if ended {
                return Some(total);
            }
        }
        None
    }

    /// The final agent, the one that was kept, and every step taken.
    pub fn into_parts(self) -> (Actor, Option<Actor>, Recording) {
        let Shape {
            state_dim, act_dim, ..
        } = self.shape;
        let mut recording = Recording {
            timeouts: self.timeouts,
            ..Recording::default()
        };
        for row in self.replay.values().chunks_exact(self.replay.width()) {
            let (state, rest) = row.split_at(state_dim);
            let (squashed, rest) = rest.split_at(act_dim);
            let (next_state, rest) = rest.split_at(state_dim);
            recording.observations.extend(state);
            let scaled = squashed.iter().enumerate();
            let action = scaled.map(|(i, &squashed)| self.shape.scale(squashed, i));
            recording.actions.extend(action);
            recording.next_observations.extend(next_state);
            recording.rewards.push(rest[0]);
            recording.terminals.push(rest[1] == 0.0);
        }
        (self.actor, self.kept, recording)
    }
}
