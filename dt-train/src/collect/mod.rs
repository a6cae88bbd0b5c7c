//! Agents that make trajectories: uniformly random ones, saved ones, and those that learn meanwhile.

use std::convert::Infallible;

use host_sim::evaluation::whole;
use host_sim::registry::is_open;
use host_sim::rollout::{Controller, Episode, Plan, Recorder, Transition, rollout};
use host_sim::{Env, EnvSpec, Fault, Space};
use indicatif::{ProgressBar, ProgressStyle};

use crate::data::d4rl::Recording;
use crate::data::frames::Frames;
use crate::stats::{mean, population_deviation};

pub mod actor;
pub mod agent_file;
pub mod learn;
pub mod noise;
pub mod online;
pub mod part;
pub mod recipe;
pub mod replay_buffer;
#[cfg(test)]
mod screen;

use actor::{Actor, ActorController};
use noise::Noise;

/// Who acts in [`record`].
#[derive(Clone, Copy, Debug)]
pub enum Agent<'a> {
    /// Uniform over the action range, or over the choices that lead anywhere.
    Random,
    /// A trained agent; its mode if `deterministic`, else a sample.
    Trained {
        /// The agent.
        actor: &'a Actor,
        /// Whether to take the most likely action.
        deterministic: bool,
    },
}

/// Exactly `steps` steps of `agent`; episode i is seeded with `seed` + i. The last episode may be cut off, and then
/// bears no mark of an end. An episode whose plant was lost ends there, as if by a time limit; if there is no plant any more, that
/// is all. A note on stderr says so.
///
/// Up to `threads` episodes run at the same time (0: one per core); the result does not depend on it.
pub fn record(
    make_env: impl Fn() -> Box<dyn Env> + Sync,
    agent: Agent,
    steps: usize,
    seed: u64,
    threads: usize,
) -> Recording {
    let env = make_env();
    let spec = env.spec();
    let longest = spec.max_episode_steps as usize;
    let bar = progress_bar(steps as u64, "{per_sec}");
    let mut all = Recording::default();
    if let Space::Image {
        height,
        width,
        channels,
    } = spec.observation
    {
        all.frames = Some(Frames::new([height, width, channels]));
    }
    let (mut episodes, mut lost, mut gone) = (0, 0, false);
    while all.rewards.len() < steps {
        let missing = (steps - all.rewards.len()).div_ceil(longest);
        let plan = Plan {
            target_return: 0.0,
            episodes: missing as u32,
            seed: seed.wrapping_add(episodes),
            threads,
        };
        let finished = |length| bar.inc(length);
        let parts: Vec<_> = match &all.frames {
            None => play::<Recording>(&make_env, &spec, agent, &plan, finished),
            Some(_) => play::<Seen>(&make_env, &spec, agent, &plan, finished)
                .into_iter()
                .map(|(episode, Seen(part))| (episode, part))
                .collect(),
        };
        for (episode, mut part) in parts {
            if let Some(fault) = episode.fault.filter(Fault::is_loss) {
                // What was seen before is sound, and ends where the plant did.
                if let Some(end) = part.timeouts.last_mut() {
                    *end = true;
                }
                // It does not even start any more.
                gone |= part.rewards.is_empty();
                lost += 1;
                if lost == 1 {
                    let (seed, length) = (episode.seed, episode.length);
                    bar.suspend(|| eprintln!("note: the episode with seed {seed} ended with its plant, after {length} step(s): {fault}"));
                }
            }
            all.append(part);
        }
        episodes += missing as u64;
        if gone {
            break;
        }
    }
    all.truncate(steps, &spec);
    bar.finish_and_clear();
    if lost > 1 {
        eprintln!("note: {lost} episodes ended with their plant");
    }
    all
}

/// Mean and standard deviation (over n) of the return of `actor`'s most likely actions, over `episodes` episodes
/// seeded with `seed`, `seed` + 1, …, in `threads` threads (0: one per core); none, and a note on stderr, if the plant was lost in
/// all of them.
pub fn evaluate(
    make_env: impl Fn() -> Box<dyn Env> + Sync,
    actor: &Actor,
    episodes: u32,
    seed: u64,
    threads: usize,
) -> Option<(f64, f64)> {
    let env = make_env();
    let agent = Agent::Trained {
        actor,
        deterministic: true,
    };
    let plan = Plan {
        target_return: 0.0,
        episodes,
        seed,
        threads,
    };
    let episodes = play::<()>(&make_env, &env.spec(), agent, &plan, |_| ());
    let (episodes, _): (Vec<Episode>, Vec<()>) = episodes.into_iter().unzip();
    let returns: Vec<f64> = whole(&episodes)
        .map(|episode| episode.total_reward)
        .collect();
    if returns.is_empty() {
        let fault = episodes.first().and_then(|episode| episode.fault.as_ref());
        let words = fault.map(ToString::to_string).unwrap_or_default();
        eprintln!("note: the agent could not be evaluated, its plant was lost: {words}");
        return None;
    }
    Some((mean(&returns), population_deviation(&returns)))
}

/// A bar on stderr; `tail` is what follows the position, as an indicatif template.
fn progress_bar(len: u64, tail: &str) -> ProgressBar {
    let template =
        format!("{{elapsed_precise}} {{bar:30}} {{human_pos}}/{{human_len}} steps {tail} {{msg}}");
    ProgressBar::new(len)
        .with_style(ProgressStyle::with_template(&template).expect("a valid template"))
}

fn play<R: Recorder + Default + Send>(
    make_env: &(impl Fn() -> Box<dyn Env> + Sync),
    spec: &EnvSpec,
    agent: Agent,
    plan: &Plan,
    finished: impl Fn(u64) + Sync,
) -> Vec<(Episode, R)> {
    let finished = |episode: &Episode| finished(episode.length.into());
    let Ok(episodes) = match agent {
        Agent::Random => rollout::<_, R>(plan, make_env, || Uniform::new(spec), finished),
        Agent::Trained {
            actor,
            deterministic,
        } => rollout::<_, R>(
            plan,
            make_env,
            || ActorController::new(actor, deterministic),
            finished,
        ),
    };
    episodes
}

/// Draws actions uniformly from the action range, or from the choices that lead anywhere.
struct Uniform<'a> {
    env: &'a str,
    space: Space<'a>,
    noise: Noise,
    action: Vec<f32>,
}

impl<'a> Uniform<'a> {
    fn new(spec: &EnvSpec<'a>) -> Self {
        Self {
            env: spec.id,
            space: spec.action,
            noise: Noise::new(0, Self::PURPOSE),
            action: vec![0.0; spec.act_dim()],
        }
    }

    const PURPOSE: [u8; 8] = *b"uniform ";
}

impl Controller for Uniform<'_> {
    type Error = Infallible;

    fn reset(&mut self, seed: u64, _: f32) -> Result<(), Infallible> {
        self.noise = Noise::new(seed, Self::PURPOSE);
        Ok(())
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], Infallible> {
        match self.space {
            Space::Box { low, high } => {
                for (i, action) in self.action.iter_mut().enumerate() {
                    *action = self.noise.uniform(low[i], high[i]);
                }
            }
            Space::Discrete { n } => {
                let is_open = |choice| is_open(self.env, observation, choice);
                let mut choice = self.noise.below(n);
                // A plant may call itself what it is not: where none is open, all are.
                while !is_open(choice) && (0..n).any(is_open) {
                    choice = self.noise.below(n);
                }
                self.action.fill(choice as f32);
            }
            Space::Image { .. } => unreachable!("no environment is told pictures"),
        }
        Ok(&self.action)
    }

    fn feedback(&mut self, _: &[f32], _: f32) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Recorder for Recording {
    fn record(&mut self, transition: &Transition<'_>) {
        self.observations.extend_from_slice(transition.observation);
        self.next_observations
            .extend_from_slice(transition.next_observation);
        self.outcome(transition);
    }
}

/// Records images, compressed as they come: an hour of Atari would be gigabytes of numbers.
#[derive(Default)]
struct Seen(Recording);

impl Recorder for Seen {
    fn record(&mut self, transition: &Transition<'_>) {
        // Nobody tells a recorder their shape; [`Recording::append`] knows it.
        let line = || Frames::new([1, 1, transition.observation.len()]);
        let frames = self.0.frames.get_or_insert_with(line);
        frames.push_numbers(transition.observation);
        self.0.outcome(transition);
    }
}

impl Recording {
    /// All of a step but what was observed.
    fn outcome(&mut self, transition: &Transition<'_>) {
        self.actions.extend_from_slice(transition.action);
        self.rewards.push(transition.reward as f32);
        self.terminals.push(transition.terminated);
        // D4RL: an episode that falls on its very last step has fallen.
        self.timeouts
            .push(transition.truncated && !transition.terminated);
    }

    fn append(&mut self, other: Self) {
        if let Some((frames, others)) = self.frames.as_mut().zip(other.frames) {
            let others = others.in_shape(frames.shape());
            frames.extend_from(&others, 0..others.len());
        }
        self.observations.extend(other.observations);
        self.next_observations.extend(other.next_observations);
        self.actions.extend(other.actions);
        self.rewards.extend(other.rewards);
        self.terminals.extend(other.terminals);
        self.timeouts.extend(other.timeouts);
    }

    fn truncate(&mut self, steps: usize, spec: &EnvSpec) {
        if let Some(frames) = &mut self.frames {
            frames.truncate(steps);
        }
        self.observations.truncate(steps * spec.state_dim());
        self.actions.truncate(steps * spec.act_dim());
        self.rewards.truncate(steps);
        self.next_observations.truncate(steps * spec.state_dim());
        self.terminals.truncate(steps);
        self.timeouts.truncate(steps);
    }
}

#[cfg(test)]
mod tests {
    use super::screen::Screen;
    use super::*;
    use host_sim::graph;

    /// As numbers, an observation and the next, these would be 226 KB a step.
    #[test]
    fn images_are_recorded_as_bytes_and_compressed_as_they_come() {
        let shape = [84, 84, 4];
        let make_env = || -> Box<dyn Env> { Box::new(Screen::new(shape, Screen::VECTORS)) };
        let env = make_env();
        let plan = Plan {
            target_return: 0.0,
            episodes: 2,
            seed: 5,
            threads: 1,
        };
        for (_, Seen(part)) in play::<Seen>(&make_env, &env.spec(), Agent::Random, &plan, |_| ()) {
            let numbers = part.observations.capacity() + part.next_observations.capacity();
            let frames = part.frames.unwrap();
            assert_eq!((numbers, frames.len()), (0, Screen::STEPS as usize));
            // What is not compressed yet are less than 16 of 40.
            assert!(frames.memory() < 17 * frames.frame_len());
        }

        let all = record(make_env, Agent::Random, 100, 5, 2);
        let seen = (0..100).flat_map(|row| Screen::pixels(shape, 5 + row / 40, row % 40));
        let expected = Frames::from_bytes(shape, &seen.collect::<Vec<_>>());
        assert!(all.frames.unwrap() == expected);
        assert_eq!(all.actions, all.rewards);
        let ends = (0..100).filter(|&row| all.timeouts[row]);
        assert_eq!(ends.collect::<Vec<_>>(), [39, 79]);
    }

    /// Of 20 choices two lead anywhere; one in ten steps would be one.
    #[test]
    fn a_random_walker_goes_along_edges() {
        let make_env = host_sim::maker("graph").unwrap();
        let walks = record(make_env, Agent::Random, 500, 7, 1);
        let steps = walks.observations.chunks(graph::NODES).zip(&walks.actions);
        for (observation, &action) in steps {
            assert!(graph::is_open(observation, action as usize), "{action}");
        }
        // From node 18 an edge leads to node 2 alone.
        let from_18 = |choice: f32| {
            let steps = walks.observations.chunks(graph::NODES).zip(&walks.actions);
            let here =
                steps.filter(|(observation, action)| observation[18] == 1.0 && **action == choice);
            here.count()
        };
        assert_eq!((from_18(2.0) > 0, from_18(3.0)), (true, 0));
    }

    /// It calls itself by a name that is known for something else; who waits for an edge waits for ever.
    #[test]
    fn a_graph_without_edges_is_walked_all_the_same() {
        let spec = EnvSpec {
            action: Space::Discrete { n: 3 },
            ..graph::SPEC
        };
        let mut agent = Uniform::new(&spec);
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[agent.act(&[0.0; 4]).unwrap()[0] as usize] = true;
        }
        assert_eq!(seen, [true; 3]);
    }
}
