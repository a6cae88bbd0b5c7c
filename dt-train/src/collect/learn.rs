//! An agent in its environments: act, record, learn.

use std::convert::Infallible;

use host_sim::{Env, Step};
use indicatif::ProgressBar;
use rayon::prelude::*;

use super::actor::{Actor, AgentSpec, Scratch};
use super::noise::Noise;
use super::online::{Experience, Online, Settings};
use super::progress_bar;
use super::replay_buffer::Replay;
use crate::data::d4rl::Recording;
use crate::data::frames::Frames;

/// An agent that learns as it acts, in several environments that take their steps together.
///
/// In each round the agent chooses the actions of all environments in one forward pass, the environments step in
/// parallel, and then as many updates follow as the steps so far call for. All noise is drawn on one thread in the
/// order of the environments, so that the result depends on their number, but not on that of the cores.
pub struct Learner {
    pub(super) lanes: Vec<Lane>,
    pub(super) config: Settings,
    pub(super) shape: AgentSpec,
    pub(super) seed: u64,
    pub(super) online: Box<dyn Online>,
    pub(super) actor: Actor,
    scratch: Scratch,
    pub(super) noise: Noise,
    /// Row r is of environment r mod their number: all rounds but the last are complete.
    pub(super) replay: Replay,
    /// Of each step in the buffer, whether it was the last one before a time limit.
    pub(super) timeouts: Vec<bool>,
    /// Whether it was the last of its episode.
    pub(super) ends: Vec<bool>,
    /// The agent at a moment that [`learn`]'s caller wanted to keep.
    pub(super) kept: Option<Actor>,
    steps: usize,
    /// What the agent sees next (environments, state_dim).
    observations: Vec<f32>,
    /// Rows that never were steps: the plant was lost in them.
    pub(super) void: Vec<usize>,
    /// The last words of a plant that is gone for good.
    lost: Option<String>,
}

/// One of the environments, in its present episode.
pub(super) struct Lane {
    env: Box<dyn Env>,
    /// Seed of the episode.
    pub(super) episode: u64,
    /// Return so far.
    total: f64,
    action: Vec<f32>,
    next_observation: Vec<f32>,
    outcome: Step,
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

/// Trains an agent for `steps` environment steps in `envs` environments; returns the final agent and every step
/// taken. The same seed gives the same result on the same machine.
pub fn learn(
    make_env: impl Fn() -> Box<dyn Env>,
    envs: usize,
    config: &Settings,
    steps: usize,
    seed: u64,
) -> (Actor, Recording) {
    let mut learner = Learner::new(make_env, envs, config, steps, seed);
    let Ok(()) = learner.learn(|_| Ok::<_, Infallible>(Next::Learn));
    let (actor, _, recording) = learner.into_parts();
    (actor, recording)
}

impl Learner {
    /// A fresh agent that is to take `steps` steps in all, in `envs` environments (at least 1).
    pub fn new(
        make_env: impl Fn() -> Box<dyn Env>,
        envs: usize,
        config: &Settings,
        steps: usize,
        seed: u64,
    ) -> Self {
        let mut noise = Noise::new(seed, *b"learn   ");
        let mut lanes: Vec<Lane> = (0..envs).map(|_| Lane::new(make_env())).collect();
        let shape = AgentSpec::new(&lanes[0].env.spec(), config.hidden());
        let online = config.learner(&shape, seed);
        let mut actor = shape.actor();
        online.copy_actor(&mut actor);
        let mut observations = vec![0.0; envs * shape.state_dim];
        for (lane, observation) in lanes.iter_mut().zip(rows(&mut observations, &shape)) {
            lane.begin(noise.seed(), observation);
        }
        Self {
            actor,
            scratch: Scratch::default(),
            replay: match shape.image {
                Some(_) => Replay::of_pixels(steps, shape.state_dim, shape.act_dim),
                None => Replay::new(steps, shape.state_dim, shape.act_dim),
            },
            timeouts: Vec::new(),
            ends: Vec::new(),
            kept: None,
            config: config.clone(),
            lanes,
            shape,
            seed,
            online,
            noise,
            steps,
            observations,
            void: Vec::new(),
            lost: None,
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

    /// Environments.
    pub fn envs(&self) -> usize {
        self.lanes.len()
    }

    /// Why it stopped before all steps were taken, if the plant is gone: its last words.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// The agent as it is now.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The agent that was kept.
    pub fn kept(&self) -> Option<&Actor> {
        self.kept.as_ref()
    }

    /// Round after round, until all steps are taken or `after_episode` says stop; it is asked after each round in which
    /// an episode ended.
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
        while self.done() < self.steps && self.lost.is_none() {
            let before = returns.len();
            self.round(&bar, &mut returns);
            if returns.len() == before {
                continue;
            }
            let recent = &returns[returns.len().saturating_sub(10)..];
            let mean = crate::stats::mean(recent);
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

    /// One step of every environment, as far as steps are left, and the updates that are due. Returns of episodes that
    /// end are appended to `returns`.
    fn round(&mut self, bar: &ProgressBar, returns: &mut Vec<f64>) {
        let envs = std::cmp::min(self.lanes.len(), self.steps - self.done());
        let AgentSpec {
            state_dim, act_dim, ..
        } = self.shape;
        let mut squashed = vec![0.0; envs * act_dim];
        if self.online.explores(self.done() as u64) {
            squashed.fill_with(|| self.noise.uniform(-1.0, 1.0));
        } else {
            self.actor.act(
                &self.observations[..envs * state_dim],
                Some(&mut self.noise),
                &mut self.scratch,
                &mut squashed,
            );
        }
        let step = |(lane, squashed): (&mut Lane, &[f32])| lane.step(&self.shape, squashed);
        match &mut self.lanes[..envs] {
            // Waking another thread takes longer than a step.
            [lane] => step((lane, &squashed)),
            lanes => lanes
                .par_iter_mut()
                .zip(squashed.par_chunks_exact(act_dim))
                .for_each(step),
        }
        let observations = rows(&mut self.observations, &self.shape);
        let actions = squashed.chunks_exact(act_dim);
        for ((lane, observation), squashed) in self.lanes.iter_mut().zip(observations).zip(actions)
        {
            if lane.lost() {
                self.void.push(self.ends.len());
            }
            if lane.env.fault().is_some() {
                // What the environment shows means nothing; it must not reach the critics as NaN.
                lane.next_observation.copy_from_slice(observation);
            }
            let Step {
                reward,
                terminated,
                truncated,
            } = lane.outcome;
            self.replay.push(
                observation,
                squashed,
                &lane.next_observation,
                reward as f32,
                terminated,
            );
            // D4RL: an episode that falls on its very last step has fallen.
            self.timeouts.push(truncated && !terminated);
            self.ends.push(terminated || truncated);
            if terminated || truncated {
                if !lane.lost() {
                    returns.push(lane.total);
                }
                lane.begin(self.noise.seed(), observation);
                if lane.lost() {
                    // It does not even begin an episode any more.
                    self.lost = lane.env.fault().map(|fault| fault.to_string());
                }
            } else {
                observation.copy_from_slice(&lane.next_observation);
            }
        }
        let experience = Experience {
            replay: &self.replay,
            ends: &self.ends,
            envs: self.lanes.len(),
            steps: self.steps,
            noise: &mut self.noise,
        };
        if self.online.learn(experience) {
            self.online.copy_actor(&mut self.actor);
        }
        bar.inc(envs as u64);
    }

    /// Puts each environment where it was in an episode whose seed and steps are known, by running them again.
    /// Returns whether every one came to the same observation; if not, it is another environment than before.
    pub(super) fn replay_episodes(&mut self, seeds: &[u64]) -> bool {
        let (envs, width) = (self.lanes.len(), self.replay.width());
        let values = self.replay.values();
        let AgentSpec {
            state_dim, act_dim, ..
        } = self.shape;
        let mut same = true;
        let observations = rows(&mut self.observations, &self.shape);
        for (i, (lane, observation)) in self.lanes.iter_mut().zip(observations).enumerate() {
            lane.begin(seeds[i], observation);
            let of_lane = || (i..self.ends.len()).step_by(envs);
            let begins = of_lane().rfind(|&row| self.ends[row]);
            for row in of_lane().filter(|&row| begins.is_none_or(|end| row > end)) {
                let (squashed, rest) = values[row * width..][state_dim..].split_at(act_dim);
                lane.step(&self.shape, squashed);
                same &= lane.next_observation == rest[..state_dim];
                observation.copy_from_slice(&lane.next_observation);
            }
        }
        same
    }

    /// The final agent, the one that was kept, and every step taken: episode by episode in the order in which they
    /// ended, then what is unfinished.
    pub fn into_parts(self) -> (Actor, Option<Actor>, Recording) {
        let AgentSpec {
            state_dim, act_dim, ..
        } = self.shape;
        let mut recording = Recording {
            frames: self.shape.image.map(Frames::new),
            ..Recording::default()
        };
        for row in self.rows_by_episode() {
            if self.void.contains(&row) {
                // What was before ends there.
                let last = recording
                    .terminals
                    .last()
                    .zip(recording.timeouts.last_mut());
                if let Some((false, timeout)) = last {
                    *timeout = true;
                }
                continue;
            }
            let values = self.replay.row(row);
            let (state, rest) = values.split_at(state_dim);
            let (squashed, rest) = rest.split_at(act_dim);
            let (next_state, rest) = rest.split_at(state_dim);
            match &mut recording.frames {
                Some(frames) => frames.push_numbers(state),
                None => {
                    recording.observations.extend(state);
                    recording.next_observations.extend(next_state);
                }
            }
            let scaled = squashed.iter().enumerate();
            let action = scaled.map(|(i, &squashed)| self.shape.scale(squashed, i));
            recording.actions.extend(action);
            recording.rewards.push(rest[0]);
            recording.terminals.push(rest[1] == 0.0);
            recording.timeouts.push(self.timeouts[row]);
        }
        (self.actor, self.kept, recording)
    }

    fn rows_by_episode(&self) -> Vec<usize> {
        let mut unfinished = vec![Vec::new(); self.lanes.len()];
        let mut ordered = Vec::with_capacity(self.done());
        for row in 0..self.done() {
            let episode = &mut unfinished[row % self.lanes.len()];
            episode.push(row);
            if self.ends[row] {
                ordered.append(episode);
            }
        }
        ordered.extend(unfinished.into_iter().flatten());
        ordered
    }
}

impl Lane {
    fn new(env: Box<dyn Env>) -> Self {
        let spec = env.spec();
        Self {
            episode: 0,
            total: 0.0,
            action: vec![0.0; spec.act_dim()],
            next_observation: vec![0.0; spec.state_dim()],
            outcome: Step {
                reward: 0.0,
                terminated: false,
                truncated: false,
            },
            env,
        }
    }

    /// Whether the episode has nothing more to say, through no fault of the agent.
    fn lost(&self) -> bool {
        self.env.fault().is_some_and(|fault| fault.is_loss())
    }

    /// Starts the episode with this seed and writes its first observation.
    fn begin(&mut self, episode: u64, observation: &mut [f32]) {
        self.episode = episode;
        self.total = 0.0;
        self.env.reset(episode);
        self.env.observation(observation);
    }

    fn step(&mut self, shape: &AgentSpec, squashed: &[f32]) {
        for (i, action) in self.action.iter_mut().enumerate() {
            *action = shape.scale(squashed[i], i);
        }
        self.outcome = self.env.step(&self.action);
        self.total += self.outcome.reward;
        self.env.observation(&mut self.next_observation);
    }
}

/// The observation of each environment.
fn rows<'a>(observations: &'a mut [f32], shape: &AgentSpec) -> std::slice::ChunksExactMut<'a, f32> {
    observations.chunks_exact_mut(shape.state_dim)
}

#[cfg(test)]
mod tests {
    use host_sim::{Space, make};

    use super::super::screen::Screen;
    use super::*;
    use crate::algo::{ppo, sac};

    fn sac() -> sac::Settings {
        sac::Settings {
            hidden: 16,
            batch_size: 8,
            learning_starts: 60,
            ..sac::Settings::for_env("hopper")
        }
    }

    fn config() -> Settings {
        Settings::Sac(sac())
    }

    fn hopper(envs: usize, steps: usize) -> Learner {
        Learner::new(|| make("hopper").unwrap(), envs, &config(), steps, 3)
    }

    #[test]
    fn the_number_of_cores_changes_nothing() {
        tch::set_num_threads(1);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let learn = || learn(|| make("hopper").unwrap(), 4, &config(), 130, 3);
            pool.build().unwrap().install(learn)
        };
        let one = run(1);
        assert_eq!(run(3), one);
        assert_ne!(learn(|| make("hopper").unwrap(), 3, &config(), 130, 3), one);
    }

    #[test]
    fn episodes_are_recorded_one_after_the_other_and_none_is_two() {
        tch::set_num_threads(1);
        // Not a multiple of the number of environments.
        let (_, _, data) = {
            let mut learner = hopper(3, 200);
            let Ok(()) = learner.learn(|_| Ok::<_, Infallible>(Next::Learn));
            learner.into_parts()
        };
        assert_eq!(data.rewards.len(), 200);
        let ends: Vec<usize> = (0..200).filter(|&row| data.terminals[row]).collect();
        assert!(ends.len() > 3, "{ends:?}");
        let last = ends[ends.len() - 1];
        let state = |values: &[f32], row: usize| values[11 * row..][..11].to_vec();
        let mut breaks = 0;
        for row in 0..199 {
            let next = state(&data.next_observations, row);
            let goes_on = state(&data.observations, row + 1) == next;
            if row <= last {
                assert_eq!(goes_on, !data.terminals[row], "row {row}");
            } else {
                breaks += usize::from(!goes_on);
            }
        }
        // The rest is what is unfinished of three environments.
        assert_eq!(breaks, 2);
    }

    /// A byte holds neither.
    #[test]
    fn actions_of_agents_that_see_images_are_recorded_as_they_were() {
        tch::set_num_threads(1);
        let learn = |action, config: Settings| {
            let shape = [2, 3, 1];
            let make_env = || -> Box<dyn Env> { Box::new(Screen::new(shape, action)) };
            let (_, data) = learn(make_env, 2, &config, 200, 3);
            let frames = data.frames.unwrap();
            let first = Screen::pixels(shape, frames.to_bytes()[0], 0);
            assert_eq!((frames.len(), &frames.to_bytes()[..6]), (200, &first[..]));
            // A step earns its action.
            assert_eq!(data.actions, data.rewards);
            data.actions
        };
        let actions = learn(Screen::VECTORS, config());
        assert!(
            actions
                .iter()
                .any(|action| action.fract() != 0.0 && *action < 0.0)
        );
        let config = Settings::Ppo(ppo::Settings::default());
        let choices = learn(Space::Discrete { n: 300 }, config);
        assert!(choices.iter().any(|choice| *choice > 255.0));
    }

    #[test]
    fn updates_follow_the_steps_as_often_as_asked() {
        tch::set_num_threads(1);
        for (envs, updates_per_step, updates) in
            [(1, 1.0, 41), (4, 1.0, 41), (4, 0.1, 4), (3, 2.5, 102)]
        {
            let config = Settings::Sac(sac::Settings {
                updates_per_step,
                ..sac()
            });
            let mut learner = Learner::new(|| make("reacher").unwrap(), envs, &config, 101, 3);
            let Ok(()) = learner.learn(|_| Ok::<_, Infallible>(Next::Learn));
            assert_eq!(
                learner.online.counters().updates,
                updates,
                "{envs} {updates_per_step}"
            );
        }
    }
}
