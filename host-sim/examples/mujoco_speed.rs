//! Times control steps of a MuJoCo environment. `benches/mujoco_speed.py` runs this, in turns with Gymnasium.
//!
//! Usage: `mujoco_speed ENV STEPS bare|env|rollout|policy [THREADS]`; prints control steps, and how many per second.
//!
//! - `bare`: the same number of `mj_step`s on the same model, with random controls, and nothing else.
//! - `env`: [`Env::step`] and [`Env::observation`], with the same controls.
//! - `rollout`: whole episodes of random actions, through the rollout loop, on THREADS threads.
//! - `policy`: the same with an int8 policy in the loop, of the paper's size and with random weights.
//!
//! The first two start anew every 100 control steps, fallen or not, so that their physics is the same.

use std::convert::Infallible;
use std::fmt::{Debug, Display};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use dt_core::blob::RewardMode;
use dt_core::config::Config;
use host_sim::env::{Env, EnvSpec};
use host_sim::mujoco::{self, MujocoEnv};
use host_sim::policy_file::PolicyFile;
use host_sim::random::Random;
use host_sim::rollout::{Controller, Plan, rollout};
use mujoco_rs::prelude::MjData;

#[path = "../tests/common/mod.rs"]
mod common;

const EPISODE: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: mujoco_speed ENV STEPS bare|env|rollout|policy [THREADS]";
    let [name, steps, mode, threads @ ..] = arguments.as_slice() else {
        panic!("{usage}");
    };
    let steps: usize = steps.parse().expect(usage);
    let task = Arc::new(mujoco::load(name, None).expect("a MuJoCo environment"));
    let mut env = MujocoEnv::new(task);
    let act_dim = env.spec().act_dim();
    let mut random = Random::new(0);
    let mut action = || -> Vec<f32> { (0..act_dim).map(|_| random.uniform(1.0) as f32).collect() };
    let actions: Vec<Vec<f32>> = (0..steps.min(10_000)).map(|_| action()).collect();
    let actions = actions.iter().cycle().take(steps);

    let start = Instant::now();
    let steps = match mode.as_str() {
        "bare" => bare(&env, actions),
        "env" => steps_of(&mut env, actions),
        "rollout" | "policy" => {
            let [threads] = threads else {
                panic!("{usage}")
            };
            let threads = threads.parse().expect(usage);
            let plan = plan(&env.spec(), steps, threads);
            if mode == "policy" {
                let policy = policy(&env.spec());
                episodes(&env.spec(), &plan, policy.controllers())
            } else {
                episodes(&env.spec(), &plan, || {
                    Uniform(Random::new(0), vec![0.0; act_dim])
                })
            }
        }
        _ => panic!("{usage}"),
    };
    println!("{steps} {}", steps as f64 / start.elapsed().as_secs_f64());
}

fn bare<'a>(env: &MujocoEnv, actions: impl Iterator<Item = &'a Vec<f32>>) -> usize {
    let task = env.task();
    let mut data = MjData::new(task.model.clone());
    let mut count = 0;
    for action in actions {
        if count % EPISODE == 0 {
            data.reset();
            data.forward();
        }
        for (ctrl, &action) in data.ctrl_mut().iter_mut().zip(action) {
            *ctrl = action.into();
        }
        for _ in 0..task.frame_skip {
            data.step();
        }
        count += 1;
    }
    black_box(data.qpos());
    count
}

fn steps_of<'a>(env: &mut MujocoEnv, actions: impl Iterator<Item = &'a Vec<f32>>) -> usize {
    let mut observation = vec![0.0; env.spec().state_dim()];
    let (mut count, mut total) = (0, 0.0);
    for action in actions {
        if count % EPISODE == 0 {
            env.reset(count as u64);
        }
        total += env.step(action).reward;
        env.observation(&mut observation);
        count += 1;
    }
    black_box((observation, total));
    count
}

struct Uniform(Random, Vec<f32>);

impl Controller for Uniform {
    type Error = Infallible;
    fn reset(&mut self, seed: u64, _target_return: f32) -> Result<(), Infallible> {
        self.0 = Random::new(seed);
        Ok(())
    }
    fn act(&mut self, _observation: &[f32]) -> Result<&[f32], Infallible> {
        for value in &mut self.1 {
            *value = self.0.uniform(1.0) as f32;
        }
        Ok(&self.1)
    }
    fn feedback(&mut self, _applied: &[f32], _reward: f32) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Enough episodes for about `steps` steps in all, where none ends early.
fn plan(spec: &EnvSpec<'_>, steps: usize, threads: usize) -> Plan {
    Plan {
        target_return: 0.0,
        episodes: (steps as u32).div_ceil(spec.max_episode_steps),
        seed: 0,
        threads,
    }
}

fn policy(spec: &EnvSpec<'_>) -> PolicyFile {
    let config = Config {
        d_model: 128,
        n_layer: 3,
        n_head: 1,
        d_ff: 512,
        context_len: 20,
        max_ep_len: 1000,
        ..common::config(spec.state_dim() as u32, spec.act_dim() as u32)
    };
    common::random_policy(config, spec.id, RewardMode::Observed)
}

fn episodes<C: Controller<Error: Display + Debug + Send>>(
    spec: &EnvSpec<'_>,
    plan: &Plan,
    make_controller: impl Fn() -> C + Sync,
) -> usize {
    let make_env = host_sim::maker(spec.id).expect("opened before");
    let done = rollout::<_, ()>(plan, make_env, make_controller, |_| {}).expect("finite actions");
    done.iter()
        .map(|(episode, ())| episode.length as usize)
        .sum()
}
