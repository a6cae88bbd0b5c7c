//! SAC in its environment: act, record, learn.

use host_sim::Env;
use host_sim::rollout::{Recorder, Transition};

use super::actor::{Actor, Scratch, Shape};
use super::noise::Noise;
use super::progress_bar;
use super::replay::Replay;
use super::sac::{Config, Sac};
use crate::dataset::d4rl::Recording;

/// Trains an agent for `steps` environment steps, one update each after the first `learning_starts`; returns the
/// final agent and every step taken. The same seed gives the same result on the same machine.
pub fn learn(env: &mut dyn Env, config: &Config, steps: usize, seed: u64) -> (Actor, Recording) {
    let shape = Shape::new(&env.spec(), config.hidden);
    let (state_dim, act_dim) = (shape.state_dim, shape.act_dim);
    let mut sac = Sac::new(config.clone(), shape.clone(), seed);
    let mut actor = sac.actor();
    let mut scratch = Scratch::new(&shape);
    let mut noise = Noise::new(seed, *b"learn   ");
    let mut replay = Replay::new(steps, state_dim, act_dim);
    let mut recording = Recording::default();
    let bar = progress_bar(steps as u64, "{per_sec}");

    let mut observation = vec![0.0; state_dim];
    let mut next_observation = vec![0.0; state_dim];
    let mut squashed = vec![0.0; act_dim];
    let mut action = vec![0.0; act_dim];
    let mut returns: Vec<f64> = Vec::new();
    let mut total = 0.0;
    env.reset(noise.seed());
    env.observation(&mut observation);
    for step in 0..steps {
        if (step as u64) < config.learning_starts {
            squashed.fill_with(|| noise.uniform(-1.0, 1.0));
        } else {
            actor.squashed(&observation, Some(&mut noise), &mut scratch, &mut squashed);
        }
        for (i, action) in action.iter_mut().enumerate() {
            *action = shape.scale(squashed[i], i);
        }
        let outcome = env.step(&action);
        env.observation(&mut next_observation);
        recording.record(&Transition {
            observation: &observation,
            action: &action,
            reward: outcome.reward,
            next_observation: &next_observation,
            terminated: outcome.terminated,
            truncated: outcome.truncated,
        });
        replay.push(
            &observation,
            &squashed,
            &next_observation,
            outcome.reward as f32,
            outcome.terminated,
        );
        total += outcome.reward;
        std::mem::swap(&mut observation, &mut next_observation);
        if outcome.terminated || outcome.truncated {
            returns.push(std::mem::take(&mut total));
            let recent = &returns[returns.len().saturating_sub(10)..];
            let mean = recent.iter().sum::<f64>() / recent.len() as f64;
            bar.set_message(format!("return {mean:.1} (last {} episodes)", recent.len()));
            env.reset(noise.seed());
            env.observation(&mut observation);
        }
        if (step as u64) + 1 > config.learning_starts {
            let batch = replay.sample(config.batch_size, &mut noise);
            sac.update(&batch);
            sac.copy_actor(&mut actor);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    (actor, recording)
}
