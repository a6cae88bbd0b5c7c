//! The one rollout loop: training's evaluation, `eval`, `rollout` and recordings all run it.
//!
//! [`episode`] is the loop itself, without allocation; `rollout` runs many episodes in parallel.

use serde::{Deserialize, Serialize};

use crate::env::{Env, Fault};

/// Anything that chooses actions: a policy file, an agent in training, random numbers.
pub trait Controller {
    /// Why it could not.
    type Error;

    /// Forgets the past and aims at `target_return` (raw units). `seed` is the episode's, for
    /// controllers that draw random numbers.
    ///
    /// # Errors
    /// If it cannot start.
    fn reset(&mut self, seed: u64, target_return: f32) -> Result<(), Self::Error>;

    /// The action (act_dim, or the index of a choice) for `observation` (state_dim), in the environment's units.
    ///
    /// # Errors
    /// If it has no valid action; the episode then ends with this error.
    fn act(&mut self, observation: &[f32]) -> Result<&[f32], Self::Error>;

    /// What it thinks, after [`Controller::act`], is still to be earned from this step on, if it has an opinion: a critic's, not what
    /// was asked of it.
    fn predicted_return(&mut self) -> Option<f32> {
        None
    }

    /// What was applied after [`Controller::act`] and the reward it earned.
    ///
    /// # Errors
    /// If it cannot go on.
    fn feedback(&mut self, applied: &[f32], reward: f32) -> Result<(), Self::Error>;
}

/// One step of an episode, as a [`Recorder`] sees it.
#[derive(Clone, Copy, Debug)]
pub struct Transition<'a> {
    /// Before the step (state_dim).
    pub observation: &'a [f32],
    /// Applied (act_dim, or the index of a choice).
    pub action: &'a [f32],
    /// What the controller thinks is still to be earned from this step on, if it does.
    pub predicted_return: Option<f32>,
    /// Earned, before rounding to f32.
    pub reward: f64,
    /// After the step (state_dim).
    pub next_observation: &'a [f32],
    /// The task ended with this step.
    pub terminated: bool,
    /// The time limit was reached with this step.
    pub truncated: bool,
}

/// Looks on while an episode runs.
pub trait Recorder {
    /// Called once per step, in order.
    fn record(&mut self, transition: &Transition<'_>);
}

/// Records nothing.
impl Recorder for () {
    fn record(&mut self, _: &Transition<'_>) {}
}

/// Both record.
impl<A: Recorder, B: Recorder> Recorder for (A, B) {
    fn record(&mut self, transition: &Transition<'_>) {
        self.0.record(transition);
        self.1.record(transition);
    }
}

/// A finished episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// What [`Env::reset`] was given.
    pub seed: u64,
    /// Undiscounted sum of rewards, added in order in f64.
    #[serde(rename = "return")]
    pub total_reward: f64,
    /// Steps taken.
    pub length: u32,
    /// Why the simulation broke down, if that ended the episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// A controller failed in the middle of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpisodeError<E> {
    /// The episode's seed.
    pub seed: u64,
    /// Steps completed before.
    pub step: u32,
    /// What the controller said.
    pub source: E,
}

impl<E: core::fmt::Display> core::fmt::Display for EpisodeError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { seed, step, source } = self;
        write!(f, "episode with seed {seed}, step {step}: {source}")
    }
}

impl<E: core::fmt::Debug + core::fmt::Display> core::error::Error for EpisodeError<E> {}

/// Length of the buffer [`episode`] needs.
#[must_use]
pub const fn buffer_len(state_dim: usize, act_dim: usize) -> usize {
    2 * state_dim + act_dim
}

/// Runs one episode to termination or truncation, or until the plant is lost ([`Fault::is_loss`]): the step in which that
/// happened is not counted, recorded or told to the controller.
///
/// Per step: observe, act, step the plant, give the controller the applied action and the reward
/// (as f32). `buffer` is working memory of [`buffer_len`] values.
///
/// # Errors
/// [`EpisodeError`] carries the controller's error and where it happened.
///
/// # Panics
/// If `buffer` is too short or the controller's action is not act_dim long.
pub fn episode<E, C, R>(
    env: &mut E,
    controller: &mut C,
    recorder: &mut R,
    seed: u64,
    target_return: f32,
    buffer: &mut [f32],
) -> Result<Episode, EpisodeError<C::Error>>
where
    E: Env + ?Sized,
    C: Controller + ?Sized,
    R: Recorder + ?Sized,
{
    let (state_dim, act_dim) = (env.spec().state_dim(), env.spec().act_dim());
    let (observation, rest) = buffer.split_at_mut(state_dim);
    let (next_observation, rest) = rest.split_at_mut(state_dim);
    let action = &mut rest[..act_dim];

    let mut done = Episode {
        seed,
        total_reward: 0.0,
        length: 0,
        fault: None,
    };
    let failed = |step, source| EpisodeError { seed, step, source };
    env.reset(seed);
    if let Some(fault) = env.fault() {
        done.fault = Some(fault);
        return Ok(done);
    }
    controller
        .reset(seed, target_return)
        .map_err(|e| failed(0, e))?;
    env.observation(observation);
    loop {
        let chosen = controller
            .act(observation)
            .map_err(|e| failed(done.length, e))?;
        action.copy_from_slice(chosen);
        let predicted_return = controller.predicted_return();
        let step = env.step(action);
        let fault = if step.terminated || step.truncated {
            env.fault()
        } else {
            None
        };
        if fault.as_ref().is_some_and(Fault::is_loss) {
            done.fault = fault;
            return Ok(done);
        }
        env.observation(next_observation);
        recorder.record(&Transition {
            observation,
            action,
            predicted_return,
            reward: step.reward,
            next_observation,
            terminated: step.terminated,
            truncated: step.truncated,
        });
        controller
            .feedback(action, step.reward as f32)
            .map_err(|e| failed(done.length, e))?;
        done.total_reward += step.reward;
        done.length += 1;
        if step.terminated || step.truncated {
            done.fault = fault;
            return Ok(done);
        }
        observation.copy_from_slice(next_observation);
    }
}

#[cfg(feature = "std")]
pub use parallel::{Plan, rollout};

#[cfg(feature = "std")]
mod parallel {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use rayon::BroadcastContext;

    use super::{Controller, Episode, EpisodeError, Recorder, buffer_len, episode};
    use crate::env::Env;

    /// Which episodes to run.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Plan {
        /// Return to aim at, raw units.
        pub target_return: f32,
        /// How many.
        pub episodes: u32,
        /// Episode i is seeded with `seed + i` (wrapping).
        pub seed: u64,
        /// Worker threads; 0: one per core. Results do not depend on it.
        pub threads: usize,
    }

    /// Runs the planned episodes in parallel and returns them in order, with what was recorded
    /// (`()` records nothing).
    ///
    /// Each worker opens its own environment and controller; `finished` is called after every
    /// episode, from any thread, for a progress bar.
    ///
    /// # Errors
    /// The error of the first episode, in order, that failed.
    ///
    /// # Panics
    /// As [`episode`], or if the system refuses to start threads.
    pub fn rollout<C, R>(
        plan: &Plan,
        make_env: impl Fn() -> Box<dyn Env> + Sync,
        make_controller: impl Fn() -> C + Sync,
        finished: impl Fn(&Episode) + Sync,
    ) -> Result<Vec<(Episode, R)>, EpisodeError<C::Error>>
    where
        C: Controller,
        C::Error: Send,
        R: Recorder + Default + Send,
    {
        let prepare = || {
            let env = make_env();
            let (state_dim, act_dim) = (env.spec().state_dim(), env.spec().act_dim());
            let buffer = vec![0.0; buffer_len(state_dim, act_dim)];
            (env, make_controller(), buffer)
        };
        let run = |(env, controller, buffer): &mut (Box<dyn Env>, C, Vec<f32>), index: u32| {
            let seed = plan.seed.wrapping_add(index.into());
            let mut recorder = R::default();
            let done = episode(
                env.as_mut(),
                controller,
                &mut recorder,
                seed,
                plan.target_return,
                buffer,
            )?;
            finished(&done);
            Ok((done, recorder))
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(plan.threads)
            .build()
            .expect("worker threads");
        // One queue, since episodes differ in length by much: a share for each worker would leave some idle.
        let queue = AtomicU32::new(0);
        let take = |index: u32| (index < plan.episodes).then_some(index + 1);
        let worker = |_: BroadcastContext<'_>| {
            let mut state = None;
            let mut outcomes = Vec::new();
            while let Ok(index) = queue.fetch_update(Relaxed, Relaxed, take) {
                let state = state.get_or_insert_with(prepare);
                outcomes.push((index, run(state, index)));
            }
            outcomes
        };
        // Collected whole before looking for errors, so that which one is reported is certain.
        let mut outcomes = pool
            .broadcast(worker)
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        outcomes.sort_by_key(|&(index, _)| index);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pendulum::Pendulum;

    /// Pushes with the motion: it pumps energy in, and remembers to see the feedback.
    #[derive(Default)]
    struct Pump {
        action: [f32; 1],
        rewards: Vec<f32>,
        fail_at: Option<usize>,
    }

    impl Controller for Pump {
        type Error = String;
        fn reset(&mut self, _seed: u64, _target_return: f32) -> Result<(), String> {
            self.rewards.clear();
            Ok(())
        }
        fn act(&mut self, observation: &[f32]) -> Result<&[f32], String> {
            if self.fail_at == Some(self.rewards.len()) {
                return Err("tired".into());
            }
            self.action = [2.0 * observation[2].signum()];
            Ok(&self.action)
        }
        fn feedback(&mut self, applied: &[f32], reward: f32) -> Result<(), String> {
            assert_eq!(applied, self.action);
            self.rewards.push(reward);
            Ok(())
        }
    }

    #[derive(Default)]
    struct Rewards(Vec<f64>);
    impl Recorder for Rewards {
        fn record(&mut self, transition: &Transition<'_>) {
            self.0.push(transition.reward);
        }
    }

    fn plan(episodes: u32, threads: usize) -> Plan {
        Plan {
            target_return: 0.0,
            episodes,
            seed: 11,
            threads,
        }
    }

    fn pendulum() -> Box<dyn Env> {
        Box::new(Pendulum::<crate::pendulum::LibmTrig>::new())
    }

    #[test]
    fn the_loop_is_what_it_says() {
        let (mut env, mut controller, mut recorder) = (
            Pendulum::<crate::pendulum::LibmTrig>::new(),
            Pump::default(),
            Rewards::default(),
        );
        let mut buffer = [0.0; buffer_len(3, 1)];
        let done = episode(
            &mut env,
            &mut controller,
            &mut recorder,
            5,
            0.0,
            &mut buffer,
        )
        .unwrap();

        let mut by_hand = 0.0;
        env.reset(5);
        for _ in 0..200 {
            let mut observation = [0.0; 3];
            env.observation(&mut observation);
            by_hand += env.step(&[2.0 * observation[2].signum()]).reward;
        }
        assert_eq!(done.total_reward.to_bits(), by_hand.to_bits());
        assert_eq!((done.seed, done.length), (5, 200));
        let as_f32: Vec<f32> = recorder.0.iter().map(|reward| *reward as f32).collect();
        assert_eq!(controller.rewards, as_f32);
    }

    #[test]
    fn results_do_not_depend_on_threads() {
        let run = |threads| {
            rollout::<_, ()>(&plan(37, threads), pendulum, Pump::default, |_| {}).unwrap()
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(7));
        assert_eq!(one, run(0));
        let seeds: Vec<u64> = one.iter().map(|(done, ())| done.seed).collect();
        assert_eq!(seeds, (11..48).collect::<Vec<u64>>());
    }

    #[test]
    fn the_first_failure_is_reported_with_its_place() {
        let tired = || Pump {
            fail_at: Some(3),
            ..Pump::default()
        };
        let error = rollout::<_, ()>(&plan(9, 2), pendulum, tired, |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "episode with seed 11, step 3: tired");
    }

    #[test]
    fn every_finished_episode_is_announced() {
        let count = std::sync::atomic::AtomicU32::new(0);
        let finished = |_: &Episode| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        rollout::<_, ()>(&plan(10, 2), pendulum, Pump::default, finished).unwrap();
        assert_eq!(count.into_inner(), 10);
    }
}
