//! The recipes of the usual offline data sets by name (Fu et al., *D4RL*, 2020).

use host_sim::{Env, EnvSpec};

use super::actor::Actor;
use super::learn::{Learner, Next};
use super::{Agent, evaluate, record};
use crate::data::d4rl::Recording;

/// What a data set is made of.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Uniformly random actions
    Random,
    /// Roll-outs of an agent whose training was stopped at about a third of the expert's score
    Medium,
    /// All that this agent saw while it was trained
    MediumReplay,
    /// Half of medium, half roll-outs of the fully trained agent
    MediumExpert,
}

/// The return at which an agent is medium: a third of the way from random to expert.
pub fn medium_return(spec: &EnvSpec) -> Option<f64> {
    let (random, expert) = spec.score_range?;
    Some(random + (expert - random) / 3.0)
}

/// Training steps until an agent is an expert, as published.
pub fn expert_steps(spec: &EnvSpec) -> u32 {
    match spec.id {
        "pendulum" => 20_000,
        "cartpole" => 100_000,
        _ => 1_000_000,
    }
}

/// Watches a learner and says when it is medium.
pub struct Watch {
    /// What its mean return has to be.
    medium: f64,
    /// Go on after that.
    until_expert: bool,
    /// Seed of the episodes it is judged on.
    seed: u64,
    /// Steps between two looks.
    every: usize,
    looked_at: usize,
    reached: Option<usize>,
}

impl Watch {
    /// Episodes that it is judged on.
    const EPISODES: u32 = 10;
    const LOOKS: usize = 200;

    /// A watch over a learner that has done `done` steps.
    pub fn new(medium: f64, until_expert: bool, seed: u64, learner: &Learner) -> Self {
        Self {
            medium,
            until_expert,
            seed,
            every: std::cmp::max(learner.steps() / Self::LOOKS, 1),
            looked_at: learner.done(),
            reached: None,
        }
    }

    /// After how many steps the agent was found to be medium, if it was found.
    pub fn reached(&self) -> Option<usize> {
        self.reached
    }

    /// What to do after an episode; it is evaluated in `threads` threads.
    pub fn next(
        &mut self,
        learner: &Learner,
        make_env: &(impl Fn() -> Box<dyn Env> + Sync),
        threads: usize,
    ) -> Next {
        let due = learner.done() / self.every > self.looked_at / self.every;
        self.looked_at = learner.done();
        if learner.kept().is_some() || !due {
            return Next::Learn;
        }
        let actor = learner.actor();
        let evaluated = evaluate(make_env, actor, Self::EPISODES, self.seed, threads);
        if evaluated.is_none_or(|(mean, _)| mean < self.medium) {
            return Next::Learn;
        }
        self.reached = Some(learner.done());
        if self.until_expert {
            Next::Keep
        } else {
            Next::Stop
        }
    }
}

/// Exactly `steps` steps, half of them of `medium`, the rest of `expert`. The first half ends with an episode, so that
/// none begins with one agent and ends with the other.
pub fn medium_expert(
    make_env: impl Fn() -> Box<dyn Env> + Sync,
    medium: &Actor,
    expert: &Actor,
    steps: usize,
    seed: u64,
    threads: usize,
) -> Recording {
    let of = |actor, steps, seed| {
        let agent = Agent::Trained {
            actor,
            deterministic: false,
        };
        record(&make_env, agent, steps, seed, threads)
    };
    let env = make_env();
    let mut all = of(medium, steps / 2, seed);
    let ends = all.terminals.iter().zip(&all.timeouts);
    let last = ends
        .rev()
        .position(|(terminal, timeout)| *terminal || *timeout);
    let unfinished = last.unwrap_or(all.rewards.len());
    all.truncate(all.rewards.len() - unfinished, &env.spec());
    let rest = steps - all.rewards.len();
    // Far from the seeds of the first half.
    all.append(of(expert, rest, seed.wrapping_add(1 << 31)));
    all
}

#[cfg(test)]
mod tests {
    use super::super::screen::Screen;
    use super::*;
    use crate::collect::actor::AgentSpec;

    #[test]
    fn medium_lies_a_third_of_the_way_to_the_expert() {
        let pendulum = host_sim::make("pendulum").unwrap();
        let medium = medium_return(&pendulum.spec()).unwrap();
        assert!((medium - -865.02).abs() < 0.01, "{medium}");
        assert_eq!(expert_steps(&pendulum.spec()), 20_000);
    }

    #[test]
    fn no_episode_is_of_two_agents() {
        let make = || host_sim::make("pendulum").unwrap();
        let env = make();
        let agent = |weight| {
            let mut actor = AgentSpec::new(&env.spec(), 4).actor();
            actor.weights.fill(weight);
            actor
        };
        let (medium, expert) = (agent(0.0), agent(0.01));
        // Half is two episodes and a half.
        let all = medium_expert(make, &medium, &expert, 1000, 5, 2);
        assert_eq!(all.rewards.len(), 1000);
        let ends: Vec<usize> = (0..1000).filter(|&row| all.timeouts[row]).collect();
        assert_eq!(ends, [199, 399, 599, 799, 999]);
        let of = |actor, seed| {
            let deterministic = false;
            record(
                make,
                Agent::Trained {
                    actor,
                    deterministic,
                },
                200,
                seed,
                0,
            )
        };
        let first_of = |episode: usize| &all.rewards[200 * episode..200 * (episode + 1)];
        assert_eq!(first_of(1), of(&medium, 6).rewards);
        assert_eq!(first_of(2), of(&expert, 5 + (1 << 31)).rewards);
    }

    #[test]
    fn halves_that_are_images_are_both_there() {
        let shape = [2, 3, 1];
        let make = || -> Box<dyn Env> { Box::new(Screen::new(shape, Screen::VECTORS)) };
        let actor = AgentSpec::new(&make().spec(), 4).actor();
        let all = medium_expert(make, &actor, &actor, 150, 5, 1);
        // The first agent's only whole episode, and what the other does from its own first seed on.
        let seeds = [(5, 40), (5, 40), (6, 40), (7, 30)];
        let seeds = seeds
            .into_iter()
            .flat_map(|(seed, steps)| vec![seed; steps]);
        let frames = all.frames.unwrap().to_bytes();
        let seen: Vec<u8> = frames.chunks_exact(6).map(|frame| frame[0]).collect();
        assert_eq!(seen, seeds.collect::<Vec<u8>>());
        assert_eq!(all.rewards.len(), 150);
    }
}
